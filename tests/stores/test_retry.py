"""What is asked again, how often, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tenacity

from neurocommand.errors import ImmutableError, NeurocommandError, StoreError, StoreFullError, TransientStoreError
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.interface import Advance, Link
from neurocommand.stores.retry import RetryingStore

KEY = "niimath_1.0.20240114_20250101.simg"
OBJECT = StoredObject(KEY, 5)
ARTIFACT = Artifact("0" * 64, 5)
LINK = Link("http://127.0.0.1/x", (), None)


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

    def put(self, key: str, path: Path, artifact: Artifact, advance: Advance) -> None:
        self._ask(f"put {key} {path} {artifact.size}")
        advance(5)

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        self._ask(f"get {key} {path}")
        advance(5)
        return "0" * 64, 5

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
