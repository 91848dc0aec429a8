"""Worlds of any size: manifests grown from the project's own, locks, stores and roots that hold what they should."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from measure import CHECKOUT

from neurocommand import contents, lock, manifesttext, record
from neurocommand.files import write_atomically
from neurocommand.layout import Root, object_key
from neurocommand.lock import Lock
from neurocommand.manifest import Declaration, Manifest
from neurocommand.model import Artifact, DeployRecord, Inspection, Release
from neurocommand.modulefiles import Modulefiles
from neurocommand.render import module, plain, templates, wrapper
from neurocommand.render.runtimeoptions import Options
from neurocommand.settings import WrapperSettings
from neurocommand.stores.directory import DirectoryStore

COMMANDS = ("first", "second", "third")


def grown(releases: int) -> dict[str, Any]:
    """Return a manifest of so many releases: the project's own groups again and again, under numbered names."""
    own = json.loads((CHECKOUT / "apps.json").read_text(encoding="utf-8"))
    result: dict[str, Any] = {}
    left = releases
    for number, (name, group) in ((number, item) for number in itertools.count(1) for item in own.items()):
        apps = dict(_renamed(group["apps"], name, f"{name}-{number}", left))
        result[f"{name}-{number}"] = {**group, "apps": apps}
        left -= sum(entry["exec"] == "" for entry in apps.values())
        if not left:
            return result
    raise AssertionError("the project's own manifest declares nothing")


def _renamed(apps: dict[str, Any], old: str, new: str, most: int) -> Iterator[tuple[str, Any]]:
    """Yield a group's first releases under their new labels, each with its launchers."""
    labels = [label for label, entry in apps.items() if entry["exec"] == ""][:most]
    for label, entry in apps.items():
        if label in labels or label.partition("-")[2] in labels:
            name, _, version = label.rpartition(" ")
            yield f"{name.removesuffix(old)}{new} {version}", entry


def write_manifest(path: Path, releases: int) -> Manifest:
    """Write a manifest of so many releases, and return what neurocommand reads in it."""
    text = json.dumps(grown(releases), indent=4)
    path.write_text(text, encoding="utf-8")
    return manifesttext.parse(text, path.name)


def artifact(release: Release) -> Artifact:
    """Return the artifact that a release has in all of these worlds: 100 MB to 20 GB, as Neurodesk's are."""
    digest = hashlib.sha256(release.id.encode()).hexdigest()
    return Artifact(digest, 100_000_000 + int(digest[:8], 16) % 19_900_000_000, digest[::-1])


def lock_of(releases: Iterable[Release]) -> Lock:
    """Return the lock of some releases."""
    return Lock({release: artifact(release) for release in releases})


def write_lock(path: Path, releases: Iterable[Release]) -> None:
    """Write the lock of some releases."""
    path.write_text(lock.render(lock_of(releases)), encoding="utf-8")


def fill_store(directory: Path, releases: Iterable[Release], size: Callable[[Release], int] | None = None) -> None:
    """Fill a directory store with sparse files, and with the records that its ``put`` would have left.

    Args:
        directory: the store's directory, made here.
        releases: what it holds.
        size: the size of an object; the locked one unless said otherwise.
    """
    directory.mkdir()
    store = DirectoryStore(directory.name, directory)
    for release in releases:
        key = object_key(release)
        with open(directory / key, "wb") as stream:
            stream.truncate(artifact(release).size if size is None else size(release))
        store._remember(key, artifact(release).sha256, os.lstat(directory / key))


def fill_root(root: Root, declarations: Collection[Declaration]) -> None:
    """Write what deploying leaves of each release, but for the image, whose tree holds one empty directory."""
    found = Inspection(COMMANDS, (), (("HOME_OF_IT", "BASEPATH/opt"),), "# A tool\n", "amd64")
    modulefiles = Modulefiles(root)
    for declaration in declarations:
        release, categories = declaration.release, declaration.categories
        directory = root.release(release)
        for made in (directory.image / "opt", directory.wrappers):
            made.mkdir(parents=True, exist_ok=True)
        for command in COMMANDS:
            (directory.wrappers / command).write_text(wrapper.wrapper(release, command), encoding="utf-8")
            (directory.wrappers / command).chmod(0o755)
        for name, text in wrapper.bodies(release, "tree", WrapperSettings(), Options(), found.glibc).items():
            (directory.path / name).write_text(text, encoding="utf-8")
        (directory.path / "commands.txt").write_text(plain.commands_txt(found), encoding="utf-8")
        (directory.path / "env.txt").write_text(plain.env_txt(found), encoding="utf-8")
        (directory.path / "README.md").write_text(found.readme, encoding="utf-8")
        known = artifact(release)
        revision = declaration.revised(templates.revision(WrapperSettings()))
        written = DeployRecord(release, known.sha256, known.size, "tree", COMMANDS, categories, revision)
        modulefiles.write(written, module.live(declaration, found, "tree"))
        directory.record.write_text(record.render(written), encoding="utf-8")
    for application in {declaration.release.application for declaration in declarations}:
        modulefiles.renew(application)


def wrap_root(root: Root, declarations: Collection[Declaration], commands: int) -> None:
    """Write wrappers, texts, modulefiles and records as a rewrap does; images are neither there nor looked into."""
    names = tuple(f"command{number:03}" for number in range(commands))
    found = Inspection(names, (), (("HOME_OF_IT", "BASEPATH/opt"),), "# A tool\n\nIt does things.\n", "amd64")
    modulefiles = Modulefiles(root)
    for declaration in declarations:
        directory, known = root.release(declaration.release), artifact(declaration.release)
        directory.path.mkdir(parents=True, exist_ok=True)
        contents.write(directory, found, "tree", contents.Making(WrapperSettings(), Options()), None)
        revision = declaration.revised(templates.revision(WrapperSettings()))
        written = DeployRecord(
            declaration.release, known.sha256, known.size, "tree", names, declaration.categories, revision
        )
        modulefiles.write(written, module.live(declaration, found, "tree"))
        write_atomically(directory.record, record.render(written))
        modulefiles.renew(declaration.release.application)
