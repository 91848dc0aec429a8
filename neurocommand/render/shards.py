"""A plan's releases dealt out to machines: as a matrix of GitHub Actions, or as a Slurm job array.

Formats: https://docs.github.com/en/actions/using-jobs/using-a-matrix-for-your-jobs (an ``include`` list) and
https://slurm.schedmd.com/job_array.html.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Sequence

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


def slurm(shards: Sequence[Sequence[Release]], command: Sequence[str]) -> str:
    """Return a batch script for ``sbatch``: a job array with one task for each shard.

    The tasks share stores and lock; each has a state directory of its own, which NEUROCOMMAND_STATE names.

    Args:
        shards: the releases of each task.
        command: the command line that a task runs on its releases.
    """
    cases = "\n".join(
        f"{index}) releases=({' '.join(release.id for release in shard)}) ;;" for index, shard in enumerate(shards, 1)
    )
    return f"""#!/bin/bash
#SBATCH --job-name=neurocommand
#SBATCH --array=1-{max(1, len(shards))}
#SBATCH --output=neurocommand-%A_%a.log
set -euo pipefail
case $SLURM_ARRAY_TASK_ID in
{cases or '*) echo "nothing to convert"; exit 0 ;;'}
esac
NEUROCOMMAND_STATE=$(mktemp -d "${{TMPDIR:-/tmp}}/neurocommand.XXXXXX")
export NEUROCOMMAND_STATE
trap 'rm -rf "$NEUROCOMMAND_STATE"' EXIT
{shlex.join(command)} "${{releases[@]}}"
"""
