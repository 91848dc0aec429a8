"""What is deployed on this host, found without manifest, lock or store: by directories, records and indexes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from difflib import get_close_matches

from neurocommand import indexing, observe, versions
from neurocommand.index import Entry
from neurocommand.layout import Root
from neurocommand.model import DeployRecord, Notice, Release
from neurocommand.settings import Settings


def places(settings: Settings) -> list[Root]:
    """Return the roots that a person of this host uses: the prefix before the shared root."""
    return [Root(path) for path in dict.fromkeys((settings.prefix, settings.root)) if path is not None]


def named(root: Root) -> list[Release]:
    """Return the releases that have a directory under a root, deployed or not.

    Raises:
        OSError: it cannot be told; that the root is not there is no such case.
    """
    found = []
    try:
        names = os.listdir(root.containers)
    except (FileNotFoundError, NotADirectoryError):
        return []
    for name in names:
        try:
            found.append(Release.parse(name))
        except ValueError:
            continue
    return found


def has_record(root: Root, release: Release) -> bool:
    """Tell whether a release has a record.

    Raises:
        OSError: it cannot be told.
    """
    try:
        os.lstat(root.release(release).record)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def choose(argument: str, roots: Sequence[Root]) -> tuple[Release, list[Root]] | None:
    """Find what ``application``, ``application/version`` or a full id means among what is deployed.

    Without a version the default of the modules is meant, and the highest where none is. What is withdrawn is passed
    over, unless there is nothing else.

    Returns:
        The release and the roots that have it, in their order; None when there is no such one.

    Raises:
        OSError: it cannot be told what is deployed.
    """
    application, _, version = argument.partition("/")
    found: dict[Release, list[Root]] = {}
    for root in roots:
        for release in named(root):
            if argument == release.id or (release.application == application and version in ("", release.version)):
                found.setdefault(release, []).append(root)
    default = {versions.default_of(root, application) for root in roots} if not version else set()
    withdrawn = None
    for release in sorted(found, key=lambda one: (one.version in default, one.precedence), reverse=True):
        having = [root for root in found[release] if has_record(root, release)]
        live = [root for root in having if notice(root, release) is None]
        if live:
            return release, live
        withdrawn = withdrawn or ((release, having) if having else None)
    return withdrawn


def notice(root: Root, release: Release) -> Notice | None:
    """Return why a release is withdrawn; None where it is live, or nobody can tell."""
    found = observe.read_record(root.release(release))
    return found.withdrawn if isinstance(found, DeployRecord) else None


def entries(root: Root) -> tuple[tuple[Entry, ...], str]:
    """Return the commands of each release under a root: from its index, else from the records.

    Returns:
        The entries, and what is wrong with the index; nothing where it was read, or nothing is deployed.

    Raises:
        OSError: it cannot be told.
    """
    found = indexing.read(root)
    if not isinstance(found, indexing.Unindexed):
        return found, ""
    made = indexing.made(root)
    return made, f"{root.index} {found.reason}, so the records were read" if made else ""


def candidates(argument: str, roots: Sequence[Root]) -> str:
    """Say what is deployed that may have been meant; empty where nothing is like it."""
    application = argument.partition("/")[0]
    deployed = {release for root in roots for release in named(root) if has_record(root, release)}
    versions = sorted((r for r in deployed if r.application == application), key=lambda r: r.precedence, reverse=True)
    names = [f"{release.application}/{release.version}" for release in versions]
    names = names or get_close_matches(application, sorted({release.application for release in deployed}))
    return f"did you mean {', '.join(names[:12])}?" if names else ""


def reason(error: OSError) -> str:
    """Say which place could not be looked at, and why."""
    return f"{error.filename}: {error.strerror}"
