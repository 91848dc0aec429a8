"""The index of a root: made from the records, and believed only as long as it is not older than they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neurocommand import index, indexing, record
from neurocommand.deploy import Deployer
from neurocommand.events import Event, Noted, ignore
from neurocommand.index import Entry
from neurocommand.layout import Root
from neurocommand.model import DeployRecord, Notice, Release

SMALL = Release("small", "1.0", "20260101")
OLD = Release("small", "0.9", "20250101")


def deploy(root: Root, release: Release, *commands: str, withdrawn: Notice | None = None) -> None:
    """Write what says that a release is deployed, and what a wrapper would be."""
    directory = root.release(release)
    directory.wrappers.mkdir(parents=True, exist_ok=True)
    found = DeployRecord(release, "a" * 64, 5, "tree", commands, (), "0123456789ab", withdrawn)
    directory.record.write_text(record.render(found))
    if withdrawn is None:
        (directory.image / "opt").mkdir(parents=True, exist_ok=True)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """A root with a live and a withdrawn release, and an index that is not behind."""
    made = Root(tmp_path / "root")
    deploy(made, SMALL, "smallhello", "smallexit")
    deploy(made, OLD, "smallhello", withdrawn=Notice("faulty"))
    indexing.renew(made, None)
    return made


def later(path: Path, seconds: float = 5) -> None:
    """Give a file a time that is certainly after that of the index."""
    when = path.stat().st_mtime + seconds
    os.utime(path, (when, when))


def reason(root: Root) -> str:
    found = indexing.read(root)
    assert isinstance(found, indexing.Unindexed)
    return found.reason


ENTRIES = (Entry(OLD, ("smallhello",), withdrawn=True), Entry(SMALL, ("smallexit", "smallhello")))


def test_the_index_says_what_the_records_say(root: Root) -> None:
    assert indexing.read(root) == indexing.made(root) == ENTRIES
    assert root.index.stat().st_mode & 0o777 == 0o644


def test_what_is_no_deployed_release_is_not_in_it(root: Root, tmp_path: Path) -> None:
    half = root.release(Release("half", "1.0", "20260101"))
    half.path.mkdir()
    half.pending_record.write_text(root.release(SMALL).record.read_text())
    damaged = root.release(Release("damaged", "1.0", "20260101"))
    damaged.path.mkdir()
    damaged.record.write_text("{")
    other = root.release(Release("other", "1.0", "20260101"))
    other.path.mkdir()
    other.record.write_text(root.release(SMALL).record.read_text())
    root.release(Release("link", "1.0", "20260101")).path.symlink_to(root.release(SMALL).path)
    (root.containers / "modules").symlink_to("../modules")
    (root.containers / "file").write_text("")
    indexing.renew(root, None)
    assert indexing.read(root) == ENTRIES


def test_an_index_that_is_behind_is_not_believed(root: Root) -> None:
    later(root.release(SMALL).record)
    assert reason(root) == "is older than what is deployed"
    indexing.renew(root, None)
    later(root.index, 10)
    assert indexing.read(root) == ENTRIES
    later(root.containers, 60)
    assert reason(root) == "is older than what is deployed"


def test_a_release_that_went_away_is_noticed(root: Root) -> None:
    root.release(SMALL).record.rename(root.release(SMALL).pending_record)
    assert reason(root) == "names a release that is gone"


def test_damage_is_told(root: Root) -> None:
    text = root.index.read_text()
    root.index.write_text(text[:-3])
    assert reason(root) == "is damaged: the text ends within a line"
    root.index.write_text(text.replace(", 1;", ", 7;"))
    assert reason(root) == "is damaged: another version of the program wrote it"
    root.index.write_bytes(b"\0" * 100)
    assert reason(root).startswith("is damaged: ")
    with open(root.index, "wb") as stream:
        stream.truncate(1 << 40)
    assert reason(root) == "is damaged: larger than 16 MiB"
    root.index.unlink()
    assert reason(root) == "is missing"


def test_a_root_without_releases_has_no_index(root: Root) -> None:
    for release in (SMALL, OLD):
        root.release(release).record.unlink()
    indexing.renew(root, None)
    assert not root.index.exists()
    indexing.renew(Root(root.path / "nowhere"), None)
    assert not (root.path / "nowhere").exists()


@pytest.mark.parametrize("kind", ["text", "link", "directory"])
def test_what_somebody_else_put_there_stays(root: Root, kind: str, tmp_path: Path) -> None:
    root.index.unlink()
    if kind == "directory":
        root.index.mkdir()
    elif kind == "link":
        (tmp_path / "mine").write_text(index.render(ENTRIES))
        root.index.symlink_to(tmp_path / "mine")
    else:
        root.index.write_text("my own notes\n")
    before = root.index.lstat()
    noted: list[Event] = []
    deployer = Deployer(root, "tree", (), noted.append)
    with deployer.locked():
        deployer.prepare()
        deployer.remove(SMALL)
    assert root.index.lstat() == before
    (note,) = noted
    assert isinstance(note, Noted)
    assert "not made by neurocommand" in note.message


def test_a_run_that_holds_the_lock_renews_what_is_behind(root: Root) -> None:
    root.index.unlink()
    with Deployer(root, "tree", (), ignore).locked():
        assert not root.index.exists(), "once, at the end"
    assert indexing.read(root) == ENTRIES
    before = root.index.stat()
    with Deployer(root, "tree", (), ignore).locked():
        pass
    assert root.index.stat() == before, "what is not behind stays"


def test_a_run_that_fails_leaves_an_index_of_what_it_changed(root: Root) -> None:
    def interrupted() -> None:
        deployer = Deployer(root, "tree", (), ignore)
        with deployer.locked():
            deployer.prepare()
            deployer.remove(SMALL)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert indexing.read(root) == ENTRIES[:1]


def test_an_index_of_a_shared_root_is_open_whatever_the_umask(root: Root) -> None:
    root.index.unlink()
    mask = os.umask(0o077)
    try:
        with Deployer(root, "tree", (), ignore, shared=True).locked():
            pass
    finally:
        os.umask(mask)
    assert root.index.stat().st_mode & 0o777 == 0o644
