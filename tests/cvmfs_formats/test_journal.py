"""The journal and the inventories of a publisher: read back as written, and what is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocommand.changes import Entry
from neurocommand.cvmfs.inventory import Inventories
from neurocommand.cvmfs.journal import Journal
from neurocommand.errors import FaultsError
from neurocommand.model import DeployRecord, Release
from neurocommand.recovery import Publication

PUBLICATION = Publication("t", "added a", 7, ("a_1_20260101",), (("a", None), ("b", "0" * 64)), 12)
LISTING = {"a": Entry("directory"), "a/\udcff\n": Entry("file", "00 644"), "l": Entry("link", "a")}


def record(version: str, sha256: str = "1" * 64) -> DeployRecord:
    return DeployRecord(Release("a", version, "20260101"), sha256, 1, "tree", (), (), "r")


def test_a_journal_is_read_as_it_was_written_until_it_is_closed(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    assert journal.load() is None
    journal.begin(PUBLICATION)
    assert journal.load() == PUBLICATION
    journal.claim("3-4")
    assert (claimed := journal.load()) is not None
    assert claimed.transaction == "3-4"
    journal.close()
    assert journal.load() is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 2}', '{"version": 1, "tag": "t"}'])
def test_a_damaged_journal_is_never_taken_for_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "journal.json").write_text(text)
    with pytest.raises(FaultsError):
        Journal(tmp_path / "journal.json").load()


def test_the_inventory_of_the_last_version_is_kept(tmp_path: Path) -> None:
    kept = Inventories(tmp_path / "inventories")
    assert kept.last("a") is None
    kept.keep(record("1"), LISTING)
    kept.keep(record("2"), LISTING)
    assert kept.last("a") == Release("a", "2", "20260101")
    assert kept.load(record("2")) == LISTING
    assert kept.load(record("1")) is None
    assert kept.load(record("2", "2" * 64)) is None, "of other bytes"


@pytest.mark.parametrize("content", [b"", b"x", b"\x1f\x8b\x08\x00"])
def test_a_damaged_inventory_says_nothing(content: bytes, tmp_path: Path) -> None:
    kept = Inventories(tmp_path)
    kept.keep(record("1"), LISTING)
    (path,) = tmp_path.iterdir()
    path.write_bytes(content)
    assert kept.load(record("1")) is None
