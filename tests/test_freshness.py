"""How fresh servers are, decided from what they answered (requirement N29, and how CVMFS's replicas work)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from neurocommand.freshness import Answer, Limits, Silence, Verdict, judge, newest, text_of

NOW = 2_000_000_000.0
HOUR, DAY = 3600, 86400
FIRST = Answer(revision=25, root="a" * 40, signed=int(NOW) - HOUR, expires=int(NOW) + 30 * DAY, milliseconds=12)
LIMITS = Limits(lag_minutes=90)


def state(answer: Answer | Silence, reference: Answer | None = FIRST, limits: Limits = LIMITS) -> tuple[str, bool]:
    found = judge(answer, reference, limits, NOW)
    assert bool(found.reason) or not found.failing
    return found.state, found.failing


@pytest.mark.parametrize(
    ("answer", "reference", "expected"),
    [
        (FIRST, FIRST, ("ok", False)),
        (replace(FIRST, signed=FIRST.signed - 60), FIRST, ("ok", False)),  # a tag that is not copied yet
        (replace(FIRST, root="b" * 40), FIRST, ("split", True)),
        (replace(FIRST, revision=26), FIRST, ("split", True)),
        (replace(FIRST, revision=24), FIRST, ("behind", False)),
        (replace(FIRST, revision=24), replace(FIRST, signed=int(NOW) - 2 * HOUR), ("stale", True)),
        (replace(FIRST, revision=24), replace(FIRST, signed=int(NOW) - 5400), ("behind", False)),
        (replace(FIRST, revision=24), replace(FIRST, signed=int(NOW) - 5401), ("stale", True)),
        (replace(FIRST, revision=24), replace(FIRST, signed=int(NOW) + 99), ("behind", False)),  # a clock that is wrong
        (replace(FIRST, expires=int(NOW)), FIRST, ("whitelist expired", True)),
        (replace(FIRST, expires=int(NOW) + 7 * DAY), FIRST, ("ok", False)),
        (replace(FIRST, expires=int(NOW) + 7 * DAY - 1), FIRST, ("whitelist expires in 6 days", False)),
        (FIRST, None, ("ok", False)),
    ],
)
def test_a_server_is_compared_with_the_stratum_0(
    answer: Answer, reference: Answer | None, expected: tuple[str, bool]
) -> None:
    assert state(answer, reference) == expected


@pytest.mark.parametrize(("hours", "expected"), [(None, "ok"), (24, "ok"), (23, "stale")])
def test_a_revision_may_have_an_age(hours: int | None, expected: str) -> None:
    old = replace(FIRST, signed=int(NOW) - 24 * HOUR)
    assert state(old, old, Limits(90, hours))[0] == expected


def test_silence_has_its_own_state() -> None:
    silence = Silence("down", "no answer", "is it up?")
    assert judge(silence, FIRST, LIMITS, NOW) == Verdict("down", True, "no answer", "is it up?")


def test_what_others_are_compared_with() -> None:
    down, other = Silence("down", "x"), replace(FIRST, revision=30)
    assert newest([FIRST, other], stratum0=True) is FIRST
    assert newest([FIRST, other], stratum0=False) is other
    assert newest([down, FIRST, other], stratum0=True) is other
    assert newest([down], stratum0=True) is None
    assert newest([], stratum0=True) is None


def test_lengths_of_time() -> None:
    assert [text_of(s) for s in (0, 119, 120, 7199, 7200, 172799, 172800)] == [
        *("0 s", "119 s", "2 min", "120 min", "2.0 h", "48.0 h", "2.0 days"),
    ]
