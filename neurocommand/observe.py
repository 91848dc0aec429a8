"""Ask stores and roots what exists; nothing is changed, and "cannot tell" stays "cannot tell"."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from neurocommand import jsontext, record, threads, tombstone, versions
from neurocommand.errors import FaultsError, StoreError
from neurocommand.layout import (
    WARM,
    ReleaseDirectory,
    Root,
    is_tombstone,
    object_key,
    owner_of_modulefile,
    release_of_key,
)
from neurocommand.manifest import Defaults
from neurocommand.model import DeployRecord, Release, StoredObject
from neurocommand.observation import Deployed, Deployment, Foreign, HalfDeployed, RootView, StoreView, Unreadable
from neurocommand.record import UnknownRecordError
from neurocommand.stores.interface import Store

ASKED_AT_ONCE = 32
_FEW = 16
_TRIALS = 3


def stores(all_stores: Sequence[Store], releases: Sequence[Release], *, listing: bool = False) -> tuple[StoreView, ...]:
    """Ask every store, all at once, what it holds.

    A store that can be listed is listed, unless only a few releases matter: then each object is asked for, because
    an answer about one object may state its digest.

    Args:
        all_stores: the stores.
        releases: the releases that matter.
        listing: list every store that can be listed, also to see what it holds of other releases.
    """
    return tuple(threads.each(lambda store: _view(store, releases, listing), all_stores, len(all_stores)))


def _view(store: Store, releases: Sequence[Release], listing: bool) -> StoreView:
    few = len(releases) <= _FEW
    if not store.listable or (few and not listing):
        return _asked(store, releases)
    listed = _listed(store)
    if listed.fault or listed.digests or not few:
        return listed
    asked = _asked(store, releases)
    others = {release: seen for release, seen in listed.objects.items() if release not in set(releases)}
    return replace(asked, objects={**others, **asked.objects}, listed=not asked.fault)


def _listed(store: Store) -> StoreView:
    try:
        named = [(release_of_key(seen.key), seen) for seen in store.list()]
    except StoreError as error:
        return StoreView(store.name, store.writable, fault=error.message)
    found = {release: seen for release, seen in named if release is not None}
    nameless = tuple(seen for release, seen in named if release is None)
    return StoreView(store.name, store.writable, found, digests=store.lists_digests, listed=True, nameless=nameless)


def _asked(store: Store, releases: Sequence[Release]) -> StoreView:
    """Ask for each object; a store that cannot tell about the first few is not asked for the rest."""
    answers: dict[Release, StoredObject | StoreError | None] = {}
    for some in (releases[:_TRIALS], releases[_TRIALS:]):
        found = threads.each(lambda release: _stat(store, release), some, ASKED_AT_ONCE)
        answers.update(zip(some, found, strict=True))
        errors = [answer for answer in answers.values() if isinstance(answer, StoreError)]
        if errors and len(errors) == len(answers):
            return StoreView(store.name, store.writable, fault=errors[0].message)
    return StoreView(
        store.name,
        store.writable,
        {release: answer for release, answer in answers.items() if isinstance(answer, StoredObject)},
        {release: answer.message for release, answer in answers.items() if isinstance(answer, StoreError)},
    )


def _stat(store: Store, release: Release) -> StoredObject | StoreError | None:
    try:
        return store.stat(object_key(release))
    except StoreError as error:
        return error


def examined(
    all_stores: Sequence[Store],
    releases: Sequence[Release],
    digest: Callable[[Store, StoredObject], str] | None,
    *,
    whole: bool = True,
) -> tuple[StoreView, ...]:
    """Ask every store, all at once, for everything that it holds, with the digest of each object.

    Args:
        all_stores: the stores.
        releases: the releases that matter where a store cannot be listed.
        digest: reads an object and returns its bare hex sha256, raising StoreError; None takes what the store states.
        whole: everything matters; else the releases alone, and each is asked for.
    """

    def view(store: Store) -> StoreView:
        listed = whole and store.listable
        return _examined(store, _listed(store) if listed else _asked(store, releases), digest)

    return tuple(threads.each(view, all_stores, len(all_stores)))


def _examined(store: Store, view: StoreView, digest: Callable[[Store, StoredObject], str] | None) -> StoreView:
    if view.fault:
        return view
    if digest is None and not view.digests:
        asked = _asked(store, sorted(view.objects))
        return replace(asked, listed=not asked.fault)
    if digest is None:
        return view
    objects, unknown = dict(view.objects), dict(view.unknown)
    for release, found in view.objects.items():
        try:
            objects[release] = replace(found, sha256=digest(store, found))
        except StoreError as error:
            del objects[release]
            unknown[release] = error.message
    return replace(view, objects=objects, unknown=unknown, digests=True)


def root(place: Root, image_format: str | None, wrapper_revision: str, defaults: Defaults | None = None) -> RootView:
    """Look at what stands under a root.

    Args:
        place: the root; one that does not exist yet is empty.
        image_format: what releases are to be deployed as; None leaves each as it is.
        wrapper_revision: identity of today's templates.
        defaults: what default versions are decided by; None: they do not matter.
    """
    deployments = {release: _deployment(place, release) for release in _releases(place.containers)}
    ours = {release.application for release, found in deployments.items() if isinstance(found, Deployed)}
    misled = (name for name in ours if defaults is not None and _is_misled(place, name, defaults))
    return RootView(deployments, image_format, wrapper_revision, frozenset(misled))


def _is_misled(place: Root, application: str, defaults: Defaults) -> bool:
    try:
        return not versions.are_right(place, application, defaults)
    except OSError:
        return False  # its releases say themselves that they cannot be read


def _releases(directory: Path) -> Iterable[Release]:
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return
    for name in names:
        try:
            yield Release.parse(name)
        except ValueError:
            continue


def _deployment(place: Root, release: Release) -> Deployment:
    directory = place.release(release)
    if os.path.islink(directory.path):
        return Foreign()
    if not os.path.lexists(directory.record):
        pending = os.path.lexists(directory.pending_record)
        return HalfDeployed("left half-written by a run that did not end") if pending else Foreign()
    try:
        found = read_record(directory)
        return Deployed(found, _complete(place, found)) if isinstance(found, DeployRecord) else found
    except OSError as error:
        return Unreadable(f"{error.filename}: {error.strerror}")


def read_record(directory: ReleaseDirectory) -> DeployRecord | HalfDeployed | Unreadable:
    """Read a deployed release's record, and see that it is true.

    Returns:
        The record; or what is known to be wrong; or why nothing can be known.
    """
    name = directory.record.name
    try:
        found = record.parse(jsontext.decode(directory.record.read_bytes(), name), name)
        return _fault(directory, found) or found
    except OSError as error:
        return Unreadable(f"{error.filename}: {error.strerror}")
    except UnknownRecordError as error:
        return Unreadable(error.message)
    except FaultsError as error:
        return HalfDeployed(f"its record cannot be read: {error.faults[0].message}")


def _fault(directory: ReleaseDirectory, found: DeployRecord) -> HalfDeployed | None:
    """Hold a record against what stands beside it."""
    if found.release != directory.release:
        return HalfDeployed(f"its record is that of {found.release}")
    if directory.wrappers.is_symlink():
        return HalfDeployed("its wrappers are behind a symbolic link")
    if found.withdrawn:
        return None
    try:
        image = directory.image.lstat()
    except FileNotFoundError:
        return HalfDeployed("its image is missing")
    fault = ""
    if not (stat.S_ISDIR if found.format == "tree" else stat.S_ISREG)(image.st_mode):
        fault = f"its image is no {found.format}"
    elif found.format == "sif" and image.st_size != found.size:
        fault = f"its SIF has {image.st_size} bytes instead of {found.size}"
    elif found.format == "tree" and not any(directory.image.iterdir()):
        fault = "its tree is empty"
    return HalfDeployed(fault) if fault else None


def _complete(place: Root, found: DeployRecord) -> bool:
    """Tell whether wrappers, modulefiles and links are there; where that cannot be told, OSError is raised."""
    release, directory = found.release, place.release(found.release)
    try:
        with os.scandir(directory.wrappers) as entries:
            wrappers = {entry.name: _usable(entry) for entry in entries}
        directory.wrapper_body.stat()
        if wrappers != dict.fromkeys(found.commands, True):
            return False
        text = versions.head(place.modulefile(release))
        if found.withdrawn:
            another = owner_of_modulefile(text) not in ("", release.id)
            return tombstone.is_whole(directory, found.withdrawn) and (another or _in_trees(place, found, text))
        return _in_trees(place, found, text)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _in_trees(place: Root, found: DeployRecord, text: str) -> bool:
    """Tell whether the modulefiles and links are there: those of a live release, or of a withdrawn one.

    Args:
        place: the root.
        found: what the record says.
        text: the beginning of the canonical modulefile.

    Raises:
        FileNotFoundError: a link is missing, or leads nowhere.
    """
    release = found.release
    for path in (place.modulefile(release, WARM), place.tcl_modulefile(release, WARM)):
        path.stat()
    for category in found.categories:
        for variant in ("", WARM):
            place.category_link(release, category, variant).stat()
    return all(
        owner_of_modulefile(one) == release.id and is_tombstone(one) == bool(found.withdrawn)
        for one in (text, versions.head(place.tcl_modulefile(release)))
    )


def _usable(entry: os.DirEntry[str]) -> bool:
    """Tell whether a wrapper is an executable file with something in it; anything else has to be written again."""
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISREG(status.st_mode) and bool(status.st_size) and bool(status.st_mode & 0o100)
