"""What stands beside the objects of a remote: digests, unfinished objects, segments; names and times as text.

rclone states no sha256 for most remotes, so each object's is remembered in the name of a small object beside it,
``.sha256/<key>/<size>-<nanoseconds>-<sha256>``: one listing states them all, and an object that was replaced behind our
back has another time, as far as the remote can tell.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from neurocommand.model import SIZE_LIMIT, StoredObject
from neurocommand.stores.interface import KEY

MARKS = ".sha256"
UNFINISHED = ".partial"
_MARK = re.compile(r"([0-9]{1,19})-([0-9]{1,19})-([0-9a-f]{64})", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)", re.ASCII
)  # RFC 3339, as in Go


@dataclass(frozen=True)
class Entry:
    """One file in a listing: its path below the remote, bytes, and nanoseconds since 1970."""

    path: str
    size: int
    time: int


def entries(text: str) -> tuple[Entry, ...]:
    """Read what ``rclone lsjson`` prints; paths that are not made of plain names are left out.

    Raises:
        ValueError: it is no such listing.
    """
    listed = json.loads(text)
    if not isinstance(listed, list):
        raise ValueError("no listing of files")
    try:
        found = tuple(Entry(str(item["Path"]), item["Size"], nanoseconds(item["ModTime"])) for item in listed)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no listing of files: {error}") from error
    if not all(type(entry.size) is int and entry.size < SIZE_LIMIT for entry in found):
        raise ValueError("a size that is none")
    return tuple(entry for entry in found if _PLAIN.fullmatch(entry.path))


def nanoseconds(text: str) -> int:
    """Return the time in a listing as nanoseconds since 1970.

    Raises:
        ValueError: it is no time.

    >>> nanoseconds("1970-01-01T01:00:01.5+01:00")
    1500000000
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no time")
    moment = datetime.datetime.fromisoformat(match[1] + ("+00:00" if match[3] == "Z" else match[3]))
    seconds = int(moment.timestamp())
    return seconds * 10**9 + int((match[2] or "").ljust(9, "0"))


def mark(key: str, entry: Entry, sha256: str) -> str:
    """Return the path of the object that remembers another's digest."""
    return f"{MARKS}/{key}/{entry.size}-{entry.time}-{sha256}"


def objects(listed: tuple[Entry, ...]) -> Iterator[StoredObject]:
    """Yield the objects of a listing, sorted, each with its sha256 where one is remembered for what it is now."""
    marks = {(entry.path.split("/")[1], *found[0]): found[1] for entry in listed if (found := _remembered(entry))}
    for entry in sorted(listed, key=lambda entry: entry.path):
        if KEY.fullmatch(entry.path):
            yield StoredObject(entry.path, entry.size, marks.get((entry.path, entry.size, entry.time)))


def _remembered(entry: Entry) -> tuple[tuple[int, int], str] | None:
    parts = entry.path.split("/")
    match = _MARK.fullmatch(parts[2]) if len(parts) == 3 and parts[0] == MARKS else None
    return ((int(match[1]), int(match[2])), match[3]) if match else None


def marks_of(listed: tuple[Entry, ...], key: str) -> tuple[str, ...]:
    """Return the paths of all that is remembered of an object."""
    return tuple(entry.path for entry in listed if entry.path.startswith(f"{MARKS}/{key}/"))


def leftovers(listed: tuple[Entry, ...], key: str, before: int) -> tuple[str, ...]:
    """Return the paths of what killed runs left of an object; ``before``: last changed then, nanoseconds."""
    start = f"{UNFINISHED}/{key}."
    return tuple(entry.path for entry in listed if entry.path.startswith(start) and entry.time <= before)


def segments_of(remote: str, key: str) -> str:
    """Return where rclone keeps the segments of a large object on Swift: in a container of its own.

    >>> segments_of("nectar:neurodesk/images", "fsl_6_20250101.simg")
    'nectar:neurodesk_segments/images/fsl_6_20250101.simg'
    """
    name, _, path = remote.partition(":")
    container, _, prefix = path.strip("/").partition("/")
    return ":".join((name, "/".join(part for part in (f"{container}_segments", prefix, key) if part)))


def old_segments(listed: tuple[Entry, ...], before: int) -> tuple[str, ...]:
    """Return the segments of every upload whose newest one was last changed ``before`` (nanoseconds)."""
    newest: dict[str, int] = {}
    for entry in listed:
        upload = entry.path.partition("/")[0]
        newest[upload] = max(newest.get(upload, 0), entry.time)
    return tuple(entry.path for entry in listed if newest[entry.path.partition("/")[0]] <= before)
