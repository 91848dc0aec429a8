"""The contract of the union directory: who holds it open, and what publishing makes of odd files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cvmfs.saying import in_order
from tests.cvmfs.simulator import Stratum0

HOLD = "import sys, time\nfile = open(sys.argv[1], sys.argv[2])\nprint(flush=True)\ntime.sleep(60)"


def holding(path: Path, mode: str) -> subprocess.Popen[bytes]:
    """Start a program that has a file open."""
    program = subprocess.Popen([sys.executable, "-c", HOLD, str(path), mode], stdout=subprocess.PIPE)
    assert program.stdout is not None
    program.stdout.readline()
    return program


def test_a_file_that_is_open_for_writing_stops_a_publish(stratum: Stratum0) -> None:
    stratum.do("transaction")
    with holding(stratum.union / "f", "w") as program:
        done = stratum.run("publish", "-f", stratum.name)
        program.kill()
    assert (done.code, f"Open writable file descriptors on {stratum.name}" in done.said) == (1, True)
    assert stratum.is_open
    stratum.do("publish")


def test_a_reader_stops_a_publish_that_is_not_forced(stratum: Stratum0) -> None:
    stratum.do("transaction")
    with holding(stratum.union / "new_repository", "r") as program:
        done = stratum.run("publish", stratum.name)
        assert (done.code, "Do you want to proceed anyway? (y/N)" in done.said, "aborted." in done.said) == (
            1,
            True,
            True,
        )
        forced = stratum.run("publish", "-f", stratum.name)
        program.kill()
    assert (forced.code, "WARNING: Open file descriptors on" in forced.said) == (0, True)


@pytest.mark.parametrize("argv", [["publish"], ["abort", "-f"]])
def test_a_caller_inside_is_refused(stratum: Stratum0, argv: list[str]) -> None:
    stratum.do("transaction")
    done = stratum.run(*argv, stratum.name, cwd=str(stratum.union))
    assert (done.code, f"Current working directory is in {stratum.union}." in done.said) == (1, True), done
    assert stratum.is_open


def test_a_marker_in_the_root_fails_and_the_transaction_stays(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / ".cvmfscatalog").touch()
    done = stratum.run("publish", stratum.name)
    assert (done.code, "Error: nested catalog marker in root directory" in done.said) == (1, True)
    assert in_order(done.said, "Synchronization failed", "Executed Command:", "cvmfs_swissknife")
    assert stratum.is_open
    assert stratum.is_writable


def test_a_file_named_like_a_whiteout_deletes_another(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / ".wh.new_repository").touch()
    (stratum.union / ".wh.nosuch").touch()
    assert "[WARNING] 'nosuch' should be deleted, but was not found in repository." in stratum.do("publish")
    assert list(stratum.union.iterdir()) == []


def test_hard_links_are_broken_up(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / "a").write_bytes(b"x")
    (stratum.union / "b").hardlink_to(stratum.union / "a")
    assert "We will break up these hardlinks." in stratum.do("publish")
    assert (stratum.union / "b").stat().st_nlink == 1
