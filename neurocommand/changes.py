"""What differs between two listings of a root."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["directory", "file", "link", "image"]


@dataclass(frozen=True)
class Entry:
    """What stands at a path.

    Args:
        kind: of it; an image, tree or SIF, is one entry whatever it holds.
        content: a file's sha256 and permission bits, a link's target, or what tells an image from another.
    """

    kind: Kind
    content: str = ""


Listing = Mapping[str, Entry]
"""Entries by path relative to the root, ``containers/…``; every directory of a path has its own."""


@dataclass(frozen=True)
class Difference:
    """What makes one listing of another.

    Args:
        removes: paths that go, with all below them; none is below another.
        puts: paths that are new or have a new content, sorted, so that a directory comes before what is in it.
        exchanged: some path goes and is put again, as something else.
    """

    removes: tuple[str, ...]
    puts: tuple[str, ...]
    exchanged: bool

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return bool(self.removes or self.puts)


def difference(before: Listing, after: Listing) -> Difference:
    """Return what makes one listing of the other.

    A file takes the place of a file; everything else has to go before something else takes its place.
    """
    exchanged = _topmost(path for path in after if path in before and not _can_replace(before[path], after[path]))
    gone = _topmost([*exchanged, *(path for path in before if path not in after)])
    standing = {path: entry for path, entry in before.items() if not _is_below(path, gone)}
    puts = tuple(sorted(path for path, entry in after.items() if standing.get(path) != entry))
    return Difference(tuple(gone), puts, bool(exchanged))


def _can_replace(old: Entry, new: Entry) -> bool:
    return old == new or old.kind == new.kind == "file"


def _topmost(paths: Iterable[str]) -> list[str]:
    """Return the paths that are not below another one of them."""
    found: list[str] = []
    for path in sorted(paths, key=lambda one: one.split("/")):
        if not found or not path.startswith(found[-1] + "/"):
            found.append(path)
    return found


def _is_below(path: str, tops: Collection[str]) -> bool:
    """Tell whether a path is one of some, or below one of them."""
    return path in tops or any(path.startswith(top + "/") for top in tops)
