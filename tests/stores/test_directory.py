"""What is particular to a directory: what it remembers, what it leaves alone, and many writers at once."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurocommand.errors import StoreError
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.directory import DirectoryStore
from tests.servers import run_on_a_small_disk

KEY = "niimath_1.0.20240114_20250101.simg"
DATA = b"12345"
SHA256 = hashlib.sha256(DATA).hexdigest()
ARTIFACT = Artifact(SHA256, len(DATA))
NOBODY = 65534


def nothing(done: int) -> None:
    pass


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(place: Path, tmp_path: Path) -> DirectoryStore:
    """A store that holds one object."""
    store = DirectoryStore("here", place)
    (tmp_path / "sent").write_bytes(DATA)
    store.put(KEY, tmp_path / "sent", ARTIFACT, nothing)
    return store


# --- what it remembers ------------------------------------------------------------------------------------------------


def test_a_digest_is_stated_as_long_as_the_file_is_as_it_was_put(store: DirectoryStore, place: Path) -> None:
    assert store.stat(KEY) == StoredObject(KEY, 5, SHA256)
    assert list(store.list()) == [StoredObject(KEY, 5, SHA256)]
    assert list(DirectoryStore("another run", place).list()) == [StoredObject(KEY, 5, SHA256)]


def test_a_changed_file_states_no_digest(store: DirectoryStore, place: Path) -> None:
    times = (place / KEY).stat()
    (place / KEY).write_bytes(b"54321")
    os.utime(place / KEY, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert store.stat(KEY) == StoredObject(KEY, 5, None)
    (place / KEY).write_bytes(b"123456")
    os.utime(place / KEY, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.stat(KEY) == StoredObject(KEY, 6, None)


def test_what_was_deleted_is_not_remembered(store: DirectoryStore, place: Path) -> None:
    times = (place / KEY).stat()
    store.delete(KEY)
    (place / KEY).write_bytes(b"other")
    os.utime(place / KEY, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert store.stat(KEY) == StoredObject(KEY, 5, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"sha256": "x"}', "\xff"])
def test_a_damaged_record_states_no_digest(text: str, store: DirectoryStore, place: Path) -> None:
    (place / ".sha256" / KEY).write_bytes(text.encode("latin-1"))
    assert store.stat(KEY) == StoredObject(KEY, 5, None)


@pytest.mark.parametrize("sha256", ["junk", 7, None, SHA256.upper()])
def test_a_record_without_a_digest_states_none(sha256: object, store: DirectoryStore, place: Path) -> None:
    record = place / ".sha256" / KEY
    record.write_text(json.dumps({**json.loads(record.read_text()), "sha256": sha256}))
    assert store.stat(KEY) == StoredObject(KEY, 5, None)


# --- what is no object ------------------------------------------------------------------------------------------------


def test_links_and_directories_are_no_objects(store: DirectoryStore, place: Path, tmp_path: Path) -> None:
    (place / "link.simg").symlink_to(KEY)
    (place / "tree.simg").mkdir()
    os.mkfifo(place / "fifo.simg")
    assert [found.key for found in store.list()] == [KEY]
    for key in ("link.simg", "tree.simg", "fifo.simg"):
        assert store.stat(key) is None
        store.delete(key)
        assert os.path.lexists(place / key)
        with pytest.raises(StoreError, match=f"holds no {key}"):
            store.get(key, tmp_path / "got", nothing)
    with pytest.raises(StoreError, match=r"cannot take tree\.simg: Is a directory"):
        store.put("tree.simg", tmp_path / "sent", ARTIFACT, nothing)
    store.put("link.simg", tmp_path / "sent", ARTIFACT, nothing)
    assert stat.S_ISREG((place / "link.simg").lstat().st_mode)
    assert store.stat(KEY) == StoredObject(KEY, 5, SHA256)


# --- absent, or cannot tell -------------------------------------------------------------------------------------------


def test_a_directory_that_is_not_there_yet_is_empty_and_made_by_put(tmp_path: Path) -> None:
    store = DirectoryStore("here", tmp_path / "new")
    assert list(store.list()) == []
    assert store.stat(KEY) is None
    store.delete(KEY)
    assert not (tmp_path / "new").exists()
    (tmp_path / "sent").write_bytes(DATA)
    store.put(KEY, tmp_path / "sent", ARTIFACT, nothing)
    assert store.stat(KEY) == StoredObject(KEY, 5, SHA256)


def test_parents_are_made_only_where_they_are_ours(tmp_path: Path) -> None:
    store = DirectoryStore("here", tmp_path / "share" / "neurocommand" / "store", make_parents=True)
    assert list(store.list()) == []
    assert store.stat(KEY) is None
    (tmp_path / "sent").write_bytes(DATA)
    store.put(KEY, tmp_path / "sent", ARTIFACT, nothing)
    assert store.stat(KEY) == StoredObject(KEY, 5, SHA256)


@pytest.mark.parametrize("kind", ["file", "dangling link", "loop", "no parent"])
def test_what_is_no_directory_cannot_tell(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "store"
    if kind == "file":
        path.write_text("x")
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to("store")
    else:
        path = path / "store"
    store = DirectoryStore("here", path)
    (tmp_path / "sent").write_bytes(DATA)
    for ask in (
        lambda: list(store.list()),
        lambda: store.stat(KEY),
        lambda: store.get(KEY, tmp_path / "got", nothing),
        lambda: store.delete(KEY),
        lambda: store.put(KEY, tmp_path / "sent", ARTIFACT, nothing),
    ):
        with pytest.raises(StoreError, match=rf"^store here: cannot .*: .* \({path}\)$"):
            ask()


def test_a_directory_that_may_not_be_read_cannot_tell(store: DirectoryStore, place: Path, tmp_path: Path) -> None:
    root = os.geteuid() == 0
    place.chmod(0o600)
    if root:  # who may do everything, so become somebody
        os.seteuid(NOBODY)
    try:
        with pytest.raises(StoreError, match="cannot be listed: Permission denied"):
            list(store.list())
        with pytest.raises(StoreError, match=r"cannot tell whether .*: Permission denied"):
            store.stat(KEY)
        with pytest.raises(StoreError, match=r"cannot remove .*: Permission denied"):
            store.delete(KEY)
    finally:
        if root:
            os.seteuid(0)
        place.chmod(0o700)
    assert store.stat(KEY) == StoredObject(KEY, 5, SHA256)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_objects_get_the_mode_of_ordinary_files(store: DirectoryStore, place: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        store.put("other.simg", tmp_path / "sent", ARTIFACT, nothing)
    finally:
        os.umask(before)
    assert stat.S_IMODE((place / "other.simg").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("seen", "said"), [("", ": it needs 4M, .* are left"), ("directory.free_space = lambda path: 1 << 40", "")]
)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(tmp_path: Path, seen: str, said: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "small").write_bytes(DATA)
    (tmp_path / "big").write_bytes(b"x" * (4 << 20))
    printed = run_on_a_small_disk(
        disk,
        f"""
import os
from pathlib import Path
from neurocommand import errors, files, model
from neurocommand.stores import directory
from neurocommand.stores.directory import DirectoryStore
{seen}
store = DirectoryStore("small", Path({str(disk)!r}, "store"))
def put(name):
    path = Path({str(tmp_path)!r}, name)
    store.put({KEY!r}, path, model.Artifact(*files.digest_of(path)), lambda done: None)
put("small")
try:
    put("big")
except errors.StoreFullError as error:
    print(error.exit_code, error.message)
print(store.stat({KEY!r}).sha256)
print(sorted(os.listdir(store.path)))
put("small")
""",
    )
    first, *others = printed.splitlines()
    assert re.fullmatch(
        f"3 store small: cannot take {KEY}: No space left on device{said} [(]{disk / 'store'}[)]", first
    ), first
    assert others == [SHA256, str([".sha256", KEY])]


def test_a_put_removes_the_leftovers_of_killed_runs_and_nothing_else(
    store: DirectoryStore, place: Path, tmp_path: Path
) -> None:
    ours = f".{KEY}.abcd_123.partial"
    kept = [f".{KEY}.rclone.partial", f"{KEY}.abcd_123.partial", ".README.md.abcd_123.partial", ".hidden", "notes.txt"]
    for name in (ours, *kept):
        (place / name).write_text("x")
    store.put(KEY, tmp_path / "sent", ARTIFACT, nothing)
    assert sorted(os.listdir(place)) == sorted([".sha256", KEY, *kept])


def test_what_a_live_run_is_writing_is_left_alone(store: DirectoryStore, place: Path, tmp_path: Path) -> None:
    live = place / f".{KEY}.abcd_123.partial"
    with open(live, "wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store.put(KEY, tmp_path / "sent", ARTIFACT, nothing)
        assert live.exists()
    store.put(KEY, tmp_path / "sent", ARTIFACT, nothing)
    assert not live.exists()


def test_a_file_that_shrinks_while_it_is_read_is_an_error(store: DirectoryStore, place: Path, tmp_path: Path) -> None:
    (place / KEY).write_bytes(b"x" * (3 << 20))
    with pytest.raises(StoreError, match=f"store here: {KEY} ended after 1048576 bytes, 3145728 were stated"):
        store.get(KEY, tmp_path / "got", lambda done: os.truncate(place / KEY, 1 << 20))


def test_many_writers_and_readers_of_one_key(store: DirectoryStore, place: Path, tmp_path: Path) -> None:
    contents = [bytes([number]) * (300_000 + number) for number in range(4)]
    possible = {(hashlib.sha256(data).hexdigest(), len(data)) for data in [*contents, DATA]}
    writing = threading.Event()
    writing.set()

    def write(number: int) -> None:
        path = tmp_path / f"sent {number}"
        path.write_bytes(contents[number])
        for _ in range(15):
            store.put(KEY, path, Artifact(hashlib.sha256(contents[number]).hexdigest(), len(contents[number])), nothing)

    def read(number: int) -> set[tuple[str, int]]:
        seen = set()
        while writing.is_set():
            seen.add(store.get(KEY, tmp_path / f"got {number}", nothing))
        return seen

    with ThreadPoolExecutor(6) as pool:
        readers = [pool.submit(read, number) for number in range(2)]
        try:
            # A put reads back what is there: when another writer came in between, it says so, and that is right.
            failures = [writer.exception() for writer in [pool.submit(write, number) for number in range(4)]]
        finally:
            writing.clear()
        for reader in readers:
            assert reader.result() <= possible
    assert all(failure is None or "reads back as" in str(failure) for failure in failures)
    assert sorted(os.listdir(place)) == [".sha256", KEY]
    final = store.stat(KEY)
    assert final is not None
    assert final.sha256 in (None, hashlib.sha256((place / KEY).read_bytes()).hexdigest())
