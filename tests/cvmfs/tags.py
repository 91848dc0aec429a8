"""Tags: listed, made, removed, and returned to."""

from __future__ import annotations

from dataclasses import replace

from . import history, revisions, union
from .history import PREVIOUS, TRUNK, Tag, Tags
from .host import Host, Repository, existing, owned
from .trees import Tree
from .words import RefusedError, say

FETCH = "failed to fetch repository manifest (8 - bad whitelist)"


def readable(repository: Repository) -> None:
    """Refuse where the whitelist has expired, as all do that read the repository as a client."""
    if repository.whitelist_is_expired:
        raise RefusedError(1, FETCH)


def list_tags(host: Host, name: str, *, plain: bool) -> None:
    """List all tags, newest first."""
    names = sorted(_tags(existing(host, name)).values(), key=lambda tag: (-tag.revision, tag.name))
    say(*(tag.line() if plain else f"{tag.name} │ {tag.revision} │ {tag.time} │  │ {tag.text}" for tag in names))
    if not plain:
        say(f"listing contains {len(names)} tags")


def show(host: Host, name: str, tag: str, *, plain: bool) -> None:
    """Say what a tag is."""
    found = _tags(existing(host, name)).get(tag)
    if not found:
        raise RefusedError(1, f"tag '{tag}' does not exist")
    if plain:
        say(found.line())
    else:
        say(f"Name:          {found.name}", f"Revision:      {found.revision}", f"Timestamp:     {found.time}")
        say(f"Root Hash:     {found.hash}", f"Catalog Size:  {found.size}", found.text)


def _tags(repository: Repository) -> Tags:
    owned(repository)
    readable(repository)
    return revisions.tags(repository)


def _closed(repository: Repository, fault: str) -> None:
    owned(repository)
    if repository.flag.exists():
        raise RefusedError(1, fault)
    readable(repository)


def add(host: Host, name: str, tag: str, *, text: str, root: str) -> None:
    """Give a name to the newest revision, or to that with a root hash; the manifest is signed again."""
    repository = existing(host, name)
    _closed(repository, "Cannot change repository tags while in a transaction")
    if " " in tag:
        raise RefusedError(1, "Spaces are not allowed in tag names")
    names = revisions.tags(repository)
    if tag in names and not root:
        raise RefusedError(1, f"a tag with the name '{tag}' already exists. Do you want to move it? (-h <root hash>)")
    number = _number(repository, root) if root else revisions.current(repository)
    head = revisions.head(revisions.read(repository, number), tag, text)
    _sign(repository, {**names, tag: head})


def _number(repository: Repository, root: str) -> int:
    for number in range(revisions.current(repository), 0, -1):
        if revisions.place(repository, number).exists() and revisions.read(repository, number).root.hash == root:
            return number
    raise RefusedError(1, f"failed to load catalog {root} (7 - not found)")


def _sign(repository: Repository, names: Tags) -> None:
    changed = revisions.prepare(repository, names)
    repository.faults.reach("tagging")
    revisions.sign(repository, changed)


def remove(host: Host, name: str, tag: str) -> None:
    """Remove a tag; the manifest is signed again."""
    repository = existing(host, name)
    _closed(repository, "Cannot change repository tags while in a transaction")
    names = revisions.tags(repository)
    if tag not in names:
        raise RefusedError(1, f"tag '{tag}' does not exist", "Did not remove anything")
    say(f"deleting '{tag}' ({names[tag].hash})")
    _sign(repository, {other: found for other, found in names.items() if other != tag})


def rollback(host: Host, name: str, tag: str) -> None:
    """Publish the tree of a tag as a new revision; later tags go, and so does the way back."""
    repository = existing(host, name)
    _closed(repository, "Cannot rollback a repository in a transaction")
    names = revisions.tags(repository)
    if not tag and PREVIOUS not in names:
        text = "More than one anonymous undo rollback is not supported. Please specify a tag name (-t)"
        raise RefusedError(1, text)
    target = tag or PREVIOUS
    if target not in names:
        raise RefusedError(1, f"Target tag '{target}' does not exist")
    old = revisions.read(repository, revisions.current(repository))
    say(f"Rolling back repository (leaving behind {old.root.hash})")
    past = revisions.read(repository, names[target].revision)
    revision = revisions.make(repository, old.number + 1, past.tree, past)
    gone = [found for found in names.values() if _goes(found, names[target])]
    say(*(f"removed tag {found.name} ({found.hash})" for found in gone))
    kept = {found.name: found for found in names.values() if found not in gone}
    kept |= {TRUNK: revisions.head(revision)}
    if tag not in history.OWN and tag:
        kept[tag] = replace(revisions.renamed(names[tag], revision), name=tag)
    revisions.publish(repository, revision, kept)
    union.show(repository, old.tree, revision.tree, mode="ro", revision=revision.number)


def _goes(tag: Tag, target: Tag) -> bool:
    return tag.name == PREVIOUS or (tag.name not in (TRUNK, target.name) and tag.revision > target.revision)


def diff(host: Host, name: str, source: str, target: str) -> None:
    """Say what changed between two tags, for machines: A, R or M, a kind, a path."""
    repository = existing(host, name)
    names = revisions.tags(repository)
    for tag in (source, target):
        if tag not in names:
            raise RefusedError(1, f"(unexpected termination) unknown repository tag name: {tag}")
    old, new = (revisions.read(repository, names[tag].revision).tree for tag in (source, target))
    say(*_differences(old, new))


def _differences(old: Tree, new: Tree) -> list[str]:
    lines = []
    for path in sorted(old | new):
        if path not in old:
            lines.append(f"/{path} add {_kind(new, path)} +{new[path].size} bytes")
        elif path not in new:
            lines.append(f"/{path} remove {_kind(old, path)} -{old[path].size} bytes")
        elif not new[path].same(old[path]):
            lines.append(f"/{path} modify {_kind(new, path)}")
    return lines


def _kind(tree: Tree, path: str) -> str:
    return {"file": "regular file", "link": "symlink"}.get(tree[path].kind, tree[path].kind)
