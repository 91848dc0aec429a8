"""`neurocommand check` of a whole manifest, against Python's own reader of the same file; both as whole processes.

The manifest is Neurodesk's published one of 2026-08 where NEUROCOMMAND_TEST_DATA names the folder of published
manifests; else one of as many releases, grown from the project's own.
"""

from __future__ import annotations

import os
import statistics
import sys
from pathlib import Path

import measure

TARGET = 0.5


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=11)
    parser.add_argument("--releases", type=int, help="grow a manifest of so many releases instead")
    options = parser.parse_args()
    with measure.scratch() as directory:
        path, what = manifest(directory, options.releases)
        measure.begin(f"check: neurocommand check of {what}, whole process")
        ours, plain = (measure.neurocommand("check", path), [sys.executable, "-c", READER, str(path)])
        once = measure.program(ours, directory)
        print(f"  {once.output.strip().splitlines()[-1]}; {once.cpu:.3f} s of processor time")
        seconds, baseline = measure.alternately(
            options.runs,
            lambda: measure.program(ours, directory).seconds,
            lambda: measure.program(plain, directory).seconds,
        )
    value = statistics.median(seconds)
    measure.tell("neurocommand check", measure.spread(seconds), f"< {TARGET} s", value < TARGET)
    measure.tell("python: json.load, which checks nothing", measure.spread(baseline))
    measure.finish("check", value, statistics.median(baseline))


READER = "import json, sys; json.load(open(sys.argv[1], encoding='utf-8'))"


def manifest(directory: Path, releases: int | None) -> tuple[Path, str]:
    """Return the manifest to check, and what it is."""
    published = os.environ.get("NEUROCOMMAND_TEST_DATA")
    if published and not releases:
        return Path(published).absolute() / "neurodesk-2026-08" / "apps.json", "Neurodesk's manifest of 2026-08"
    path, count = directory / "apps.json", releases or 384
    measure.apart(write, path, count)
    return path, f"a manifest of {count:,} releases grown from the project's own"


def write(path: Path, releases: int) -> None:
    """Write the manifest; apart, since reading it needs more memory than this process should have."""
    import worlds

    worlds.write_manifest(path, releases)


if __name__ == "__main__":
    main()
