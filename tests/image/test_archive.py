"""What we write as a tar stream is what others read out of it."""

from __future__ import annotations

import io
import os
import tarfile

from hypothesis import given
from hypothesis import strategies as st

from neurocommand.image.archive import header
from neurocommand.image.layers import Node

NAMES = st.one_of(st.binary(min_size=1, max_size=20), st.binary(min_size=90, max_size=300)).map(
    lambda name: os.fsdecode(name.replace(b"\0", b"0").replace(b"/", b"1"))
)
LARGE = st.one_of(st.integers(0, 10_000), st.integers(0, 0xFFFFFFFE))
XATTRS = st.dictionaries(st.sampled_from(["user.a", "security.capability"]), st.binary(min_size=1, max_size=120))


@given(
    NAMES, NAMES, LARGE, LARGE, LARGE, st.integers(0, 0o7777), st.sampled_from(["directory", "symlink", "fifo"]), XATTRS
)
def test_headers_are_read_as_they_are_meant(path, target, uid, gid, mtime, mode, kind, xattrs) -> None:
    node = Node(kind, mode, uid, gid, mtime, target=target if kind == "symlink" else "", xattrs=tuple(xattrs.items()))
    stream = io.BytesIO(header(path, node, path) + header("other", node, path) + bytes(1024))
    with tarfile.open(fileobj=stream, encoding="utf-8", errors="surrogateescape") as archive:
        first, second = archive.getmembers()
    assert (first.name, first.linkname) == (path, node.target)
    assert (first.mode, first.uid, first.gid, first.mtime) == (mode, uid, gid, mtime)
    found = {name: value.encode("utf-8", "surrogateescape") for name, value in first.pax_headers.items()}
    assert found == {f"SCHILY.xattr.{name}": value for name, value in xattrs.items()}
    assert (second.name, second.linkname, second.type) == ("other", path, tarfile.LNKTYPE)
    assert not second.pax_headers


def test_a_large_file_and_a_device() -> None:
    for node in (Node("file", size=1 << 40), Node("block", device=(8, 300))):
        item = tarfile.TarInfo.frombuf(header("x", node, "x"), "utf-8", "strict")
        assert (item.size, item.devmajor, item.devminor) == (node.size, *node.device)
