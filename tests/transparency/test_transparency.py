"""Nobody notices that a container ran: each behaviour through the wrapper, cold and warm, as by the bare runtime."""

from __future__ import annotations

import pytest

from tests.transparency.case import Case, Like
from tests.transparency.cases import CASES, longer
from tests.transparency.conftest import Seen
from tests.transparency.routes import Route

REFERENCES: dict[Like, tuple[Route, ...]] = {"bare": ("bare",), "host": ("direct",), "either": ("bare", "direct")}


def params(cases: tuple[Case, ...]) -> list[object]:
    return [pytest.param(case, id=case.name, marks=[pytest.mark.full] if case.full else []) for case in cases]


def test_there_are_enough_behaviours_and_each_has_its_name() -> None:
    assert len([case for case in CASES if not case.full]) >= 150
    names = {case.name for case in CASES}
    assert len(names) == len(CASES)
    assert names >= longer.NAMES


@pytest.mark.parametrize("case", params(CASES))
def test_the_bare_runtime_shows_what_is_meant(case: Case, seen: Seen) -> None:
    case.check(seen.of(case, "bare")[0])


@pytest.mark.parametrize("case", params(CASES))
def test_through_the_wrapper(case: Case, seen: Seen) -> None:
    assert seen.of(case, "cold") == seen.of(case, "bare")


@pytest.mark.parametrize("case", params(CASES))
def test_through_the_wrapper_when_it_is_warm(case: Case, seen: Seen) -> None:
    found, left = seen.of(case, "warm")
    assert left == [], "nothing is left but what keeps the release warm"
    expected = [seen.of(case, route)[0] for route in REFERENCES[case.warm]]
    assert found == expected[0] or found == expected[-1]


@pytest.mark.parametrize("case", params(tuple(case for case in CASES if not case.deviation)))
def test_the_bare_runtime_is_as_the_host(case: Case, seen: Seen) -> None:
    assert seen.of(case, "bare") == seen.of(case, "direct")
