"""Retention: over any history of the manifest, nothing goes that anything speaks for, and the rest does."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
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
TOOLS = tuple(Release(f"tool{number}", "1.0", "20260101") for number in range(6))
STORES = ("primary", "syncing", "copying")
PRUNABLE = frozenset({"primary", "syncing"})


def manifest_of(releases: frozenset[Release], dois: frozenset[Release] = frozenset()) -> Manifest:
    declarations = tuple(Declaration(release, "tool 1.0", 1, (), True, True, ()) for release in sorted(releases))
    stated = tuple((release, f"10.5281/{release}") for release in sorted(dois))
    return Manifest((Group("tool", (), declarations, (), (), stated),))


@dataclass(frozen=True)
class Look:
    """One run: the day by its clock, the manifest, and which stores answer."""

    day: int
    live: frozenset[Release]
    dois: frozenset[Release]
    deployed: frozenset[Release]
    down: frozenset[str]


@dataclass
class Oracle:
    """What really happened to each release, kept independently of the program's own memory."""

    unlisted_on: dict[Release, int] = field(default_factory=dict)
    had_doi: set[Release] = field(default_factory=set)

    def look(self, look: Look, held: set[Release]) -> None:
        self.had_doi |= look.dois
        for release in TOOLS:
            if release in look.live:
                self.unlisted_on.pop(release, None)
            elif release in held:
                self.unlisted_on.setdefault(release, look.day)

    def may_go(self, release: Release, look: Look, policy: RetentionSettings) -> bool:
        return (
            release not in look.live
            and release not in look.deployed
            and release not in self.had_doi
            and release.id not in policy.pinned
            and release.application not in policy.pinned
            and len(look.live) >= policy.floor
            and look.day - self.unlisted_on[release] > policy.grace_days
        )


some = st.frozensets(st.sampled_from(TOOLS))
looks = st.lists(
    st.builds(
        Look,
        st.integers(-3, 30),  # days since the look before; a clock may be set back
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


@given(looks, policies)
def test_no_history_deletes_what_anything_speaks_for(steps: list[Look], policy: RetentionSettings) -> None:
    holding = {store: set(TOOLS) for store in STORES}
    known, oracle, day = Memory(), Oracle(), 0
    for step in steps:
        day += step.day
        look = Look(day, step.live, step.dois, step.deployed, step.down)
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
        manifest, today = manifest_of(look.live, look.dois), START + datetime.timedelta(days=day)
        known = known.after(manifest, seen, today)
        root = RootView(dict.fromkeys(look.deployed, Foreign()), None, "today")
        made = plan.make(
            manifest, Lock(), Observation(views, root=root), retention=Retention(policy, known, today, PRUNABLE)
        )
        deletions = {(action.store, action.release) for action in made.actions if isinstance(action, Delete)}
        assert deletions == {
            (store, release)
            for store in PRUNABLE - look.down
            for release in holding[store]
            if oracle.may_go(release, look, policy)
        }
        assert {kept.release for kept in made.kept} == {
            release for release in seen - look.live if not oracle.may_go(release, look, policy)
        }
        for store, release in deletions:
            holding[store].discard(release)


def judged(retention: Retention, live: int = 10, deployed: frozenset[Release] = frozenset()) -> Due | Kept:
    releases = frozenset(Release(f"live{number}", "1", "20260101") for number in range(live))
    (found,) = judge(manifest_of(releases), retention, deployed, [TOOLS[0], *releases])
    return found


def retention(
    days_ago: int, policy: RetentionSettings | None = None, dois: dict[Release, str] | None = None
) -> Retention:
    since = START - datetime.timedelta(days=days_ago)
    return Retention(policy or RetentionSettings(), Memory({TOOLS[0]: since}, dois or {}), START, PRUNABLE)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (judged(retention(0)), "unlisted since 2026-01-01, kept until 2026-04-01"),
        (judged(retention(90)), "unlisted since 2025-10-03, kept until 2026-01-01"),
        (judged(retention(-1)), "first seen unlisted on 2026-01-02, which is after today: is the clock right?"),
        (judged(retention(999), live=9), "the manifest declares 9 releases, fewer than the floor of 10"),
        (judged(retention(999, RetentionSettings(pinned=frozenset({"tool0"})))), "pinned"),
        (judged(retention(999, RetentionSettings(pinned=frozenset({TOOLS[0].id})))), "pinned"),
        (judged(retention(999, dois={TOOLS[0]: "10.1/x"})), "published under DOI 10.1/x"),
        (judged(retention(999), deployed=frozenset({TOOLS[0]})), "still deployed under the root"),
        (
            judged(Retention(RetentionSettings(), Memory(), START, PRUNABLE)),
            "not known to be unlisted",
        ),
    ],
)
def test_what_stays_says_why(found: Due | Kept, reason: str) -> None:
    assert found == Kept(TOOLS[0], reason)


def test_the_day_after_the_grace_is_the_first_on_which_it_may_go() -> None:
    assert judged(retention(91)) == Due(TOOLS[0], "unlisted since 2025-10-02, more than 90 days ago")


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
    known = Memory({TOOLS[0]: START, TOOLS[1]: START}, {TOOLS[0]: "10.1/x"})
    assert known.without([TOOLS[0]]) == Memory({TOOLS[1]: START}, {TOOLS[0]: "10.1/x"})


@given(
    st.builds(
        Memory,
        st.dictionaries(st.sampled_from(TOOLS), st.dates()),
        st.dictionaries(st.sampled_from(TOOLS), st.sampled_from(["10.5281/zenodo.1", '10.1/"\\'])),
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
        '{"version": 1, "unlisted": {"x": "2026-01-01"}, "dois": {}}',
        '{"version": 1, "unlisted": {"a_1_20260101": "today"}, "dois": {}}',
        '{"version": 1, "unlisted": {"a_1_20260101": 1}, "dois": {}}',
        '{"version": 1, "unlisted": [], "dois": {}}',
        '{"version": 1, "unlisted": {}, "dois": {}, "dois": {}}',
    ],
)
def test_a_damaged_memory_is_never_taken_for_an_empty_one(tmp_path: Path, text: str) -> None:
    path = tmp_path / "unlisted.json"
    assert memory.load(path) == Memory()
    path.write_text(text)
    with pytest.raises(FaultsError, match=r"unlisted\.json"):
        memory.load(path)
