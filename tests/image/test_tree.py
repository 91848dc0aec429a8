"""A hostile tree made fit for a shared place: what is changed, what is not, and that nothing outside is touched."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from neurocommand.errors import ImageError
from neurocommand.image.tree import normalise
from tests.users import User


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def make(path: Path, permissions: int, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(permissions)
    return path


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (0o644, 0o644),
        (0o600, 0o644),
        (0o000, 0o644),
        (0o400, 0o644),
        (0o700, 0o755),
        (0o111, 0o755),
        (0o010, 0o755),
        (0o777, 0o755),
        (0o666, 0o644),
        (0o4755, 0o755),
        (0o2711, 0o755),
        (0o1644, 0o644),
    ],
)
def test_files(before: int, after: int, tmp_path: Path) -> None:
    path = make(tmp_path / "tree/file", before)
    normalise(tmp_path / "tree", ())
    assert oct(mode(path)) == oct(after)


@pytest.mark.parametrize("before", [0o700, 0o000, 0o555, 0o777, 0o1777, 0o2755, 0o4700])
def test_directories(before: int, tmp_path: Path) -> None:
    inner = make(tmp_path / "tree/directory/file", 0o600)
    inner.parent.chmod(before)
    normalise(tmp_path / "tree", ())
    assert oct(mode(inner.parent)) == "0o755"
    assert oct(mode(inner)) == "0o644"


def test_a_user_can_open_what_the_image_closed(ordinary_user: User) -> None:
    """Root reads everything anyway; here it matters that a directory is opened before it is read."""
    tree = ordinary_user.home / "closed"
    path = make(tree / "a/b/file", 0)
    ordinary_user.give(tree)
    path.parent.chmod(0)
    path.parent.parent.chmod(0o100)
    code = "import sys; from pathlib import Path; from neurocommand.image.tree import normalise\n"
    code += "normalise(Path(sys.argv[1]), ['data'])"
    done = ordinary_user.python(code, tree)
    assert done.returncode == 0, done.stderr.decode()
    assert (mode(path), mode(path.parent), mode(tree / "data")) == (0o644, 0o755, 0o755)


def test_what_acts_by_itself_is_dropped_and_noted(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    make(tree / "bin/su", 0o4755)
    make(tree / "bin/wall", 0o2755)
    os.mkfifo(tree / "pipe")
    for number in range(7):
        os.mknod(tree / f"socket{number}", stat.S_IFSOCK | 0o600)
    assert normalise(tree, ()) == (
        "dropped setuid or setgid from: bin/su, bin/wall",
        "removed fifo: pipe",
        "removed sockets: socket0, socket1, socket2, socket3, socket4 and 2 more",
    )
    assert sorted(path.name for path in tree.iterdir()) == ["bin"]
    assert normalise(tree, ()) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes and give files away")
def test_devices_and_owners(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    path = make(tree / "opt/tool", 0o4755)
    os.chown(path, 1000, 1000)
    (tree / "link").symlink_to("opt/tool")
    os.lchown(tree / "link", 1000, 1000)
    (tree / "dev").mkdir()
    os.mknod(tree / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(tree / "dev/sda", stat.S_IFBLK | 0o660, os.makedev(8, 0))
    notes = normalise(tree, ())
    assert "removed device nodes: dev/null, dev/sda" in notes
    assert not list((tree / "dev").iterdir())
    assert {(p.lstat().st_uid, p.lstat().st_gid) for p in (path, tree / "link")} == {(0, 0)}
    assert mode(path) == 0o755


def test_links_are_left_and_never_followed(tmp_path: Path) -> None:
    outside = make(tmp_path / "outside/secret", 0o600)
    outside.parent.chmod(0o700)
    tree = tmp_path / "tree"
    tree.mkdir()
    links = {"absolute": str(outside), "directory": str(outside.parent), "up": "../outside/secret", "loop": "loop"}
    for name, target in links.items():
        (tree / name).symlink_to(target)
    assert normalise(tree, ("/directory/data", "up", "loop/x")) == (
        "mount point /directory/data: /directory is a link; left as it is",
        "mount point up: /up is a link; left as it is",
        "mount point loop/x: /loop is a link; left as it is",
    )
    assert {name: os.readlink(tree / name) for name in links} == links
    assert (mode(outside), mode(outside.parent)) == (0o600, 0o700)
    assert sorted(path.name for path in outside.parent.iterdir()) == ["secret"]


def test_mount_points(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    make(tree / "taken", 0o644)
    (tree / "tmp").mkdir()
    previous = os.umask(0o077)
    try:
        notes = normalise(
            tree, ("/data", "mnt", "/tmp", "/a/b/c", "//", "../escape", "/taken", "taken/deeper", "nl\n/..")
        )
    finally:
        os.umask(previous)
    assert notes == (
        "mount point ../escape: '..' is not allowed; not made",
        "mount point /taken: /taken is a file; left as it is",
        "mount point taken/deeper: /taken is a file; left as it is",
        "mount point 'nl\\n/..': '..' is not allowed; not made",
    )
    assert {oct(mode(tree / name)) for name in ("data", "mnt", "tmp", "a", "a/b", "a/b/c")} == {"0o755"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]


def test_names_of_any_bytes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in (b"new\nline", b"\xff\xfe", b"-rf", b"a b", b"*"):
        path = os.path.join(os.fsencode(tree), name)
        with open(path, "wb"):
            os.chmod(path, 0o4600)
    (note,) = normalise(tree, ())
    assert note == "dropped setuid or setgid from: *, -rf, a b, 'new\\nline', '\\udcff\\udcfe'"
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in os.scandir(tree)} == {0o644}
    note.encode()


def test_a_tree_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="nowhere: cannot be made readable"):
        normalise(tmp_path / "nowhere", ())
