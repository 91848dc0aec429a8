"""The promises of ``stores/interface.py``, for every store on its real server."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurocommand import web
from neurocommand.bandwidth import CREDIT, Bandwidth
from neurocommand.errors import ImmutableError, OtherBytesError, SourceError, StoreError, StoreFullError
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.paced import PacedStore
from tests.conformance.cases import CASES, FULL, LISTABLE, WRITABLE, Case

KEY = "niimath_1.0.20240114_20250101.simg"
OTHER = "fsl_6.0.7.16_20250131.simg"
MIB = 1 << 20
PARTS = 8 * MIB  # more is never asked for at once: S3 takes that much whole, the registry of the cases 6 MiB
ROOT = Path(__file__).parents[2]


def on(names: Iterable[str], slow: Iterable[str] = ()) -> pytest.MarkDecorator:
    """Run a test on some cases; what takes long, or long to start, runs with --full only."""
    marked = [pytest.param(name, marks=pytest.mark.full if name in {*FULL, *slow} else ()) for name in names]
    return pytest.mark.parametrize("case", marked, indirect=True)


every, writable, listable = on(CASES), on(WRITABLE), on(LISTABLE)


def nothing(done: int) -> None:
    pass


def data_of(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def artifact_of(data: bytes) -> Artifact:
    return Artifact(hashlib.sha256(data).hexdigest(), len(data))


class Elsewhere:
    """Bytes that are no file; they break off after so many as are given."""

    def __init__(self, data: bytes, breaks_after: int | None = None) -> None:
        self.data = data
        self.breaks_after = breaks_after
        self.opened_times = self.closed_times = 0
        self.most = 0

    def __str__(self) -> str:
        return "elsewhere"

    @contextlib.contextmanager
    def opened(self) -> Iterator[Elsewhere]:
        self.opened_times += 1
        self.rest = io.BytesIO(self.data)
        try:
            yield self
        finally:
            self.closed_times += 1

    def read(self, size: int, /) -> bytes:
        assert size > 0, "all at once"
        if self.breaks_after is not None and self.rest.tell() + size > self.breaks_after:
            raise SourceError("store other: broke off")
        self.most = max(self.most, size)
        return self.rest.read(size)


def put(case: Case, path: Path, data: bytes, key: str = KEY) -> None:
    path.write_bytes(data)
    case.store.put(key, path, artifact_of(data), nothing)


# --- reading ----------------------------------------------------------------------------------------------------------


@every
def test_absent_is_none(case: Case) -> None:
    assert case.store.stat(KEY) is None
    case.plant(OTHER, b"x")
    assert case.store.stat(KEY) is None


@every
def test_an_object_put_by_others_is_seen_and_its_sha256_is_not_made_up(case: Case) -> None:
    case.plant(KEY, b"12345")
    assert case.store.stat(KEY) == case.planted(KEY, b"12345")


@every
@pytest.mark.parametrize("size", [0, 5, 3 * MIB + 7])
def test_get_gives_the_bytes_and_says_what_they_are(case: Case, tmp_path: Path, size: int) -> None:
    data, steps = data_of(size), list[int]()
    case.plant(KEY, data)
    target = tmp_path / "got"
    target.write_bytes(b"what was there before is longer or shorter")
    assert case.store.get(KEY, target, steps.append) == (hashlib.sha256(data).hexdigest(), size)
    assert target.read_bytes() == data
    assert steps == sorted(steps)
    assert steps[-1:] == ([size] if size else [])


@every
@pytest.mark.parametrize("size", [0, 5, 3 * MIB + 7])
def test_an_object_can_be_read_as_it_comes(case: Case, size: int) -> None:
    data = data_of(size)
    case.plant(KEY, data)
    with case.store.opened(KEY) as stream:
        assert stream.stated == case.planted(KEY, data)
        chunks = list(iter(lambda: stream.read(100_000), b""))
        assert stream.read(1) == b""
    assert b"".join(chunks) == data
    assert all(len(chunk) <= 100_000 for chunk in chunks)


@every
def test_an_object_that_is_not_read_to_its_end_costs_nothing_but_its_connection(case: Case) -> None:
    data = data_of(17 * MIB)
    case.plant(KEY, data)
    for _ in range(3):
        with case.store.opened(KEY) as stream:
            first = stream.read(10)
        assert data.startswith(first)
        assert 1 <= len(first) <= 10
    assert case.store.stat(KEY) == case.planted(KEY, data)


@every
def test_an_absent_object_cannot_be_opened(case: Case) -> None:
    case.plant(OTHER, b"x")
    with (
        pytest.raises(StoreError, match=rf"store {case.store.name}: holds no {KEY}"),
        case.store.opened(KEY),
    ):
        pytest.fail("it is open")


@every
def test_a_store_that_was_closed_answers_again(case: Case, tmp_path: Path) -> None:
    case.plant(KEY, b"some bytes")
    case.store.close()
    case.store.close()
    case.store.get(KEY, tmp_path / "got", nothing)
    assert (tmp_path / "got").read_bytes() == b"some bytes"


@every
def test_get_of_an_absent_object_is_an_error_that_names_store_and_key(case: Case, tmp_path: Path) -> None:
    case.plant(OTHER, b"x")
    with pytest.raises(StoreError, match=rf"store {case.store.name}: holds no {KEY}"):
        case.store.get(KEY, tmp_path / "got", nothing)
    assert not (tmp_path / "got").exists()


@every
def test_a_full_disk_of_the_caller_is_not_the_stores_fault(case: Case) -> None:
    case.plant(KEY, data_of(3 * MIB))
    with pytest.raises(OSError, match="No space left") as caught:
        case.store.get(KEY, Path("/dev/full"), nothing)
    assert caught.value.errno == errno.ENOSPC
    assert not isinstance(caught.value.__cause__, StoreError)


@every
def test_a_store_that_cannot_be_asked_is_an_error_never_absent(case: Case, tmp_path: Path) -> None:
    store = case.unreachable()
    (tmp_path / "sent").write_bytes(b"12345")
    for ask in (
        lambda: store.stat(KEY),
        lambda: list(store.list()),
        lambda: store.get(KEY, tmp_path / "got", nothing),
        lambda: store.opened(KEY).__enter__(),
        lambda: store.put(KEY, tmp_path / "sent", artifact_of(b"12345"), nothing),
        lambda: store.put(KEY, Elsewhere(b"12345"), artifact_of(b"12345"), nothing),
        lambda: store.delete(KEY),
    ):
        with pytest.raises(StoreError, match=f"store {store.name}: ") as caught:
            ask()
        assert not isinstance(caught.value, StoreFullError)


@every
@pytest.mark.parametrize(
    "key", ["", ".simg", "../x.simg", "a/b.simg", ".a.simg", "a.sif", "a\n.simg", "é.simg", "a" * 196 + ".simg"]
)
def test_what_is_no_key_is_refused(case: Case, tmp_path: Path, key: str) -> None:
    (tmp_path / "sent").write_bytes(b"12345")
    with pytest.raises(StoreError):
        case.store.stat(key)
    with pytest.raises(StoreError):
        case.store.get(key, tmp_path / "got", nothing)
    with pytest.raises(StoreError), case.store.opened(key):
        pass
    with pytest.raises(StoreError):
        case.store.put(key, tmp_path / "sent", artifact_of(b"12345"), nothing)
    with pytest.raises(StoreError):
        case.store.delete(key)


@every
def test_a_store_that_is_read_only_says_so(case: Case, tmp_path: Path) -> None:
    case.plant(KEY, b"12345")
    store = case.read_only()
    assert not store.writable
    (tmp_path / "sent").write_bytes(b"other")
    with pytest.raises(StoreError, match="is read-only"):
        store.put(KEY, tmp_path / "sent", artifact_of(b"other"), nothing)
    with pytest.raises(StoreError, match="is read-only"):
        store.delete(KEY)
    assert store.stat(KEY) == case.planted(KEY, b"12345")


@every
def test_a_store_that_cannot_be_listed_says_so(case: Case) -> None:
    case.plant(KEY, b"12345")
    if case.store.listable:
        assert [found.key for found in case.store.list()] == [KEY]
    else:
        with pytest.raises(StoreError, match="cannot be listed"):
            list(case.store.list())


@every
def test_threads_share_a_store(case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = {f"tool_{number}.0_20250101.simg": data_of(1000 + number, number) for number in range(24)}
    for key, data in names.items():
        case.plant(key, data)
    together = threading.Barrier(24)

    def read(key: str) -> bool:
        together.wait(30)
        found = case.store.stat(key)
        digest, size = case.store.get(key, tmp_path / f"{key}.got", nothing)
        expected = artifact_of(names[key])
        return found is not None and (digest, size, found.size) == (expected.sha256, expected.size, expected.size)

    with ThreadPoolExecutor(24) as pool:
        assert all(pool.map(read, names))
        assert all(pool.map(read, names))
    # A warning of a library would be printed on standard error.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@every
def test_a_link_gives_the_same_bytes_to_any_client(case: Case) -> None:
    data = data_of(3 * MIB + 7)
    case.plant(KEY, data)
    link = case.store.link(KEY)
    assert (link is not None) == case.links
    if link is None:
        return
    with web.Session(read=60) as client:
        whole = client.request("GET", link.url, headers=dict(link.headers))
        assert (whole.status_code, whole.content) == (200, data)
        tail = client.request("GET", link.url, headers={**dict(link.headers), "Range": f"bytes={MIB}-{2 * MIB - 1}"})
        assert (tail.status_code, tail.content) == (206, data[MIB : 2 * MIB])
        assert tail.headers["Content-Range"] == f"bytes {MIB}-{2 * MIB - 1}/{len(data)}"
    assert link.expires_in is None or link.expires_in > 60


@every
def test_a_link_to_what_is_no_key_is_refused(case: Case) -> None:
    with pytest.raises(StoreError):
        case.store.link("../x.simg")


# --- listing ----------------------------------------------------------------------------------------------------------


@listable
def test_an_empty_store_lists_nothing(case: Case) -> None:
    assert list(case.store.list()) == []


@listable
def test_foreign_keys_are_passed_over(case: Case) -> None:
    case.plant(KEY, b"12345")
    for key in ("README.md", "fsl.sif", "x.simg.partial", ".hidden.simg", "a b.simg", "below/x_1_20250101.simg"):
        case.plant(key, b"x")
    assert list(case.store.list()) == [case.planted(KEY, b"12345")]


@on(LISTABLE, slow=("swift-s3", "swift-rclone", "oci"))
def test_a_listing_of_more_than_a_thousand_objects_is_complete(case: Case) -> None:
    keys = [f"tool_{number:04}.0_20250101.simg" for number in range(1005)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: case.plant(key, b"x"), keys))
    assert [found.key for found in case.store.list()] == keys


# --- writing ----------------------------------------------------------------------------------------------------------


@writable
@pytest.mark.parametrize("size", [0, 5, 8 * MIB, 17 * MIB + 1])
def test_what_was_put_is_stated_listed_and_got_back(case: Case, tmp_path: Path, size: int) -> None:
    data, steps = data_of(size), list[int]()
    (tmp_path / "sent").write_bytes(data)
    case.store.put(KEY, tmp_path / "sent", artifact_of(data), steps.append)
    sha256 = hashlib.sha256(data).hexdigest()
    assert case.store.stat(KEY) == StoredObject(KEY, size, sha256)
    assert [(found.key, found.size) for found in case.store.list()] == [(KEY, size)]
    assert case.store.get(KEY, tmp_path / "got", nothing) == (sha256, size)
    assert (tmp_path / "got").read_bytes() == data
    assert steps == sorted(steps)
    assert max(steps, default=0) == size
    assert case.leftovers() == []


@writable
def test_put_and_delete_may_be_repeated(case: Case, tmp_path: Path) -> None:
    case.store.delete(KEY)
    for _ in range(2):
        put(case, tmp_path / "sent", b"12345")
        assert case.store.stat(KEY) == StoredObject(KEY, 5, hashlib.sha256(b"12345").hexdigest())
    for _ in range(2):
        case.store.delete(KEY)
        assert case.store.stat(KEY) is None
    assert list(case.store.list()) == []


@writable
def test_put_replaces_a_damaged_object(case: Case, tmp_path: Path) -> None:
    case.plant(KEY, b"123")
    put(case, tmp_path / "sent", b"12345")
    assert case.store.stat(KEY) == StoredObject(KEY, 5, hashlib.sha256(b"12345").hexdigest())


@writable
@pytest.mark.parametrize("size", [5, 9 * MIB])
@pytest.mark.parametrize("damage", ["other bytes", "last byte", "shorter", "longer", "empty"])
def test_other_bytes_than_the_artifacts_are_refused_and_never_visible(
    case: Case, tmp_path: Path, size: int, damage: str
) -> None:
    wanted = data_of(size)
    sent = {
        "other bytes": data_of(size, seed=2),
        "last byte": wanted[:-1] + bytes([wanted[-1] ^ 1]),
        "shorter": wanted[:-1],
        "longer": wanted + b"x",
        "empty": b"",
    }[damage]
    (tmp_path / "sent").write_bytes(sent)
    with pytest.raises(ImmutableError) as caught:
        case.store.put(KEY, tmp_path / "sent", artifact_of(wanted), nothing)
    assert caught.value.exit_code == 4
    assert case.store.stat(KEY) is None
    put(case, tmp_path / "good", wanted)
    with pytest.raises(ImmutableError):
        case.store.put(KEY, tmp_path / "sent", artifact_of(wanted), nothing)
    assert case.store.stat(KEY) == StoredObject(KEY, size, artifact_of(wanted).sha256)
    assert case.leftovers() == []


@writable
@pytest.mark.parametrize("size", [0, 5, 8 * MIB, pytest.param(17 * MIB + 1, marks=pytest.mark.full)])
def test_what_comes_from_elsewhere_is_put_as_a_file_is(case: Case, tmp_path: Path, size: int) -> None:
    data, steps = data_of(size), list[int]()
    source = Elsewhere(data)
    case.store.put(KEY, source, artifact_of(data), steps.append)
    assert case.store.stat(KEY) == StoredObject(KEY, size, artifact_of(data).sha256)
    assert case.store.get(KEY, tmp_path / "got", nothing) == (artifact_of(data).sha256, size)
    assert (tmp_path / "got").read_bytes() == data
    assert steps == sorted(steps)
    assert max(steps, default=0) == size
    assert source.opened_times == source.closed_times == 1
    assert source.most <= PARTS + 1
    assert case.leftovers() == []


@writable
@pytest.mark.parametrize("before", [b"", b"12345"], ids=["absent", "present"])
@pytest.mark.parametrize("fault", ["other bytes", "shorter", "longer", "broken", "broken at once"])
@pytest.mark.parametrize("size", [5, 17 * MIB])
def test_what_is_wrong_with_bytes_from_elsewhere_changes_nothing(
    case: Case, tmp_path: Path, size: int, fault: str, before: bytes
) -> None:
    if before:
        put(case, tmp_path / "old", before)
    data = data_of(size)
    source = {
        "other bytes": Elsewhere(data[:-1] + bytes([data[-1] ^ 1])),
        "shorter": Elsewhere(data[:-1]),
        "longer": Elsewhere(data + b"x"),
        "broken": Elsewhere(data, breaks_after=13 * MIB if size > 5 else 4),
        "broken at once": Elsewhere(data, breaks_after=0),
    }[fault]
    expected = case.store.stat(KEY)
    error = SourceError if "broken" in fault else OtherBytesError
    with pytest.raises(error) as caught:
        case.store.put(KEY, source, artifact_of(data), nothing)
    if isinstance(caught.value, OtherBytesError):
        assert caught.value.exit_code == 4
        assert caught.value.size == len(source.data)
        assert caught.value.sha256 == hashlib.sha256(source.data).hexdigest()
    assert case.store.stat(KEY) == expected
    assert source.opened_times == source.closed_times == 1  # nothing is wrong with the store, so it asks no second time
    assert case.leftovers() == []
    case.store.put(KEY, Elsewhere(data), artifact_of(data), nothing)
    assert case.store.stat(KEY) == StoredObject(KEY, size, artifact_of(data).sha256)
    assert case.leftovers() == []


@writable
def test_nothing_is_visible_before_it_is_complete(case: Case, tmp_path: Path) -> None:
    data, seen = data_of(20 * MIB), list[tuple[int, StoredObject | None, int]]()

    def look(done: int) -> None:
        seen.append((done, case.store.stat(KEY), len(list(case.store.list()))))

    (tmp_path / "sent").write_bytes(data)
    case.store.put(KEY, tmp_path / "sent", artifact_of(data), look)
    assert len(seen) >= 3
    assert {(found, listed) for _, found, listed in seen} == {(None, 0)}
    assert case.store.stat(KEY) is not None


@writable
def test_a_put_that_is_interrupted_leaves_what_was_there(case: Case, tmp_path: Path) -> None:
    put(case, tmp_path / "old", b"12345")

    class StoppedError(Exception):
        pass

    def interrupt(done: int) -> None:
        raise StoppedError

    data = data_of(20 * MIB)
    (tmp_path / "sent").write_bytes(data)
    with pytest.raises(StoppedError):
        case.store.put(KEY, tmp_path / "sent", artifact_of(data), interrupt)
    assert case.store.stat(KEY) == StoredObject(KEY, 5, hashlib.sha256(b"12345").hexdigest())
    assert case.leftovers() == []


@writable
@pytest.mark.parametrize("before", [b"", b"12345"], ids=["absent", "present"])
def test_a_put_that_is_killed_leaves_what_was_there_and_the_next_one_cleans_up(
    case: Case, tmp_path: Path, before: bytes
) -> None:
    if before:
        put(case, tmp_path / "old", before)
    expected = case.store.stat(KEY)
    data = data_of(20 * MIB)
    path = tmp_path / "sent"
    path.write_bytes(data)
    artifact = artifact_of(data)
    program = (
        "import time\nfrom pathlib import Path\nfrom neurocommand.model import Artifact\n"
        f"{case.recipe}\n"
        "def halt(done):\n    print(done, flush=True)\n    time.sleep(600)\n"
        f"store.put({KEY!r}, Path({str(path)!r}), Artifact({artifact.sha256!r}, {artifact.size}), halt)\n"
    )
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline()  # now it is in the middle of the transfer
            deadline = time.monotonic() + 20
            while not case.leftovers():  # this is what a killed put leaves, else the test shows nothing
                assert time.monotonic() < deadline
                time.sleep(0.1)
        finally:
            child.send_signal(signal.SIGKILL)
    assert case.store.stat(KEY) == expected
    assert [found.key for found in case.store.list()] == ([KEY] if before else [])
    case.store.put(KEY, path, artifact, nothing)
    assert case.store.stat(KEY) == StoredObject(KEY, artifact.size, artifact.sha256)
    assert case.leftovers() == []


@writable
def test_a_source_that_is_not_there_is_the_callers_fault(case: Case, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        case.store.put(KEY, tmp_path / "nowhere", artifact_of(b"x"), nothing)
    assert case.store.stat(KEY) is None


# --- the bandwidth that a run shares ----------------------------------------------------------------------------------

RATE = 1 << 19


class Clock:
    """A time that passes only where a transfer waits."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@writable
@pytest.mark.parametrize("size", [5, 12 * MIB + 7])
def test_a_put_waits_for_every_byte_to_have_its_time(case: Case, tmp_path: Path, size: int) -> None:
    clock, data = Clock(), data_of(size)
    (tmp_path / "source").write_bytes(data)
    store = PacedStore(case.store, Bandwidth(RATE, clock, clock.sleep))
    store.put(KEY, tmp_path / "source", artifact_of(data), nothing)
    assert clock.now == pytest.approx(size / RATE, abs=CREDIT)
    assert case.store.stat(KEY) == StoredObject(KEY, size, artifact_of(data).sha256)


@every
def test_a_get_waits_for_every_byte_to_have_its_time(case: Case, tmp_path: Path) -> None:
    clock, data = Clock(), data_of(3 * MIB + 7)
    case.plant(KEY, data)
    store = PacedStore(case.store, Bandwidth(RATE, clock, clock.sleep))
    assert store.get(KEY, tmp_path / "got", nothing) == (artifact_of(data).sha256, len(data))
    assert clock.now == pytest.approx(len(data) / RATE, abs=CREDIT)


@every
def test_a_stream_waits_for_every_byte_to_have_its_time(case: Case) -> None:
    clock, data = Clock(), data_of(3 * MIB + 7)
    case.plant(KEY, data)
    with PacedStore(case.store, Bandwidth(RATE, clock, clock.sleep)).opened(KEY) as stream:
        assert stream.stated == case.planted(KEY, data)
        assert b"".join(iter(lambda: stream.read(MIB), b"")) == data
    assert clock.now == pytest.approx(len(data) / RATE, abs=CREDIT)
