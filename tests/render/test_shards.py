"""Shards: every release in exactly one, whatever the number; and what others read of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand.model import Release
from neurocommand.render import shards

RELEASES = [Release("tool", f"{number}.0", "20260101") for number in range(40)]
some = st.lists(st.sampled_from(RELEASES), unique=True)


@given(some, st.integers(1, 50))
def test_every_release_is_dealt_once_and_evenly(releases: list[Release], number: int) -> None:
    dealt = shards.deal(releases, number)
    assert sorted(release for shard in dealt for release in shard) == sorted(releases)
    sizes = [len(shard) for shard in dealt]
    assert all(sizes)
    assert max(sizes, default=0) - min(sizes, default=0) <= 1
    assert len(dealt) == min(number, len(releases))


@given(st.sampled_from(RELEASES), st.integers(1, 50))
def test_a_release_is_in_one_shard_of_any_number(release: Release, number: int) -> None:
    assert sum(shards.in_shard(release, index, number) for index in range(1, number + 1)) == 1


def test_a_shard_never_moves() -> None:
    # printf %s tool_0.0_20260101 | sha256sum begins with d45d22fd2ad49a85
    digest = subprocess.run(["sha256sum"], input=b"tool_0.0_20260101", capture_output=True, check=True).stdout
    index = int(digest[:16], 16) % 7 + 1
    assert [shards.in_shard(RELEASES[0], shard, 7) for shard in range(1, 8)].index(True) + 1 == index


def test_a_matrix_is_one_line_of_json_that_names_every_job() -> None:
    text = shards.github_matrix(shards.deal(RELEASES[:3], 2))
    assert text.count("\n") == 1
    assert json.loads(text) == {
        "include": [
            {"shard": "1/2", "releases": "tool_0.0_20260101 tool_2.0_20260101"},
            {"shard": "2/2", "releases": "tool_1.0_20260101"},
        ]
    }


def run(script: str, task: str, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-s", *words],
        input=script,
        env={**os.environ, "SLURM_ARRAY_TASK_ID": task, "NEUROCOMMAND_SHARDS": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )


def told(code: int = 0) -> list[str]:
    """Return a program that prints its arguments one per line, and ends with a code where the second release is one."""
    program = f"import sys; print(*sys.argv[1:], sep='\\n'); sys.exit({code} if '{RELEASES[2]}' in sys.argv else 0)"
    return [sys.executable, "-c", program]


def script_of(code: int = 0) -> str:
    commands = shards.Commands([*told(code), "a b", "$(id)"], [*told(), "merge"], [*told(), "sync"])
    return shards.slurm(shards.deal(RELEASES[:3], 2), commands, Path("/nowhere/it's"))


def test_each_task_of_the_array_runs_the_command_on_its_releases_in_directories_of_their_own(tmp_path: Path) -> None:
    script = script_of()
    assert "#SBATCH --array=1-2\n" in script
    words = {name: ["a b", "$(id)", f"{tmp_path}/{name}", name] for name in map(str, RELEASES[:3])}
    first = run(script, "1", tmp_path)
    assert first.stdout.splitlines() == [*words["tool_0.0_20260101"], *words["tool_2.0_20260101"]]
    assert run(script, "2", tmp_path).stdout.splitlines() == words["tool_1.0_20260101"]
    assert "shards='/nowhere/it'\"'\"'s'\n" in script


@pytest.mark.parametrize(("code", "ran"), [(1, 2), (75, 2), (130, 1)])
def test_what_fails_keeps_the_others_going_and_is_not_merged(tmp_path: Path, code: int, ran: int) -> None:
    script = script_of(code).replace(
        f"releases=({RELEASES[0]} {RELEASES[2]})", f"releases=({RELEASES[2]} {RELEASES[0]})"
    )
    done = run(script, "1", tmp_path)
    assert (done.returncode, done.stdout.count("a b\n")) == (code, ran)
    refused = run(script, "", tmp_path, "merge")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert f"{RELEASES[2]}: not uploaded yet" in refused.stderr


def test_what_was_uploaded_is_merged_and_then_deployed(tmp_path: Path) -> None:
    script = script_of()
    for task in ("1", "2"):
        assert run(script, task, tmp_path).returncode == 0
    assert run(script, "", tmp_path, "merge").stdout.splitlines() == ["sync"]
    lock = tmp_path / RELEASES[0].id / "apps.lock.json"
    lock.write_text("")
    assert run(script, "1", tmp_path, "merge").stdout.splitlines() == ["merge", str(lock), "sync"]


@pytest.mark.parametrize("words", [(), ("3",), ("x",)])
def test_what_is_no_task_of_the_array_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    assert run(script_of(), "", tmp_path, *words).returncode == 2


def test_an_empty_plan_is_a_script_that_does_nothing(tmp_path: Path) -> None:
    script = shards.slurm((), shards.Commands(["false"], ["false"], ["false"]), tmp_path)
    for words in ((), ("merge",)):
        done = run(script, "1", tmp_path, *words)
        assert (done.returncode, done.stdout) == (0, "nothing to convert\n")


@pytest.mark.parametrize("number", [0, 1, 3])
def test_shellcheck_finds_nothing(tmp_path: Path, number: int) -> None:
    commands = shards.Commands(["neurocommand", "sync"], ["neurocommand", "lock"], ["neurocommand", "sync"])
    script = shards.slurm(shards.deal(RELEASES[:number], 2), commands, tmp_path)
    subprocess.run(["shellcheck", "-s", "bash", "-"], input=script, text=True, check=True)
