"""Tell a program from other files of an image, for any architecture, by its first bytes."""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass

from neurocommand.image.filetree import Parts, Tree

# e_machine of the ELF header, elf(5), and the names that SIF and Go use; (little endian, big endian) where they differ.
MACHINES = {
    3: ("386", "386"),
    8: ("mipsle", "mips"),
    21: ("ppc64le", "ppc64"),
    22: ("s390x", "s390x"),
    40: ("arm", "arm"),
    62: ("amd64", "amd64"),
    183: ("arm64", "arm64"),
    243: ("riscv64", "riscv64"),
    258: ("loong64", "loong64"),
}
MIPS, BITS_64 = 8, 2


@dataclass(frozen=True)
class Program:
    """An executable file of the image: its architecture as SIF names it; empty for a script or an unknown one."""

    architecture: str = ""


def program_of(tree: Tree, parts: Parts) -> Program | str | None:
    """Say what a name of the image is, by way of links inside the image.

    Returns:
        a program; the reason why something executable is none; None for what does not even look like one.
    """
    status = tree.status(parts)
    if status is None or stat.S_ISDIR(status.st_mode):
        return None
    target = tree.target(parts)
    status = tree.status(target) if target is not None else None
    if target is None or status is None:
        return "a link that leads to no program inside the image"
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & 0o111:
        return None
    start = tree.start(target, 20)
    if start.startswith(b"#!"):
        return Program()
    if start.startswith(b"\x7fELF"):
        return Program(_architecture(start))
    return "executable, but neither an ELF program nor a script that begins with #!"


def architecture_of(tree: Tree, parts: Parts) -> str:
    """Return the architecture of the program that a path leads to; empty when it is none or not known."""
    target = tree.target(parts)
    program = program_of(tree, target) if target is not None else None
    return program.architecture if isinstance(program, Program) else ""


def _architecture(start: bytes) -> str:
    if len(start) < 20:
        return ""
    big = start[5] == 2
    (machine,) = struct.unpack_from(">H" if big else "<H", start, 18)
    name = MACHINES.get(machine, ("", ""))[big]
    return name.replace("mips", "mips64") if machine == MIPS and start[4] == BITS_64 else name
