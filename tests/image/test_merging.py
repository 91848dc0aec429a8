"""Layers over one another, against umoci, which is what unpacks them inside Apptainer."""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from neurocommand.errors import ImageError
from neurocommand.image import members
from neurocommand.image.layers import FileSystem
from tests import images, oci_images
from tests.images import Rootfs

Found = dict[str, tuple[object, ...]]

NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
# mostly of other names than directories have, so that most layers can be unpacked
FILES = st.tuples(st.lists(NAMES, max_size=2), st.sampled_from(["x", "y", "z", "x", "y", "a"])).map(
    lambda pair: "/".join([*pair[0], pair[1]])
)
TARGETS = st.lists(st.sampled_from(["a", "b", "..", "."]), min_size=1, max_size=3).map("/".join)
WHITEOUTS = st.tuples(st.lists(NAMES, max_size=2), st.sampled_from([".wh.a", ".wh.b", ".wh.x", ".wh..wh..opq"]))
MEMBERS = st.one_of(
    st.tuples(st.just("file"), FILES, st.sampled_from(["1", "22", ""])),
    st.tuples(st.just("directory"), PATHS, st.sampled_from([0o755, 0o700, 0o2775])),
    st.tuples(st.just("link"), PATHS, st.one_of(TARGETS, TARGETS.map(lambda path: f"/{path}"))),
    st.tuples(st.just("hard"), FILES, FILES),
    st.tuples(st.just("both"), FILES, FILES),
    WHITEOUTS.map(lambda pair: ("file", "/".join([*pair[0], pair[1]]), "")),
)
LAYERS = st.lists(st.lists(MEMBERS, max_size=8), min_size=1, max_size=4)


def rootfs(layer: list[tuple[str, str, object]]) -> Rootfs:
    made = Rootfs()
    for number, (kind, path, more) in enumerate(layer):
        when = 1000 + number
        if kind == "file":
            made.file(path, str(more), mtime=when, mode=0o640 + len(str(more)))
        elif kind == "directory":
            made.add(path, tarfile.DIRTYPE, mode=more, mtime=when)
        elif kind == "both":
            made.file(str(more), path, mtime=when).add(path, tarfile.LNKTYPE, linkname=more)
        else:
            made.add(path, tarfile.SYMTYPE if kind == "link" else tarfile.LNKTYPE, linkname=more, mtime=when)
    return made


def merged(layers: list[Rootfs], work: Path) -> Found | None:
    """Merge layers as we do it; None when they cannot be."""
    system = FileSystem(int(time.time()))
    try:
        for number, layer in enumerate(layers):
            (work / str(number)).write_bytes(oci_images.tar(layer))
            system.apply(list(members.read(work / str(number), number, "x")), "x")
    except ImageError:
        return None
    found: Found = {}
    first: dict[int, str] = {}
    for path, node in system.walk():
        content = b""
        if node.kind == "file":
            data = (work / str(node.layer)).read_bytes()
            content = data[node.offset : node.offset + node.size]
        one = first.setdefault(id(node), path) if node.kind != "directory" else ""
        mode = None if node.kind == "symlink" else node.mode
        found[path] = (node.kind, mode, _when(node.mtime), node.target, content, one)
    return found


def unpacked(layers: list[Rootfs], work: Path) -> Found | None:
    """Unpack them with umoci; None when it does not."""
    layout = oci_images.written(oci_images.image(*layers), work / "layout")
    argv = ["umoci", "raw", "unpack", *([] if os.geteuid() == 0 else ["--rootless"])]
    done = subprocess.run(
        [*argv, "--image", f"{layout}:1", work / "tree"], capture_output=True, text=True, check=False, umask=0o002
    )
    if done.returncode:
        return None
    found: Found = {}
    first: dict[int, str] = {}
    for parent, directories, files in os.walk(work / "tree"):
        for name in directories + files:
            place = Path(parent, name)
            status = place.lstat()
            kind = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink"}[
                stat.S_IFMT(status.st_mode)
            ]
            target = os.readlink(place) if kind == "symlink" else ""
            content = place.read_bytes() if kind == "file" else b""
            mode = None if kind == "symlink" else stat.S_IMODE(status.st_mode)
            found[str(place.relative_to(work / "tree"))] = (
                kind,
                mode,
                _when(status.st_mtime),
                target,
                content,
                status.st_ino,
            )
    for path in sorted(found, key=lambda path: path.split("/")):
        kind, *facts, inode = found[path]
        one = first.setdefault(inode, path) if kind != "directory" else ""  # type: ignore[arg-type]
        found[path] = (kind, *facts, one)
    return found


def _when(mtime: float) -> int | None:
    return int(mtime) if mtime < 1_000_000 else None


@given(LAYERS)
@settings(max_examples=60)
def test_layers_become_what_umoci_makes_of_them(layers: list[list[tuple[str, str, object]]]) -> None:
    work = Path(tempfile.mkdtemp())
    try:
        made = [rootfs(layer) for layer in layers]
        assert merged(made, work) == unpacked(made, work)
    finally:
        images.run(["chmod", "-R", "u+rwX", work])
        shutil.rmtree(work)


@given(st.binary(max_size=3000), st.integers(0, 2000), st.binary(max_size=600))
def test_no_bytes_are_more_than_an_image_error(start: bytes, place: int, noise: bytes) -> None:
    """Headers that chance wrote, and those of a sound layer with a stain."""
    layer = bytearray(oci_images.tar(Rootfs().directory("a").file("a/b", "x" * 600).link("a/" + "c" * 120, "d")))
    layer[place : place + len(noise)] = noise
    with tempfile.TemporaryDirectory() as directory:
        for content in (start, bytes(layer)):
            path = Path(directory, "layer")
            path.write_bytes(content)
            try:
                FileSystem(0).apply(members.read(path, 0, "image: layer 1"), "image: layer 1")
                said = "image: layer 1: "
            except ImageError as error:
                said = error.message
            assert said.startswith("image: layer 1: ")


def test_equal_bytes_are_found_again() -> None:
    """What the two tests above compare is not nothing."""
    work = Path(tempfile.mkdtemp())
    try:
        found = merged([rootfs([("file", "a/b", "1"), ("hard", "c", "a/b")])], work)
        assert found is not None
        assert set(found) == {"a", "a/b", "c"}
        assert gzip.decompress(oci_images.image(Rootfs().file("x")).raw[0])
    finally:
        shutil.rmtree(work)
