"""Links are resolved inside the image, and nothing is looked at through one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from neurocommand.image.filetree import PartialTree, Tree, parts_of
from neurocommand.image.header import locate
from tests import images
from tests.images import Rootfs
from tests.users import User


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    rootfs = (
        Rootfs().file("opt/t/tool", "x" * 100).link("opt/link", "t").link("abs", "/opt").link("up", "../../../opt/t")
    )
    rootfs.link("away", str(tmp_path)).link("loop", "loop").link("opt/t/self", ".").link("opt/t/parent", "..")
    rootfs.link("opt/out", f"../../{tmp_path.name}-no").directory("empty")
    previous = "opt/t/tool"
    for number in range(45):
        rootfs.link(f"chain{number}", previous)
        previous = f"chain{number}"
    (tmp_path / "outside").write_text("outside")
    return Tree(rootfs.unpacked(tmp_path / "tree"))


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", ()),
        ("/opt/t/tool", ("opt", "t", "tool")),
        ("opt//./t/../t/tool", ("opt", "t", "tool")),
        ("/../../opt", ("opt",)),
        ("/opt/link/tool", ("opt", "t", "tool")),
        ("/abs/link/tool", ("opt", "t", "tool")),
        ("/up/tool", ("opt", "t", "tool")),
        ("/opt/t/self/self/parent/t", ("opt", "t")),
        ("/chain39", ("opt", "t", "tool")),
        ("/chain40", None),
        ("/loop", None),
        ("/nowhere", None),
        ("/opt/t/tool/x", None),
        ("/opt/t/tool/..", None),
        ("/away", None),
        ("/opt/out", None),
        ("/a\0b", None),
        ("/\ud800", None),
    ],
)
def test_target(path: str, expected: tuple[str, ...] | None, tree: Tree) -> None:
    assert tree.target(parts_of(path)) == expected


def test_nothing_is_looked_at_through_a_link(tree: Tree) -> None:
    assert tree.status(("away",)) is not None
    assert tree.status(("away", "outside")) is None
    assert tree.names(("away",)) == ()
    assert tree.start(("away", "outside"), 10) == b""
    assert tree.start(("away",), 10) == b""
    assert tree.start(("opt", "link"), 10) == b""
    assert tree.names(("opt", "link")) == ()
    assert tree.names(("opt", "t", "tool")) == ()
    assert tree.names(("nowhere",)) == ()
    assert tree.names(("opt", "t")) == ("parent", "self", "tool")
    assert tree.start(("opt", "t", "tool"), 10) == b"x" * 10
    assert tree.start(("opt", "t"), 10) == b""


def test_a_long_name_is_never_asked_for(tmp_path: Path) -> None:
    path = images.packed_sif(Rootfs().file("tool"), tmp_path / "a.sif")
    partial = PartialTree(tmp_path / "tree", path, locate(path).offset)
    for name in ("x" * 256, "\ud800", "a\0b"):
        assert partial.status((name,)) is None
    assert not partial.fetch()
    assert partial.status(("tool",)) is None
    assert partial.fetch()
    assert partial.status(("tool",)) is not None
    assert partial.status(("tool", "x")) is None
    assert not partial.fetch()


def test_many_names_are_asked_for_in_pieces(tmp_path: Path) -> None:
    rootfs = Rootfs()
    for number in range(1200):
        rootfs.file(f"bin/{number}", "x")
    path = images.packed_sif(rootfs, tmp_path / "a.sif")
    partial = PartialTree(tmp_path / "tree", path, locate(path).offset)
    for _ in range(2):
        found = [partial.status(("bin", str(number))) for number in range(1200)]
        partial.fetch()
        partial.fetch()
    found = [partial.status(("bin", str(number))) for number in range(1200)]
    assert all(found)


def test_a_user_reads_what_is_closed(ordinary_user: User) -> None:
    """Directories and files of any mode, as a user for whom the modes count."""
    place = ordinary_user.home / "closed image"
    place.mkdir()
    rootfs = (
        Rootfs().directory("a", 0o000).directory("a/b", 0o100).file("a/b/tool", mode=0o111).file("a/note", "x", mode=0)
    )
    path = images.packed_sif(rootfs, place / "a.sif", b'{"Env": ["PATH=/a/b", "DEPLOY_PATH=/a/b:/a"]}')
    ordinary_user.give(place)
    code = """
import sys
from pathlib import Path
from neurocommand.image.inspection import inspect_sif
print(inspect_sif(Path(sys.argv[1]), "t", Path(sys.argv[2])).commands)
"""
    done = ordinary_user.python(code, path, place / "scratch")
    assert done.stdout.decode() == "('tool',)\n", done.stderr.decode()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_empty(tmp_path: Path) -> None:
    made = Tree(Rootfs().file("d/closed", "x", mode=0).directory("shut", 0).unpacked(tmp_path / "tree"))
    assert made.start(("d", "closed"), 1) == b""
    assert made.names(("shut",)) == ()
