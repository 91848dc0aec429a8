"""Shards: every release in exactly one, whatever the number; and what others read of them."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

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


def run(script: str, task: int) -> list[str]:
    done = subprocess.run(
        ["bash"],
        input=script,
        env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_each_task_of_the_array_runs_the_command_on_its_releases() -> None:
    command = [sys.executable, "-c", "import sys; print(*sys.argv[1:], sep='\\n')", "a b", "$(id)"]
    script = shards.slurm(shards.deal(RELEASES[:3], 2), command)
    assert "#SBATCH --array=1-2\n" in script
    assert run(script, 1) == ["a b", "$(id)", "tool_0.0_20260101", "tool_2.0_20260101"]
    assert run(script, 2) == ["a b", "$(id)", "tool_1.0_20260101"]
    assert shlex.join(command) in script


def test_an_empty_plan_is_a_script_that_does_nothing() -> None:
    assert run(shards.slurm((), ["false"]), 1) == ["nothing to convert"]
