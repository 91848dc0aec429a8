"""sync --watch: round after round, whatever becomes of one; ended by a signal alone."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from neurocommand.commands.watching import next_round
from tests.e2e.test_interrupt import connected, silent, start, stop, wait_for
from tests.e2e.test_runlog import lines
from tests.world import World

__all__ = ["silent"]


def codes(world: World) -> list[int]:
    path = world.path / "state/runs.jsonl"
    return [line["exit_code"] for line in lines(world) if line["event"] == "end"] if path.exists() else []


def terminated(process: subprocess.Popen[str]) -> tuple[str, str]:
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Traceback" not in err
    assert err.endswith("terminated between two rounds: nothing was under way\n")
    return out, err


def rounds(world: World, more: int) -> list[int]:
    """Wait for some more rounds, and return their exit codes."""
    before = len(codes(world))
    wait_for(lambda: len(codes(world)) >= before + more)
    return codes(world)[before : before + more]


def test_a_quiet_round_is_one_line_and_rounds_read_everything_anew(synced: World) -> None:
    process = start(synced, "sync", "--watch", "--every", "2s")
    assert rounds(synced, 2) == [0, 0]
    synced.declare("small 1.0", "other 2.0")
    wait_for(lambda: synced.deployed("other 2.0").is_dir())
    rounds(synced, 1)
    time.sleep(0.5)
    out, err = terminated(process)
    said = out.splitlines()
    assert said[:2] == ["nothing to do"] * 2
    assert set(said) == {"nothing to do", "3 done, 0 failed, 0 skipped, 0 problems"}
    assert err.count("plan: ") == 1
    assert "other_2.0_20260101: deploy: " in err


def test_no_failure_ends_it(synced: World) -> None:
    process = start(synced, "sync", "--watch", "--every", "2s")
    assert rounds(synced, 1) == [0]
    good = synced.config.read_text()
    synced.config.write_text("nonsense: [")
    time.sleep(3)
    synced.config.write_text(good)
    (synced.path / "apps.json").write_text("{")
    assert 1 in rounds(synced, 2)
    synced.declare("small 1.0")
    # what nobody foresaw: the process begins anew, since it holds the run lock
    (synced.path / "state/unlisted.json").unlink()
    (synced.path / "state/unlisted.json").mkdir()
    assert rounds(synced, 4)[-2:] == [1, 1]
    (synced.path / "state/unlisted.json").rmdir()
    assert rounds(synced, 3)[-1] == 0
    assert 75 not in codes(synced)
    assert {int(line["run"].rpartition("-")[2]) for line in lines(synced)[-8:]} == {process.pid}
    time.sleep(0.5)
    _, err = terminated(process)
    assert "neurocommand.yaml" in err
    assert "apps.json:1" in err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_within_a_round_interrupts_it(world: World, silent: str, number: signal.Signals) -> None:
    world.configure(f"[{{name: far, kind: http, url: '{silent}'}}]")
    process = start(world, "sync", "--watch")
    wait_for(lambda: connected(process, silent))
    stop(process, number)
    assert codes(world) == [130]


def test_ctrl_c_between_rounds_is_an_interruption(synced: World) -> None:
    process = start(synced, "sync", "--watch", "--every", "1h")
    rounds(synced, 1)
    time.sleep(0.5)
    stop(process, signal.SIGINT)
    assert codes(synced)[-1] == 0


def test_it_does_not_grow(synced: World) -> None:
    process = start(synced, "sync", "--watch", "--every", "1s")

    def resident() -> int:
        return int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])

    rounds(synced, 3)
    before = resident()
    rounds(synced, 8)
    assert resident() < before * 1.05
    time.sleep(0.3)
    process.terminate()
    process.communicate()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--watch", "--dry-run"), "--watch excludes --dry-run"),
        (("--watch", "--json"), "--watch excludes"),
        (("--watch", "--force"), "--watch excludes"),
        (("--every", "5m"), "--every goes with --watch only"),
        (("--watch", "--every", "5"), "'5' is no duration"),
    ],
)
def test_what_goes_with_it(world: World, words: tuple[str, ...], said: str) -> None:
    done = world.run("sync", *words)
    assert done.code == 2
    assert said in done.err


def test_rounds_keep_to_their_beat() -> None:
    now, beats = 1000.0, []
    for took in (0.1, 59.9, 60.0, 61.0, 200.0, 0.0):
        now = next_round(1000.0, 60, now + took)
        beats.append(now - 1000)
    assert beats == [60, 120, 240, 360, 600, 660]
