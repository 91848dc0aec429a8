"""Small tars for tests of ``ingest``."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

TIME = 1_700_000_000


def header(name: str, **fields: object) -> tarfile.TarInfo:
    """Return the header of a member; a name that ends in a slash is a directory."""
    info = tarfile.TarInfo(name.rstrip("/") if name != "/" else name)
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    info.mode = 0o755 if name.endswith("/") else 0o644
    info.mtime = TIME
    info.uid, info.gid = 0, 42
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def write(
    path: Path, members: Mapping[str, bytes | None] | list[tuple[tarfile.TarInfo, bytes]], mode: str = "w"
) -> str:
    """Write a tar of names and bytes, or of headers and bytes, and return its path."""
    if isinstance(members, Mapping):
        members = [(header(name), data or b"") for name, data in members.items()]
    with tarfile.open(path, f"{mode}") as archive:  # type: ignore[call-overload]
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def release(name: str, **files: bytes) -> dict[str, bytes | None]:
    """Return the members of a release: its directory with a nested catalog, and files."""
    base = f"containers/{name}"
    own = {f"{base}/": None, f"{base}/.cvmfscatalog": b""}
    return own | {f"{base}/{file}": data for file, data in (files or {"tool": b"#!/bin/sh\n"}).items()}
