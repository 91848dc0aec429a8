"""What Lmod takes for a root of many modules, with the cache that neurocommand has it build and without it.

The releases are the project's own groups again and again, each with 100 commands. First all wrappers, modulefiles and
records are written, and written again, as a rewrap of everything does but for looking into the images. Then Lmod itself
is called as the shell function `module` calls it, in turns with the cache and with LMOD_IGNORE_CACHE, and counted: the
lines of `module avail`. The last line is about `ml avail`, with the cache and without.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import measure

LMOD = Path("/usr/share/lmod/lmod/libexec")
WRITING = 20.0
LINES = 500


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=5)
    parser.add_argument("--releases", type=int, default=384, help="(default: %(default)s)")
    parser.add_argument("--commands", type=int, default=100, help="of each release (default: %(default)s)")
    options = parser.parse_args()
    if not (LMOD / "lmod").exists():
        sys.exit(f"bench: Lmod is missing: {measure.REMEDY}")
    measure.begin(f"modules: {options.releases:,} releases of {options.commands:,} commands")
    with measure.scratch() as directory:
        root = directory / "root"
        seconds, built, module = measure.apart(write, root, options.releases, options.commands)
        written = f"{seconds:.1f} s for {options.releases * options.commands:,} wrappers"
        measure.tell("all wrappers and modulefiles again", written, f"<= {WRITING:g} s", seconds <= WRITING)
        measure.tell("Lmod's cache of them, built once a run", f"{built:.1f} s")
        listed = ["env", *told_to_lmod(root), "bash", "-c", f". {LMOD.parent}/init/bash; module avail 2>&1"]
        lines = measure.program(listed, directory).output.count("\n")
        measure.tell("module avail", f"{lines} lines", f"< {LINES}", lines < LINES)
        told = {}
        for words in (["avail"], ["spider", module.partition("/")[0]], ["load", module]):
            told[words[0]] = compared(root, words, directory, options.runs)
    measure.finish("modules", *told["avail"])


def write(root: Path, releases: int, commands: int) -> tuple[float, float, str]:
    """Write everything twice, and build the cache.

    Returns:
        The seconds of the second time, those of the cache, and the name of some module.
    """
    import worlds

    from neurocommand import lmodcache

    wanted = worlds.write_manifest(root.with_name("apps.json"), releases).declarations
    place = worlds.Root(root)
    worlds.wrap_root(place, wanted, commands)
    seconds = measure.seconds_of(lambda: worlds.wrap_root(place, wanted, commands))
    notes: list[str] = []
    built = measure.seconds_of(lambda: notes.append(lmodcache.build(place, (LMOD,), None)))
    if any(notes):
        sys.exit(f"bench: {notes[0]}")
    release = wanted[len(wanted) // 2].release
    return seconds, built, f"{release.application}/{release.version}"


def told_to_lmod(root: Path, *, cached: bool = True) -> list[str]:
    """Return the variables that Lmod goes by."""
    cache = f"LMOD_RC={root}/lmod/lmodrc.lua" if cached else "LMOD_IGNORE_CACHE=yes"
    return [f"MODULEPATH={root}/modules", "LMOD_PAGER=none", cache]


def compared(root: Path, words: Sequence[str], home: Path, runs: int) -> tuple[float, float]:
    """Measure a call of Lmod with its cache and without, tell it, and return both medians."""

    def call(cached: bool) -> float:
        # what the shell function `module` runs
        return measure.program(["env", *told_to_lmod(root, cached=cached), LMOD / "lmod", "bash", *words], home).seconds

    ours, bare = measure.alternately(runs, partial(call, True), partial(call, False))
    name = f"ml {' '.join(word for word in words if word != 'load')}"
    measure.tell(f"{name}, with the cache", measure.spread(ours))
    measure.tell(f"{name}, without it", measure.spread(bare))
    return statistics.median(ours), statistics.median(bare)


if __name__ == "__main__":
    main()
