"""The contract of cvmfs_server: transactions, publishing, aborting, and what is refused.

Each test is a row of what was measured on CernVM-FS 2.12; the simulator must pass it, and so must the real thing.
"""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.cvmfs.saying import in_order
from tests.cvmfs.simulator import Stratum0

PROGRESS = (
    "Swissknife Sync: Processing changes...",
    "Waiting for upload of files before committing...",
    "Committing file catalogs...",
    "Swissknife Sync: Wait for all uploads to finish",
    "Swissknife Sync: Exporting repository manifest",
    "Statistics stored at:",
    "Tagging ",
    "Flushing file system buffers",
    "Signing new manifest",
    "Remounting newly created repository revision",
)


def test_a_new_repository_is_at_revision_1_and_holds_one_file(stratum: Stratum0) -> None:
    assert stratum.revision == 1
    assert [path.name for path in stratum.union.iterdir()] == ["new_repository"]
    assert not stratum.is_open
    assert not stratum.is_writable


def test_what_is_written_in_a_transaction_is_published(stratum: Stratum0) -> None:
    assert stratum.run("transaction", stratum.name).said == ""
    assert stratum.is_open
    assert stratum.is_writable
    (stratum.union / "d").mkdir()
    (stratum.union / "d/f").write_bytes(b"one\n")
    (stratum.union / "d/l").symlink_to("f")
    (stratum.union / "new_repository").unlink()
    assert in_order(stratum.do("publish"), *PROGRESS)
    assert stratum.revision == 2
    assert not stratum.is_open
    assert not stratum.is_writable
    assert sorted(str(path.relative_to(stratum.union)) for path in stratum.union.rglob("*")) == ["d", "d/f", "d/l"]
    assert (stratum.union / "d/l").read_bytes() == b"one\n"


def test_a_publish_without_a_change_is_a_new_revision(stratum: Stratum0) -> None:
    before = stratum.served()
    stratum.do("transaction")
    stratum.do("publish")
    after = stratum.served()
    assert (after["S"], after["C"] != before["C"]) == ("2", True)


def test_an_abort_takes_every_change_back(stratum: Stratum0) -> None:
    before = stratum.served()
    stratum.do("transaction")
    (stratum.union / "f").write_bytes(b"x")
    (stratum.union / "new_repository").write_bytes(b"changed")
    stratum.do("abort", "-f")
    assert stratum.served() == before
    assert not stratum.is_open
    assert [path.name for path in stratum.union.iterdir()] == ["new_repository"]
    assert (stratum.union / "new_repository").read_bytes() != b"changed"


def test_an_abort_without_force_discards_all_when_nobody_answers(stratum: Stratum0) -> None:
    stratum.do("transaction")
    done = stratum.run("abort", stratum.name)
    assert done.code == 0
    assert "You are about to DISCARD ALL CHANGES OF THE CURRENT TRANSACTION" in done.said
    assert not stratum.is_open


def test_an_abort_that_is_answered_no_keeps_the_transaction(stratum: Stratum0) -> None:
    stratum.do("transaction")
    with stratum.popen("abort", stratum.name, stdin=subprocess.PIPE) as process:
        process.communicate("n\n", timeout=60)
    assert process.returncode == 4
    assert stratum.is_open


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["transaction"], 17, "CernVM-FS transaction error: another transaction is already open"),
        (["transaction", "-t", "1"], 17, "repository busy, retrying"),
        (["ingest", "-d", "new_repository"], 1, "Impossible to start a transaction"),
        (["gc", "-f"], 1, "Cannot run garbage collection while in a transaction"),
        (["tag", "-a", "v1"], 1, "Cannot change repository tags while in a transaction"),
        (["rollback", "-f"], 1, "Cannot rollback a repository in a transaction"),
    ],
)
def test_an_open_transaction_is_in_the_way(stratum: Stratum0, argv: list[str], code: int, words: str) -> None:
    stratum.do("transaction")
    done = stratum.run(*argv, stratum.name)
    assert (done.code, words in done.said) == (code, True), done
    assert stratum.is_open


def test_check_and_list_work_in_a_transaction(stratum: Stratum0) -> None:
    assert f"{stratum.name} (stratum0 / local)  \n" in stratum.run("list").said
    stratum.do("transaction")
    assert "no problems found" in stratum.do("check", "-c")
    assert f"{stratum.name} (stratum0 / local - in transaction)  \n" in stratum.run("list").said


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["publish"], 1, "is not in a transaction"),
        (["abort", "-f"], 22, "is not in a transaction"),
        (["rollback", "-f", "-t", "nosuch"], 1, "Target tag 'nosuch' does not exist"),
        (
            ["rollback", "-f"],
            1,
            "More than one anonymous undo rollback is not supported. Please specify a tag name (-t)",
        ),
        (["tag", "-i", "nosuch", "-x"], 1, "tag 'nosuch' does not exist"),
        (["tag", "-f", "-r", "nosuch"], 1, "Did not remove anything"),
        (["resign", "-d", "31"], 1, "Long expirations increase risk from repository key compromises!"),
    ],
)
def test_a_closed_repository_refuses(stratum: Stratum0, argv: list[str], code: int, words: str) -> None:
    done = stratum.run(*argv, stratum.name)
    assert (done.code, words in done.said) == (code, True), done


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["transaction"], 1, "Unable to find the configuration file `server.conf` for the cvmfs publisher: no.such"),
        (["publish"], 1, "The repository no.such does not exist."),
        (["abort", "-f"], 1, "Unable to find the configuration file `server.conf` for the cvmfs publisher: no.such"),
        (["ingest", "-d", "x"], 2, "cannot open /etc/cvmfs/repositories.d/no.such/server.conf: No such file"),
    ],
)
def test_an_unknown_repository_is_refused(stratum: Stratum0, argv: list[str], code: int, words: str) -> None:
    done = stratum.run(*argv, "no.such")
    assert (done.code, words in done.said) == (code, True), done


def test_of_callers_at_once_one_opens_the_transaction(stratum: Stratum0) -> None:
    callers = [stratum.popen("transaction", stratum.name) for _ in range(8)]
    codes = []
    for caller in callers:
        with caller:
            caller.communicate(timeout=60)
            codes.append(caller.returncode)
    assert codes.count(0) == 1
    assert set(codes) <= {0, 1, 17}


def test_a_waiting_transaction_opens_when_the_other_is_closed(stratum: Stratum0) -> None:
    stratum.do("transaction")
    with stratum.popen("transaction", "-t", "60", stratum.name) as waiting:
        time.sleep(0.5)
        assert waiting.poll() is None
        stratum.do("abort", "-f")
        said, _ = waiting.communicate(timeout=60)
    assert (waiting.returncode, "repository busy, retrying" in said) == (0, True)
    assert stratum.is_open


def test_an_expired_whitelist_stops_all_until_it_is_signed_again(stratum: Stratum0) -> None:
    stratum.expire_whitelist()
    time.sleep(1.1)  # it expires at the end of this second
    assert f"{stratum.name} (stratum0 / local - whitelist expired)" in stratum.run("list").said
    done = stratum.run("transaction", stratum.name)
    assert (done.code, "cannot load whitelist [expired whitelist]" in done.said) == (5, True)
    for argv in (["tag", "-l"], ["check", "-c"], ["gc", "-f"], ["ingest", "-d", "new_repository"]):
        assert stratum.run(*argv, stratum.name).code == 1, argv
    stratum.renew_whitelist()
    stratum.do("transaction")
    stratum.expire_whitelist()
    done = stratum.run("publish", stratum.name)
    assert (done.code, f"Repository whitelist for {stratum.name} is expired!" in done.said) == (1, True)
    done = stratum.run("abort", "-f", stratum.name)
    assert (done.code, "(unexpected termination) cannot load whitelist [expired whitelist]" in done.said) == (1, True)
    assert stratum.is_open
    stratum.renew_whitelist(7)
    stratum.do("publish")
