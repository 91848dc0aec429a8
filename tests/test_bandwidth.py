"""One bandwidth for many: what is moved never gets ahead of its time, and nobody waits longer than that."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand.bandwidth import CREDIT, Bandwidth


class Clock:
    """A time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds


def limited(rate: int | None) -> tuple[Bandwidth, Clock]:
    clock = Clock()
    return Bandwidth(rate, clock, clock.sleep), clock


STEPS = st.lists(st.tuples(st.floats(0, 5), st.integers(0, 10_000_000)), min_size=1, max_size=30)


@given(st.integers(1, 10_000_000), STEPS)
def test_what_was_moved_has_its_time_before_anybody_goes_on(rate: int, steps: list[tuple[float, int]]) -> None:
    bandwidth, clock = limited(rate)
    moved = 0
    for idle, size in steps:
        clock.now += idle
        bandwidth.spend(size)
        moved += size
        assert moved <= rate * (clock.now - 1000.0 + CREDIT) * (1 + 1e-9) + 1


@given(st.integers(1, 10_000_000), STEPS)
def test_what_nobody_slept_for_is_owed_by_the_next(rate: int, steps: list[tuple[float, int]]) -> None:
    """As of aria2, which is not waited for at each look: bytes of one use up the time of all."""
    bandwidth, clock = limited(rate)
    moved = 0
    for idle, size in steps:
        clock.now += idle
        wait = bandwidth.take(size)
        moved += size
        assert clock.now + wait - 1000.0 + CREDIT >= moved / rate * (1 - 1e-9)
        assert wait <= moved / rate * (1 + 1e-9) + 1e-6


def test_time_that_nobody_used_is_lost_but_for_a_moment() -> None:
    bandwidth, clock = limited(100)
    clock.now += 3600
    bandwidth.spend(1000)
    assert clock.now - 1000.0 - 3600 == pytest.approx(10 - CREDIT)


def test_without_a_limit_nobody_waits() -> None:
    bandwidth, clock = limited(None)
    bandwidth.spend(1 << 50)
    assert (clock.now, bandwidth.take(1), bandwidth.share) == (1000.0, 0.0, None)


def test_the_share_is_an_equal_part_and_never_nothing() -> None:
    bandwidth, _ = limited(3)
    assert bandwidth.share == 3
    with bandwidth.used():
        assert bandwidth.share == 3
        with bandwidth.used(), bandwidth.used():
            assert bandwidth.share == 1
            with bandwidth.used():
                assert bandwidth.share == 1
    with pytest.raises(KeyError), bandwidth.used():
        raise KeyError
    assert bandwidth.share == 3


def test_a_transfer_reports_all_it_has_so_far_and_one_that_begins_again_counts_again() -> None:
    bandwidth, clock = limited(10)
    seen = list[int]()
    advance = bandwidth.paced(seen.append)
    for done in (100, 250, 250, 50, 60):
        advance(done)
    assert seen == [100, 250, 250, 50, 60]
    assert clock.now - 1000.0 == pytest.approx((250 + 60) / 10)


def test_threads_share_one_limit() -> None:
    slept = list[float]()
    bandwidth = Bandwidth(1000, lambda: 0.0, slept.append)
    threads = [threading.Thread(target=lambda: [bandwidth.spend(10) for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # the clock stands still, so each waits for all that was moved before
    assert sorted(slept) == pytest.approx([0.01 * number for number in range(1, 201)])
