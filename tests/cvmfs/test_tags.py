"""The contract of names of revisions: tags, returning to one, templates, and what gc takes."""

from __future__ import annotations

import time

import pytest

from tests.cvmfs.saying import in_order
from tests.cvmfs.simulator import Stratum0


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
    assert in_order(said, "CernVM-FS: cloning template t_1 --> t_2 ...", "New revision: 3", "[done]")
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
        ("/a=/new_repository", "destination 'new_repository' exists, aborting"),
        ("/a=/no/such", "destination 'no/such' not on a known path, aborting"),
    ],
)
def test_a_template_that_cannot_be_cloned_leaves_nothing_open(stratum: Stratum0, template: str, words: str) -> None:
    stratum.do("transaction")
    (stratum.union / "a").mkdir()
    stratum.do("publish")
    done = stratum.run("transaction", "-T", template, stratum.name)
    assert (done.code, words in done.said) == (22, True), done
    assert not stratum.is_open
    stratum.do("transaction")


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
    assert in_order(said, "Affected Repositories:", "Dry Run", "Running Garbage Collection", "done garbage collecting")
    assert len(list((stratum.storage / "data").glob("??/*"))) < objects
    after = stratum.served()
    assert (after["S"], after["C"]) == (before["S"], before["C"])
    assert "no problems found" in stratum.do("check")
    assert b"last_gc" in (stratum.storage / ".cvmfs_status.json").read_bytes()
