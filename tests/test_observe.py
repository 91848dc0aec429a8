"""What exists: asked of real stores and roots; what cannot be told stays unknown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from neurocommand import observe, record, versions
from neurocommand.deploy import Deployer
from neurocommand.errors import StoreError
from neurocommand.layout import Root
from neurocommand.manifest import Defaults
from neurocommand.model import Artifact, DeployRecord, Notice, Release, StoredObject
from neurocommand.modulefiles import Modulefiles
from neurocommand.observation import Deployed, Foreign, HalfDeployed, Unknown
from neurocommand.render.module import Module
from neurocommand.render.wrapper import tombstone
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
    directory.wrapper_body.touch()
    found = DeployRecord(TOOL, "a" * 64, 5, "tree", ("cmd",), ("body",), "rev")
    directory.record.write_text(record.render(found))
    modulefiles = Modulefiles(place)
    modulefiles.write(found, Module(TOOL, "", ()))
    modulefiles.renew(TOOL.application)
    return place


def look(place: Root) -> object:
    return observe.root(place, "tree", "rev").deployments.get(TOOL)


def misled(place: Root, defaults: Defaults | None = None) -> frozenset[str]:
    return observe.root(place, "tree", "rev", defaults or Defaults()).misled


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


def test_a_default_version_that_is_not_told_or_not_the_right_one_is_seen(root: Root) -> None:
    assert misled(root) == frozenset()
    assert observe.root(root, "tree", "rev").misled == frozenset()
    application = TOOL.application
    files = [*versions.places(root, application), root.category_link(TOOL, "body").parent / versions.LUA]
    for path in files:
        text = path.read_text()
        path.unlink()
        assert misled(root) == {application}, path
        if path != files[-1]:
            path.write_text(text.replace("0", "1"))
            assert misled(root) == {application}, path
            path.unlink()
        Modulefiles(root).renew(application)
        assert misled(root) == frozenset()
    other = Release(application, "1", "20260101")
    Modulefiles(root).write(DeployRecord(other, "a" * 64, 5, "tree", (), (), "rev"), Module(other, "", ()))
    assert misled(root) == {application}
    Modulefiles(root).renew(application)
    assert misled(root) == frozenset()
    assert misled(root, Defaults({application: "0"})) == {application}
    assert misled(root, Defaults(deprecated=frozenset({other}))) == {application}


def buried(place: Root, notice: Notice) -> DeployRecord:
    """Withdraw the release, as the deployer does."""
    directory = place.release(TOOL)
    was = record.parse(directory.record.read_text(), "record.json")
    place.staging.mkdir(parents=True, exist_ok=True)
    return Deployer(place, "tree", (), lambda event: None).withdraw(was, notice)


def test_a_withdrawn_release_needs_no_image(root: Root) -> None:
    notice = Notice("wrong results", None, "2026-01-31")
    directory = root.release(TOOL)
    found = buried(root, notice)
    assert not directory.image.exists()
    assert look(root) == Deployed(found, True)
    assert found.withdrawn == notice
    assert observe.root(root, "tree", "rev").standing == frozenset()
    assert misled(root) == frozenset()


@pytest.mark.parametrize(
    "missing", ["image", "body", "other notice", "wrapper", "modulefile", "live", "tcl", "commands"]
)
def test_a_withdrawal_that_was_not_finished_is_seen(root: Root, missing: str) -> None:
    directory = root.release(TOOL)
    live = root.modulefile(TOOL).read_text()
    found = buried(root, Notice("wrong results"))
    match missing:
        case "image":
            directory.image.mkdir()
        case "body":
            directory.wrapper_body.unlink()
        case "other notice":
            directory.wrapper_body.write_text(tombstone(TOOL, Notice("other")))
        case "wrapper":
            (directory.wrappers / "cmd").unlink()
        case "modulefile":
            root.modulefile(TOOL).unlink()
        case "live":
            root.modulefile(TOOL).write_text(live)
        case "tcl":
            root.tcl_modulefile(TOOL).unlink()
        case _:
            (directory.path / "commands.txt").write_text("cmd\n")
    assert look(root) == Deployed(found, False)


def test_another_build_date_may_have_the_modulefile_of_a_withdrawn_release(root: Root) -> None:
    found = buried(root, Notice("wrong results"))
    other = Release(TOOL.application, TOOL.version, "20260606")
    live = DeployRecord(other, "a" * 64, 5, "tree", (), (), "rev")
    Modulefiles(root).write(live, Module(other, "", ()))
    assert look(root) == Deployed(found, True)
    buried(root, Notice("wrong results"))
    assert other.id in root.modulefile(TOOL).read_text()


@pytest.mark.parametrize(
    "missing",
    ["modulefile", "link", "wrapper", "wrappers", "foreign modulefile", "more wrappers", "tcl", "warm", "warm link"],
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
        case "tcl":
            root.tcl_modulefile(TOOL).unlink()
        case "warm":
            root.tcl_modulefile(TOOL, "-warm").unlink()
        case "warm link":
            root.category_link(TOOL, "body", "-warm").unlink()
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
