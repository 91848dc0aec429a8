"""What runs leave in the state directory, whatever becomes of them."""

from __future__ import annotations

import json
import os
import signal
from typing import Any

import pytest

from neurocommand.runlock import RunLock
from tests.e2e.test_interrupt import connected, silent, start, stop, wait_for
from tests.world import World, listing

__all__ = ["silent"]

SMALL = "small 1.0"


def lines(world: World) -> list[dict[str, Any]]:
    text = (world.path / "state/runs.jsonl").read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def status(world: World) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((world.path / "state/status.json").read_text())
    assert found["version"] == 1
    return found


def test_runs_that_work_and_runs_that_fail(world: World) -> None:
    world.declare(SMALL, "missing 3.0")
    assert world.run("sync").code == 1
    begin, *outcomes, end = lines(world)
    assert (begin["event"], begin["verb"], begin["asked"]) == ("begin", "sync", [])
    found = {(o["release"].split("_")[0], o["stage"]): o for o in outcomes}
    assert {o["event"] for o in outcomes} == {"outcome"}
    assert {name: o["outcome"] for name, o in found.items()} == {
        ("small", "convert"): "done",
        ("small", "upload"): "done",
        ("small", "deploy"): "done",
        ("missing", "convert"): "failed",
        ("missing", "upload"): "skipped",
        ("missing", "deploy"): "skipped",
    }
    size = world.object(SMALL).stat().st_size
    assert [found["small", stage]["bytes"] for stage in ("convert", "upload", "deploy")] == [size] * 3
    assert found["small", "convert"]["seconds"] > 0
    assert found["small", "upload"]["store"] == "local"
    assert "no registry has its image" in found["missing", "convert"]["detail"]
    assert (end["exit_code"], end["done"], end["failed"], end["skipped"], end["bytes"]) == (1, 3, 1, 2, 3 * size)
    assert {line["run"] for line in (begin, *outcomes, end)} == {begin["run"]}
    said = status(world)
    assert (said["running"], said["succeeded"], said["killed"]) == (None, None, None)
    assert [failure["stage"] for failure in said["last"]["failures"]] == ["convert", "upload", "deploy"]
    assert said["manifest"]["releases"] == {"current": 1, "behind": 0, "failed": 1, "problem": 0}
    # of a single release; what was found of the manifest still counts
    assert world.run("mirror", "small").code == 0
    again = status(world)
    assert (again["last"]["verb"], again["last"]["asked"], again["last"]["exit_code"]) == ("mirror", ["small"], 0)
    assert again["succeeded"]["run"] == again["last"]["run"] > said["last"]["run"]
    assert again["manifest"] == said["manifest"]


def test_a_dry_run_leaves_nothing(world: World) -> None:
    (world.path / "state").mkdir()
    before = listing(world.path)
    assert world.run("sync", "--dry-run").code == 0
    assert world.run("plan").code == 0
    assert listing(world.path) == before


def test_a_run_that_cannot_begin_says_why(world: World) -> None:
    (world.path / "apps.json").write_text("{")
    assert world.run("sync").code == 1
    assert not (world.path / "state").exists()
    (world.path / "state").mkdir()
    assert world.run("sync").code == 1
    assert status(world)["last"]["exit_code"] == 1
    assert "apps.json:1" in lines(world)[-1]["error"]
    world.declare(SMALL)
    before = status(world)
    with RunLock(world.path / "state/lock"):
        assert world.run("sync").code == 75
    assert (lines(world)[-1]["exit_code"], lines(world)[-1]["result"]) == (75, "busy")
    assert {**status(world), "updated": ""} == {**before, "updated": ""}


def test_an_interrupted_run_says_so_and_a_killed_one_is_found(world: World, silent: str) -> None:
    world.configure(f"[{{name: far, kind: http, url: '{silent}'}}]")
    process = start(world, "sync")
    wait_for(lambda: connected(process, silent))
    assert status(world)["running"]["run"] == lines(world)[0]["run"]
    stop(process, signal.SIGTERM)
    assert [line["event"] for line in lines(world)] == ["begin", "end"]
    assert (lines(world)[-1]["exit_code"], lines(world)[-1]["result"]) == (130, "interrupted")
    assert (status(world)["running"], status(world)["last"]["result"]) == (None, "interrupted")
    process = start(world, "sync")
    wait_for(lambda: status(world)["running"])
    process.kill()
    process.communicate()
    killed = lines(world)[-1]
    assert killed["event"] == "begin"
    assert status(world)["running"]["run"] == killed["run"]
    world.configure()
    assert world.run("sync").code == 0
    assert (status(world)["running"], status(world)["killed"]["run"]) == (None, killed["run"])


def test_apart_from_others_a_run_keeps_its_own(world: World) -> None:
    assert world.run("sync", "--apart", "shard", "small").code == 0
    assert not (world.path / "state").exists()
    assert json.loads((world.path / "shard/status.json").read_text())["last"]["done"] == 2
    assert (world.path / "shard/runs.jsonl").is_file()


def test_what_is_damaged_or_torn_breaks_nothing(synced: World) -> None:
    state = synced.path / "state"
    before = len(lines(synced))
    with open(state / "runs.jsonl", "a") as log:
        log.write('{"event":"outc')
    (state / "status.json").write_bytes(b'\xff{"version": 1, "last": ')
    assert synced.run("sync").code == 0
    text = (state / "runs.jsonl").read_text().splitlines()
    assert text[before] == '{"event":"outc'
    assert [json.loads(line)["event"] for line in text[before + 1 :]] == ["begin", "end"]
    assert status(synced)["last"]["exit_code"] == 0
    # moved away between two lines, as logrotate does
    os.rename(state / "runs.jsonl", state / "runs.jsonl.1")
    assert synced.run("sync").code == 0
    assert len(lines(synced)) == 2


@pytest.mark.parametrize("place", ["directory", "full disk", "fifo"])
def test_what_cannot_be_written_is_said_once_and_fails_nothing(synced: World, place: str) -> None:
    for name in ("runs.jsonl", "status.json"):
        path = synced.path / "state" / name
        path.unlink()
        match place:
            case "directory":
                path.mkdir()
            case "full disk":
                path.symlink_to("/dev/full")
            case _:
                os.mkfifo(path)
    done = synced.run("sync")
    assert (done.code, done.out) == (0, "nothing to do\n")
    warnings = [line for line in done.err.splitlines() if "the run goes on" in line]
    assert len(warnings) == {"directory": 2, "full disk": 1, "fifo": 0}[place]
    assert all("runs.jsonl" in line for line in warnings[:1])
