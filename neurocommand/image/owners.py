"""What becomes of owners, devices and extended attributes: what Apptainer makes of them when the same user runs it.

Apptainer unpacks with umoci and packs the tree with mksquashfs. Root keeps all; anybody else's files are all root's in
the SIF, their owners noted in an extended attribute where the file system of the temporary files can hold one
(https://github.com/rootless-containers/proto), and devices become empty files.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from neurocommand.image.layers import FileSystem, Node
from neurocommand.image.oci import NeedsApptainerError

NOTE = "user.rootlesscontainers"
# umoci leaves these alone
OVERLAY = ("opaque", "redirect", "origin", "impure", "nlink", "upper", "metacopy")
NOT_RESTORED = frozenset({"security.selinux", "system.nfs4_acl", *(f"trusted.overlay.{name}" for name in OVERLAY)})
STORED = ("user.", "trusted.", "security.")  # what a squashfs can hold
NO_OWNER = 0xFFFFFFFF


@dataclass(frozen=True)
class Powers:
    """What whoever runs this can do: be root, maybe inside of a user namespace, and keep attributes."""

    superuser: bool
    namespace: bool
    xattrs: bool

    @property
    def root(self) -> bool:
        """Whether owners can be kept."""
        return self.superuser and not self.namespace


def powers(directory: Path) -> Powers:
    """Find out, for temporary files in a directory."""
    whole = "4294967295"
    try:
        first = Path("/proc/self/uid_map").read_text(encoding="ascii").split("\n")[0].split()
    except OSError:
        first = []
    namespace = first[2:] != [whole]
    with tempfile.NamedTemporaryFile(dir=directory) as probe:
        try:
            os.setxattr(probe.name, "user.neurocommand", b"1")
            xattrs = True
        except OSError:
            xattrs = False
    return Powers(os.geteuid() == 0, namespace, xattrs)


def settle(image: FileSystem, mine: Powers) -> None:
    """Change an image to what it becomes in the hands of its converter.

    Raises:
        NeedsApptainerError: that cannot be told.
    """
    seen = {id(node): node for _, node in image.walk()} | {id(image.root): image.root}
    for node in seen.values():
        if any(not name.startswith(STORED) and name not in NOT_RESTORED for name, _ in node.xattrs):
            raise NeedsApptainerError("it has access control lists, or other attributes of an unknown kind")
        if node.xattrs and (mine.namespace or not mine.xattrs):
            raise NeedsApptainerError("it has extended attributes that may not be kept here")
        node.xattrs = tuple((name, value) for name, value in node.xattrs if name not in NOT_RESTORED)
        if mine.root:
            if node.kind not in ("file", "directory") and any(name.startswith("user.") for name, _ in node.xattrs):
                raise NeedsApptainerError(f"a {node.kind} has attributes of a user")
        else:
            _settle_for_user(node, mine)
    if image.root.xattrs or image.root.uid or image.root.gid:
        raise NeedsApptainerError("its root directory has extended attributes, or another owner")


def _settle_for_user(node: Node, mine: Powers) -> None:
    if node.kind in ("character", "block"):
        node.kind, node.size, node.device = "file", 0, (0, 0)
    # setxattr(2) wants the permission to write, which a file's owner may lack
    plain = node.kind in ("file", "directory") and bool(mine.superuser or node.mode & 0o200)
    kept = [(name, value) for name, value in node.xattrs if plain and name.startswith("user.") and name != NOTE]
    if (node.uid or node.gid) and plain and mine.xattrs:
        kept.append((NOTE, _field(1, node.uid or NO_OWNER) + _field(2, node.gid or NO_OWNER)))
    node.xattrs = tuple(sorted(kept))
    node.uid = node.gid = 0


def _field(number: int, value: int) -> bytes:
    """Return a field of a protocol buffer: its number and a number as varint."""
    encoded = [number << 3]
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
