"""Revisions: trees become objects, catalogs, tags and at last one signed manifest, which makes them public."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from . import catalogs, history, signing, sqlitefiles
from .catalogs import Catalog, Catalogs
from .history import TRUNK, Tag, Tags
from .host import Repository
from .trees import Tree, dump, load
from .words import WorkerError, complain, say

META = json.dumps({"administrator": "", "email": "", "organisation": "", "description": ""}).encode()
REFLOG = """
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE refs (hash TEXT, type INTEGER, timestamp INTEGER, CONSTRAINT pk_refs PRIMARY KEY (hash));
"""
CORRUPT = "data corruption in .cvmfsreflog for {name}, run `cvmfs_server check -r` to fix"


@dataclass(frozen=True)
class Revision:
    """A revision as it was made: its tree, and its catalogs by their roots."""

    number: int
    time: int
    tree: Tree
    catalogs: Catalogs

    @property
    def root(self) -> Catalog:
        """Return the root catalog."""
        return self.catalogs[""]


def manifest(repository: Repository) -> dict[str, str]:
    """Return the fields of the manifest that is public."""
    return signing.parse_manifest((repository.storage / ".cvmfspublished").read_bytes())


def current(repository: Repository) -> int:
    """Return the number of the public revision."""
    return int(manifest(repository)["S"])


def place(repository: Repository, number: int) -> Path:
    """Return the file that keeps a revision."""
    return repository.upstream.state / "revisions" / f"{number}.json"


def read(repository: Repository, number: int) -> Revision:
    """Return a revision."""
    found = json.loads(place(repository, number).read_text())
    made = {
        path: Catalog(fields[0], fields[1], fields[2], tuple(fields[3])) for path, fields in found["catalogs"].items()
    }
    return Revision(number, found["time"], load(found["tree"]), made)


def keep(repository: Repository, revision: Revision) -> None:
    """Keep a revision, so that it can be mounted, compared and returned to."""
    made = {path: list(asdict(catalog).values()) for path, catalog in revision.catalogs.items()}
    file = place(repository, revision.number)
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"time": revision.time, "tree": dump(revision.tree), "catalogs": made}))
    temporary.replace(file)


def make(repository: Repository, number: int, tree: Tree, base: Revision | None) -> Revision:
    """Store the catalogs of a tree whose files are stored, and keep it as a revision that nobody sees yet."""
    previous = base.root.hash if base else ""
    known = base.catalogs if base else {}
    options = {"revision": number, "previous": previous, "known": known}
    made = catalogs.write(tree, repository.objects, repository.temporary, **options)  # type: ignore[arg-type]
    revision = Revision(number, int(time.time()), tree, made)
    keep(repository, revision)
    return revision


def tags(repository: Repository) -> Tags:
    """Return the tags that are public."""
    return history.read(repository.objects.get(f"{manifest(repository)['H']}H"), repository.temporary)


def head(revision: Revision, name: str = TRUNK, text: str = "current HEAD") -> Tag:
    """Return a tag of a revision."""
    return Tag(name, revision.root.hash, revision.number, revision.time, text, revision.root.size)


def publish(repository: Repository, revision: Revision, names: Tags, *, quiet: bool = False) -> None:
    """Make a revision public with its tags: objects first, the manifest last and in one step.

    A gateway does it ``quiet``.
    """
    repository.faults.reach("exported")
    tell = (lambda *_: None) if quiet else say
    tell(f"Tagging {repository.name}")
    prepared = prepare(repository, names)
    repository.faults.reach("tagged")
    tell("Flushing file system buffers", "Signing new manifest")
    size = str(revision.root.size)
    sign(repository, {"C": revision.root.hash, "B": size, "S": str(revision.number), **prepared})
    repository.faults.reach("signed")


def prepare(repository: Repository, names: Tags) -> dict[str, str]:
    """Store the tag database and return the manifest's fields that name it."""
    return {"H": repository.objects.put(history.write(names, repository.name, repository.temporary), "H")}


def sign(repository: Repository, changed: Mapping[str, str]) -> None:
    """Sign the public manifest anew with fields changed; its time is now."""
    old = manifest(repository)
    fields = {**old, **changed}
    log = write_reflog(repository, [f"{fields['C']}C", f"{fields['H']}H"])
    fields |= {"T": str(int(time.time())), "Y": log}
    repository.objects.replace(".cvmfspublished", signing.manifest(repository.signing, fields))


def first(repository: Repository, tree: Tree, *, collectable: bool) -> None:
    """Make and sign the first revision of a new repository."""
    revision = make(repository, 1, tree, None)
    objects = repository.objects
    fields = {"C": revision.root.hash, "B": str(revision.root.size), "R": hashlib.md5(b"").hexdigest(), "D": "240"}
    fields |= {"S": "1", "G": "yes" if collectable else "no", "A": "no", "N": repository.name}
    fields |= {"X": objects.put(repository.signing.path("crt").read_bytes(), "X")}
    fields |= {**prepare(repository, {TRUNK: head(revision)}), "T": str(revision.time), "M": objects.put(META, "M")}
    fields |= {"Y": write_reflog(repository, [f"{fields['C']}C", f"{fields['H']}H"])}
    objects.replace(".cvmfspublished", signing.manifest(repository.signing, fields))


def write_reflog(repository: Repository, names: list[str]) -> str:
    """Add references to the reflog and return its hash, which the spool keeps too."""
    file = repository.storage / ".cvmfsreflog"
    rows: dict[str, tuple[object, ...]] = {}
    if file.exists():
        with sqlitefiles.opened(repository.temporary, file.read_bytes()) as database:
            rows = {row[0]: row for row in database.execute("SELECT hash, type, timestamp FROM refs")}
    for name in names:
        rows.setdefault(name[:-1], (name[:-1], 0 if name.endswith("C") else 2, int(time.time())))
    properties: list[tuple[object, ...]] = [("schema", "1.0"), ("fqrn", repository.name)]
    data = sqlitefiles.build(repository.temporary, REFLOG, {"properties": properties, "refs": list(rows.values())})
    repository.objects.replace(".cvmfsreflog", data)
    found = hashlib.sha1(data).hexdigest()
    (repository.upstream.spool / "reflog.chksum").write_text(found)
    return found


def reflog_is_sound(repository: Repository) -> bool:
    """Tell whether the reflog is the one that the spool knows."""
    found = hashlib.sha1((repository.storage / ".cvmfsreflog").read_bytes()).hexdigest()
    return found == (repository.upstream.spool / "reflog.chksum").read_text()


def check_reflog(repository: Repository) -> None:
    """Fail as a worker does where the reflog is not the one that the spool knows."""
    if not reflog_is_sound(repository):
        raise WorkerError(CORRUPT.format(name=repository.name))


def auto_tag(repository: Repository) -> str:
    """Say and return the name of the next automatic tag; none where the repository was made without them."""
    if repository.settings.get("CVMFS_AUTO_TAG") != "true":
        return ""
    names = tags(repository)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    name, count = f"generic-{stamp}", 0
    while name in names:
        count += 1
        name = f"generic_{count}-{stamp}"
    say(f"Using auto tag '{name}'")
    return name


def new_tags(repository: Repository, revision: Revision, name: str, text: str) -> Tags:
    """Return all tags for a new revision; ``name`` is one of its own, if any."""
    names = history.moved(tags(repository), head(revision))
    return {**names, name: head(revision, name, text)} if name else names


def renamed(tag: Tag, revision: Revision) -> Tag:
    """Return a tag, moved to another revision."""
    made = head(revision)
    return replace(tag, hash=made.hash, revision=made.revision, time=made.time, size=made.size)


def work_failed(fault: WorkerError, command: str) -> None:
    """Say what is said when the worker failed."""
    complain(*fault.lines, "Synchronization failed", "", "Executed Command:", f"cvmfs_swissknife {command}")
