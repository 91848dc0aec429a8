"""The contract of cvmfs_server: transactions, publishing, aborting, and what is refused.

Each test is a row of what was measured on CernVM-FS 2.12; the simulator must pass it, and so must the real thing.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def in_order(said: str, lines: tuple[str, ...]) -> bool:
    """Tell whether words stand in a text one after the other."""
    place = 0
    for line in lines:
        place = said.find(line, place)
        if place < 0:
            return False
    return True


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
    assert in_order(stratum.do("publish"), PROGRESS)
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


def test_a_tag_that_exists_is_refused_before_anything_happens(stratum: Stratum0) -> None:
    stratum.do("tag", "-a", "v1", "-m", "several words")
    stratum.do("transaction")
    (stratum.union / "f").write_bytes(b"x")
    done = stratum.run("publish", "-a", "v1", stratum.name)
    assert (done.code, "Tag name 'v1' is already in use." in done.said) == (1, True)
    assert stratum.run("publish", "-a", "v 2", stratum.name).code == 1
    assert stratum.is_open
    assert stratum.is_writable
    stratum.do("publish", "-a", "v2", "-m", "first release")
    line = stratum.do("tag", "-i", "v2", "-x").splitlines()[-1]
    assert line.startswith(f"v2 {stratum.served()['C']} ")
    assert line.endswith("(default) first release")


def test_a_tag_moves_t_and_h_but_not_s_and_c(stratum: Stratum0) -> None:
    before = stratum.served()
    time.sleep(1.1)
    stratum.do("tag", "-a", "v1")
    after = stratum.served()
    assert {letter for letter in after if after[letter] != before[letter]} - {"Y"} == {"T", "H"}
    done = stratum.run("tag", "-a", "v1", stratum.name)
    assert (done.code, "a tag with the name 'v1' already exists." in done.said) == (1, True)
    assert "deleting 'v1'" in stratum.do("tag", "-f", "-r", "v1")
    assert "listing contains " in stratum.do("tag", "-l")


def test_a_rollback_is_a_higher_revision_with_the_old_tree(stratum: Stratum0) -> None:
    stratum.do("tag", "-a", "v1")
    for name in ("a", "b"):
        stratum.do("transaction")
        (stratum.union / name).write_bytes(b"x")
        stratum.do("publish")
    stratum.do("tag", "-a", "v3")
    said = stratum.do("rollback", "-f", "-t", "v1")
    assert "Rolling back repository (leaving behind " in said
    assert "removed tag v3" in said
    assert stratum.revision == 4
    assert [path.name for path in stratum.union.iterdir()] == ["new_repository"]
    done = stratum.run("diff", stratum.name)
    assert (done.code != 0, "unknown repository tag name: trunk-previous" in done.said) == (True, True)


def test_a_template_is_cloned_and_published_two_revisions_later(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / "t_1").mkdir()
    (stratum.union / "t_1/f").write_bytes(b"x")
    stratum.do("publish")
    said = stratum.do("transaction", "-T", "/t_1=/t_2")
    assert in_order(said, ("CernVM-FS: cloning template t_1 --> t_2 ...", "New revision: 3", "[done]"))
    assert stratum.revision == 2
    stratum.do("publish")
    assert stratum.revision == 4
    assert (stratum.union / "t_2/f").read_bytes() == b"x"


def test_a_template_is_taken_back_by_an_abort(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / "t_1").mkdir()
    stratum.do("publish")
    stratum.do("transaction", "-T", "/t_1=/t_2")
    done = stratum.run("abort", "-f", stratum.name)
    assert (done.code, f"{stratum.name} is not based on the newest published revision" in done.said) == (0, True)
    assert not (stratum.union / "t_2").exists()
    assert stratum.revision == 2


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("/nosuch=/t", "path 'nosuch' cannot be found, aborting"),
        ("/new_repository=/new_repository", "destination 'new_repository' exists, aborting"),
        ("/new_repository=/no/such", "destination 'no/such' not on a known path, aborting"),
    ],
)
def test_a_template_that_cannot_be_cloned_leaves_nothing_open(stratum: Stratum0, template: str, words: str) -> None:
    done = stratum.run("transaction", "-T", template, stratum.name)
    assert (done.code, words in done.said) == (22, True), done
    assert not stratum.is_open
    stratum.do("transaction")


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


def test_an_expired_whitelist_stops_all_until_it_is_signed_again(stratum: Stratum0) -> None:
    stratum.expire_whitelist()
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


def test_a_marker_in_the_root_fails_and_the_transaction_stays(stratum: Stratum0) -> None:
    stratum.do("transaction")
    (stratum.union / ".cvmfscatalog").touch()
    done = stratum.run("publish", stratum.name)
    assert (done.code, "Error: nested catalog marker in root directory" in done.said) == (1, True)
    assert in_order(done.said, ("Synchronization failed", "Executed Command:", "cvmfs_swissknife"))
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


def test_gc_takes_what_no_tag_reaches(stratum: Stratum0) -> None:
    for data in (b"one", b"two", b"three"):
        stratum.do("transaction")
        (stratum.union / "f").write_bytes(data * 1000)
        stratum.do("publish")
    before = stratum.served()
    objects = len(list((stratum.storage / "data").glob("??/*")))
    stratum.do("gc", "-f", "-d", "-r", "0")
    assert len(list((stratum.storage / "data").glob("??/*"))) == objects
    said = stratum.do("gc", "-f", "-r", "0")
    assert in_order(
        said, ("Affected Repositories:", "Dry Run", "Running Garbage Collection", "done garbage collecting")
    )
    assert len(list((stratum.storage / "data").glob("??/*"))) < objects
    after = stratum.served()
    assert (after["S"], after["C"]) == (before["S"], before["C"])
    assert "no problems found" in stratum.do("check")
    assert b"last_gc" in (stratum.storage / ".cvmfs_status.json").read_bytes()
