"""What is asked again, how often, and how long it takes."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tenacity

from neurocommand.errors import (
    ImmutableError,
    NeurocommandError,
    SourceError,
    StoreError,
    StoreFullError,
    TransientStoreError,
)
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance, Content, Link, Stream
from neurocommand.stores.retry import RetryingStore

KEY = "niimath_1.0.20240114_20250101.simg"
OBJECT = StoredObject(KEY, 5)
ARTIFACT = Artifact("0" * 64, 5)
LINK = Link("http://127.0.0.1/x", (), None)


class Sent:
    """What a store sends of an object of so many bytes before it fails, if it does."""

    def __init__(self, data: bytes, size: int = 5, error: StoreError | None = None) -> None:
        self.stated = StoredObject(KEY, size)
        self.rest = io.BytesIO(data)
        self.error = error

    def read(self, size: int, /) -> bytes:
        chunk = self.rest.read(size)
        if not chunk and self.error is not None:
            raise self.error
        return chunk


class FailingStore:
    """A store that fails so often with an error before it works; it remembers what it was asked."""

    name = "failing"
    writable = True
    listable = False
    lists_digests = False
    local = False

    def __init__(self, error: NeurocommandError, failures: int = 100) -> None:
        self.error = error
        self.failures = failures
        self.asked: list[str] = []

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if len(self.asked) <= self.failures:
            raise self.error

    def list(self) -> Iterator[StoredObject]:
        yield OBJECT
        self._ask("list")
        yield StoredObject("z.simg", 1)

    def stat(self, key: str) -> StoredObject | None:
        self._ask(f"stat {key}")
        return None

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        self._ask(f"put {key} {source} {artifact.size}")
        advance(5)

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        self._ask(f"get {key} {path}")
        advance(5)
        return "0" * 64, 5

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[Stream]:
        self._ask(f"opened {key}")
        yield Sent(b"12345")

    def delete(self, key: str) -> None:
        self._ask(f"delete {key}")

    def link(self, key: str) -> Link | None:
        self._ask(f"link {key}")
        return LINK


def retrying(inner: FailingStore) -> RetryingStore:
    return RetryingStore(inner, wait=tenacity.wait_none())


def ask_everything(store: RetryingStore) -> list[object]:
    steps: list[int] = []
    answers = [
        list(store.list()),
        store.stat(KEY),
        store.put(KEY, Path("p"), ARTIFACT, steps.append),  # type: ignore[func-returns-value]
        store.get(KEY, Path("g"), steps.append),
        store.delete(KEY),  # type: ignore[func-returns-value]
        store.link(KEY),
    ]
    assert steps == [5, 5]
    return answers


def test_it_is_the_inner_store_to_everybody() -> None:
    inner = FailingStore(StoreError("x"), failures=0)
    store = retrying(inner)
    assert (store.name, store.writable, store.listable, store.local) == ("failing", True, False, False)
    assert ask_everything(store) == [[OBJECT, StoredObject("z.simg", 1)], None, None, ("0" * 64, 5), None, LINK]
    assert inner.asked == ["list", f"stat {KEY}", f"put {KEY} p 5", f"get {KEY} g", f"delete {KEY}", f"link {KEY}"]


@pytest.mark.parametrize("call", ["list", "stat", "put", "get", "delete", "link"])
def test_each_call_is_repeated_when_that_may_help(call: str) -> None:
    inner = FailingStore(TransientStoreError("busy"), failures=3)
    store = retrying(inner)
    if call == "list":
        assert list(store.list()) == [OBJECT, StoredObject("z.simg", 1)]  # nothing twice
    else:
        arguments = {"put": (Path("p"), ARTIFACT, print), "get": (Path("g"), print)}.get(call, ())
        getattr(store, call)(KEY, *arguments)
    assert len(inner.asked) == 4
    assert len(set(inner.asked)) == 1


def test_it_gives_up_with_the_stores_own_error() -> None:
    error = TransientStoreError("busy")
    inner = FailingStore(error)
    with pytest.raises(TransientStoreError) as caught:
        retrying(inner).stat(KEY)
    assert caught.value is error
    assert len(inner.asked) == 4
    with pytest.raises(TransientStoreError):
        RetryingStore(inner, attempts=2, wait=tenacity.wait_none()).stat(KEY)
    assert len(inner.asked) == 6


@pytest.mark.parametrize(
    "error", [StoreError("refused"), StoreFullError("full"), ImmutableError("other bytes")], ids=lambda e: e.message
)
def test_what_will_not_change_is_not_repeated(error: NeurocommandError) -> None:
    inner = FailingStore(error)
    with pytest.raises(type(error)):
        retrying(inner).put(KEY, Path("p"), ARTIFACT, print)
    assert len(inner.asked) == 1


def test_questions_to_a_store_that_swallows_them_end_soon() -> None:
    class SwallowingStore(FailingStore):
        def _ask(self, what: str) -> None:
            time.sleep(0.3)
            super()._ask(what)

    inner = SwallowingStore(TransientStoreError("no answer in time"))
    store = RetryingStore(inner, wait=tenacity.wait_none(), patience=0.5)
    with pytest.raises(TransientStoreError):
        store.stat(KEY)
    assert len(inner.asked) == 2
    with pytest.raises(TransientStoreError):
        store.get(KEY, Path("g"), print)  # what was begun is worth more patience
    assert len(inner.asked) == 6


class BreakingStore(FailingStore):
    """A store that sends what it is told to, one after the other, and remembers which connections are open."""

    def __init__(self, *sent: Sent | StoreError) -> None:
        super().__init__(StoreError("not asked"))
        self.sent = list(sent)
        self.now: list[Sent] = []

    @contextlib.contextmanager
    def opened(self, key: str) -> Iterator[Stream]:
        self.asked.append(f"opened {key}")
        sent = self.sent.pop(0)
        if isinstance(sent, StoreError):
            raise sent
        self.now.append(sent)
        try:
            yield sent
        finally:
            self.now.remove(sent)


BROKEN = TransientStoreError("broke off")


def read_from(store: BreakingStore, at_once: int = 2) -> bytes:
    with retrying(store).opened(KEY) as stream:
        assert len(store.now) == 1
        data = b"".join(iter(lambda: stream.read(at_once), b""))
        assert len(store.now) == 1
    assert store.now == []
    return data


def test_a_stream_that_breaks_off_goes_on_where_it_was() -> None:
    store = BreakingStore(
        Sent(b"123", 5, BROKEN), BROKEN, Sent(b"1", 5, BROKEN), Sent(b"1234", 5, BROKEN), Sent(b"12345")
    )
    assert read_from(store) == b"12345"
    assert store.asked == [f"opened {KEY}"] * 5
    assert store.sent == []


def test_opening_is_repeated_as_well() -> None:
    assert read_from(BreakingStore(BROKEN, BROKEN, BROKEN, Sent(b"12345"))) == b"12345"
    store = BreakingStore(*[BROKEN] * 5)
    with pytest.raises(TransientStoreError), retrying(store).opened(KEY):
        pytest.fail("it is open")
    assert len(store.sent) == 1


def test_a_stream_that_gives_not_a_byte_more_in_four_attempts_is_given_up() -> None:
    store = BreakingStore(*[Sent(b"123", 5, BROKEN) for _ in range(5)])
    with pytest.raises(TransientStoreError) as caught:
        read_from(store)
    assert caught.value is BROKEN
    assert len(store.sent) == 1
    assert store.now == []


@pytest.mark.parametrize("sent", [Sent(b"123", 5, StoreError("refused")), StoreError("refused")], ids=["read", "open"])
def test_a_stream_that_is_refused_is_not_asked_for_again(sent: Sent | StoreError) -> None:
    store = BreakingStore(sent, Sent(b"12345"))
    with pytest.raises(StoreError, match="refused"):
        read_from(store)
    assert len(store.asked) == 1
    assert store.now == []


def test_a_stream_does_not_go_on_with_another_object() -> None:
    store = BreakingStore(Sent(b"123", 5, BROKEN), Sent(b"123456", 6))
    with pytest.raises(StoreError, match="changed while it was read"):
        read_from(store)
    assert store.now == []


def test_a_source_that_breaks_off_is_not_the_stores_fault() -> None:
    inner = FailingStore(SourceError("the other store broke off"))
    with pytest.raises(SourceError):
        retrying(inner).put(KEY, Path("p"), ARTIFACT, print)
    assert len(inner.asked) == 1


def test_absent_is_an_answer() -> None:
    inner = FailingStore(StoreError("x"), failures=0)
    assert retrying(inner).stat(KEY) is None
    assert len(inner.asked) == 1


def test_the_wait_is_as_long_as_the_server_asks() -> None:
    inner = FailingStore(TransientStoreError("busy", retry_after=0.3), failures=1)
    began = time.monotonic()
    retrying(inner).stat(KEY)
    assert 0.3 <= time.monotonic() - began < 5


def test_a_server_that_asks_for_a_long_wait_is_given_up() -> None:
    inner = FailingStore(TransientStoreError("busy", retry_after=61), failures=1)
    with pytest.raises(TransientStoreError):
        retrying(inner).stat(KEY)
    assert len(inner.asked) == 1


def test_the_usual_waits_are_short_at_first() -> None:
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(TransientStoreError):
            RetryingStore(FailingStore(TransientStoreError("busy")), attempts=3).stat(KEY)
    assert time.monotonic() - began < 5
