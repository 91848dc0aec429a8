"""The plan: its one property over arbitrary worlds, and each decision of docs/design.md §5."""

from __future__ import annotations

import datetime
import sys
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocommand import plan as planning
from neurocommand import verification
from neurocommand.actions import Action, Adopt, Convert, Copy, Delete, Deploy, Plan, Retire, Rewrap, Upload
from neurocommand.lock import Lock
from neurocommand.manifest import Declaration, Group, Manifest, Retirement
from neurocommand.model import Artifact, DeployRecord, Notice, Release, StoredObject
from neurocommand.observation import (
    Deployed,
    Deployment,
    Foreign,
    HalfDeployed,
    Observation,
    RootView,
    StoreView,
    Unreadable,
)
from neurocommand.retention import Memory, Retention
from neurocommand.settings import RetentionSettings

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

REVISION = "today"
TODAY = "2026-11-28"
TRUE = Artifact("a" * 64, 100, "d" * 64)
OTHER = Artifact("b" * 64, 100)
RELEASES = [Release("tool", f"{number}.0", "20260101") for number in range(4)]
STORES = ("first", "second", "third")


@dataclass(frozen=True)
class World:
    manifest: Manifest
    lock: Lock
    observation: Observation

    def plan(self) -> Plan:
        return planning.make(self.manifest, self.lock, self.observation)


def declaration(release: Release, categories: tuple[str, ...] = ("spine",)) -> Declaration:
    return Declaration(release, f"{release.application} {release.version}", 1, categories, True, True, ())


def manifest(*releases: Release, retired: tuple[Release, ...] = ()) -> Manifest:
    retirements = tuple(Retirement(release, "faulty", None) for release in retired)
    return Manifest((Group("tool", ("spine",), tuple(declaration(r) for r in releases), (), retirements),))


def stored(release: Release, artifact: Artifact, *, stated: bool = True, size: int | None = None) -> StoredObject:
    return StoredObject(f"{release}.simg", artifact.size if size is None else size, artifact.sha256 if stated else None)


def deployed(release: Release, artifact: Artifact = TRUE, revision: str = REVISION, complete: bool = True) -> Deployed:
    return Deployed(
        DeployRecord(release, artifact.sha256, artifact.size, "tree", ("cmd",), ("spine",), revision), complete
    )


class RefusedError(Exception):
    """An action refused what it found: its release stays as it is until somebody looks."""


# ---- what the actions promise, as a model: an independent account of apply


def performed(world: World, action: Action) -> World:
    release = action.release
    artifact = world.lock.get(release)
    match action:
        case Convert():
            spool = {**world.observation.spool, release: TRUE.size}
            return replace(
                world, lock=world.lock.including(release, TRUE), observation=replace(world.observation, spool=spool)
            )
        case Adopt():
            view = next(view for view in world.observation.stores if view.name == action.store)
            found = view.objects[release]
            # where a store states no digest, its bytes are the true ones
            seen = Artifact(found.sha256 or TRUE.sha256, found.size)
            if action.expected is not None and (seen.sha256, seen.size) != (
                action.expected.sha256,
                action.expected.size,
            ):
                raise RefusedError
            # what it read went through the spool, in place of what waited there, and is dropped: a store has it
            spool = {waiting: size for waiting, size in world.observation.spool.items() if waiting != release}
            observation = replace(world.observation, spool=spool)
            return replace(world, lock=world.lock.including(release, seen), observation=observation)
        case Upload() | Copy():
            assert artifact is not None
            return replace(world, observation=with_object(world.observation, action.store, stored(release, artifact)))
        case Deploy() | Rewrap():
            world = told(world, release)
            assert artifact is not None or isinstance(action, Rewrap)
            if isinstance(action, Rewrap):
                assert world.observation.root is not None
                was = world.observation.root.deployments[release]
                assert isinstance(was, Deployed)
                artifact = Artifact(was.record.sha256, was.record.size)
            assert artifact is not None
            return replace(world, observation=with_deployment(world.observation, release, deployed(release, artifact)))
        case Retire():
            assert world.observation.root is not None
            was = world.observation.root.deployments[release]
            if not isinstance(was, Deployed):
                return replace(told(world, release), observation=with_deployment(world.observation, release, None))
            notice = replace(action.notice, since=action.notice.since or TODAY)
            record = replace(was.record, withdrawn=notice, wrapper_revision=REVISION)
            world = told(world, release)
            return replace(world, observation=with_deployment(world.observation, release, Deployed(record, True)))
        case _:
            assert_never(action)


def told(world: World, release: Release) -> World:
    """Return the world in which the module trees name the right default version of a release's application."""
    assert world.observation.root is not None
    root = replace(world.observation.root, misled=world.observation.root.misled - {release.application})
    return replace(world, observation=replace(world.observation, root=root))


def with_object(observation: Observation, store: str, found: StoredObject) -> Observation:
    release = Release.parse(found.key.removesuffix(".simg"))
    views = []
    for view in observation.stores:
        if view.name == store:
            assert view.writable
            assert not view.fault
            assert release not in view.unknown
            found = found if view.digests else replace(found, sha256=None)
            views.append(replace(view, objects={**view.objects, release: found}))
        else:
            views.append(view)
    return replace(observation, stores=tuple(views))


def with_deployment(observation: Observation, release: Release, found: Deployment | None) -> Observation:
    assert observation.root is not None
    deployments = {known: state for known, state in observation.root.deployments.items() if known != release}
    if found is not None:
        deployments[release] = found
    return replace(observation, root=replace(observation.root, deployments=deployments))


# ---- arbitrary worlds


def objects(release: Release) -> st.SearchStrategy[StoredObject | None]:
    return st.sampled_from(
        [
            None,
            stored(release, TRUE),
            stored(release, TRUE, stated=False),
            stored(release, TRUE, size=7),
            stored(release, TRUE, size=7, stated=False),
            stored(release, OTHER),
        ]
    )


def deployments(release: Release) -> st.SearchStrategy[Deployment | None]:
    record = deployed(release).record
    return st.sampled_from(
        [
            None,
            deployed(release),
            deployed(release, OTHER),
            deployed(release, revision="old"),
            deployed(release, complete=False),
            Deployed(replace(record, format="sif"), True),
            Deployed(replace(record, categories=("body",)), True),
            Deployed(replace(record, withdrawn=Notice("faulty", None, "2026-01-31")), True),
            Deployed(replace(record, withdrawn=Notice("faulty", None, "2026-01-31")), False),
            Deployed(replace(record, withdrawn=Notice("other")), True),
            Deployed(replace(record, withdrawn=Notice("faulty"), wrapper_revision="old"), True),
            HalfDeployed("killed"),
            Foreign(),
            Unreadable("no rights"),
        ]
    )


@st.composite
def views(draw: st.DrawFn, name: str) -> StoreView:
    found = {release: seen for release in RELEASES if (seen := draw(objects(release))) is not None}
    unknown = dict.fromkeys(draw(st.sets(st.sampled_from(RELEASES), max_size=1)), "no answer")
    found = {release: seen for release, seen in found.items() if release not in unknown}
    fault = draw(st.sampled_from(["", "", "", "refused"]))
    digests = draw(st.booleans())
    if not digests:  # a mere listing, which states none
        found = {release: replace(seen, sha256=None) for release, seen in found.items()}
        unknown = {}
    return StoreView(name, draw(st.booleans()), {} if fault else found, {} if fault else unknown, fault, digests)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    wanted = draw(st.lists(st.sampled_from(RELEASES), unique=True))
    retired = draw(st.lists(st.sampled_from([r for r in RELEASES if r not in wanted] or [Release("x", "1", "latest")])))
    locked = draw(st.dictionaries(st.sampled_from(RELEASES), st.just(TRUE)))
    stores = tuple(draw(views(name)) for name in STORES[: draw(st.integers(0, 3))])
    spool = draw(st.dictionaries(st.sampled_from(RELEASES), st.sampled_from([100, 7])))
    root = None
    if draw(st.booleans()):
        found = {release: state for release in RELEASES if (state := draw(deployments(release))) is not None}
        root = RootView(found, "tree", REVISION, draw(st.sampled_from([frozenset(), frozenset({"tool"})])))
    return World(manifest(*wanted, retired=tuple(set(retired))), Lock(locked), Observation(stores, spool, root))


@given(worlds())
@settings(deadline=None)
def test_applying_a_plan_leaves_no_action(world: World) -> None:
    plan = world.plan()
    after, failed = world, set()
    for action in plan.actions:
        if action.release not in failed:
            try:
                after = performed(after, action)
            except RefusedError:
                failed.add(action.release)
    assert {action.release for action in after.plan().actions} == failed


@given(worlds())
@settings(deadline=None)
def test_no_wanted_release_is_retired_and_every_reason_is_given(world: World) -> None:
    plan = world.plan()
    wanted = {declared.release for declared in world.manifest.declarations}
    assert not wanted & {action.release for action in plan.actions if isinstance(action, Retire)}
    assert all(action.reason for action in plan.actions)
    assert all(problem.reason and problem.subject for problem in plan.problems)


@given(worlds())
@settings(deadline=None)
def test_nothing_is_built_that_may_exist(world: World) -> None:
    converted = {action.release for action in world.plan().actions if isinstance(action, Convert)}
    for release in converted:
        assert world.lock.get(release) is None
        assert all(view.ask(release) is None for view in world.observation.stores)


@given(worlds())
@settings(deadline=None)
def test_a_wanted_release_without_action_or_problem_is_everywhere(world: World) -> None:
    plan = world.plan()
    told = {action.release.id for action in plan.actions} | {problem.subject for problem in plan.problems}
    for declared in world.manifest.declarations:
        release = declared.release
        if release.id in told:
            continue
        artifact = world.lock.get(release)
        assert artifact is not None
        for view in world.observation.stores:
            if view.writable and not view.fault and release not in view.unknown:
                assert view.objects[release].agrees(artifact)
        if world.observation.root is not None:
            found = world.observation.root.deployments[release]
            assert isinstance(found, Deployed)
            assert found.record.sha256 == artifact.sha256
            assert found.record.withdrawn is None
            assert release.application not in world.observation.root.misled


# ---- one decision each

TOOL = RELEASES[0]


def decide(
    *stores: StoreView,
    locked: Artifact | None = TRUE,
    spool: int | None = None,
    found: Deployment | None = None,
    root: bool = False,
) -> Plan:
    lock = Lock({TOOL: locked} if locked else {})
    view = RootView({TOOL: found} if found else {}, "tree", REVISION) if root or found else None
    return planning.make(manifest(TOOL), lock, Observation(stores, {TOOL: spool} if spool is not None else {}, view))


def store(name: str, held: StoredObject | None = None, *, writable: bool = True) -> StoreView:
    return StoreView(name, writable, {TOOL: held} if held else {})


LISTED = StoreView("listed", True, {TOOL: stored(TOOL, TRUE, stated=False)}, digests=False)
DOWN = StoreView("down", True, fault="refused")
SOME = StoreView("some", False, unknown={TOOL: "503"})


@pytest.mark.parametrize(
    ("plan", "actions"),
    [
        (decide(store("a"), store("b"), locked=None), ["Convert", "Upload", "Upload"]),
        (decide(store("a"), locked=None, root=True), ["Convert", "Upload", "Deploy"]),
        (decide(store("a", writable=False), locked=None), ["Convert"]),
        (decide(store("a", stored(TOOL, TRUE)), store("b"), locked=None), ["Adopt", "Copy"]),
        (decide(store("a", stored(TOOL, TRUE)), store("b")), ["Copy"]),
        (decide(store("a", stored(TOOL, TRUE)), store("b", stored(TOOL, OTHER))), ["Copy"]),
        (decide(store("a", stored(TOOL, TRUE)), store("b", stored(TOOL, TRUE, size=3))), ["Copy"]),
        (decide(store("a", stored(TOOL, TRUE)), store("b", stored(TOOL, TRUE, stated=False))), ["Copy"]),
        (decide(store("a", stored(TOOL, TRUE, stated=False)), store("b", stored(TOOL, TRUE, stated=False))), []),
        (decide(store("a", stored(TOOL, TRUE, stated=False)), store("b")), ["Copy", "Copy"]),
        (decide(store("a", stored(TOOL, TRUE, stated=False)), spool=100), ["Upload"]),
        (decide(LISTED, store("b")), ["Copy"]),
        (decide(store("a", stored(TOOL, TRUE)), locked=None, found=deployed(TOOL)), ["Adopt"]),
        (
            decide(store("a", stored(TOOL, TRUE)), locked=None, found=deployed(TOOL, revision="old")),
            ["Adopt", "Rewrap"],
        ),
        (decide(store("a", stored(TOOL, TRUE)), DOWN), []),
        (decide(store("a"), spool=100), ["Upload"]),
        (decide(store("a"), DOWN, spool=100), ["Upload"]),
        (decide(store("a", stored(TOOL, TRUE)), found=HalfDeployed("killed")), ["Deploy"]),
        (decide(store("a", stored(TOOL, TRUE)), found=deployed(TOOL, OTHER)), ["Deploy"]),
        (decide(store("a", stored(TOOL, TRUE)), found=deployed(TOOL, revision="old")), ["Rewrap"]),
        (decide(store("a", stored(TOOL, TRUE)), found=deployed(TOOL, complete=False)), ["Rewrap"]),
        (decide(store("a"), found=deployed(TOOL, revision="old")), ["Rewrap"]),
    ],
)
def test_actions(plan: Plan, actions: list[str]) -> None:
    assert [type(action).__name__ for action in plan.actions] == actions


@pytest.mark.parametrize(
    ("plan", "problems", "code"),
    [
        (decide(store("a")), [("lost", TOOL.id)], 1),
        (decide(store("a", stored(TOOL, OTHER))), [("lost", TOOL.id)], 1),
        (decide(store("a"), SOME), [("unknown", TOOL.id)], 1),
        (decide(store("a"), DOWN), [("unknown", "down"), ("unknown", TOOL.id)], 1),
        (decide(store("a"), SOME, locked=None), [("unknown", TOOL.id)], 1),
        (decide(store("a", stored(TOOL, TRUE)), DOWN), [("unknown", "down")], 1),
        (decide(store("a"), spool=7), [("changed", TOOL.id)], 4),
        (decide(store("a"), locked=None, found=deployed(TOOL)), [("lost", TOOL.id)], 1),
        (decide(store("a", stored(TOOL, TRUE)), found=Foreign()), [("foreign", TOOL.id)], 1),
        (decide(store("a", stored(TOOL, TRUE)), found=Unreadable("no")), [("unknown", TOOL.id)], 1),
        (decide(store("a"), locked=None, found=Unreadable("no")), [("unknown", TOOL.id)], 1),
        (decide(store("a", stored(TOOL, OTHER)), locked=None, found=deployed(TOOL)), [("conflict", TOOL.id)], 4),
        (
            decide(store("a", stored(TOOL, TRUE)), store("b", stored(TOOL, OTHER)), locked=None),
            [("conflict", TOOL.id)],
            4,
        ),
    ],
)
def test_problems(plan: Plan, problems: list[tuple[str, str]], code: int) -> None:
    assert [(problem.kind, problem.subject) for problem in plan.problems] == problems
    assert {problem.exit_code for problem in plan.problems} == {code}
    assert plan.actions == ()


def test_a_store_that_states_a_digest_is_adopted_from_first() -> None:
    plan = decide(store("a", stored(TOOL, TRUE, stated=False)), store("b", stored(TOOL, TRUE)), locked=None)
    assert next(action for action in plan.actions if isinstance(action, Adopt)).store == "b"


def test_a_vanished_release_is_a_problem_and_a_retired_one_is_withdrawn() -> None:
    gone, retired, foreign = RELEASES[1], RELEASES[2], RELEASES[3]
    root = RootView({gone: deployed(gone), retired: deployed(retired), foreign: Foreign()}, "tree", REVISION)
    made = planning.make(manifest(retired=(retired,)), Lock(), Observation((), {}, root))
    assert made.actions == (Retire(retired, "faulty", Notice("faulty")),)
    assert [(problem.kind, problem.subject) for problem in made.problems] == [("unlisted", gone.id)]
    part = planning.make(manifest(), Lock(), Observation((), {}, root), whole=False)
    assert part == Plan((), ())


WITHDRAWN = Deployed(replace(deployed(TOOL).record, withdrawn=Notice("faulty", None, "2026-01-31")), True)


def retiring(found: Deployment, misled: frozenset[str] = frozenset(), **told: Any) -> tuple[Action, ...]:
    """Plan where the release is retired, and something of it stands under the root."""
    retirement = Retirement(TOOL, **{"reason": "faulty", "successor": None, **told})
    group = Group("tool", ("spine",), (), (), (retirement,))
    return planning.make(
        Manifest((group,)), Lock(), Observation((), {}, RootView({TOOL: found}, "tree", REVISION, misled))
    ).actions


def test_a_withdrawn_release_rests_until_something_of_it_changes() -> None:
    assert retiring(WITHDRAWN) == ()
    since = "2026-01-31"
    renewal = {"release": TOOL, "renewal": True}
    assert retiring(WITHDRAWN, since=since) == ()
    other = Notice("faulty", None, "2026-02-01")
    assert retiring(WITHDRAWN, since=other.since) == (Retire(reason="its notice changed", notice=other, **renewal),)
    better = Notice("faulty", RELEASES[1], since)
    assert retiring(WITHDRAWN, successor=RELEASES[1]) == (
        Retire(reason="its notice changed", notice=better, **renewal),
    )
    kept = Notice("faulty", None, since)
    for found, reason in (
        (replace(WITHDRAWN, complete=False), "its withdrawal was not finished, or a file of it is missing"),
        (Deployed(replace(WITHDRAWN.record, wrapper_revision="old"), True), "made by other templates or settings"),
    ):
        assert retiring(found) == (Retire(reason=reason, notice=kept, **renewal),)
    (action,) = retiring(WITHDRAWN, frozenset({"tool"}))
    assert (action.reason, action.release) == ("its application's default version is not what it should be", TOOL)
    assert retiring(WITHDRAWN, frozenset({"other"})) == ()


def test_a_tombstone_that_the_manifest_forgot_is_no_problem() -> None:
    root = RootView({TOOL: WITHDRAWN}, "tree", REVISION)
    assert planning.make(manifest(), Lock(), Observation((), {}, root)) == Plan((), ())


@pytest.mark.parametrize(("found", "kinds"), [(deployed(TOOL), [Retire]), (WITHDRAWN, [Delete])])
def test_a_tombstone_keeps_no_object(found: Deployment, kinds: list[type]) -> None:
    today, held = datetime.date(2026, 6, 1), StoreView("a", True, {TOOL: stored(TOOL, TRUE)}, listed=True)
    memory = Memory(
        {TOOL: datetime.date(2026, 1, 1)}, listed=frozenset({TOOL}), latest=today, before=datetime.date(2026, 5, 31)
    )
    retention = Retention(RetentionSettings(floor=0), memory, today, frozenset({"a"}))
    observation = Observation((held,), {}, RootView({TOOL: found}, "tree", REVISION))
    made = planning.make(manifest(retired=(TOOL,)), Lock({TOOL: TRUE}), observation, retention=retention)
    assert [type(action) for action in made.actions] == kinds


def test_a_withdrawn_release_that_is_wanted_again_is_deployed() -> None:
    made = decide(store("a", stored(TOOL, TRUE)), found=WITHDRAWN)
    assert made.actions == (Deploy(TOOL, "withdrawn, but the manifest has it again"),)
    assert decide(store("a"), locked=None, found=WITHDRAWN).actions == ()
    prefix = planning.for_prefix(manifest(TOOL), Lock({TOOL: TRUE}), RootView({TOOL: WITHDRAWN}, "tree", REVISION))
    assert [type(action) for action in prefix.actions] == [Deploy]


def test_one_release_tells_the_default_version_of_its_application() -> None:
    first, second, gone = RELEASES[:3]
    found = {
        first: deployed(first),
        second: deployed(second),
        gone: replace(WITHDRAWN, record=replace(WITHDRAWN.record, release=gone)),
    }
    root = RootView(found, "tree", REVISION, frozenset({"tool"}))
    views = (StoreView("a", True, {release: stored(release, TRUE) for release in (first, second)}),)
    wanted, lock = manifest(first, second, retired=(gone,)), Lock(dict.fromkeys((first, second), TRUE))
    made = planning.make(wanted, lock, Observation(views, {}, root))
    assert made.actions == (Rewrap(first, "its application's default version is not what it should be"),)
    assert planning.for_prefix(wanted, lock, root).actions == made.actions
    # what is to be deployed says it anyway, but perhaps not in this run
    found[first] = HalfDeployed("killed")
    made = planning.make(wanted, lock, Observation(views, {}, root))
    assert [(type(action), action.release) for action in made.actions] == [(Deploy, first), (Rewrap, second)]


def test_a_release_is_deployed_again_in_the_format_that_is_asked_for() -> None:
    as_sif = Deployed(replace(deployed(TOOL).record, format="sif"), True)
    made = decide(store("a", stored(TOOL, TRUE)), found=as_sif)
    assert [action.reason for action in made.actions] == ["deployed as sif instead of tree"]
    kept = planning.for_prefix(manifest(TOOL), Lock({TOOL: TRUE}), RootView({TOOL: as_sif}, None, REVISION))
    assert kept == Plan((), ())


def test_what_cannot_be_read_is_neither_adopted_nor_withdrawn() -> None:
    hidden = Unreadable("no rights")
    assert decide(store("a", stored(TOOL, TRUE)), locked=None, found=hidden).actions == ()
    root = RootView({TOOL: hidden}, "tree", REVISION)
    made = planning.make(manifest(retired=(TOOL,)), Lock(), Observation((), {}, root))
    assert (made.actions, [problem.kind for problem in made.problems]) == ((), ["unknown"])


def test_a_reduced_plan_leaves_out_what_needs_a_missing_action() -> None:
    whole = decide(store("a"), locked=None, root=True)
    assert whole.only(Deploy) == (Plan((), ()), (whole.actions[0],))
    converted, waiting = whole.only(Convert, Upload)
    assert [type(action) for action in converted.actions] == [Convert, Upload]
    assert waiting == ()
    copied, waiting = decide(store("a", stored(TOOL, TRUE)), store("b"), root=True).only(Deploy)
    assert [type(action) for action in copied.actions] == [Deploy]
    assert waiting == ()


COPY = Copy(TOOL, ("a",), "b", "absent")
ELSEWHERE = Release("other", "1.0", "20260101")


@pytest.mark.parametrize(
    ("beside", "spooled", "streamed"),
    [
        ([], [], True),
        # what needs no bytes of the object changes nothing
        (
            [
                Rewrap(TOOL, "made by other templates"),
                Retire(TOOL, "faulty", Notice("faulty")),
                Delete(TOOL, "c", "unlisted"),
            ],
            [],
            True,
        ),
        # nor does another release
        ([Copy(ELSEWHERE, ("a",), "b", "absent"), Deploy(ELSEWHERE, "not deployed")], [ELSEWHERE], True),
        # several readers share one file
        ([Copy(TOOL, ("a",), "c", "absent")], [], False),
        ([Deploy(TOOL, "not deployed")], [], False),
        ([Upload(TOOL, "c", "absent")], [], False),
        ([Adopt(TOOL, "a", None, "not locked")], [], False),
        # what is at hand is not fetched from afar
        ([], [TOOL], False),
    ],
)
def test_a_copy_is_streamed_when_nothing_else_needs_its_bytes(
    beside: list[Action], spooled: list[Release], streamed: bool
) -> None:
    plan = Plan((*beside, COPY), (), spare={TOOL: 1}).streaming(spooled)
    assert plan.actions[-1] == replace(COPY, streamed=streamed)
    assert [replace(a, streamed=False) if isinstance(a, Copy) else a for a in plan.actions] == [*beside, COPY]
    assert plan.spare == {TOOL: 1}


def test_it_is_decided_by_what_is_carried_out_and_not_by_what_is_left_to_others() -> None:
    whole = decide(store("a", stored(TOOL, TRUE)), store("b"), root=True)
    assert [type(action) for action in whole.actions] == [Copy, Deploy]
    assert [a.streamed for a in whole.streaming([]).actions if isinstance(a, Copy)] == [False]
    mirrored, _ = whole.only(Upload, Copy)
    assert [a.streamed for a in mirrored.streaming([]).actions if isinstance(a, Copy)] == [True]


@pytest.mark.parametrize(
    ("locked", "found", "actions"),
    [
        (None, None, ["Deploy"]),
        (TRUE, deployed(TOOL), []),
        (TRUE, deployed(TOOL, OTHER), ["Deploy"]),
        (TRUE, deployed(TOOL, revision="old"), ["Rewrap"]),
        (TRUE, Foreign(), []),
    ],
)
def test_an_install_plans_for_its_prefix_alone(
    locked: Artifact | None, found: Deployment | None, actions: list[str]
) -> None:
    root = RootView({TOOL: found} if found else {}, "tree", REVISION)
    made = planning.for_prefix(manifest(TOOL), Lock({TOOL: locked} if locked else {}), root)
    assert [type(action).__name__ for action in made.actions] == actions
    assert bool(made.problems) == isinstance(found, Foreign)


# ---- a quorum


def with_quorum(quorum: int | None, *views: StoreView) -> Plan:
    release = RELEASES[0]
    return planning.make(manifest(release), Lock({release: TRUE}), Observation(views), quorum=quorum)


def test_a_quorum_says_how_many_stores_may_fail() -> None:
    release, good = RELEASES[0], {RELEASES[0]: stored(RELEASES[0], TRUE)}
    views = (StoreView("first", True, good), StoreView("second", True, good), StoreView("third", True))
    assert with_quorum(None, *views).spare == {}
    assert with_quorum(1, *views).spare == {release: 2}
    assert with_quorum(3, *views).spare == {release: 0}
    # what is damaged, or only read, does not count until it is replaced
    damaged = StoreView("second", False, {release: stored(release, OTHER)})
    assert with_quorum(1, views[0], damaged).spare == {release: 0}


def test_a_store_that_is_down_is_not_fatal_where_the_quorum_is_met_without_it() -> None:
    good, down = StoreView("first", True, {RELEASES[0]: stored(RELEASES[0], TRUE)}), StoreView("x", True, fault="gone")
    (problem,) = with_quorum(1, good, down).problems
    assert (problem.kind, problem.fatal, problem.exit_code) == ("unknown", False, 0)
    (problem,) = with_quorum(None, good, down).problems
    assert (problem.kind, problem.exit_code) == ("unknown", 1)
    below = with_quorum(2, good, down).problems
    assert [(p.kind, p.exit_code) for p in below] == [("unknown", 1), ("below", 1)]
    assert below[1].reason == "1 stores hold or can take it, the quorum is 2"


def test_a_release_that_is_lost_is_not_reported_as_below_the_quorum_too() -> None:
    assert [problem.kind for problem in with_quorum(2, StoreView("first", True)).problems] == ["lost"]


def test_what_will_be_converted_or_adopted_counts() -> None:
    release = RELEASES[0]
    views = (StoreView("first", True), StoreView("second", True))
    made = planning.make(manifest(release), Lock(), Observation(views), quorum=2)
    assert (made.spare, made.problems) == ({release: 0}, ())
    held = (StoreView("first", True, {release: stored(release, TRUE)}), StoreView("second", True))
    made = planning.make(manifest(release), Lock(), Observation(held), quorum=1)
    assert (made.spare, made.problems) == ({release: 1}, ())


# ---- locked, but not named by the manifest: mended where it is damaged, and nothing else

DAMAGES = {
    "good": stored(RELEASES[0], TRUE),
    "silent": stored(RELEASES[0], TRUE, stated=False),
    "short": stored(RELEASES[0], TRUE, size=7),
    "other": stored(RELEASES[0], OTHER),
    "absent": None,
    "cannot tell": None,
    "down": None,
}


def one_of(name: str, state: str, writable: bool = True) -> StoreView:
    if state == "down":
        return StoreView(name, writable, fault="down")
    found = DAMAGES[state]
    objects = {} if found is None else {RELEASES[0]: found}
    return StoreView(name, writable, objects, {RELEASES[0]: "times out"} if state == "cannot tell" else {})


def mended(*states: str, writable: tuple[bool, ...] = (True, True, True), spool: int | None = None) -> Plan:
    views = tuple(one_of(name, state, may) for name, state, may in zip(STORES, states, writable, strict=False))
    waiting = {} if spool is None else {RELEASES[0]: spool}
    return planning.mended(manifest(RELEASES[1]), Lock(dict.fromkeys(RELEASES[:2], TRUE)), Observation(views, waiting))


@pytest.mark.parametrize("damage", ["short", "other", "silent"])
def test_a_damaged_object_of_a_release_that_is_locked_only_is_copied_from_a_good_one(damage: str) -> None:
    plan = mended("good", damage, "absent")
    assert [(type(a), a.release, a.store, a.sources[0]) for a in plan.actions if isinstance(a, Copy)] == [
        (Copy, RELEASES[0], "second", "first")
    ]
    assert (len(plan.actions), plan.problems) == (1, ())


def test_what_is_locked_only_is_mended_from_the_spool_too() -> None:
    plan = mended("short", spool=TRUE.size)
    assert [(type(a), a.release) for a in plan.actions] == [(Upload, RELEASES[0])]


@pytest.mark.parametrize(
    ("states", "kinds"),
    [
        (("short", "absent"), ["lost"]),
        (("short", "down"), ["unknown"]),
        (("absent", "cannot tell"), ["unknown"]),
        (("good", "cannot tell"), []),
        (("good", "absent"), []),
        (("absent", "absent"), []),
        (("absent", "down"), []),
    ],
)
def test_what_cannot_be_mended_is_named_and_what_is_not_there_is_not_missed(
    states: tuple[str, ...], kinds: list[str]
) -> None:
    plan = mended(*states)
    assert ([problem.kind for problem in plan.problems], plan.actions) == (kinds, ())


@given(
    st.tuples(*[st.sampled_from(sorted(DAMAGES))] * 3), st.tuples(*[st.booleans()] * 3), st.sampled_from([None, 9, 100])
)
def test_mending_leaves_nothing_that_could_be_mended(
    states: tuple[str, ...], writable: tuple[bool, ...], spool: int | None
) -> None:
    """After it, verify finds damage only where a problem was named, or where nothing may be written."""
    plan = mended(*states, writable=writable, spool=spool)
    views = {name: one_of(name, state, may) for name, state, may in zip(STORES, states, writable, strict=True)}
    for action in plan.actions:
        assert isinstance(action, Copy | Upload)
        assert RELEASES[0] in views[action.store].objects, "nothing is put where nothing was"
        views[action.store] = one_of(action.store, "good")
    damaged = [
        finding
        for finding in verification.findings(manifest(), Lock({RELEASES[0]: TRUE}), views.values())
        if finding.kind in ("truncated", "corrupt") and views[finding.store].writable
    ]
    assert bool(damaged) <= bool(plan.problems)
    assert not (plan.actions and plan.problems)
    assert all(action.release == RELEASES[0] for action in plan.actions)
