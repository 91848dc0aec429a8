"""What is left by kills, reboots, full disks and held mounts, and what brings a repository back from there."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cvmfs import tars
from tests.cvmfs.faults import STEPS
from tests.cvmfs.simulator import Stratum0

BEFORE = STEPS[: STEPS.index("signed")]
AFTER = ("signed", "remounted")


def release(tmp_path: Path) -> list[str]:
    return ["-t", tars.write(tmp_path / "t.tar", tars.release("tool_1")), "-b", "/"]


@pytest.mark.parametrize("step", [*BEFORE, *AFTER])
def test_an_ingest_that_is_killed_is_public_or_not_and_can_be_aborted(
    simulated: Stratum0, tmp_path: Path, step: str
) -> None:
    simulated.kill_at(step)
    assert simulated.run("ingest", *release(tmp_path), simulated.name).code == -signal.SIGKILL
    assert simulated.revision == (2 if step in AFTER else 1)
    assert simulated.is_open
    assert not simulated.is_publishing
    simulated.do("mount")
    assert simulated.is_writable
    simulated.do("abort", "-f")
    assert not simulated.is_open
    assert (simulated.union / "containers").exists() == (step in AFTER)
    assert simulated.strays() == []
    simulated.do("check")
    simulated.do("ingest", *release(tmp_path))


@pytest.mark.parametrize("step", [*BEFORE[2:], *AFTER])
def test_a_publish_that_is_killed_loses_nothing(simulated: Stratum0, step: str) -> None:
    simulated.do("transaction")
    (simulated.union / "f").write_bytes(b"x")
    (simulated.union / "new_repository").unlink()
    simulated.kill_at(step)
    assert simulated.run("publish", simulated.name).code == -signal.SIGKILL
    public = simulated.revision
    assert public == (2 if step in AFTER else 1)
    done = simulated.run("publish", simulated.name)
    assert (done.code, "is in a transaction but" in done.said, "abort" in done.said) == (1, True, True)
    assert simulated.run("transaction", simulated.name).code == 1
    simulated.do("mount")
    simulated.do("publish")
    assert simulated.revision == public + 1
    assert [path.name for path in simulated.union.iterdir()] == ["f"]
    assert simulated.view("f") is not None


def test_a_reboot_leaves_the_transaction_to_be_mounted(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / "f").write_bytes(b"x")
    stratum.break_mount()
    for argv, last in (("transaction", "cannot establish writable mountpoint"), ("publish", "to revert and repair.")):
        done = stratum.run(argv, stratum.name)
        assert (done.code, last in done.said, "is not mounted properly" in done.said) == (1, True, True), done
    stratum.do("mount")
    assert stratum.is_writable
    stratum.do("publish")
    assert (stratum.union / "f").read_bytes() == b"x"


def test_an_orphaned_worker_is_in_the_way_until_it_ends(simulated: Stratum0) -> None:
    simulated.do("transaction")
    (simulated.union / "f").write_bytes(b"x")
    simulated.orphan(60)
    with simulated.popen("publish", simulated.name) as process:
        assert process.wait(60) == -signal.SIGKILL
        assert (simulated.is_publishing, simulated.is_open, simulated.is_writable) == (True, True, False)
        done = simulated.run("publish", simulated.name)
        assert (done.code, f"Another publish process is active for {simulated.name}" in done.said) == (1, True)
        done = simulated.run("abort", "-f", simulated.name)
        assert (done.code, f"Could not acquire lock {simulated.spool}/is_publishing.lock" in done.said) == (22, True)
        for command in ("mount", "transaction"):
            done = simulated.run(command, simulated.name)
            assert (done.code, "is currently publishing and should not" in done.said) == (1, True)
        simulated.end_orphan()
    subprocess.run(["flock", "-w", "10", simulated.spool / "is_publishing.lock", "true"], check=True)
    simulated.do("mount")
    simulated.do("publish")
    assert simulated.view("f") is not None


def test_a_worker_that_is_killed_leaves_the_transaction_open(simulated: Stratum0) -> None:
    simulated.do("transaction")
    simulated.kill_worker()
    done = simulated.run("publish", simulated.name)
    assert (done.code, "watchdog disappeared, aborting" in done.said) == (1, True)
    assert (simulated.is_open, simulated.is_writable, simulated.revision) == (True, True, 1)
    simulated.do("publish")


def test_a_publish_hangs_while_the_mount_is_held_though_it_is_public(simulated: Stratum0, tmp_path: Path) -> None:
    simulated.hold_mount(60)
    with simulated.popen("ingest", *release(tmp_path), simulated.name) as process:
        deadline = time.monotonic() + 60
        while simulated.revision == 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert process.poll() is None
        assert (simulated.is_open, simulated.is_publishing) == (True, True)
        assert not (simulated.union / "containers").exists()
        simulated.release_mount()
        said, _ = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (0, "Remounting newly created repository revision")
    assert (simulated.is_open, (simulated.union / "containers").exists()) == (False, True)


def test_a_publish_that_hangs_can_be_killed_and_aborted(simulated: Stratum0, tmp_path: Path) -> None:
    simulated.hold_mount(60)
    with simulated.popen("ingest", *release(tmp_path), simulated.name) as process:
        while simulated.revision == 1:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    simulated.release_mount()
    simulated.do("mount")
    assert simulated.run("abort", "-f", simulated.name).code == 0
    assert (simulated.union / "containers/tool_1/tool").exists()
    assert simulated.revision == 2


def test_a_full_storage_keeps_the_transaction(simulated: Stratum0) -> None:
    simulated.do("transaction")
    (simulated.union / "f").write_bytes(b"x")
    simulated.fill_storage()
    done = simulated.run("publish", simulated.name)
    assert (done.code, "block upload failed (code: 28)" in done.said) == (1, True)
    assert (simulated.is_open, simulated.is_writable, simulated.revision) == (True, True, 1)
    simulated.do("abort", "-f")


def test_a_full_storage_in_gc_breaks_the_reflog_until_check_mends_it(simulated: Stratum0) -> None:
    simulated.fill_storage()
    done = simulated.run("gc", "-f", simulated.name)
    assert (done.code, "failed to upload updated Reflog" in done.said, "Fail (6)!" in done.said) == (1, True, True)
    simulated.free_storage()
    words = f"data corruption in .cvmfsreflog for {simulated.name}, run `cvmfs_server check -r` to fix"
    assert words in simulated.run("gc", "-f", simulated.name).said
    simulated.do("transaction")
    assert words in simulated.run("publish", simulated.name).said
    simulated.do("abort", "-f")
    assert "Warning: restored reflog checksum as " in simulated.do("check", "-r")
    simulated.do("gc", "-f")


def test_a_full_spool_stops_abort_until_new_files_are_removed(simulated: Stratum0) -> None:
    simulated.do("transaction")
    (simulated.union / "f").write_bytes(b"x")
    simulated.fill_spool()
    assert simulated.run("publish", simulated.name).code == 1
    done = simulated.run("abort", "-f", simulated.name)
    assert (done.code, "Assertion `success' failed." in done.said) == (134, True)
    (simulated.union / "f").unlink()
    simulated.do("abort", "-f")
    assert simulated.run("transaction", simulated.name).code == 1
    simulated.free_spool()
    simulated.do("transaction")


def test_a_foreign_transaction_is_somebody_elses(simulated: Stratum0) -> None:
    simulated.foreign_transaction()
    assert simulated.run("transaction", simulated.name).code == 17
    assert (simulated.union / "foreign").exists()


@pytest.mark.parametrize(("step", "argv"), [("tagging", ["tag", "-a", "v1"]), ("collecting", ["gc", "-f", "-r", "0"])])
def test_upkeep_that_is_killed_can_be_done_again(simulated: Stratum0, step: str, argv: list[str]) -> None:
    for _ in range(3):
        simulated.do("transaction")
        simulated.do("publish")
    before = simulated.served()
    simulated.kill_at(step)
    assert simulated.run(*argv, simulated.name).code == -signal.SIGKILL
    assert simulated.served() == before
    simulated.do(*argv)
    simulated.do("check")


def test_an_abort_that_is_killed_can_be_done_again(simulated: Stratum0) -> None:
    simulated.do("transaction")
    (simulated.union / "f").write_bytes(b"x")
    simulated.kill_at("aborting")
    assert simulated.run("abort", "-f", simulated.name).code == -signal.SIGKILL
    simulated.do("abort", "-f")
    assert simulated.strays() == []
