"""Releases side by side: they overlap as far as the limits let them, and keep their own order."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from neurocommand.actions import Action, Convert, Copy, Deploy, Plan, Upload
from neurocommand.apply import Done, Failed, Skipped, apply
from neurocommand.commands import pipeline
from neurocommand.commands.session import Session
from neurocommand.errors import BugError, StoreError
from neurocommand.lock import Lock, LockFile, render
from neurocommand.model import Artifact, Release
from neurocommand.settings import LimitSettings
from neurocommand.spool import Spool
from neurocommand.workshop import Workshop

RELEASES = [Release("tool", f"{number}.0", "20260101") for number in range(6)]
ARTIFACT = Artifact("2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881", 1)  # printf x | sha256sum


@dataclass
class SlowStore:
    """A store that counts how many puts are under way, and refuses some releases."""

    name: str
    together: int = 1
    refuses: set[Release] = field(default_factory=set)
    now: int = 0
    most: int = 0
    order: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.turn = threading.Lock()
        self.meeting = threading.Barrier(self.together)

    def put(self, key: str, path: Path, artifact: Artifact, advance: Any) -> None:
        with self.turn:
            self.now += 1
            self.most = max(self.most, self.now)
            self.order.append(key)
        try:
            # waits for so many others: without work side by side this ends as a failure
            self.meeting.wait(10)
            time.sleep(0.01)
            if key.removesuffix(".simg") in {release.id for release in self.refuses}:
                raise StoreError(f"store {self.name}: refuses")
        finally:
            with self.turn:
                self.now -= 1


def workshop(tmp_path: Path, limits: LimitSettings, *stores: SlowStore) -> Workshop:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    for release in RELEASES:
        spool.sif(release).write_bytes(b"x")
    (tmp_path / "apps.lock.json").write_text(render(Lock(dict.fromkeys(RELEASES, ARTIFACT))))
    return Workshop(
        declarations={},
        lock=LockFile(tmp_path / "apps.lock.json"),
        spool=spool,
        stores=cast(Any, {store.name: store for store in stores}),
        registries=(),
        resolve=lambda reference: None,
        pull=cast(Any, None),
        compression="zstd",
        deployer=None,
        listener=lambda event: None,
        limits=limits,
    )


def uploads(*stores: str) -> Plan:
    actions: list[Action] = [Upload(release, store, "absent") for release in RELEASES for store in stores]
    return Plan(tuple(actions), ())


def test_uploads_of_different_releases_overlap_up_to_the_limit(tmp_path: Path) -> None:
    store = SlowStore("far", together=3)
    made = workshop(tmp_path, LimitSettings(conversions=1, transfers=3), store)
    outcomes = list(apply(uploads("far"), made))
    assert [type(outcome) for outcome in outcomes] == [Done] * 6
    assert store.most == 3
    assert made.spool.sizes() == {}


def test_a_limit_of_one_is_one_after_the_other(tmp_path: Path) -> None:
    store = SlowStore("far")
    list(apply(uploads("far"), workshop(tmp_path, LimitSettings(transfers=1), store)))
    assert store.most == 1


def test_the_actions_of_a_release_keep_their_order(tmp_path: Path) -> None:
    first, second = SlowStore("first"), SlowStore("second")
    outcomes = list(apply(uploads("first", "second"), workshop(tmp_path, LimitSettings(), first, second)))
    for release in RELEASES:
        assert [cast(Upload, o.action).store for o in outcomes if o.action.release == release] == ["first", "second"]


@pytest.mark.parametrize(("spare", "deploy", "fatal"), [({}, Skipped, True), ({RELEASES[0]: 1}, Failed, False)])
def test_what_fails_in_one_release_stops_no_other(
    tmp_path: Path, spare: dict[Release, int], deploy: type, fatal: bool
) -> None:
    first, second = SlowStore("first", refuses={RELEASES[0]}), SlowStore("second")
    made = workshop(tmp_path, LimitSettings(), first, second)
    actions = list(uploads("first", "second").actions)
    actions.insert(2, Copy(RELEASES[0], ("second",), "second", "absent"))
    plan = Plan((*actions[:3], Deploy(RELEASES[0], "not deployed"), *actions[3:]), (), spare=spare)
    outcomes: list[Any] = list(apply(plan, made))
    kinds = Counter(type(outcome) for outcome in outcomes if outcome.action.release != RELEASES[0])
    assert kinds == {Done: 10}
    own = [outcome for outcome in outcomes if outcome.action.release == RELEASES[0]]
    assert [type(outcome) for outcome in own] == [Failed, Done, Done, deploy]
    assert own[0].fatal == fatal
    # this workshop has no root: that the deployment is tried is what shows
    assert fatal or isinstance(own[3].error, BugError)
    assert list(made.spool.sizes()) == [RELEASES[0]]


def test_a_conversion_that_fails_skips_the_rest_of_its_release(tmp_path: Path) -> None:
    store = SlowStore("far")
    made = workshop(tmp_path, LimitSettings(), store)
    plan = Plan((Convert(RELEASES[0], "not locked"), Upload(RELEASES[0], "far", "absent")), ())
    failed, skipped = list(apply(plan, made))
    assert isinstance(failed, Failed)
    assert "no registry is configured" in failed.error.message
    assert skipped == Skipped(plan.actions[1], "convert failed")
    assert store.order == []


@dataclass
class OddStore(SlowStore):
    """A store whose library raises something of its own for some releases."""

    def put(self, key: str, path: Path, artifact: Artifact, advance: Any) -> None:
        try:
            super().put(key, path, artifact, advance)
        except StoreError:
            raise ValueError("an odd\x1b answer") from None


@pytest.mark.parametrize("at_once", [1, 3])
def test_what_nobody_foresaw_fails_one_release_and_its_traceback_is_kept(
    tmp_path: Path, at_once: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    store = OddStore("far", refuses={RELEASES[1]})
    made = workshop(tmp_path, LimitSettings(transfers=at_once), store)
    session = Session(None, verbose=False, quiet=False)
    assert pipeline.apply_and_show(session, uploads("far"), made, as_json=False) == 1
    shown = capsys.readouterr()
    assert shown.out.endswith("5 done, 1 failed, 0 skipped, 0 problems\n")
    failed, place = re.findall(r"^(tool_1\S*): upload: failed: .*\n  next: report it with (\S+)$", shown.err, re.M)[0]
    assert f"{failed}: upload: failed: a bug in neurocommand: ValueError: an odd\\x1b answer\n" in shown.err
    assert "in put\n" in Path(place).read_text()
    assert list(made.spool.sizes()) == [RELEASES[1]]


def test_a_spool_that_cannot_be_tidied_ends_nothing(tmp_path: Path) -> None:
    made = workshop(tmp_path, LimitSettings(), SlowStore("far"))

    class Stuck(Spool):
        def discard(self, releases: Iterable[Release]) -> None:
            raise OSError(5, "Input/output error")

    made.spool = Stuck(made.spool.path)
    assert [type(outcome) for outcome in apply(uploads("far"), made)] == [Done] * 6
