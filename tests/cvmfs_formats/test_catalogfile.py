"""What a revision holds: files through nested catalogs, and catalogs that lie."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from neurocommand.cvmfs.catalogfile import Catalogs, path_hash
from neurocommand.cvmfs.objects import ObjectName, Objects
from neurocommand.errors import CvmfsError, CvmfsUntrustedError, UsageError
from tests.cvmfs_formats.repositories import (
    CHUNKED,
    DIRECTORY,
    EXTERNAL,
    FILE,
    LINK,
    NAME,
    NESTED_ROOT,
    UNCOMPRESSED,
    MadeRepository,
    Tree,
    halves,
)
from tests.servers import Request, Respond, WebServer

Serve = Callable[[Respond], WebServer]
DIGEST = b"\1" * 20


@pytest.fixture
def opened(web_server: Serve) -> Iterator[Callable[..., tuple[Catalogs, WebServer]]]:
    kept: list[Any] = []

    def start(made: MadeRepository, root: bytes | None = None) -> tuple[Catalogs, WebServer]:
        content = made.sqlite(made.root) if root is None else root
        server = web_server(made.respond)
        objects = Objects(f"{server.url}/cvmfs/{NAME}")
        catalogs = Catalogs(objects, ObjectName(made.store(content, "C"), "C"), len(content))
        kept.extend([catalogs, objects])
        return catalogs, server

    yield start
    for one in kept:
        one.close()


Open = Callable[..., tuple[Catalogs, WebServer]]


def nested() -> MadeRepository:
    """Return /a (root) > /a/b (nested) > /a/b/c (nested in it), with a file in each."""
    made = MadeRepository()
    made.directory(made.root, "/a")
    made.file(made.root, "/a/one", b"1" * 100)
    middle, inner = Tree("/a/b"), Tree("/a/b/c")
    made.directory(middle, "/a/b", DIRECTORY | NESTED_ROOT)
    made.file(middle, "/a/b/two", b"two")
    made.directory(inner, "/a/b/c", DIRECTORY | NESTED_ROOT)
    made.file(inner, "/a/b/c/three", b"three")
    made.file(inner, "/a/b/c/empty", b"")
    made.nest(middle, inner)
    made.nest(made.root, middle)
    return made


def test_a_path_becomes_the_halves_of_its_md5() -> None:
    # printf /containers | md5sum: two little-endian signed numbers
    digest = hashlib.md5(b"/containers").digest()
    assert path_hash("/containers") == (
        int.from_bytes(digest[:8], "little", signed=True),
        int.from_bytes(digest[8:], "little", signed=True),
    )


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/a/one", b"1" * 100),
        ("a/one", b"1" * 100),
        ("/a//one", b"1" * 100),
        ("/a/b/two", b"two"),
        ("/a/b/c/three", b"three"),
        ("/a/b/c/empty", b""),
        ("/a/b/c/four", None),
        ("/a/b/c/three/more", None),
        ("/a/x/y", None),
        ("/nothing", None),
        ("/a/\udcff", None),
    ],
)
def test_files_are_found_through_nested_catalogs(opened: Open, path: str, content: bytes | None) -> None:
    catalogs, _ = opened(nested())
    assert catalogs.read(path) == content


def test_directories_are_listed_across_catalogs(opened: Open) -> None:
    catalogs, _ = opened(nested())
    assert catalogs.entries("/") == ("a",)
    assert catalogs.entries("/a") == ("b", "one")
    assert catalogs.entries("/a/b") == ("c", "two")
    assert catalogs.entries("/a/b/c") == ("empty", "three")
    assert catalogs.entries("/a/one") is None
    assert catalogs.entries("/x") is None


def test_each_catalog_is_read_once(opened: Open) -> None:
    catalogs, server = opened(nested())
    for _ in range(3):
        catalogs.read("/a/b/c/three")
        catalogs.entries("/a/b")
    assert len([r for r in server.requests if r.path.endswith("C")]) == 3


def test_what_a_file_needs_is_told_without_reading_it(opened: Open) -> None:
    made = nested()
    catalogs, server = opened(made)
    found = catalogs.locate("/a/b/c/three")
    assert found is not None
    asked = {request.path.removeprefix(f"/cvmfs/{NAME}/") for request in server.requests}
    assert {name.path for name in found.catalogs} == asked
    ((part, size),) = found.parts
    assert part.path in made.files
    assert size == 5


def test_many_catalogs_are_not_all_kept_open(opened: Open) -> None:
    made = MadeRepository()
    for number in range(40):
        tree = Tree(f"/{number}")
        made.directory(tree, tree.top, DIRECTORY | NESTED_ROOT)
        made.file(tree, f"{tree.top}/f", str(number).encode())
        made.nest(made.root, tree)
    catalogs, server = opened(made)
    assert [catalogs.read(f"/{number}/f") for number in range(40)] == [str(n).encode() for n in range(40)]
    assert len([r for r in server.requests if r.path.endswith("C")]) == 41


def test_files_in_parts_and_files_that_are_not_compressed(opened: Open) -> None:
    made = MadeRepository()
    made.chunked(made.root, "/big", b"a" * 70000, b"b" * 10, b"c")
    made.file(made.root, "/plain", b"plain", FILE | UNCOMPRESSED)
    catalogs, server = opened(made)
    assert catalogs.read("/big") == b"a" * 70000 + b"b" * 10 + b"c"
    assert catalogs.read("/plain") == b"plain"
    assert len([r for r in server.requests if r.path.endswith("P")]) == 3


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (DIRECTORY, "is no file"),
        (FILE | LINK, "is no file"),
        (FILE | EXTERNAL, "cannot read"),
        (FILE | 1 << 8, "cannot read"),
        (FILE | 2 << 11, "cannot read"),
    ],
)
def test_what_is_no_plain_file_is_told(opened: Open, flags: int, message: str) -> None:
    made = MadeRepository()
    made.root.rows.append(("/x", flags, 3, DIGEST))
    with pytest.raises(CvmfsError, match=message) as caught:
        opened(made)[0].read("/x")
    assert caught.value.hint


def test_a_file_beyond_the_limit_is_not_asked_for(opened: Open) -> None:
    made = MadeRepository()
    made.file(made.root, "/x", b"12345")
    catalogs, server = opened(made)
    with pytest.raises(CvmfsError, match="has 5 bytes, more than 4"):
        catalogs.read("/x", 4)
    assert len(server.requests) == 1


@pytest.mark.parametrize("path", ["/a/../b", "./a", "/a\0b", "/x" * 200, "/" + "x" * 5000])
def test_what_is_no_path_is_refused(opened: Open, path: str) -> None:
    with pytest.raises(UsageError):
        opened(nested())[0].read(path)


# --- hostile ----------------------------------------------------------------------------------------------------------


def row(**values: Any) -> Callable[[MadeRepository], bytes]:
    def make(made: MadeRepository) -> bytes:
        made.root.rows.append(("/x", values.get("flags", FILE), values.get("size", 3), values.get("hash", DIGEST)))
        return made.sqlite(made.root)

    return make


def chunks(*rows: tuple[Any, Any, Any]) -> Callable[[MadeRepository], bytes]:
    def make(made: MadeRepository) -> bytes:
        made.root.rows.append(("/x", FILE | CHUNKED, 10, None))
        made.root.chunks.extend(("/x", *one) for one in rows)
        return made.sqlite(made.root)

    return make


def nests(path: Any, sha1: Any, size: Any) -> Callable[[MadeRepository], bytes]:
    def make(made: MadeRepository) -> bytes:
        made.root.nested.append((path, sha1, size))
        return made.sqlite(made.root)

    return make


def a_view(made: MadeRepository) -> bytes:
    return made.sqlite(made.root, "ALTER TABLE catalog RENAME TO other", "CREATE VIEW catalog AS SELECT * FROM other")


def computed(made: MadeRepository) -> bytes:
    """Compute a column by a function, which could take for ever."""
    return made.sqlite(
        made.root,
        "DROP TABLE nested_catalogs",
        "CREATE TABLE nested_catalogs (path TEXT, size INTEGER, sha1 TEXT AS (hex(zeroblob(1000))))",
        "INSERT INTO nested_catalogs VALUES ('/x', 1)",
    )


def garbled(made: MadeRepository) -> bytes:
    made.file(made.root, "/x", b"x")
    content = made.sqlite(made.root)
    return content[:4096] + b"\xff" * (len(content) - 4096)


def cut(made: MadeRepository) -> bytes:
    made.file(made.root, "/x", b"x")
    return made.sqlite(made.root)[:6000]


def other_loop(made: MadeRepository) -> bytes:
    """A nested catalog that names the place where it begins itself once more."""
    tree = Tree("/x")
    made.directory(tree, "/x", DIRECTORY | NESTED_ROOT)
    tree.nested.append(("/x", "ab" * 20, 1))
    made.nest(made.root, tree)
    return made.sqlite(made.root)


HOSTILE: list[tuple[Callable[[MadeRepository], bytes], str]] = [
    (lambda made: b"", "no plain table"),
    (lambda made: b"no database at all" * 100, "cannot be read: file is not a database"),
    (cut, "cannot be read"),
    (garbled, "cannot be read"),
    (a_view, "has no plain table catalog"),
    (computed, "has no plain table nested_catalogs"),
    (row(flags="x"), "an entry without flags"),
    (row(flags=-1), "an entry without flags"),
    (row(size="much"), "an entry without a size"),
    (row(size=-1), "an entry without a size"),
    (row(hash=b"short"), "not named by a SHA-1"),
    (row(hash="text"), "not named by a SHA-1"),
    (row(hash=7), "not named by a SHA-1"),
    (row(hash=None), "a file without a hash"),
    (chunks(), "not all there"),
    (chunks((0, 5, DIGEST)), "not all there"),
    (chunks((0, 5, DIGEST), (6, 4, DIGEST)), "do not follow"),
    (chunks((0, 5, DIGEST), (4, 6, DIGEST)), "do not follow"),
    (chunks((0, 11, DIGEST)), "do not follow"),
    (chunks((0, "x", DIGEST)), "do not follow"),
    (chunks((0, 10, b"x")), "not named by a SHA-1"),
    (nests("/x", "../../etc/passwd", 1), "not named by a SHA-1"),
    (nests("/x", 7, 1), "not named by a SHA-1"),
    (nests("/x", "ab" * 20, -1), "larger than"),
    (nests("/x", "ab" * 20, 1 << 40), "larger than"),
    (nests("/x", "ab" * 20, "x"), "larger than"),
]


@pytest.mark.parametrize(("make", "message"), HOSTILE)
def test_a_catalog_that_lies_is_refused(opened: Open, make: Callable[[MadeRepository], bytes], message: str) -> None:
    made = MadeRepository()
    catalogs, _ = opened(made, make(made))
    with pytest.raises(CvmfsUntrustedError, match=message) as caught:
        catalogs.read("/x")
    assert caught.value.hint


def test_a_catalog_that_nests_itself_ends(opened: Open) -> None:
    made = MadeRepository()
    catalogs, _ = opened(made, other_loop(made))
    assert catalogs.read("/x/y") is None


@contextmanager
def replaced(made: MadeRepository, kind: str, data: Callable[[bytes], bytes]) -> Iterator[None]:
    (path,) = [path for path in made.files if path.startswith("data/") and path[-1] == kind]
    made.files[path] = data(made.files[path])
    yield


def test_objects_that_are_damaged_missing_or_of_another_size(opened: Open) -> None:
    made = MadeRepository()
    sha1 = made.file(made.root, "/x", b"content")
    made.root.rows.append(("/short", FILE, 8, bytes.fromhex(sha1)))
    made.root.rows.append(("/long", FILE, 6, bytes.fromhex(sha1)))
    catalogs, _ = opened(made)
    with pytest.raises(CvmfsUntrustedError, match="has not the 8 bytes"):
        catalogs.read("/short")
    with pytest.raises(CvmfsUntrustedError, match="holds more than 6 bytes"):
        catalogs.read("/long")
    place = f"data/{sha1[:2]}/{sha1[2:]}"
    good = made.files[place]
    for bad in (good[:-1], good + b"x", good[:5] + b"\xff" + good[6:], b""):
        made.files[place] = bad
        with pytest.raises(CvmfsUntrustedError, match="has other bytes than its name says"):
            catalogs.read("/x")
    del made.files[place]
    with pytest.raises(CvmfsError, match="lacks the object") as caught:
        catalogs.read("/x")
    assert "snapshot" in caught.value.hint


def test_a_catalog_of_another_size_than_stated(web_server: Serve) -> None:
    made = MadeRepository()
    content = made.sqlite(made.root)
    server = web_server(made.respond)
    objects = Objects(f"{server.url}/cvmfs/{NAME}")
    for size, message in ((len(content) - 1, "holds more than"), (len(content) + 1, "bytes, not")):
        with pytest.raises(CvmfsUntrustedError, match=message):
            Catalogs(objects, ObjectName(made.store(content, "C"), "C"), size).read("/x")
    objects.close()


def test_has_asks_by_head(web_server: Serve) -> None:
    made = MadeRepository()
    server = web_server(made.respond)
    objects = Objects(f"{server.url}/cvmfs/{NAME}")
    assert objects.has(ObjectName(made.certificate, "X"))
    assert not objects.has(ObjectName("0" * 40))
    assert {request.method for request in server.requests} == {"HEAD"}
    objects.close()


def test_the_fixture_and_the_catalogs_agree_on_the_root() -> None:
    assert halves("") == path_hash("")


def test_requests_are_below_the_address(opened: Open) -> None:
    catalogs, server = opened(nested())
    catalogs.read("/a/one")
    request: Request
    for request in server.requests:
        assert request.path.startswith(f"/cvmfs/{NAME}/data/")
