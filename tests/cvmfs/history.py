"""The tag database: names of revisions, object H of the manifest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from . import sqlitefiles

SCHEMA = """
CREATE TABLE properties (key TEXT, value TEXT, CONSTRAINT pk_properties PRIMARY KEY (key));
CREATE TABLE branches (branch TEXT, parent TEXT, initial_revision INTEGER,
    CONSTRAINT pk_branch PRIMARY KEY (branch), FOREIGN KEY (parent) REFERENCES branches (branch),
    CHECK ((branch <> '') OR (parent IS NULL)), CHECK ((branch = '') OR (parent IS NOT NULL)));
CREATE TABLE tags (name TEXT, hash TEXT, revision INTEGER, timestamp INTEGER, channel INTEGER, description TEXT,
    size INTEGER, branch TEXT, CONSTRAINT pk_tags PRIMARY KEY (name),
    FOREIGN KEY (branch) REFERENCES branches (branch));
CREATE TABLE recycle_bin (hash TEXT, flags INTEGER, CONSTRAINT pk_hash PRIMARY KEY (hash));
"""
COLUMNS = "name, hash, revision, timestamp, description, size"
TRUNK, PREVIOUS = "trunk", "trunk-previous"
OWN = (TRUNK, PREVIOUS)


@dataclass(frozen=True)
class Tag:
    """A name of a revision."""

    name: str
    hash: str
    revision: int
    time: int
    text: str
    size: int

    def line(self) -> str:
        """Return the tag as ``-x`` prints it."""
        return f"{self.name} {self.hash} {self.size} {self.revision} {self.time} (default) {self.text}".rstrip()


Tags = dict[str, Tag]


def write(tags: Tags, repository: str, spool: Path) -> bytes:
    """Return the tag database."""
    rows = [
        (tag.name, tag.hash, tag.revision, tag.time, 0, tag.text, tag.size, "")
        for tag in sorted(tags.values(), key=lambda tag: tag.name)
    ]
    properties: list[tuple[object, ...]] = [("schema", "1.0"), ("schema_revision", "3"), ("fqrn", repository)]
    return sqlitefiles.build(spool, SCHEMA, {"properties": properties, "branches": [("", None, 0)], "tags": rows})


def read(data: bytes, spool: Path) -> Tags:
    """Return the tags of a database."""
    with sqlitefiles.opened(spool, data) as database:
        return {row[0]: Tag(*row) for row in database.execute(f"SELECT {COLUMNS} FROM tags")}


def moved(tags: Tags, head: Tag) -> Tags:
    """Return tags after a new revision: trunk is the new one, trunk-previous the one that was trunk."""
    changed = dict(tags)
    if TRUNK in tags:
        changed[PREVIOUS] = replace(tags[TRUNK], name=PREVIOUS, text="default undo target")
    changed[TRUNK] = head
    return changed
