"""For which processor an image's programs are made, as Apptainer finds it out: by /bin/sh, else by any program."""

from __future__ import annotations

import os
from collections.abc import Sequence

from neurocommand.errors import ImageError
from neurocommand.image.layers import FileSystem, Node
from neurocommand.image.oci import NeedsApptainerError

MAGIC = b"\x7fELF"
# machine, class (1: 32 bit, 2: 64 bit), byte order (1: little, 2: big endian): the ELF header, System V gABI ch. 4
MACHINES = {
    (3, 1, 1): "386",
    (6, 1, 1): "386",
    (62, 2, 1): "amd64",
    (40, 1, 1): "arm",
    (183, 2, 1): "arm64",
    (22, 2, 2): "s390x",
    (21, 2, 1): "ppc64le",
    (8, 1, 2): "mips",
    (8, 1, 1): "mipsle",
    (8, 2, 2): "mips64",
    (8, 2, 1): "mips64le",
    (243, 2, 1): "riscv64",
}


def of(image: FileSystem, layers: Sequence[int]) -> str | None:
    """Return the architecture of an image as Go names it; None when it has no program.

    Args:
        image: the file system.
        layers: a readable file descriptor of each uncompressed layer.

    Raises:
        NeedsApptainerError: one that is not known.
    """
    try:
        shell = image.find(image.follow("/bin/sh"))
    except ImageError:
        shell = None
    if shell is not None and (start := _start(shell, layers)).startswith(MAGIC):
        return _machine(start)
    # walk goes by whole paths, Apptainer by the names of each directory: the same order
    for _, node in image.walk():
        if node.kind == "file" and node.mode & 0o111 and (start := _start(node, layers)).startswith(MAGIC):
            return _machine(start)
    return None


def _start(node: Node, layers: Sequence[int]) -> bytes:
    return os.pread(layers[node.layer], min(node.size, 20), node.offset) if node.kind == "file" else b""


def _machine(start: bytes) -> str:
    order = "little" if start[5:6] == b"\1" else "big"
    found = MACHINES.get((int.from_bytes(start[18:20], order), *start[4:6])) if len(start) == 20 else None  # type: ignore[arg-type]
    if found is None:
        raise NeedsApptainerError("its programs are for a processor that is not known")
    return found
