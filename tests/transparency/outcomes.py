"""What can be seen of a call: how it ended, what it wrote, and which files it left."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

KINDS = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo"}


@dataclass(frozen=True)
class Outcome:
    """How a call ended (an exit code, or minus the signal), what it wrote, and the files in its directory after it."""

    code: int
    out: bytes = b""
    err: bytes = b""
    files: tuple[str, ...] = ()


def files(directory: Path) -> tuple[str, ...]:
    """Return one line for each file below a directory: name, kind, mode, links, owner, and what is in it."""
    found = []
    for parent, names, others in os.walk(os.fsencode(directory)):
        for name in (*names, *others):
            path = os.path.join(parent, name)
            found.append(f"{os.path.relpath(path, os.fsencode(directory))!r} {_described(path)}")
    return tuple(sorted(found))


def _described(path: bytes) -> str:
    status = os.lstat(path)
    kind = KINDS.get(stat.S_IFMT(status.st_mode), "other")
    content = ""
    if kind == "link":
        content = repr(os.readlink(path))
    elif kind == "file":
        content = f"{status.st_size} bytes"
        if status.st_size < 1 << 24:
            with open(path, "rb") as stream:
                content += f" {hashlib.sha256(stream.read()).hexdigest()[:12]}"
    links = status.st_nlink if kind == "file" else ""
    return f"{kind} {stat.S_IMODE(status.st_mode):o} {links} {status.st_uid}:{status.st_gid} {content}"


def nul_separated(data: bytes) -> list[bytes]:
    """Return the words of what ends each of them with a zero byte."""
    assert data.endswith(b"\0") or not data, data
    return data.split(b"\0")[:-1]


def variables(outcome: Outcome, without: tuple[bytes, ...] = ()) -> Outcome:
    """Return the outcome with its output, NAME=value and a zero byte each, sorted.

    Args:
        outcome: of a call that wrote an environment.
        without: prefixes of lines to leave out.
    """
    found = sorted(line for line in nul_separated(outcome.out) if not line.startswith(without))
    return Outcome(outcome.code, b"\n".join(found), outcome.err, outcome.files)
