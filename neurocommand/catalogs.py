"""Where nested catalogs begin in a tree, decided from the entries of its directories before anything is written.

A client fetches a catalog as a whole when it first needs one of its paths, about 85 bytes an entry, so a huge one makes
the first call slow, and a tiny one costs a request for nothing. CVMFS warns of more than 500,000 entries in a nested
catalog, and refuses them with CVMFS_ENFORCE_LIMITS; of the root catalog, more than 200,000.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MARKER = ".cvmfscatalog"
HARD_LIMIT = 500_000


@dataclass(frozen=True)
class Range:
    """How many entries a nested catalog should have: at least so many, to be worth a request, and at most so many."""

    least: int = 1_000
    most: int = 200_000


@dataclass(frozen=True)
class Layout:
    """Where nested catalogs begin.

    Args:
        entries: the directories that get a marker, ``""`` being the tree itself, and how many entries the catalog of
            each has: the directory and the marker are among them.
    """

    entries: Mapping[str, int]

    @property
    def markers(self) -> tuple[str, ...]:
        """The directories that get a marker."""
        return tuple(sorted(self.entries))

    @property
    def excess(self) -> tuple[str, ...]:
        """The directories whose catalogs have more entries than CVMFS takes."""
        return tuple(sorted(path for path, count in self.entries.items() if count > HARD_LIMIT))


def layout(counts: Mapping[str, int], target: Range = Range()) -> Layout:
    """Decide where nested catalogs of a tree begin; the tree itself always is one.

    Args:
        counts: entries directly in each directory, by its path relative to the tree (``""`` for itself), subdirectories
            among them; every directory has its own.
        target: how many entries a catalog should have.

    From the leaves up, a directory whose part of the catalog gets too large gives its largest subtrees catalogs of
    their own, as long as those are worth it.
    """
    below: dict[str, list[tuple[int, str]]] = {}
    entries: dict[str, int] = {}
    total = 0
    for path in sorted(counts, key=lambda one: one.count("/") + bool(one), reverse=True):
        children = below.pop(path, [])
        total = counts[path] + sum(count for count, _ in children)
        for count, child in sorted(children, reverse=True):
            if total <= target.most or (count < target.least and total <= HARD_LIMIT):
                break
            # its marker is an entry as well, and so is the directory itself
            entries[child] = count + 2
            total -= count
        below.setdefault(path.rpartition("/")[0], []).append((total, path))
    entries[""] = total + 2
    return Layout(entries)
