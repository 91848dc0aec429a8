"""Which directories may stand where: nothing is swept or emptied with something else in it.

The rule, on paths without symbolic links: neither the spool nor a store lies in what a root (shared root or prefix)
keeps (``KEPT``), nor is or holds a root; the spool and a store neither are nor hold each other; the spool does not
lie in the shared root, nor a root in what another one keeps; two stores are two directories.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

# what a root keeps, docs/design.md §4; a test holds it against layout.py
KEPT = ("containers", "modules", "modules-tcl", "neurodesk-modules", "lmod", ".neurocommand")


@dataclass(frozen=True)
class Place:
    """A directory by the name of its setting, its path without symbolic links."""

    name: str
    path: str


def collisions(
    spool: Path, stores: Mapping[str, Path], prefix: Path, root: Path | None
) -> Iterator[tuple[Place, Place]]:
    """Yield every two places that break the rule.

    Args:
        spool: the spool.
        stores: the directory stores, by name.
        prefix: the prefix of install.
        root: the shared root, if there is one.
    """
    spooled = _place("spool", spool)
    stored = [_place(f"store {name}", path) for name, path in stores.items()]
    roots = [_place("install.prefix", prefix)]
    if root is not None:
        roots.append(_place("publish.root", root))
        if _within(spooled, roots[-1]):
            yield spooled, roots[-1]
    for place in (spooled, *stored):
        yield from ((place, other) for other in roots if _within(other, place) or _kept_by(other, place))
    yield from ((one, other) for one in roots for other in roots if _kept_by(other, one))
    yield from ((spooled, store) for store in stored if _within(spooled, store) or _within(store, spooled))
    yield from ((one, other) for index, one in enumerate(stored) for other in stored[:index] if one.path == other.path)


def _place(name: str, path: Path) -> Place:
    return Place(name, os.path.realpath(path))


def _within(inner: Place, outer: Place) -> bool:
    return Path(inner.path).is_relative_to(outer.path)


def _kept_by(root: Place, place: Place) -> bool:
    return any(_within(place, _place(name, Path(root.path) / name)) for name in KEPT)
