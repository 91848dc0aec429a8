"""Several things at once: their order, their failures, and that nobody waits for the rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from neurocommand import threads


def test_results_come_in_the_order_of_the_items() -> None:
    def slower_first(item: int) -> int:
        time.sleep((5 - item) / 100)
        return item * item

    assert threads.each(slower_first, range(5), 3) == [0, 1, 4, 9, 16]
    assert threads.each(slower_first, [], 3) == []


def test_no_more_at_once_than_allowed() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with lock:
            now -= 1

    threads.each(work, range(12), 4)
    assert 1 < most <= 4


def test_what_fails_ends_the_waiting_though_others_hang() -> None:
    hanging, begun = threading.Event(), []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            hanging.wait()
        if item == 1:
            raise ValueError("no")
        time.sleep(0.01)

    started = time.monotonic()
    with pytest.raises(ValueError, match="no"):
        threads.each(work, range(1000), 2)
    assert time.monotonic() - started < 5
    hanging.set()
    time.sleep(0.1)
    assert len(begun) < 20, "the rest is not begun"


def test_a_stream_yields_what_comes_while_the_rest_still_works() -> None:
    go = threading.Event()

    def work(item: int) -> Iterator[tuple[int, str]]:
        yield item, "first"
        if item == 0:
            assert go.wait(10)
        yield item, "second"

    seen = threads.stream(work, [0, 1], 2)
    early = [next(seen) for _ in range(3)]
    assert set(early) == {(0, "first"), (1, "first"), (1, "second")}
    go.set()
    assert list(seen) == [(0, "second")]
    assert list(threads.stream(work, [], 2)) == []
    assert list(threads.stream(work, [1, 2], 1)) == [(1, "first"), (1, "second"), (2, "first"), (2, "second")]


def test_each_item_of_a_stream_keeps_its_order_and_none_is_lost() -> None:
    seen = list(threads.stream(lambda item: iter([(item, step) for step in range(3)]), range(20), 4))
    assert sorted(seen) == [(item, step) for item in range(20) for step in range(3)]
    for item in range(20):
        assert [step for found, step in seen if found == item] == [0, 1, 2]


def test_a_failure_in_a_stream_is_raised_and_ends_it() -> None:
    begun: list[int] = []

    def work(item: int) -> Iterator[int]:
        begun.append(item)
        if item == 2:
            raise ValueError("no")
        time.sleep(0.01)
        yield item

    with pytest.raises(ValueError, match="no"):
        list(threads.stream(work, range(1000), 2))
    time.sleep(0.1)
    assert len(begun) < 20


def test_who_leaves_a_stream_leaves_it_unfinished() -> None:
    begun: list[int] = []

    def work(item: int) -> Iterator[int]:
        begun.append(item)
        time.sleep(0.01)
        yield item

    for _ in threads.stream(work, range(1000), 2):
        break
    time.sleep(0.1)
    assert len(begun) < 20


def test_work_within_a_time_gives_its_result_or_its_failure() -> None:
    assert threads.within(10, lambda: 7) == 7

    def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        threads.within(10, fail)


def test_nobody_waits_for_work_that_takes_too_long() -> None:
    go_on = threading.Event()
    started = time.monotonic()
    with pytest.raises(TimeoutError, match=r"more than 0\.1 s"):
        threads.within(0.1, lambda: go_on.wait(20))
    assert time.monotonic() - started < 10
    go_on.set()
