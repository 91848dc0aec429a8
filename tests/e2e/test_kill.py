"""SIGKILL at any moment of a sync: the next run finishes, nothing half-written is ever visible, nothing is left behind.

Two ways to choose the moment: strace kills the run at its n-th system call that changes the file system (every one of
them with ``--full``, some in every stage otherwise), and for long stages the test waits for their first trace on disk.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import servers
from tests.world import World, listing, sha256

SMALL = "small 1.0"
CHANGES = "rename,link,linkat,symlink,mkdir,rmdir,unlink,unlinkat,chmod,fchmod,fsync"
KILLED = -signal.SIGKILL


def strace(world: World, *options: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("strace")
    assert program, "strace is missing: run setup/packages.sh test (./test does)"
    argv = [program, "-qq", "-o", str(world.path / "trace"), "-e", f"trace={CHANGES}", *options, *world.command("sync")]
    return subprocess.run(argv, capture_output=True, text=True, cwd=world.path, check=False, timeout=120)


def steps(world: World) -> list[str]:
    """Return the system calls of an undisturbed sync that change something."""
    assert strace(world).returncode == 0
    lines = [line for line in (world.path / "trace").read_text().splitlines() if not line.startswith(("---", "+++"))]
    (world.path / "trace").unlink()
    return lines


def settled(world: World) -> dict[str, str]:
    """Return what a finished world looks like, without what differs: SIFs are never built twice alike."""
    found = {}
    for name, what in listing(world.path).items():
        varies = name.endswith((".simg", "record.json", "apps.lock.json", "/lock", ".singularity.d/labels.json"))
        varies = varies or name.startswith("store/.sha256/") or name in ("state/runs.jsonl", "state/status.json")
        found[name] = "varies" if varies and what != "directory" else what
    return found


def check_visible(world: World) -> None:
    """See that whatever is visible is whole: objects, lock, deployed releases, modules."""
    locked = world.lock if (world.path / "apps.lock.json").exists() else {}
    for path in world.store.glob("*.simg") if world.store.is_dir() else ():
        assert sha256(path) == locked[path.stem]["sha256"]
    for record in world.root.glob("containers/*/record.json"):
        check_whole(record.parent, json.loads(record.read_text())["commands"])
    for modulefile in world.root.glob("modules/*/[!.]*[!m].lua"):  # neither what tells the default, nor -warm
        release = f"{modulefile.parent.name}_{modulefile.stem}_20260101"
        directory = world.root / "containers" / release
        check_whole(directory, (directory / "commands.txt").read_text().split())


def check_whole(directory: Path, commands: list[str]) -> None:
    assert sorted(os.listdir(directory / "bin")) == sorted(commands)
    tree = directory / f"{directory.name}.simg"
    assert (tree / "opt/small/bin/smallhello").is_file()
    assert (tree / "README.md").is_file()
    assert (tree / "cvmfs").is_dir(), "not normalised to its end"


def check_recovery(world: World, finished: dict[str, str]) -> None:
    check_visible(world)
    again = world.run("sync")
    assert again.code == 0, again.err
    check_visible(world)
    assert settled(world) == finished
    assert world.run("sync").out == "nothing to do\n"
    assert settled(world) == finished


def fresh(world: World) -> None:
    for name in ("root", "store", "state", "apps.lock.json", "trace"):
        path = world.path / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def killed_at(world: World, number: int, finished: dict[str, str]) -> None:
    fresh(world)
    # when=N counts the calls of each kind on its own: inject by the number of the call among all of its kind
    name, count = position(world, number)
    done = strace(world, "-e", f"inject={name}:signal=SIGKILL:when={count}")
    assert done.returncode == KILLED, f"not killed at {name} {count}: {done.stderr}"
    (world.path / "trace").unlink()
    check_recovery(world, finished)


_TRACES: dict[str, list[str]] = {}


def position(world: World, number: int) -> tuple[str, int]:
    names = [line.split("(")[0] for line in _TRACES[str(world.path)]]
    return names[number], names[: number + 1].count(names[number])


@pytest.mark.timeout(3600)
def test_killed_at_system_calls(world: World, request: pytest.FixtureRequest) -> None:
    calls = steps(world)
    _TRACES[str(world.path)] = calls
    finished = settled(world)
    assert len(calls) > 40
    if request.config.getoption("--full"):
        chosen = list(range(len(calls)))
    else:
        # the commit points of each stage, and a few others
        named = [n for n, call in enumerate(calls) if call.startswith("rename") and "staging" not in call.split(",")[0]]
        pending = [n for n, call in enumerate(calls) if "record.pending" in call]
        chosen = sorted({*named[:3], *pending[-2:], *random.Random(20260101).sample(range(len(calls)), 6)})
    for number in chosen:
        killed_at(world, number, finished)


STAGES: dict[str, Callable[[World], bool]] = {
    "fetching layers": lambda world: any(world.spool.glob(".neurocommand-scratch/*/conversion/*")),
    "making the SIF": lambda world: any(world.spool.glob(".*.partial")),
    "uploading": lambda world: (
        any(path.name.startswith(".") and path.is_file() for path in world.store.glob(".*"))
        if world.store.is_dir()
        else False
    ),
    "unpacking": lambda world: any(world.root.glob(".neurocommand/staging/**/opt/small/data*")),
    "normalising": lambda world: any(world.root.glob(".neurocommand/staging/*/*.simg/cvmfs")),
}


@pytest.mark.parametrize("stage", list(STAGES))
def test_killed_in_a_long_stage(tmp_path: Path, big_registry: servers.Registry, stage: str) -> None:
    world = World(tmp_path / "world", big_registry.host)
    world.path.mkdir()
    world.declare(SMALL)
    world.configure()
    process = subprocess.Popen(world.command("sync"), stderr=subprocess.DEVNULL, cwd=world.path)
    while process.poll() is None:
        # what is looked for may vanish while it is looked for
        with contextlib.suppress(FileNotFoundError):
            if STAGES[stage](world):
                break
        time.sleep(0.001)
    process.kill()
    assert process.wait() == KILLED, f"the run was over before {stage}"
    check_visible(world)
    again = world.run("sync")
    assert again.code == 0, again.err
    check_visible(world)
    names = set(listing(world.path))
    assert not [name for name in names if "partial" in name or "pending" in name or "staging/" in name]
    assert not [
        name for name in names if name.startswith("state/spool/") and name != "state/spool/.neurocommand-scratch"
    ]
    assert world.run("sync").out == "nothing to do\n"
