"""A deployment that works is never lost to one that fails, is killed, or meets something that is not ours."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import servers
from tests.world import World, listing

SMALL = "small 1.0"
RELEASE = "small_1.0_20260101"


@pytest.fixture
def installed(world: World) -> World:
    """A world with small 1.0 in a store, and installed as a SIF."""
    assert world.run("convert").code == 0
    assert world.run("upload").code == 0
    assert world.run("install", "small").code == 0
    return world


def prefix(world: World) -> Path:
    return world.path / "prefix"


def state(world: World) -> dict[str, str]:
    """Return what stands in the prefix, without its bookkeeping."""
    return {name: what for name, what in listing(prefix(world)).items() if not name.startswith(".neurocommand")}


def left_behind(world: World) -> list[str]:
    """Return what a run left in staging and spool."""
    names = listing(prefix(world) / ".neurocommand")
    return [name for name in names if name.startswith(("staging/", "spool/")) and "scratch" not in name]


def obstacles(world: World) -> Iterator[tuple[str, Path]]:
    trees = prefix(world) / "neurodesk-modules"
    yield "a file for a link", trees / "spine/small/1.0.lua"
    yield "a file for an application", trees / "spine/small"
    yield "a file for a category", trees / "spine"


@pytest.mark.parametrize("kind", ["a file for a link", "a file for an application", "a file for a category", "a link"])
def test_something_in_the_way_is_seen_before_anything_is_exchanged(installed: World, kind: str) -> None:
    before = state(installed)
    installed.declare(SMALL, categories=("body", "spine"))
    place = dict(obstacles(installed)).get(kind, prefix(installed) / "neurodesk-modules/spine/small/1.0.lua")
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a link":
        place.symlink_to("elsewhere")
    else:
        place.write_text("mine")
    done = installed.run("install", "small", "--format", "tree")
    assert done.code == 1
    assert str(place) in done.err
    assert "move it away" in done.err
    after = state(installed)
    assert {name: after[name] for name in before} == before
    assert place.is_symlink() or place.read_text() == "mine"
    assert left_behind(installed) == []
    place.unlink()
    again = installed.outcomes("install", "small", "--format", "tree")
    assert [outcome["reason"] for outcome in again["outcomes"]] == ["deployed as sif instead of tree"]
    assert (prefix(installed) / "neurodesk-modules/spine/small/1.0.lua").is_file()


FAULTS = {"fail": "error=EIO", "full": "error=ENOSPC", "kill": "error=EIO:signal=SIGKILL"}
# after the exchange: making a link, removing one of a category that is gone, giving the record its name
STEPS = {
    "link": ("symlink", "neurodesk-modules/spine/small/1.0.lua"),
    "old link": ("unlink", "neurodesk-modules/body/small/1.0.lua"),
    "record": ("rename", f"containers/{RELEASE}/record.pending.json"),
}


def failing(world: World, step: str, how: str) -> subprocess.CompletedProcess[str]:
    """Install as a tree, and let the system refuse one step that comes after the exchange, or kill the run there."""
    world.declare(SMALL, categories=("spine",))
    call, place = STEPS[step]
    return refused(world, call, prefix(world) / place, FAULTS[how], "install", "small", "--format", "tree")


def refused(world: World, call: str, path: Path, fault: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run neurocommand, and let the system refuse the first system call of a kind on a path."""
    program = shutil.which("strace")
    assert program, "strace is missing: run setup/packages.sh test (./test does)"
    argv = [program, "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-P", str(path)]
    argv += ["-e", f"inject={call}:{fault}:when=1", *world.command(*words)]
    return subprocess.run(argv, capture_output=True, text=True, cwd=world.path, check=False, timeout=120)


@pytest.mark.parametrize("step", list(STEPS))
def test_a_failure_after_the_exchange_gives_back_what_was_there(installed: World, step: str) -> None:
    before = state(installed)
    done = failing(installed, step, "fail")
    assert done.returncode == 1, done.stderr
    assert "Input/output error" in done.stderr
    assert state(installed) == before
    assert left_behind(installed) == []


@pytest.mark.parametrize("step", list(STEPS))
def test_a_kill_after_the_exchange_is_given_back_by_the_next_run(installed: World, step: str) -> None:
    before = state(installed)
    assert failing(installed, step, "kill").returncode == -signal.SIGKILL
    # a run that does not deploy it again
    assert installed.run("remove", "other", "--prefix", str(prefix(installed))).code == 2
    # the links of categories are made anew by the plan, and Lmod's cache at the end of a run that gets there
    after = state(installed)
    kept = [name for name in before if not name.startswith(("neurodesk-modules/", "lmod/cache"))]
    assert {name: after.get(name) for name in kept} == {name: before[name] for name in kept}
    assert left_behind(installed) == []
    done = installed.run("install", "small", "--format", "tree")
    assert done.code == 0, done.err
    assert installed.run("install", "small", "--format", "tree").out.startswith("nothing to do")


@pytest.mark.parametrize("step", ["link", "record"])
def test_a_first_deployment_that_fails_leaves_nothing(installed: World, step: str) -> None:
    assert installed.run("remove", "small").code == 0
    before = state(installed)
    assert failing(installed, step, "fail").returncode == 1
    assert state(installed) == before
    assert left_behind(installed) == []


def test_a_full_disk_is_exit_3_and_leaves_nothing(installed: World) -> None:
    before = state(installed)
    done = failing(installed, "record", "full")
    assert done.returncode == 3, done.stderr
    assert "free some space" in done.stderr
    assert state(installed) == before
    assert left_behind(installed) == []


@pytest.mark.parametrize(
    ("call", "place"), [("mkdir", "state/spool"), ("rename", "state/spool/.small_1.0_20260101.simg")]
)
def test_a_full_disk_elsewhere_is_exit_3(world: World, call: str, place: str) -> None:
    path = world.path / (f"{place}.partial" if place.endswith(".simg") else place)
    done = refused(world, call, path, "error=ENOSPC", "convert")
    assert done.returncode == 3, done.stderr
    assert "No space left on device" in done.stderr
    assert "free some space" in done.stderr
    assert world.run("convert").code == 0


@pytest.mark.parametrize("form", ["sif", "tree"])
def test_a_disk_without_room_for_more_files_is_exit_3(installed: World, form: str) -> None:
    small = installed.path / "small disk"
    small.mkdir()
    words = [*installed.command("install", "small", "--prefix", str(small / "prefix"), "--format", form)]
    program = f"""
import os, subprocess
subprocess.run(["mount", "-o", "remount,nr_inodes=18", {str(small)!r}], check=True)
done = subprocess.run({words!r}, cwd={str(installed.path)!r}, capture_output=True, text=True)
names = [os.path.join(place, name) for place, _, files in os.walk({str(small)!r}) for name in files]
print(done.returncode, done.stderr, [name for name in names if not name.endswith(("/lock", ".lock.json"))])
"""
    out = servers.run_on_a_small_disk(small, program, "64m")
    assert out.startswith("3 "), out
    assert "No space left on device" in out
    assert "free some space" in out
    assert out.rstrip().endswith("[]"), out


def test_links_of_somebody_else_are_refused_like_files(installed: World) -> None:
    modules = prefix(installed) / "containers/modules"
    modules.unlink()
    modules.symlink_to("/somewhere/else")
    done = installed.run("install", "small", "--rewrap")
    assert done.code == 1
    assert f"{modules}: not made by neurocommand" in done.err
    assert os.readlink(modules) == "/somewhere/else"


def open_to_all(path: Path) -> bool:
    bits = 0o055 if path.is_dir() else 0o044
    return path.stat().st_mode & bits == bits


@pytest.mark.parametrize("umask", [0o077, 0o027])
def test_a_shared_root_is_open_to_all_whatever_the_umask_and_a_prefix_is_not(world: World, umask: int) -> None:
    before = os.umask(umask)
    try:
        assert world.run("sync").code == 0
        assert world.run("install", "small").code == 0
        world.declare(SMALL, categories=("body", "spine"))
        assert world.run("sync").code == 0
    finally:
        os.umask(before)
    private = world.root / ".neurocommand/lock"
    paths = [path for path in (world.root, *world.root.rglob("*")) if not path.is_symlink() and path != private]
    closed = [path for path in paths if not open_to_all(path)]
    assert closed == []
    wrapper = world.deployed(SMALL) / "bin/smallhello"
    assert stat.S_IMODE(wrapper.stat().st_mode) == 0o755
    for path in (prefix(world), prefix(world) / "containers" / RELEASE, prefix(world) / "modules/small/1.0.lua"):
        assert stat.S_IMODE(path.stat().st_mode) & umask == 0


@pytest.mark.parametrize("verb", ["install", "remove"])
def test_what_a_killed_install_fetched_goes_with_the_next_run(installed: World, verb: str) -> None:
    spool = prefix(installed) / ".neurocommand/spool"
    for name in ("small_1.1_20260101.simg", ".small_1.1_20260101.simg.partial"):
        (spool / name).write_bytes(b"x")
    assert installed.run(verb, "small").code == 0
    assert left_behind(installed) == []


def test_a_store_that_holds_no_sif_is_named(world: World) -> None:
    world.store.mkdir()
    world.object(SMALL).write_bytes(b"this is no SIF" * 100)
    done = world.run("install", "small")
    assert done.code == 1
    assert f"{RELEASE}: store local holds something else than a sound SIF" in done.err
    assert "spool" not in done.err
    assert "give a SIF file" not in done.err
    assert left_behind(world) == []


def test_a_removal_where_nothing_was_installed_writes_nothing(world: World) -> None:
    place = world.path / "no prefix"
    place.mkdir()
    (place / "mine").write_text("mine")
    done = world.run("remove", "small", "--prefix", str(place))
    assert done.code == 2
    assert "not installed" in done.err
    assert list(listing(place)) == ["mine"]
