"""A publication that is killed at any moment: the next run finishes it, and clients never see half of a release."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cvmfs.faults import STEPS
from tests.cvmfs.simulator import Stratum0
from tests.e2e.test_publish import Site, publishing, site, stock
from tests.world import World

__all__ = ["site", "stock"]

SMALL = "small_1.0_20260101"
# by default one before it is public, one after, and one at the tag
KILLED = [
    pytest.param(step, marks=() if step in ("flagged", "committed", "signed", "tagging") else pytest.mark.full)
    for step in (*STEPS[: STEPS.index("aborting")], "tagging")
]


def processes(directory: Path) -> Iterator[int]:
    """Yield the processes of a simulated host, by their environment."""
    mark = f"CVMFS_SIMULATOR={directory}".encode()
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(place.name) != os.getpid() and mark in (place / "environ").read_bytes().split(b"\0"):
                yield int(place.name)


def check(site: Site) -> None:
    """See that the repository is sound, and that every revision that ever was public held each release whole."""
    assert not site.stratum.is_open
    assert "no problems found" in site.stratum.do("check", "-c")
    site.stratum.do("transaction")
    site.stratum.do("abort", "-f")
    whole = {path for path in site.stratum.tree() if path.startswith(f"containers/{SMALL}/")}
    assert f"containers/{SMALL}/record.json" in whole
    for revision in range(1, site.stratum.revision + 1):
        with contextlib.suppress(FileNotFoundError):
            seen = {path for path in site.stratum.tree(revision) if path.startswith(f"containers/{SMALL}/")}
            assert seen in (set(), whole), f"revision {revision} has half of the release"


@pytest.mark.parametrize("step", KILLED)
def test_cvmfs_server_is_killed_at_a_step(step: str, site: Site) -> None:
    site.stratum.kill_at(step)
    first = site.run("sync")
    assert "Traceback" not in first.err
    again = site.run("sync")
    assert again.code == 0, (first, again)
    assert site.releases() == {SMALL}
    check(site)
    assert not (site.stratum.spool / "neurocommand/journal.json").exists()
    revision = site.stratum.revision
    assert site.run("sync").out.splitlines()[-1] == "nothing to do"
    assert site.stratum.revision == revision


def killed(site: Site, seconds: float, *, all_of_it: bool) -> None:
    """Start a publication, and kill it after some seconds; with everything that it started, as a power cut does."""
    environment = {**os.environ, **site.stratum.env}
    with subprocess.Popen(
        site.world.command("publish"),
        cwd=site.world.path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        # until none is left that another one has just started
        while all_of_it and (victims := list(processes(site.stratum.directory))):
            for victim in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)


@pytest.mark.parametrize("all_of_it", [False, True], ids=["the run alone", "everything"])
def test_a_publication_is_killed_at_any_moment(
    all_of_it: bool, world: World, stock: World, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    took = 3.0
    for number in range(30 if pytestconfig.getoption("--full") else 5 - 2 * all_of_it):
        host = tmp_path / f"host{number}"
        with Stratum0.make(host) as stratum:
            shutil.rmtree(world.store, ignore_errors=True)
            site = publishing(world, stratum, stock)
            killed(site, random.Random(f"{all_of_it} {number}").uniform(0.3, took), all_of_it=all_of_it)
            if all_of_it:
                assert not list(processes(host))
            started = time.monotonic()
            done = site.run("publish")
            took = max(1.0, time.monotonic() - started)
            assert done.code == 0, (number, done)
            check(site)
        shutil.rmtree(host)
