"""The header of a SIF file: where the container's file system lies, and what was recorded about its image."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from neurocommand.errors import ImageError

# SIF specification v1, little endian, no padding (sif.go and descriptor.go of apptainer/sif, package pkg/sif).
# launch script, magic, version, architecture, id, created, modified, free, total, offset and size of the descriptors,
# offset and size of the data
HEADER = struct.Struct("<32s10s3s3s16sqqqqqqqq")
# data type, used, id, group, link, offset, size, padded size, created, modified, uid, gid, name, extra
DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")
PARTITION = struct.Struct("<ii3s")  # file system, partition type, architecture: the start of a partition's extra field
SQUASHFS = struct.Struct("<4s36xq")  # magic, bytes used: https://dr-emann.github.io/squashfs/squashfs.html §3

MAGIC = b"SIF_MAGIC\0"
VERSION = b"01\0"
DATA_PARTITION, DATA_JSON = 0x4004, 0x4006
FILE_SYSTEMS = {1: "squashfs", 2: "ext3", 3: "archive", 4: "raw", 5: "encrypted squashfs", 6: "gocryptfs squashfs"}
PRIMARY_SYSTEM = 2
ARCHITECTURES = {
    b"01\0": "386",
    b"02\0": "amd64",
    b"03\0": "arm",
    b"04\0": "arm64",
    b"05\0": "ppc64",
    b"06\0": "ppc64le",
    b"07\0": "mips",
    b"08\0": "mipsle",
    b"09\0": "mips64",
    b"10\0": "mips64le",
    b"11\0": "s390x",
    b"12\0": "riscv64",
    b"13\0": "loong64",
}
MOST_DESCRIPTORS = 4096  # Apptainer makes room for 48
LARGEST_JSON = 16 << 20

HINT = "the file may be damaged or cut short: fetch or convert it again"


@dataclass(frozen=True)
class Partition:
    """The primary system partition, a squashfs: offset and size in bytes, architecture as ``amd64`` or ``arm64``.

    ``architecture`` is what the converting program noted, which is its own one; empty when it noted none.
    """

    offset: int
    size: int
    architecture: str


@dataclass(frozen=True)
class DataObject:
    """One used descriptor of a SIF: its data type, place in bytes, name and type-specific extra field."""

    kind: int
    offset: int
    size: int
    name: str
    extra: bytes


def locate(path: Path) -> Partition:
    """Find the squashfs with the container's file system in a SIF, every offset checked against the file.

    Raises:
        ImageError: no SIF, a damaged one, or one whose file system is no squashfs.
    """
    with _opened(path) as stream:
        found = []
        for item in _data_objects(path, stream):
            file_system, partition_type, architecture = PARTITION.unpack_from(item.extra)
            if item.kind == DATA_PARTITION and partition_type == PRIMARY_SYSTEM:
                found.append((item, file_system, ARCHITECTURES.get(architecture, "")))
        if len(found) != 1:
            raise ImageError(f"{path}: SIF with {len(found)} primary system partitions, not one", HINT)
        item, file_system, architecture = found[0]
        if file_system != 1:
            what = FILE_SYSTEMS.get(file_system, f"file system {file_system}")
            raise ImageError(f"{path}: the container is stored as {what}, not as squashfs", "convert the image again")
        start = _read(path, stream, item.offset, min(SQUASHFS.size, item.size))
    if len(start) < SQUASHFS.size or start[:4] != b"hsqs":
        raise ImageError(f"{path}: no squashfs where the SIF says that one is", HINT)
    if not 0 < SQUASHFS.unpack(start)[1] <= item.size:
        raise ImageError(f"{path}: the squashfs is larger than its partition", HINT)
    return Partition(item.offset, item.size, architecture)


def recorded_environment(path: Path) -> tuple[tuple[str, str], ...] | None:
    """Return the environment of the OCI image that a SIF was made from, in its order.

    Apptainer 1.0 and newer keep the image's configuration as JSON data object ``oci-config.json``.

    Returns:
        (name, value) pairs; None when the SIF keeps no configuration.

    Raises:
        ImageError: no SIF, or a damaged one.
    """
    with _opened(path) as stream:
        for item in _data_objects(path, stream):
            if item.kind == DATA_JSON and item.name == "oci-config.json":
                if item.size > LARGEST_JSON:
                    raise ImageError(f"{path}: oci-config.json has {item.size} bytes", HINT)
                return _environment(path, _read(path, stream, item.offset, item.size))
    return None


def _environment(path: Path, text: bytes) -> tuple[tuple[str, str], ...]:
    try:
        configuration = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{path}: oci-config.json is no JSON", HINT) from error
    lines = configuration.get("Env") if isinstance(configuration, dict) else None
    if not isinstance(lines, list):
        return ()
    pairs = (line.partition("=") for line in lines if isinstance(line, str))
    return tuple((name, value) for name, equals, value in pairs if equals)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        # Not blocking: a fifo under an image's name must be refused, not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ImageError(f"{path}: no SIF, not even a regular file")
    with open(descriptor, "rb") as stream:
        yield stream


def _data_objects(path: Path, stream: BinaryIO) -> Iterator[DataObject]:
    """Yield the used descriptors, each checked to lie inside the file."""
    start = _read(path, stream, 0, HEADER.size)
    if len(start) < HEADER.size or start[32:42] != MAGIC:
        raise ImageError(f"{path}: no SIF", "give a SIF file, as `apptainer build` makes it")
    _, _, version, _, _, _, _, _, total, offset, _, _, _ = HEADER.unpack(start)
    if version != VERSION:
        raise ImageError(f"{path}: SIF of version {version!r}; only version 01 is known")
    length = os.fstat(stream.fileno()).st_size
    if not 0 <= total <= MOST_DESCRIPTORS or offset < HEADER.size or offset + total * DESCRIPTOR.size > length:
        raise ImageError(f"{path}: SIF whose list of contents is damaged", HINT)
    table = _read(path, stream, offset, total * DESCRIPTOR.size)
    for fields in DESCRIPTOR.iter_unpack(table):
        kind, used, _, _, _, start_of_data, size, _, _, _, _, _, name, extra = fields
        if not used:
            continue
        if start_of_data < HEADER.size or size < 0 or start_of_data + size > length:
            raise ImageError(f"{path}: the SIF names contents beyond its end ({length} bytes)", HINT)
        yield DataObject(kind, start_of_data, size, name.split(b"\0")[0].decode(errors="replace"), extra)


def _read(path: Path, stream: BinaryIO, offset: int, size: int) -> bytes:
    try:
        stream.seek(offset)
        return stream.read(size)
    except OSError as error:  # pragma: no cover  (a failing disk)
        raise ImageError(f"{path}: cannot be read: {error.strerror}") from error
