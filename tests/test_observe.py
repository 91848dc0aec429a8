"""What exists: asked of real stores and roots; what cannot be told stays unknown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from neurocommand import observe, record
from neurocommand.errors import StoreError
from neurocommand.layout import Root
from neurocommand.model import Artifact, DeployRecord, Release, StoredObject
from neurocommand.observation import Deployed, Foreign, HalfDeployed, Unknown
from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.interface import Advance, Content, Stream

RELEASES = [Release("tool", str(number), "20260101") for number in range(30)]


class Partly:
    """A read-only store that cannot be listed and cannot tell about some objects; counts how often it was asked."""

    writable = False
    listable = False
    lists_digests = False
    local = False

    def __init__(self, name: str, holds: set[Release], silent: set[Release]) -> None:
        self.name = name
        self.holds = {f"{release}.simg" for release in holds}
        self.silent = {f"{release}.simg" for release in silent}
        self.asked = 0

    def list(self) -> Iterator[StoredObject]:
        raise StoreError("cannot be listed")

    def stat(self, key: str) -> StoredObject | None:
        self.asked += 1
        if key in self.silent:
            raise StoreError(f"no answer for {key}")
        return StoredObject(key, 5) if key in self.holds else None

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        raise StoreError("read-only")

    def opened(self, key: str) -> AbstractContextManager[Stream]:
        raise StoreError("read-only")

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        raise StoreError("read-only")

    def delete(self, key: str) -> None:
        raise StoreError("read-only")


def test_a_store_that_cannot_be_listed_is_asked_for_each_object() -> None:
    store = Partly("web", set(RELEASES[:10]), {RELEASES[20]})
    (view,) = observe.stores([store], RELEASES)
    assert set(view.objects) == set(RELEASES[:10])
    assert view.ask(RELEASES[20]) == Unknown(f"no answer for {RELEASES[20]}.simg")
    assert view.ask(RELEASES[25]) is None
    assert view.fault == ""
    assert not view.writable


def test_a_store_that_never_answers_is_given_up_after_a_few() -> None:
    store = Partly("web", set(), set(RELEASES))
    (view,) = observe.stores([store], RELEASES)
    assert view.fault.startswith("no answer")
    assert store.asked == 3
    assert view.ask(RELEASES[9]) == Unknown(view.fault)


def test_a_store_is_listed_for_many_and_asked_for_few(tmp_path: Path) -> None:
    store = DirectoryStore("d", tmp_path)
    for name in (f"{RELEASES[0]}.simg", "log.txt", "x.simg"):
        (tmp_path / name).write_bytes(b"12345")
    for releases in (RELEASES, RELEASES[:2]):
        (view,) = observe.stores([store], releases)
        assert view.objects == {RELEASES[0]: StoredObject(f"{RELEASES[0]}.simg", 5)}
        assert view.nameless == ((StoredObject("x.simg", 5),) if view.listed else ())


def test_a_store_that_cannot_be_listed_at_all_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (view,) = observe.stores([DirectoryStore("d", tmp_path / "file")], RELEASES)
    assert "cannot be listed" in view.fault
    assert observe.stores([], RELEASES) == ()


TOOL = RELEASES[0]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Give a root with one deployed release, as deploy leaves it."""
    place = Root(tmp_path)
    directory = place.release(TOOL)
    (directory.image / "usr").mkdir(parents=True)
    directory.wrappers.mkdir()
    (directory.wrappers / "cmd").write_text("#!/bin/sh\n")
    (directory.wrappers / "cmd").chmod(0o755)
    found = DeployRecord(TOOL, "a" * 64, 5, "tree", ("cmd",), ("body",), "rev")
    directory.record.write_text(record.render(found))
    place.modulefile(TOOL).parent.mkdir(parents=True)
    place.modulefile(TOOL).write_text(f"--\n-- {TOOL}: made by neurocommand")
    link = place.category_link(TOOL, "body")
    link.parent.mkdir(parents=True)
    link.symlink_to(place.modulefile(TOOL))
    return place


def look(place: Root) -> object:
    return observe.root(place, "tree", "rev").deployments.get(TOOL)


def test_a_deployed_release(root: Root) -> None:
    found = look(root)
    assert isinstance(found, Deployed)
    assert found.complete
    assert found.record.commands == ("cmd",)


def test_an_empty_root(tmp_path: Path) -> None:
    assert observe.root(Root(tmp_path / "none"), "tree", "rev").deployments == {}


def test_what_is_no_release_is_passed_over(root: Root) -> None:
    (root.containers / "modules").symlink_to("../modules")
    (root.containers / "notes").mkdir()
    assert list(observe.root(root, "tree", "rev").deployments) == [TOOL]


@pytest.mark.parametrize(
    "missing", ["modulefile", "link", "wrapper", "wrappers", "foreign modulefile", "more wrappers"]
)
def test_a_release_with_something_missing_beside_its_image_is_incomplete(root: Root, missing: str) -> None:
    directory = root.release(TOOL)
    match missing:
        case "modulefile":
            root.modulefile(TOOL).unlink()
        case "link":
            root.category_link(TOOL, "body").unlink()
        case "wrapper":
            (directory.wrappers / "cmd").unlink()
        case "wrappers":
            (directory.wrappers / "cmd").unlink()
            directory.wrappers.rmdir()
        case "foreign modulefile":
            root.modulefile(TOOL).write_text(f"--\n-- tool_0_20250101: made by neurocommand\n-- not {TOOL}")
        case _:
            (directory.wrappers / "old").write_text("x")
    found = look(root)
    assert isinstance(found, Deployed)
    assert not found.complete


def test_half_deployed_foreign_and_broken_are_told_apart(root: Root) -> None:
    directory = root.release(TOOL)
    text = directory.record.read_text()
    directory.record.write_text("{")
    assert isinstance(look(root), HalfDeployed)
    directory.record.write_text(json.dumps({**json.loads(text), "release": RELEASES[1].id}))
    assert look(root) == HalfDeployed("its record is that of tool_1_20260101")
    directory.record.write_text(text)
    (directory.image / "usr").rmdir()
    assert look(root) == HalfDeployed("its tree is empty")
    directory.image.rmdir()
    assert look(root) == HalfDeployed("its image is missing")
    directory.image.write_text("123")
    directory.record.write_text(json.dumps({**json.loads(text), "format": "sif"}))
    assert look(root) == HalfDeployed("its SIF has 3 bytes instead of 5")
    directory.record.rename(directory.pending_record)
    assert look(root) == HalfDeployed("left half-written by a run that did not end")
    directory.pending_record.unlink()
    assert look(root) == Foreign()
