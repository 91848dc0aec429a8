"""Releases that are withdrawn, deprecated, defaults and members of sets, from the manifest to a shell with Lmod."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.modulesystems import lmod_init, run_with_modules, tcl_init
from tests.users import User
from tests.world import World, listing

SMALL, NEWER = "small 1.0", "small 1.1"


def told(world: World, **extra: Any) -> None:
    """Write what people say of small into the manifest."""
    path = world.path / "apps.json"
    groups = json.loads(path.read_text())
    groups["small"]["x-neurocommand"] = {**groups["small"].get("x-neurocommand", {}), **extra}
    path.write_text(json.dumps(groups, indent=4))


def retire(world: World, **notice: str) -> None:
    world.declare(NEWER)
    told(world, retired={world.release(SMALL).id: {"reason": "wrong results", **notice}})


def actions(world: World, *words: str) -> list[tuple[str, str, str]]:
    done = world.outcomes(*words)
    assert done["code"] == 0, done
    return [(o["action"], o["release"], o["reason"]) for o in done.get("outcomes", [])]


@pytest.fixture
def both(world: World) -> World:
    world.declare(SMALL, NEWER)
    assert world.run("sync").code == 0
    return world


def default_of(world: World) -> set[str]:
    """Return what both module systems load for ``small``."""
    found = set()
    for init, tree in ((lmod_init("bash"), "modules"), (tcl_init("bash"), "modules-tcl")):
        user = User("whoever runs the tests", world.path, root=False)
        done = run_with_modules(init, world.root / tree, "module load small; command -v smallhello", user)
        found.add(done.stdout.split("_")[-2])
    return found


def test_a_withdrawn_release_leaves_a_tombstone(both: World) -> None:
    retire(both)
    assert actions(both, "sync") == [("retire", "small_1.0_20260101", "wrong results")]
    record = json.loads((both.deployed(SMALL) / "record.json").read_text())
    day = record["withdrawn"]["since"]
    assert len(day) == 10
    command = both.deployed(SMALL) / "bin/smallhello"
    done = subprocess.run([command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"smallhello: small_1.0_20260101 is withdrawn since {day}: wrong results\n"
    assert both.run("run", "small/1.0", "smallhello").code == 69
    assert both.run("run", "small", "smallhello").out == "hello\n"
    assert "withdrawn" in both.run("show", "small_1.0_20260101").out
    assert "small_1.0_20260101: locked; root: withdrawn\n" in both.run("status").out
    assert both.run("sync").out == "nothing to do\n"
    assert default_of(both) == {"1.1"}


def test_a_tombstone_is_renewed_with_its_notice_and_removed_when_it_is_live_again(both: World) -> None:
    before = listing(both.deployed(SMALL))
    retire(both, since="2026-01-31")
    assert len(actions(both, "sync")) == 1
    retire(both, since="2026-01-31", successor="small_1.1_20260101")
    assert actions(both, "sync") == [("retire", "small_1.0_20260101", "its notice changed")]
    text = (both.deployed(SMALL) / "wrapper.sh").read_text()
    assert "since 2026-01-31: wrong results; use small/1.1 instead" in text
    assert "small_1.0_20260101: half" not in both.run("status").out
    both.declare(SMALL, NEWER)
    assert actions(both, "publish") == [("deploy", "small_1.0_20260101", "withdrawn, but the manifest has it again")]
    after = listing(both.deployed(SMALL))
    assert {name: what for name, what in after.items() if name != "record.json"} == {
        name: what for name, what in before.items() if name != "record.json"
    }


def test_tombstones_count_neither_as_deployed_nor_as_withdrawn(both: World) -> None:
    retire(both)
    assert both.run("sync").code == 0
    both.declare()
    (both.path / "apps.json").write_text(json.dumps({"small": {"apps": {}, "categories": ["body"]}}))
    releases = [both.release(SMALL).id, both.release(NEWER).id]
    told(both, retired={name: {"reason": "all of it"} for name in releases})
    done = both.outcomes("sync")
    assert [(o["action"], o["reason"]) for o in done["outcomes"]] == [
        ("retire", "its notice changed"),
        ("retire", "all of it"),
    ]


def test_a_policy_that_changed_rewraps_one_release(both: World) -> None:
    assert default_of(both) == {"1.1"}
    told(both, default="1.0")
    reason = "its application's default version is not what it should be"
    assert actions(both, "sync") == [("rewrap", "small_1.0_20260101", reason)]
    assert default_of(both) == {"1.0"}
    assert both.run("sync").out == "nothing to do\n"
    assert "small_1.0_20260101: no command 'nothing'" in both.run("run", "small", "nothing").err
    (both.root / "modules/small/.modulerc.lua").unlink()
    assert actions(both, "sync") == [("rewrap", "small_1.0_20260101", reason)]
    told(both, deprecated={"small_1.0_20260101": {"reason": "old"}}, default="highest")
    assert {action for action, *_ in actions(both, "sync")} == {"rewrap"}
    assert default_of(both) == {"1.1"}


def test_sets_and_the_cache_belong_to_every_run(both: World) -> None:
    cache = both.root / "lmod/cache/spiderT.lua"
    built = cache.stat().st_mtime_ns
    both.configure(more="sets: {pair: [small, small/1.0], lone: [other]}\n")
    refused = both.run("sync")
    assert refused.code == 2
    assert "sets.lone: other: no such release" in refused.err
    both.declare(SMALL, NEWER, "other 2.0")
    done = both.run("publish", "small")
    assert done.code == 0, done.err
    assert f"set/lone: other_2.0_20260101 cannot be loaded under {both.root}" in done.err
    assert 'load("small/1.1", "small/1.0")' in (both.root / "modules/set/pair.lua").read_text()
    assert cache.stat().st_mtime_ns > built
    assert "set/pair" in cache.read_text()
    both.configure()
    assert both.run("publish", "small").out == "nothing to do\n"
    assert not (both.root / "modules/set").exists()
    assert "set/pair" not in cache.read_text()
    built = cache.stat().st_mtime_ns
    assert both.run("publish", "small").out == "nothing to do\n"
    assert cache.stat().st_mtime_ns == built


def test_an_application_called_set_is_refused_with_sets(world: World) -> None:
    world.declare(SMALL, "set 1.0")
    world.configure(more="sets: {one: [small]}\n")
    done = world.run("install", "small")
    assert done.code == 2
    assert "apps.json:" in done.err
    assert "an application called set" in done.err


def test_a_removal_takes_a_tombstone_too(both: World, tmp_path: Path) -> None:
    both.config.write_text(
        both.config.read_text().replace("publish: {root: root}\n", "").replace("prefix: prefix", "prefix: root")
    )
    retire(both)
    moved = both.config.read_text()
    both.config.write_text(moved.replace("install: {prefix: root}", "publish: {root: root}"))
    assert both.run("publish").code == 0
    both.config.write_text(moved)
    done = both.run("remove", "small/1.0")
    assert done.code == 0, done.err
    assert not both.deployed(SMALL).exists()
    assert not (both.root / "modules/small/1.0.lua").exists()
    assert default_of(both) == {"1.1"}
