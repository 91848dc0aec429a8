"""The union directory: it shows a revision, and takes changes while a transaction is open."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from . import revisions
from .host import Repository
from .trees import Tree, lay_out, scan


def show(repository: Repository, found: Tree, wanted: Tree, *, mode: str, revision: int) -> None:
    """Let the union, which holds ``found``, show ``wanted``; ``mode`` is rw or ro."""
    repository.faults.wait_for_mount()
    lay_out(repository.union, found, wanted, repository.pool)
    repository.set_mounted(mode, revision)
    set_mode(repository, mode, wanted)


def set_mode(repository: Repository, mode: str, tree: Tree) -> None:
    """Mount the union rw or ro; of what cannot be written, the top has the look."""
    repository.set_mounted(mode)
    repository.union.chmod(tree[""].mode if mode == "rw" else tree[""].mode & ~0o222)


def read(repository: Repository, base: Tree) -> Tree:
    """Read the union as it is now; the top's mode, which says how it is mounted, is as in ``base``."""
    tree = scan(repository.union, base)
    if repository.mounted[0] != "rw":
        tree[""] = base[""]
    return tree


def changes(base: Tree, found: Tree) -> tuple[list[str], list[str]]:
    """Return the paths that are new or changed, and those that are gone."""
    return [path for path in found if not found[path].same(base.get(path))], [
        path for path in base if path not in found
    ]


def remount(repository: Repository, mode: str) -> None:
    """Mount the union on the public revision; changes that were made on another are kept."""
    repository.reveal()
    number = repository.mounted[1]
    base, public = revisions.read(repository, number).tree, revisions.read(repository, revisions.current(repository))
    found = read(repository, base)
    wanted = dict(public.tree)
    if repository.flag.exists():
        changed, gone = changes(base, found)
        wanted |= {path: found[path] for path in changed}
        for path in gone:
            wanted.pop(path, None)
        for path in changed:
            _pool(repository, path, wanted)
    show(repository, found, wanted, mode=mode, revision=public.number)


def discard(repository: Repository) -> None:
    """Let the union show the public revision and nothing else, read-only."""
    repository.reveal()
    base = revisions.read(repository, repository.mounted[1]).tree
    public = revisions.read(repository, revisions.current(repository))
    show(repository, read(repository, base), public.tree, mode="ro", revision=public.number)


def holders(repository: Repository) -> Iterator[tuple[int, str, bool]]:
    """Give who else has something open in the union, or is in it: process, path, whether it can write."""
    inside = str(repository.union)
    for process in Path("/proc").glob("[0-9]*"):
        if int(process.name) == os.getpid():
            continue
        try:
            links = [process / "cwd", *(process / "fd").iterdir()]
        except OSError:
            continue  # it ended, or is another user's
        for link in links:
            found = _held(link, inside)
            if found:
                yield int(process.name), found, _writable(link)


def caller_is_inside(repository: Repository) -> bool:
    """Tell whether the command was called from inside the union."""
    return _held(Path("/proc/self/cwd"), str(repository.union)) is not None


def _held(link: Path, inside: str) -> str | None:
    try:
        target = os.readlink(link)
    except OSError:
        return None
    return target if target == inside or target.startswith(f"{inside}/") else None


def _writable(link: Path) -> bool:
    try:
        text = (link.parent.parent / "fdinfo" / link.name).read_text()
    except OSError:
        return False
    flags = next(line.split()[1] for line in text.splitlines() if line.startswith("flags:"))
    return bool(int(flags, 8) & (os.O_WRONLY | os.O_RDWR))


def _pool(repository: Repository, path: str, tree: Tree) -> None:
    """Keep the bytes of a changed file, which may be written again from there."""
    entry = tree[path]
    if entry.kind == "file" and not (repository.pool / entry.raw).exists():
        (repository.pool / entry.raw).write_bytes((repository.union / path).read_bytes())
