"""A plan's releases dealt out to machines: as a matrix of GitHub Actions, or as a Slurm job array.

Formats: https://docs.github.com/en/actions/using-jobs/using-a-matrix-for-your-jobs (an ``include`` list) and
https://slurm.schedmd.com/job_array.html.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurocommand.model import Release


def in_shard(release: Release, index: int, number: int) -> bool:
    """Tell whether a release belongs to shard ``index`` (from 1) of ``number``; it depends on its id alone."""
    return int.from_bytes(hashlib.sha256(release.id.encode()).digest()[:8], "big") % number == index - 1


def deal(releases: Sequence[Release], number: int) -> tuple[tuple[Release, ...], ...]:
    """Deal releases out evenly, in turn, to at most so many shards; none is empty."""
    return tuple(tuple(releases[index::number]) for index in range(min(number, len(releases))))


def github_matrix(shards: Sequence[Sequence[Release]]) -> str:
    """Return one line of JSON: a matrix whose jobs each get ``shard`` and ``releases`` (ids with blanks between)."""
    jobs = [
        {"shard": f"{index}/{len(shards)}", "releases": " ".join(release.id for release in shard)}
        for index, shard in enumerate(shards, 1)
    ]
    return json.dumps({"include": jobs}) + "\n"


@dataclass(frozen=True)
class Commands:
    """The command lines of a job array.

    Args:
        convert: brings one release into the stores; a directory of its own and the release are appended.
        merge: unites locks, whose names are appended.
        finish: runs once after that, and deploys.
    """

    convert: Sequence[str]
    merge: Sequence[str]
    finish: Sequence[str]


def slurm(shards: Sequence[Sequence[Release]], commands: Commands, base: Path) -> str:
    """Return a batch script for ``sbatch``: a job array with one task for each shard, and ``merge``, which ends it.

    A release has a directory of its own, whichever task it is dealt to, so that a new plan's array, too, goes on with
    what an earlier one has left there. What a task has locked is merged only once a store has it.

    Args:
        shards: the releases of each task.
        commands: what the script runs.
        base: holds the directories, where NEUROCOMMAND_SHARDS names no other place.
    """
    every = [release for shard in shards for release in shard]
    cases = "\n".join(
        f"{name}) releases=({' '.join(release.id for release in releases)}) ;;"
        for name, releases in [*enumerate(shards, 1), *([("merge", every)] if every else [])]
    )
    return f"""#!/bin/bash
#SBATCH --job-name=neurocommand
#SBATCH --array=1-{max(1, len(shards))}
#SBATCH --output=neurocommand-%A_%a.log
# A task converts and uploads; run again, it goes on where it stopped. Once all have succeeded: bash THIS_FILE merge
set -euo pipefail
shards={shlex.quote(str(base))}
shards=${{NEUROCOMMAND_SHARDS:-$shards}}
task=${{1:-${{SLURM_ARRAY_TASK_ID:-none}}}}
case $task in
{cases or '1|merge) echo "nothing to convert"; exit 0 ;;'}
*) echo "$task is no task of this array: sbatch starts it, and the argument merge ends it" >&2; exit 2 ;;
esac
{_STEPS.format(**{name: shlex.join(words) for name, words in vars(commands).items()}) if every else ""}"""


_STEPS = """failed=0
if [ "$task" = merge ]; then
  locks=()
  for release in "${{releases[@]}}"; do
    if [ ! -e "$shards/$release/uploaded" ]; then
      echo "$release: not uploaded yet: run its task again, then merge" >&2
      failed=1
    elif [ -e "$shards/$release/apps.lock.json" ]; then
      locks+=("$shards/$release/apps.lock.json")
    fi
  done
  [ "$failed" = 0 ] || exit 1
  [ "${{#locks[@]}}" = 0 ] || {merge} "${{locks[@]}}"
  exec {finish}
fi
for release in "${{releases[@]}}"; do
  if {convert} "$shards/$release" "$release"; then
    mkdir -p "$shards/$release"
    touch "$shards/$release/uploaded"
  else
    failed=$?
    [ "$failed" != 130 ] || break
  fi
done
exit "$failed"
"""
