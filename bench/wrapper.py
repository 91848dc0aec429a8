"""A call of a wrapper against bare `apptainer exec` of the same image with the same options, for SIF and tree.

Both are called in turns by an ordinary user; root makes one for the time of the benchmark. The bare call's options are
those of the wrapper itself, seen by a runtime that only prints them. The last line is about the SIF, a host's usual
format.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import measure
from users import ordinary_user

TARGET = 5.0
COMMAND = "smallhello"


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=50)
    options = parser.parse_args()
    measure.begin(f"wrapper: a cold call of the wrapper {COMMAND}, against bare apptainer exec of the same image")
    told: dict[str, tuple[float, float]] = {}
    with measure.scratch() as directory, ordinary_user(directory) as user:
        directory.chmod(0o755)
        measure.apart(deploy, directory)
        for image_format in ("sif", "tree"):
            wrapper = directory / image_format / "containers" / "small_1.0_20260101" / "bin" / COMMAND
            bare, bare_user = seen(wrapper, directory, user)
            ours, theirs = measure.alternately(
                options.runs, partial(call, [str(wrapper)], user), partial(call, bare, bare_user)
            )
            told[image_format] = statistics.median(ours), statistics.median(theirs)
            more = 1000 * statistics.median(mine - plain for mine, plain in zip(ours, theirs, strict=True))
            alone = script_alone(wrapper, directory, user, options.runs)
            measure.tell(f"{image_format}: wrapper", measure.spread(ours, "ms", 1000))
            measure.tell(f"{image_format}: {' '.join(bare[:4])} …", measure.spread(theirs, "ms", 1000))
            measure.tell(
                f"{image_format}: the wrapper costs (median of pairs)",
                f"{more:.1f} ms",
                f"<= {TARGET:g} ms",
                more <= TARGET,
            )
            measure.tell(f"{image_format}: of that its own script, runtime left out", f"{1000 * alone:.1f} ms")
    measure.finish("wrapper", *told["sif"])


def deploy(directory: Path) -> None:
    """Build a small image and deploy it in both formats."""
    import images

    image = images.small_sif(directory / "small.sif")
    for image_format in ("sif", "tree"):
        images.Prepared(image, "small", directory / image_format, image_format).deploy()


def script_alone(wrapper: Path, directory: Path, user: dict[str, Any], runs: int) -> float:
    """Return what a wrapper costs before a runtime that does nothing: the least noisy account of its own work."""
    nothing = directory / "apptainer-that-does-nothing"
    if not nothing.exists():
        shutil.copy("/bin/true", nothing)
    options = {**user, "env": {**user["env"], "NEUROCOMMAND_RUNTIME": str(nothing)}}
    ours, theirs = measure.alternately(
        runs,
        lambda: measure.seconds_of(lambda: subprocess.run([wrapper], check=True, **options)),
        lambda: measure.seconds_of(lambda: subprocess.run([nothing], check=True, **options)),
    )
    return statistics.median(ours) - statistics.median(theirs)


def call(argv: list[str], user: dict[str, Any]) -> float:
    """Run a command as the user, and return its wall seconds."""

    def run() -> None:
        done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL, **user)
        if done.returncode or done.stdout != b"hello\n":
            sys.exit(f"bench: {argv[0]} ended with {done.returncode}: {(done.stdout + done.stderr).decode()}")

    return measure.seconds_of(run)


def seen(wrapper: Path, directory: Path, user: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the command line that a wrapper makes of a call, and the user with the variables that it adds."""
    printer = directory / "apptainer-that-prints"
    printer.write_text("#!/bin/sh\nprintf '%s\\0' \"$@\" ''\nenv -0\n")
    printer.chmod(0o755)
    options = {**user, "env": {**user["env"], "NEUROCOMMAND_RUNTIME": str(printer)}}
    output = subprocess.run([wrapper], check=True, capture_output=True, text=True, **options).stdout
    arguments, _, variables = output.partition("\0\0")
    pairs = (line.split("=", 1) for line in variables.split("\0") if line.startswith(("APPTAINER", "SINGULARITY")))
    return ["apptainer", *arguments.split("\0")], {**user, "env": {**user["env"], **dict(pairs)}}


if __name__ == "__main__":
    main()
