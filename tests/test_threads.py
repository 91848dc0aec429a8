"""Several things at once: their order, their failures, and that nobody waits for the rest."""

from __future__ import annotations

import threading
import time

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
