"""Everything that a SIF holds, as values that can be compared with another's."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections import defaultdict
from pathlib import Path

from neurocommand.image import header
from neurocommand.image.header import DESCRIPTOR, HEADER
from tests import images

DATE = re.compile(rb'(build-date\\?": ?\\?")[^"\\]*')


def contents(path: Path, work: Path, since: float) -> dict[str, tuple[object, ...]]:
    """Return what a SIF's file system holds, by path.

    Kind, mode, owner, size, device, time of change (None: after ``since``), target, digest, attributes, and the first
    of the names that share an inode. Needs root to be told everything.
    """
    tree = work / "compared"
    offset = header.locate(path).offset
    images.run(["unsquashfs", "-quiet", "-no-progress", "-offset", str(offset), "-dest", tree, path])
    found, names = {}, defaultdict(list)
    for parent, directories, files in os.walk(tree):
        for place in [parent] if parent == str(tree) else []:
            names[os.lstat(place).st_ino].append(place)
        for name in directories + files:
            place = os.path.join(parent, name)
            names[os.lstat(place).st_ino].append(place)
    for places in names.values():
        for place in places:
            found[os.path.relpath(place, tree)] = (*_facts(place, since), os.path.relpath(min(places), tree))
    images.run(["chmod", "-R", "u+rwX", tree])
    images.run(["rm", "-r", tree])
    return found


def _facts(place: str, since: float) -> tuple[object, ...]:
    status = os.lstat(place)
    regular = stat.S_ISREG(status.st_mode)
    content = Path(place).read_bytes() if regular else b""
    if b"build-date" in content:
        content = DATE.sub(rb"\1", content)
    target = os.readlink(place) if stat.S_ISLNK(status.st_mode) else ""
    names = os.listxattr(place, follow_symlinks=False)
    xattrs = tuple((name, os.getxattr(place, name, follow_symlinks=False)) for name in sorted(names))
    changed = int(status.st_mtime) if status.st_mtime < since else None
    size = len(content) if regular else 0
    owner = (status.st_uid, status.st_gid)
    digest = hashlib.sha256(content).hexdigest()
    return (oct(status.st_mode), owner, size, status.st_rdev, changed, target, digest, xattrs)


def descriptors(path: Path) -> list[tuple[object, ...]]:
    """Return what a SIF says of itself and of its parts, and all of those but the file system; without dates."""
    data = path.read_bytes()
    start = HEADER.unpack_from(data)
    said: list[tuple[object, ...]] = [(start[0], start[1], start[2], start[3], *start[7:12])]
    end = start[11] + start[12]
    assert end == len(data)
    for fields in DESCRIPTOR.iter_unpack(data[start[9] : start[9] + start[8] * DESCRIPTOR.size]):
        kind, used, number, group, link, offset, size, padded, _, _, uid, gid, name, extra = fields
        if not used:
            continue
        content = DATE.sub(rb"\1", data[offset : offset + size]) if kind != 0x4004 else b""
        assert padded >= size
        said.append((kind, number, group, link, uid, gid, name, extra, content))
    return said


def differences(ours: Path, theirs: Path, work: Path, since: float) -> list[str]:
    """Return how two SIFs differ, in words; nothing when they hold the same."""
    found = []
    for one, other in zip(descriptors(ours), descriptors(theirs), strict=True):
        if one != other:
            found.append(f"descriptor: {one} instead of {other}")
    mine, wanted = contents(ours, work, since), contents(theirs, work, since)
    for name in sorted(mine.keys() | wanted.keys()):
        if mine.get(name) != wanted.get(name):
            found.append(f"{name}: {mine.get(name)} instead of {wanted.get(name)}")
    return found
