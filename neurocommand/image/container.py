"""A SIF with another file system than the one it was made with, everything else as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neurocommand.errors import ImageError
from neurocommand.files import current_umask
from neurocommand.image import header
from neurocommand.image.header import ARCHITECTURES, DATA_PARTITION, DESCRIPTOR, HEADER, PARTITION

ALIGNMENT = 4096  # of the partition: the page size, as apptainer/sif has it
DEFINITION = 0x4001


@dataclass(frozen=True)
class Item:
    """One data object: its descriptor as it stands in the file, and its bytes; the partition has none yet."""

    fields: tuple[Any, ...]
    content: bytes

    @property
    def kind(self) -> int:
        """The data type, as the SIF specification numbers it."""
        return int(self.fields[0])

    @property
    def name(self) -> str:
        """The object's name; empty when it has none."""
        stored: bytes = self.fields[12]
        return stored.split(b"\0")[0].decode(errors="replace")


@dataclass(frozen=True)
class Container:
    """What a SIF holds besides its file system; ``start`` is its header."""

    start: tuple[Any, ...]
    items: tuple[Item, ...]

    def changed(self, change: Callable[[Item], bytes]) -> Container:
        """Return it with other contents of its data objects."""
        return replace(self, items=tuple(replace(item, content=change(item)) for item in self.items))


def read(path: Path) -> Container:
    """Read a SIF that Apptainer has just made, without its file system, which must come last.

    Raises:
        ImageError: no SIF, or one of another order.
    """
    header.locate(path)
    data = path.read_bytes()
    start = HEADER.unpack_from(data)
    total, offset = start[8], start[9]
    items = []
    for fields in DESCRIPTOR.iter_unpack(data[offset : offset + total * DESCRIPTOR.size]):
        kind, used, where, size = fields[0], fields[1], fields[5], fields[6]
        if used:
            items.append(Item(fields, b"" if kind == DATA_PARTITION else data[where : where + size]))
    if [item.kind for item in items].count(DATA_PARTITION) != 1 or items[-1].kind != DATA_PARTITION:
        raise ImageError(f"{path}: SIF whose file system is not its last part")
    return Container(start, tuple(items))


def start_of_file_system(container: Container) -> int:
    """Return where in the file the file system begins, in bytes."""
    return _places(container)[0]


def finish(path: Path, container: Container, architecture: str | None) -> None:
    """Write all of a SIF but its file system, which lies in its place by now.

    Args:
        path: the SIF.
        container: what it holds besides.
        architecture: of the image; None to keep the noted one.

    Raises:
        OSError: the file cannot be written.
    """
    where, places = _places(container)
    size = path.stat().st_size - where
    codes = {name: code for code, name in ARCHITECTURES.items()}
    start = list(container.start)
    if architecture is not None:
        start[3] = codes[architecture]
    table = b""
    for item, (offset, padded) in zip(container.items, places, strict=True):
        fields = list(item.fields)
        length = size if item.kind == DATA_PARTITION else len(item.content)
        fields[5:8] = offset, length, padded + length
        if item.kind == DATA_PARTITION and architecture is not None:
            file_system, part, _ = PARTITION.unpack_from(fields[13])
            fields[13] = PARTITION.pack(file_system, part, codes[architecture])
        table += DESCRIPTOR.pack(*fields)
    total, descriptors, data = start[8], start[9], start[11]
    start[12] = where + size - data
    with open(path, "r+b") as target:
        target.write(HEADER.pack(*start))
        target.seek(descriptors)
        target.write(table.ljust(total * DESCRIPTOR.size, b"\0"))
        for item, (offset, _) in zip(container.items, places, strict=True):
            target.seek(offset)
            target.write(item.content)
    path.chmod(0o755 & ~current_umask())


def _places(container: Container) -> tuple[int, list[tuple[int, int]]]:
    """Return where the file system begins, and for each object its offset and the padding before it."""
    end, places = container.start[11], []
    for item in container.items:
        padding = -end % ALIGNMENT if item.kind == DATA_PARTITION else 0
        places.append((end + padding, padding))
        end += padding + len(item.content)
    return places[-1][0], places
