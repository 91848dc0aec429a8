"""What the benchmarks share: whole programs timed, figures told to people, and one JSON object as the last line."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
REMEDY = f"run ./test once, then: .venv/bin/python bench/{Path(sys.argv[0]).name}"
if importlib.util.find_spec("neurocommand") is None:
    sys.exit(f"bench: {sys.executable} does not know neurocommand: {REMEDY}")

MB = 1_000_000
# where setup/ puts what is not on PATH, as setup/common.sh does it
os.environ["PATH"] = os.pathsep.join((os.environ["PATH"], f"{CHECKOUT}/.tools/apptainer/bin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Measured:
    """One run of a program: wall and processor seconds, peak resident memory in bytes, and its standard output."""

    seconds: float
    cpu: float
    peak: int
    output: str


def parser(about: str | None, runs: int) -> argparse.ArgumentParser:
    """Return the options that every benchmark has."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--runs", type=int, default=runs, help="how often to measure (default: %(default)s)")
    return made


def neurocommand(*arguments: str | Path) -> list[str]:
    """Return the command line as users call it: the script beside this Python."""
    script = Path(sysconfig.get_path("scripts"), "neurocommand")
    if not script.exists():
        sys.exit(f"bench: {script} is missing: {REMEDY}")
    return [str(script), *map(str, arguments)]


def environment(home: Path) -> dict[str, str]:
    """Return an environment in which no configuration, proxy or cache of the caller counts."""
    mine = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NEUROCOMMAND_", "XDG_", "APPTAINER", "SINGULARITY"))
        and not name.lower().endswith("_proxy")
    }
    return {**mine, "HOME": str(home)}


def program(argv: Sequence[str | Path], home: Path, codes: Sequence[int] = (0,)) -> Measured:
    """Run a program to its end in a directory that is its home, too; any exit code but ``codes`` ends the benchmark.

    Its peak memory is never less than that of this process: Linux counts what a child had before its exec.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        start = time.perf_counter()
        running = subprocess.Popen([*map(str, argv)], stdout=output, stderr=errors, cwd=home, env=environment(home))
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - start
        running.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        said, complained = (stream.read().decode(errors="replace") for stream in (output, errors))
    if running.returncode not in codes:
        sys.exit(f"bench: {argv[0]} ended with {running.returncode}:\n{said[-1000:]}\n{complained[-1000:]}")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, said)


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own, so that its memory is its own, too; what it returns passes as JSON."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as answer:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = 1
            try:
                json.dump(function(*arguments), answer)
                answer.flush()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        if os.waitpid(child, 0)[1]:
            sys.exit("bench: no measurement")
        answer.seek(0)
        return json.load(answer)


def seconds_of(function: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def alternately(runs: int, *measures: Callable[[], float]) -> list[list[float]]:
    """Measure in turns, so that what else the machine does hits all alike; one list of results per measure."""
    return [list(results) for results in zip(*([measure() for measure in measures] for _ in range(runs)), strict=True)]


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """Give a directory that is removed at the end, also when the benchmark is interrupted or terminated."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    with tempfile.TemporaryDirectory(prefix="neurocommand-bench-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def spread(results: Sequence[float], unit: str = "s", scale: float = 1.0) -> str:
    """Return the median of some results, and how far they lie apart."""
    low, middle, high = (scale * number for number in (min(results), statistics.median(results), max(results)))
    return f"{middle:.3f} {unit}  (median of {len(results)}: {low:.3f} to {high:.3f})"


def begin(title: str) -> None:
    """Print what is measured, and whether the machine has other work."""
    print(title)
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors / 2:
        print(f"  this machine is busy (load {load:.1f}, {processors} processors): the figures are upper bounds")


def tell(label: str, text: str, target: str = "", met: bool = True) -> None:
    """Print one figure for people, and whether its target is met."""
    verdict = f"  [target {target}: {'met' if met else 'MISSED'}]" if target else ""
    print(f"  {label:<42} {text}{verdict}", flush=True)


def finish(name: str, value: float, baseline: float | None = None, unit: str = "s") -> None:
    """Print the ratio for people, and as the last line the result for machines."""
    speedup = None if baseline is None else round(baseline / value, 3)
    if speedup is not None:
        tell("baseline divided by ours", f"{speedup:.3f}")
    rounded = None if baseline is None else round(baseline, 6)
    print(json.dumps({"name": name, "value": round(value, 6), "unit": unit, "baseline": rounded, "speedup": speedup}))
