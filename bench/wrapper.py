"""Calls of a wrapper: cold against bare `apptainer exec`, warm against cold, a script against Neurodesk's wrapper.

All are called in turns by an ordinary user; root makes one for the time of the benchmark. The bare call's options are
those of the wrapper itself, seen by a runtime that only prints them. Neurodesk's wrapper is the text that its
transparent-singularity writes, over the same image. Last, 64 callers at once. The JSON line is about the script.
"""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import measure
from users import ordinary_user

COLD, WARM, FASTER, SCRIPT = 5.0, 8.0, 10.0, 8.0
COMMAND = "smallhello"
CALLERS = 64
# run_transparent_singularity.sh of neurodesk/transparent-singularity, 2026-08: with no TMPDIR set when it was made
NEURODESK = """#!/usr/bin/env bash
export PWD=`pwd -P`
xauthority_opts=()
if [ -n "$XAUTHORITY" ] && [ -f "$XAUTHORITY" ]; then
xauthority_opts=(--bind "$XAUTHORITY:$XAUTHORITY:ro" --env "XAUTHORITY=$XAUTHORITY")
fi
{runtime} --silent exec --cleanenv --env DISPLAY=$DISPLAY "${{xauthority_opts[@]}}" $neurodesk_singularity_opts --pwd "$PWD" {image} {command} "$@"
"""  # noqa: E501  (its line)


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=50)
    parser.add_argument("--calls", type=int, default=200, help="calls of the script (default: %(default)s)")
    options = parser.parse_args()
    measure.begin(f"wrapper: calls of the wrapper {COMMAND}, an image as SIF and as tree")
    last = (0.0, 0.0)
    with measure.scratch() as directory, ordinary_user(directory) as user:
        directory.chmod(0o755)
        measure.apart(deploy, directory)
        for image_format in ("sif", "tree"):
            release = directory / image_format / "containers" / "small_1.0_20260101"
            cold(image_format, release, directory, user, options.runs)
            try:
                last = warm(image_format, release, directory, user, options)
            finally:
                cool_down(release, user)
    measure.finish("wrapper", *last)


def deploy(directory: Path) -> None:
    """Build a small image and deploy it in both formats."""
    import images

    image = images.small_sif(directory / "small.sif")
    for image_format in ("sif", "tree"):
        images.Prepared(image, "small", directory / image_format, image_format).deploy()


def cold(image_format: str, release: Path, directory: Path, user: dict[str, Any], runs: int) -> None:
    """Compare cold calls with the bare runtime."""
    wrapper = release / "bin" / COMMAND
    bare, bare_user = seen(wrapper, directory, user)
    ours, theirs = measure.alternately(runs, partial(call, [str(wrapper)], user), partial(call, bare, bare_user))
    more = 1000 * statistics.median(mine - plain for mine, plain in zip(ours, theirs, strict=True))
    measure.tell(f"{image_format}: cold call", measure.spread(ours, "ms", 1000))
    measure.tell(f"{image_format}: {' '.join(bare[:4])} …", measure.spread(theirs, "ms", 1000))
    measure.tell(
        f"{image_format}: the wrapper costs (median of pairs)", f"{more:.1f} ms", f"<= {COLD:g} ms", more <= COLD
    )


def warm(image_format: str, release: Path, directory: Path, user: dict[str, Any], options: Any) -> tuple[float, float]:
    """Compare warm calls with cold ones, and scripts of many calls; return the seconds of ours and of Neurodesk's."""
    wrapper = release / "bin" / COMMAND
    warmed = {**user, "env": {**user["env"], "NEUROCOMMAND_WARM": "1"}}
    warm_up(wrapper, release, warmed)
    ours, theirs = measure.alternately(
        options.runs, partial(call, [str(wrapper)], warmed), partial(call, [str(wrapper)], user)
    )
    median, times = 1000 * statistics.median(ours), statistics.median(theirs) / statistics.median(ours)
    measure.tell(f"{image_format}: warm call", measure.spread(ours, "ms", 1000), f"<= {WARM:g} ms", median <= WARM)
    measure.tell(f"{image_format}: cold by warm", f"{times:.1f} times", f">= {FASTER:g}", times >= FASTER)

    neurodesk = directory / f"{image_format}-neurodesk"
    neurodesk.write_text(
        NEURODESK.format(
            runtime=shutil.which("singularity") or "apptainer",
            image=release / f"{release.name}.simg",
            command=COMMAND,
        )
    )
    neurodesk.chmod(0o755)
    ours_script, their_script = (
        measure.seconds_of(partial(script, path, options.calls, who))
        for path, who in ((wrapper, warmed), (neurodesk, user))
    )
    times = their_script / ours_script
    measure.tell(f"{image_format}: a script of {options.calls} calls, warm", f"{ours_script:.2f} s")
    measure.tell(f"{image_format}: the same with Neurodesk's wrapper", f"{their_script:.2f} s")
    measure.tell(f"{image_format}: Neurodesk's by ours", f"{times:.1f} times", f">= {SCRIPT:g}", times >= SCRIPT)
    for label, who in (("warm", warmed), ("cold", user)):
        results = at_once(wrapper, who, 10 * CALLERS if label == "warm" else 2 * CALLERS)
        p99 = 1000 * statistics.quantiles(results, n=100)[98]
        middle = 1000 * statistics.median(results)
        measure.tell(f"{image_format}: {label}, {CALLERS} callers at once", f"median {middle:.0f} ms, p99 {p99:.0f} ms")
    return ours_script, their_script


def call(argv: list[str], user: dict[str, Any]) -> float:
    """Run a command as the user, and return its wall seconds."""

    def run() -> None:
        done = subprocess.run(argv, capture_output=True, check=False, stdin=subprocess.DEVNULL, **user)
        if done.returncode or done.stdout != b"hello\n":
            sys.exit(f"bench: {argv[0]} ended with {done.returncode}: {(done.stdout + done.stderr).decode()}")

    return measure.seconds_of(run)


def script(path: Path, calls: int, user: dict[str, Any]) -> None:
    """Run a shell script that calls a wrapper many times."""
    text = f'n=0; while [ $n -lt {calls} ]; do "$0" || exit; n=$((n + 1)); done'
    output = subprocess.run(["sh", "-c", text, path], check=True, capture_output=True, **user).stdout
    if output != b"hello\n" * calls:
        sys.exit(f"bench: {path} said something else than hello")


def at_once(wrapper: Path, user: dict[str, Any], calls: int) -> list[float]:
    """Return the seconds of calls by many callers at once."""
    with ThreadPoolExecutor(CALLERS) as pool:
        return list(pool.map(lambda _: call([str(wrapper)], user), range(calls)))


def place_of(user: dict[str, Any]) -> Path:
    """Return where a user's holders are: these users have no XDG_RUNTIME_DIR."""
    return Path(f"/tmp/neurocommand-{user.get('user', os.getuid())}")


def warm_up(wrapper: Path, release: Path, user: dict[str, Any]) -> None:
    """Call once, and wait until the next calls are warm: until the container's first process runs."""
    call([str(wrapper)], user)
    deadline = time.monotonic() + 30
    while not list(place_of(user).glob(f"{release.name}*/state")):
        if time.monotonic() > deadline:
            sys.exit("bench: no holder was started")
        time.sleep(0.05)


def cool_down(release: Path, user: dict[str, Any]) -> None:
    """End the holders of a release, by their numbers: a container ends with its holder; then remove their states."""
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = process.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if words[:2] == ["sh", f"{release}/holder.sh"]:
            os.kill(int(process.parent.name), signal.SIGKILL)
    time.sleep(3)
    for state in place_of(user).glob(f"{release.name}-*"):
        shutil.rmtree(state, ignore_errors=True)


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
