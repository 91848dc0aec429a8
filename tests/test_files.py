"""Files that are whole or not there, digests, and trees that do not want to be removed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import pwd
import stat
from pathlib import Path
from typing import IO

import pytest

from neurocommand.files import (
    CHUNK,
    copy_with_digest,
    current_umask,
    digest_of,
    free_space,
    make_directory,
    make_durable,
    partial,
    remove_leftovers,
    remove_tree,
    rename_durably,
    write_atomically,
)
from tests.durability import recorded
from tests.servers import run_on_a_small_disk
from tests.users import User


def test_a_text_is_written_with_its_mode(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "é\n")
    write_atomically(tmp_path / "b", "x", mode=0o755, durable=False)
    assert (tmp_path / "a").read_bytes() == "é\n".encode()
    umask = current_umask()
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644 & ~umask
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755 & ~umask
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_a_umask_may_be_given_instead_of_the_own_one(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "a", "x", umask=0o022)
        make_directory(tmp_path / "one/two", 0o022)
        make_directory(tmp_path / "closed")
        make_directory(tmp_path / "closed", 0o022)  # is there already: stays as it is
        os.umask(0o022)
        make_directory(tmp_path / "open", 0o022)
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    assert modes == {"a": 0o644, "one": 0o755, "two": 0o755, "closed": 0o700, "open": 0o755}
    for path in (tmp_path / "a", tmp_path / "a/b"):
        with pytest.raises(FileExistsError):
            make_directory(path)


def test_the_old_text_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_atomically(path, "old")
    with partial(path) as (name, stream):
        stream.write(b"new")
        stream.flush()
        assert path.read_text() == "old"
        assert sorted(os.listdir(tmp_path)) == sorted([os.path.basename(name), "a"])
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]


def test_only_what_is_there_is_made_durable(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", "x")
    for path in (tmp_path / "a", tmp_path):
        make_durable(path)
    with pytest.raises(FileNotFoundError):
        make_durable(tmp_path / "b")


def test_a_name_is_durable_when_the_call_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = recorded(monkeypatch, tmp_path)
    write_atomically(tmp_path / "a", "x")
    (synced, partial_name), replaced, named = calls
    assert (synced, replaced, named) == ("fsync", (f"replace by {partial_name}", "a"), ("fsync", "."))
    calls.clear()
    write_atomically(tmp_path / "b", "x", durable=False)
    assert [name for _, name in calls] == ["b"]
    calls.clear()
    rename_durably(tmp_path / "a", tmp_path / "b")
    assert calls == [("fsync", "a"), ("replace by a", "b"), ("fsync", ".")]


@pytest.mark.parametrize(
    ("number", "name", "raised"), [(errno.EINVAL, ".", 0), (errno.EINVAL, "a", 1), (errno.EIO, ".", 1)]
)
def test_a_file_system_may_not_know_how_to_wait_for_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str, raised: int
) -> None:
    (tmp_path / "a").write_text("")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match=os.strerror(number)) if raised else contextlib.nullcontext():
        make_durable(tmp_path / name)


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    with partial(tmp_path / "a") as (name, _):
        for leftover in (".a.12345678.partial", ".b.12345678.partial", ".a.partial", "a.12345678.partial"):
            (tmp_path / leftover).write_text("x")
        write_atomically(tmp_path / "a", "new")
        kept = [os.path.basename(name), ".b.12345678.partial", ".a.partial", "a.12345678.partial", "a"]
        assert sorted(os.listdir(tmp_path)) == sorted(kept)
        remove_leftovers(tmp_path, bool)
        assert ".b.12345678.partial" not in os.listdir(tmp_path)
        assert os.path.exists(name)


def test_a_file_taken_for_a_leftover_before_it_was_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = fcntl.flock, list[str]()

    def lock_late(stream: IO[bytes], how: int) -> None:
        if not removed:  # between making the file and locking it, another run cleans up
            removed.extend(os.listdir(tmp_path))
            os.unlink(tmp_path / removed[0])
        lock(stream, how)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with partial(tmp_path / "a") as (name, _):
        assert os.listdir(tmp_path) == [os.path.basename(name)] != removed
    assert os.listdir(tmp_path) == []


def test_text_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomically(tmp_path / "a", "\udcff")
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "directory", "x")
    with pytest.raises(FileNotFoundError):
        write_atomically(tmp_path / "nowhere" / "a", "x")
    assert os.listdir(tmp_path) == ["directory"]


def test_a_full_disk_leaves_the_old_text(tmp_path: Path) -> None:
    printed = run_on_a_small_disk(
        tmp_path,
        f"""
import os
from pathlib import Path
from neurocommand.files import write_atomically
path = Path({str(tmp_path)!r}, "a")
write_atomically(path, "old")
try:
    write_atomically(path, "x" * (4 << 20))
except OSError as error:
    print(error.strerror)
print(path.read_text(), os.listdir(path.parent))
""",
    )
    assert printed == "No space left on device\nold ['a']\n"


def test_the_umask_is_the_processs(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        assert current_umask() == 0o027
    finally:
        os.umask(before)
    status = tmp_path / "status"
    assert current_umask(status) == 0o022
    status.write_bytes(b"Name:\t\xff\nUmask:\t0077\nState:\tR\n")
    assert current_umask(status) == 0o077
    status.write_text("Name:\tx\nState:\tR\n")
    assert current_umask(status) == 0o022


@pytest.mark.parametrize("size", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_a_copy_is_counted_and_digested(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    target, steps = io.BytesIO(), list[int]()
    expected = (hashlib.sha256(data).hexdigest(), size)
    assert copy_with_digest(io.BytesIO(data), target, steps.append) == expected
    assert target.getvalue() == data
    assert steps == [*range(CHUNK, size, CHUNK), *([size] if size else [])]
    assert copy_with_digest(io.BytesIO(data), None) == expected
    (tmp_path / "a").write_bytes(data)
    assert digest_of(tmp_path / "a") == expected


def test_a_tree_is_removed_whatever_is_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    for name in ("empty", "locked/below", "read only"):
        (tree / name).mkdir(parents=True)
    (tree / "locked" / "file").write_text("x")
    (tree / "read only" / "file").write_text("x")
    (tree / "to file").symlink_to(outside / "kept")
    (tree / "to directory").symlink_to(outside)
    (tree / "to nothing").symlink_to("nowhere")
    os.mkfifo(tree / "fifo")
    (tree / "file").write_text("x")
    (tree / "file").chmod(0)
    (tree / "read only").chmod(0o500)
    (tree / "locked").chmod(0)
    remove_tree(tree)
    assert sorted(os.listdir(tmp_path)) == ["outside"]
    assert os.listdir(outside) == ["kept"]


def test_an_ordinary_user_removes_what_he_may_not_even_read(ordinary_user: User) -> None:
    # As root nothing is forbidden, so this is shown by someone else, with nothing but this one module and Python.
    program = f"""
import os, sys
sys.path.insert(0, {str(ordinary_user.home)!r})
from pathlib import Path
from files import remove_tree
tree = Path({str(ordinary_user.home)!r}, "tree")
(tree / "a" / "b").mkdir(parents=True)
(tree / "a" / "b" / "file").write_text("x")
for path in (tree / "a" / "b", tree / "a", tree):
    path.chmod(0)
remove_tree(tree)
print(tree.exists())
"""
    source = Path(__file__).parents[1] / "neurocommand" / "files.py"
    (ordinary_user.home / "files.py").write_text(source.read_text())
    done = ordinary_user.run(["/usr/bin/python3", "-B", "-c", program])
    assert (done.returncode, done.stdout) == (0, b"False\n"), done.stderr


def test_another_user_of_the_group_removes_what_is_shared(ordinary_user: User) -> None:
    # A prefix of a group: the directories are someone else's, and writable. As above, without this environment.
    if not ordinary_user.root:
        pytest.skip("needs root, to be two users")
    group = pwd.getpwnam(ordinary_user.name).pw_gid
    tree = ordinary_user.home / "shared"
    (tree / "below").mkdir(parents=True)
    (tree / "below" / "file").write_text("x")
    for path in (tree, tree / "below"):
        os.chown(path, 0, group)
        path.chmod(0o2775)
    source = Path(__file__).parents[1] / "neurocommand" / "files.py"
    (ordinary_user.home / "files.py").write_text(source.read_text())
    program = (
        f"import sys; sys.path.insert(0, '.'); import files, pathlib; files.remove_tree(pathlib.Path({str(tree)!r}))"
    )
    done = ordinary_user.run(["/usr/bin/python3", "-B", "-c", program])
    assert (done.returncode, tree.exists()) == (0, False), done.stderr


def test_single_files_and_links_are_removed_and_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("kept")
    (tmp_path / "dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for name in ("file", "link", "dangling", "fifo", "nowhere"):
        remove_tree(tmp_path / name)
    assert os.listdir(tmp_path) == ["kept"]


def test_a_tree_deeper_than_pythons_recursion_is_removed(tmp_path: Path) -> None:
    # As deep as a path may be: what unsquashfs can unpack, too.
    deep = os.fspath(tmp_path / "tree")
    os.mkdir(deep)
    while len(deep) < 4000:
        deep += "/d"
        os.mkdir(deep)
    remove_tree(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_free_space_is_that_of_the_place_that_will_be(tmp_path: Path) -> None:
    there = free_space(tmp_path)
    assert there > 0
    assert free_space(tmp_path / "not" / "yet" / "there") == pytest.approx(there, rel=0.5)
    assert free_space(Path("nowhere")) > 0
    printed = run_on_a_small_disk(
        tmp_path,
        "from pathlib import Path\nfrom neurocommand.files import free_space\n"
        f"print(free_space(Path({str(tmp_path)!r}, 'x')))",
    )
    assert 1 << 20 < int(printed) <= 2 << 20


def test_a_file_system_that_states_no_size_is_not_full() -> None:
    assert os.statvfs("/proc").f_blocks == 0
    assert free_space(Path("/proc")) > 1 << 60
