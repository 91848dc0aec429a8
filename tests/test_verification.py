"""Findings: each kind of fault, and nothing else, for any contents of the stores."""

from __future__ import annotations

import pytest

from neurocommand import verification
from neurocommand.lock import Lock
from neurocommand.model import Artifact, StoredObject
from neurocommand.observation import StoreView
from neurocommand.verification import Finding
from tests.test_plan import OTHER, RELEASES, TRUE, manifest

WANTED, RETIRED, UNLOCKED, FOREIGN = RELEASES
LOCK = Lock({WANTED: TRUE, RETIRED: TRUE})
GOOD = StoredObject("x", TRUE.size, TRUE.sha256)


def findings(view: StoreView) -> list[Finding]:
    return [*verification.findings(manifest(WANTED, UNLOCKED), LOCK, [view])]


@pytest.mark.parametrize(
    ("found", "kind", "reason"),
    [
        (None, "missing", "absent"),
        (StoredObject("x", 99, TRUE.sha256), "truncated", "99 bytes instead of the locked 100"),
        (StoredObject("x", 0, None), "truncated", "0 bytes instead of the locked 100"),
        (StoredObject("x", 101, None), "corrupt", "101 bytes instead of the locked 100"),
        (
            StoredObject("x", 100, OTHER.sha256),
            "corrupt",
            f"sha256 {OTHER.sha256} instead of the locked {TRUE.sha256}",
        ),
        (StoredObject("x", 100, None), "unknown", "states no digest: its bytes have to be read (--deep)"),
    ],
)
def test_each_fault_of_a_wanted_object(found: StoredObject | None, kind: verification.Kind, reason: str) -> None:
    objects = {} if found is None else {WANTED: found}
    assert findings(StoreView("here", True, objects)) == [Finding(kind, "here", WANTED, reason)]


def test_what_is_as_locked_is_no_finding() -> None:
    assert findings(StoreView("here", True, {WANTED: GOOD, RETIRED: GOOD})) == []


def test_a_store_that_is_only_read_need_hold_nothing_and_states_no_digests() -> None:
    assert findings(StoreView("web", False)) == []
    assert findings(StoreView("web", False, {WANTED: StoredObject("x", 100, None)})) == []
    assert [f.kind for f in findings(StoreView("web", False, {WANTED: StoredObject("x", 9, None)}))] == ["truncated"]


def test_what_is_locked_but_not_wanted_is_judged_where_it_is_and_not_missed_where_it_is_not() -> None:
    assert findings(StoreView("here", True, {WANTED: GOOD})) == []
    damaged = StoreView("here", True, {WANTED: GOOD, RETIRED: StoredObject("x", 1, None)})
    assert [(f.kind, f.release) for f in findings(damaged)] == [("truncated", RETIRED)]


def test_what_cannot_be_judged_is_unknown_and_what_nobody_names_is_stray() -> None:
    objects = {WANTED: GOOD, UNLOCKED: GOOD, FOREIGN: GOOD}
    view = StoreView("here", True, objects, {RETIRED: "asks for a password"})
    assert [(f.kind, f.release) for f in findings(view)] == [
        ("unknown", RETIRED),
        ("unknown", UNLOCKED),
        ("stray", FOREIGN),
    ]
    assert findings(StoreView("here", True, fault="no route")) == [
        Finding("unknown", "here", None, "cannot be asked: no route")
    ]


def test_the_digest_of_an_empty_object_counts_too() -> None:
    empty = Lock({WANTED: Artifact(TRUE.sha256, 0)})
    view = StoreView("here", True, {WANTED: StoredObject("x", 0, OTHER.sha256)})
    assert [f.kind for f in verification.findings(manifest(WANTED), empty, [view])] == ["corrupt"]


def test_a_sif_that_no_release_is_named_like_is_stray() -> None:
    view = StoreView("here", True, {WANTED: GOOD}, nameless=(StoredObject("notes.simg", 5),))
    assert findings(view) == [Finding("stray", "here", None, "notes.simg: 5 bytes; no release has such a name")]
