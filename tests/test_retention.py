"""Retention: over any history of the manifest, nothing goes that anything speaks for, and the rest does."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import memory, plan
from neurocommand.actions import Delete
from neurocommand.errors import FaultsError
from neurocommand.lock import Lock
from neurocommand.manifest import Declaration, Group, Manifest
from neurocommand.model import Release, StoredObject
from neurocommand.observation import Foreign, Observation, RootView, StoreView
from neurocommand.retention import Due, Kept, Memory, Retention, judge
from neurocommand.settings import RetentionSettings

START = datetime.date(2026, 1, 1)
YESTERDAY = datetime.date(2025, 12, 31)
GOOD = '{"version": 2, "before": null, "latest": null, "unlisted": {}, "dois": {}, "listed": []}'
TOOLS = tuple(Release(f"tool{number}", "1.0", "20260101") for number in range(6))
STORES = ("primary", "syncing", "copying")
PRUNABLE = frozenset({"primary", "syncing"})


def manifest_of(releases: frozenset[Release], dois: frozenset[Release] = frozenset()) -> Manifest:
    declarations = tuple(Declaration(release, "tool 1.0", 1, (), True, True, ()) for release in sorted(releases))
    stated = tuple((release, f"10.5281/{release}") for release in sorted(dois))
    return Manifest((Group("tool", (), declarations, (), (), stated),))


@dataclass(frozen=True)
class Look:
    """One run: its true day and how far its clock is off, the manifest, and which stores answer."""

    day: int
    error: int
    live: frozenset[Release]
    dois: frozenset[Release]
    deployed: frozenset[Release]
    down: frozenset[str]


@dataclass
class Oracle:
    """What really happened to each release, by true days, kept independently of the program's own memory."""

    unlisted_on: dict[Release, int] = field(default_factory=dict)
    had_doi: set[Release] = field(default_factory=set)
    was_live: set[Release] = field(default_factory=set)
    runs: list[int] = field(default_factory=list)

    def look(self, look: Look, held: set[Release]) -> None:
        self.had_doi |= look.dois
        self.was_live |= look.live
        self.runs.append(look.day)
        for release in TOOLS:
            if release in look.live:
                self.unlisted_on.pop(release, None)
            elif release in look.deployed and (release in held or release in self.unlisted_on):
                self.unlisted_on[release] = look.day
            elif release in held:
                self.unlisted_on.setdefault(release, look.day)

    def may_go(self, release: Release, look: Look, policy: RetentionSettings) -> bool:
        return (
            release not in look.live
            and release not in look.deployed
            and release not in self.had_doi
            and release in self.was_live
            and release.id not in policy.pinned
            and release.application not in policy.pinned
            and len(look.live) >= policy.floor
            and look.day - self.unlisted_on[release] > policy.grace_days
        )

    def must_go(self, release: Release, look: Look, policy: RetentionSettings) -> bool:
        """Tell what is due where all clocks are right: an earlier day's run has seen the grace over."""
        before = max((day for day in self.runs if day < look.day), default=look.day)
        return self.may_go(release, look, policy) and before - self.unlisted_on[release] > policy.grace_days + 1


some = st.frozensets(st.sampled_from(TOOLS))
looks = st.lists(
    st.builds(
        Look,
        st.integers(0, 30),  # days since the look before
        st.just(0),
        some,
        st.frozensets(st.sampled_from(TOOLS), max_size=1),
        st.frozensets(st.sampled_from(TOOLS), max_size=1),
        st.frozensets(st.sampled_from(STORES), max_size=1),
    ),
    max_size=12,
)
policies = st.builds(
    RetentionSettings,
    grace_days=st.integers(1, 40),
    floor=st.integers(1, 3),
    pinned=st.frozensets(st.sampled_from(["tool0", TOOLS[1].id]), max_size=1),
)


# a clock that is off by a day at any time, and by very much now and then
errors = st.lists(
    st.tuples(st.integers(-1, 1), st.integers(-1, 1), st.sampled_from([-20_000, -500, 2, 20, 45, 365, 9999])),
    min_size=4,
    max_size=4,
).map(lambda some: [error for three in some for error in three])


@given(looks, policies)
def test_no_history_deletes_what_anything_speaks_for_but_all_that_is_due(
    steps: list[Look], policy: RetentionSettings
) -> None:
    replay(steps, policy)


@given(looks, policies, errors)
def test_no_history_with_clocks_that_err_deletes_what_anything_speaks_for(
    steps: list[Look], policy: RetentionSettings, errors: list[int]
) -> None:
    replay([replace(step, error=error) for step, error in zip(steps, errors, strict=False)], policy)


def replay(steps: list[Look], policy: RetentionSettings) -> None:
    """Go through a history, and see in each run that nothing goes but what may, and with right clocks all that must."""
    holding = {store: set(TOOLS) for store in STORES}
    known, oracle, day = Memory(), Oracle(), 0
    right = not any(step.error for step in steps)
    for step in steps:
        day += step.day
        look = replace(step, day=day)
        views = tuple(
            StoreView(store, True, fault="down")
            if store in look.down
            else StoreView(
                store, True, {release: StoredObject(f"{release}.simg", 1) for release in holding[store]}, listed=True
            )
            for store in STORES
        )
        seen = {release for view in views for release in view.objects}
        oracle.look(look, seen)
        manifest, today = manifest_of(look.live, look.dois), START + datetime.timedelta(days=day + look.error)
        known = known.after(manifest, seen, today, gap_days=policy.gap_days, deployed=look.deployed)
        root = RootView(dict.fromkeys(look.deployed, Foreign()), None, "today")
        made = plan.make(
            manifest, Lock(), Observation(views, root=root), retention=Retention(policy, known, today, PRUNABLE)
        )
        deletions = {(action.store, action.release) for action in made.actions if isinstance(action, Delete)}
        assert all(oracle.may_go(release, look, policy) for _, release in deletions)
        going = {release for release in seen - look.live if oracle.must_go(release, look, policy)}
        if right:
            assert deletions == {(store, r) for store in PRUNABLE - look.down for r in going & holding[store]}
            assert {kept.release for kept in made.kept} == seen - look.live - going
        for store, release in deletions:
            holding[store].discard(release)


def judged(retention: Retention, live: int = 10, deployed: frozenset[Release] = frozenset()) -> Due | Kept:
    releases = frozenset(Release(f"live{number}", "1", "20260101") for number in range(live))
    (found,) = judge(manifest_of(releases), retention, deployed, [TOOLS[0], *releases])
    return found


def retention(
    days_ago: int, policy: RetentionSettings | None = None, dois: dict[Release, str] | None = None, **known: object
) -> Retention:
    """Return what is judged by on START, a day after the last run; unlisted so many days before that run."""
    memory = Memory({TOOLS[0]: YESTERDAY - datetime.timedelta(days=days_ago)}, dois or {}, frozenset(TOOLS))
    memory = replace(memory, **{"latest": START, "before": YESTERDAY, **known})
    return Retention(policy or RetentionSettings(), memory, START, PRUNABLE)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (
            judged(retention(0)),
            "unlisted since 2025-12-31: kept for 90 days, and until a later run has seen them over",
        ),
        (
            judged(retention(91)),
            "unlisted since 2025-10-01: kept for 90 days, and until a later run has seen them over",
        ),
        (
            judged(retention(999, before=None)),
            "unlisted since 2023-04-07: kept for 90 days, and until a later run has seen them over",
        ),
        (
            judged(retention(999, latest=datetime.date(2026, 1, 2))),
            "a run was on 2026-01-02, which is not until after today: is the clock right?",
        ),
        (judged(retention(999, unlisted={})), "not known to be unlisted"),
        (judged(replace(retention(999), hold="no root")), "no root"),
        (judged(retention(999), live=9), "the manifest declares 9 releases, fewer than the floor of 10"),
        (judged(retention(999, RetentionSettings(pinned=frozenset({"tool0"})))), "pinned"),
        (judged(retention(999, RetentionSettings(pinned=frozenset({TOOLS[0].id})))), "pinned"),
        (judged(retention(999, dois={TOOLS[0]: "10.1/x"})), "published under DOI 10.1/x"),
        (judged(retention(999), deployed=frozenset({TOOLS[0]})), "still deployed under the root"),
        (
            judged(retention(999, listed=frozenset(TOOLS[1:]))),
            "no run that is remembered saw it in the manifest: it may have had a DOI",
        ),
    ],
)
def test_what_stays_says_why(found: Due | Kept, reason: str) -> None:
    assert found == Kept(TOOLS[0], reason)


def test_a_day_more_than_the_grace_seen_by_the_run_before_is_enough() -> None:
    assert judged(retention(92)) == Due(TOOLS[0], "unlisted since 2025-09-30, more than 90 days ago")


def seen(*days: str, known: Memory | None = None, deployed: frozenset[Release] = frozenset()) -> Memory:
    """Return what is known after runs on some days, to which a release was unlisted."""
    known, manifest = known or Memory(), manifest_of(frozenset())
    for day in days:
        today = datetime.date.fromisoformat(day)
        known = known.after(manifest, [TOOLS[0]], today, gap_days=40, deployed=deployed)
    return known


@pytest.mark.parametrize(
    ("days", "since"),
    [
        (("1970-01-01", "2026-01-01", "2026-01-02"), "2026-01-01"),  # the first run had no clock
        (("2026-01-01", "2027-01-01", "2026-01-02", "2026-01-03"), "2026-01-02"),  # a year ahead once
        (("2026-01-01", "2026-02-10", "2026-03-22"), "2026-01-01"),  # forty days are no gap
        (("2026-01-01", "2026-02-11", "2026-02-12"), "2026-02-11"),
        (("2026-01-01", "2025-12-31", "2026-01-02"), "2026-01-01"),
    ],
)
def test_a_clock_that_jumps_starts_the_grace_anew(days: tuple[str, ...], since: str) -> None:
    assert seen(*days).unlisted == {TOOLS[0]: datetime.date.fromisoformat(since)}


def test_a_day_before_the_latest_one_dates_nothing() -> None:
    known = Memory(latest=START)
    assert seen("2025-12-31", known=known) == known
    assert seen("2025-12-31", "2026-01-02", known=known).unlisted == {TOOLS[0]: datetime.date(2026, 1, 2)}


def test_the_grace_begins_when_a_release_is_deployed_no_more() -> None:
    deployed = seen("2026-01-01", "2026-01-20", deployed=frozenset({TOOLS[0]}))
    assert seen("2026-01-21", known=deployed).unlisted == {TOOLS[0]: datetime.date(2026, 1, 20)}


def test_a_store_that_was_not_listed_to_its_end_loses_nothing() -> None:
    held = {TOOLS[0]: StoredObject(f"{TOOLS[0]}.simg", 1)}
    views = (StoreView("primary", True, held), StoreView("syncing", True, held, listed=True))
    live = frozenset(TOOLS[1:3])
    made = plan.make(
        manifest_of(live), Lock(), Observation(views), retention=retention(999, RetentionSettings(floor=1))
    )
    assert [action.store for action in made.actions if isinstance(action, Delete)] == ["syncing"]


def test_a_part_of_the_manifest_deletes_nothing() -> None:
    views = (StoreView("primary", True, {TOOLS[0]: StoredObject(f"{TOOLS[0]}.simg", 1)}, listed=True),)
    observation, judging = Observation(views), retention(999, RetentionSettings(floor=1))
    made = plan.make(manifest_of(frozenset({TOOLS[1]})), Lock(), observation, whole=False, retention=judging)
    assert (made.kept, [action for action in made.actions if isinstance(action, Delete)]) == ((), [])


def test_what_is_held_nowhere_is_forgotten_but_never_its_doi() -> None:
    known = Memory({TOOLS[0]: START, TOOLS[1]: START}, {TOOLS[0]: "10.1/x"}, frozenset(TOOLS), START)
    assert known.without([TOOLS[0]]) == replace(known, unlisted={TOOLS[1]: START})


@given(
    st.builds(
        Memory,
        st.dictionaries(st.sampled_from(TOOLS), st.dates()),
        st.dictionaries(st.sampled_from(TOOLS), st.sampled_from(["10.5281/zenodo.1", '10.1/"\\'])),
        some,
        st.none() | st.dates(),
        st.none() | st.dates(),
    )
)
def test_a_memory_is_read_as_it_was_written(known: Memory) -> None:
    assert memory.parse(memory.render(known), "unlisted.json") == known


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "unlisted": {}, "dois": {}}',
        GOOD.replace("2", "3", 1),
        GOOD.replace('"unlisted": {}', '"unlisted": {"x": "2026-01-01"}'),
        GOOD.replace('"unlisted": {}', '"unlisted": {"a_1_20260101": "today"}'),
        GOOD.replace('"unlisted": {}', '"unlisted": {"a_1_20260101": 1}'),
        GOOD.replace('"unlisted": {}', '"unlisted": []'),
        GOOD.replace('"dois": {}', '"dois": {}, "dois": {}'),
        GOOD.replace('"listed": []', '"listed": ["x"]'),
        GOOD.replace('"latest": null', '"latest": "today"'),
    ],
)
def test_a_damaged_memory_is_never_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "unlisted.json"
    assert memory.load(path) == memory.parse(GOOD, "unlisted.json") == Memory()
    path.write_text(text)
    with pytest.raises(FaultsError, match=r"unlisted\.json"):
        memory.load(path)
