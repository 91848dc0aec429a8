"""A first publication of 1,000 releases of 20,000 files each, planned without a repository.

That is the plan, and where nested catalogs begin in every tree, from the entries of its directories. The trees are made
as real ones are: 2,000 directories, most with a few files, some with thousands.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path

import measure

TARGET, ENOUGH = 30.0, 500 * measure.MB
DIRECTORIES, FILES = 2_000, 20_000


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=1)
    parser.add_argument("--releases", type=int, default=1_000, help="(default: %(default)s)")
    options = parser.parse_args()
    measure.begin(f"catalogs: {options.releases:,} releases of {FILES:,} files in {DIRECTORIES:,} directories")
    runs = [measure.apart(planned, options.releases) for _ in range(options.runs)]
    value, most = max(run["seconds"] for run in runs), max(run["peak"] for run in runs)
    first = runs[0]
    print(f"  {first['actions']:,} actions; {first['entries']:,} entries in {first['catalogs']:,} catalogs")
    measure.tell("plan and layout", f"{value:.1f} s", f"< {TARGET:.0f} s", value < TARGET)
    measure.tell("peak memory", f"{most / measure.MB:.0f} MB", f"< {ENOUGH // measure.MB} MB", most < ENOUGH)
    measure.finish("catalogs", value)


def planned(releases: int) -> dict[str, float]:
    """Plan all of them for an empty repository; one tree's counts are in memory at a time."""
    import worlds

    from neurocommand import catalogs, plan
    from neurocommand.layout import object_key
    from neurocommand.model import StoredObject
    from neurocommand.observation import Observation, RootView, StoreView

    seconds = 0.0
    began = time.perf_counter()
    wanted = worlds.manifesttext.parse(json.dumps(worlds.grown(releases)), "apps.json")
    lock = worlds.lock_of(declaration.release for declaration in wanted.declarations)
    held = {
        declaration.release: StoredObject(object_key(declaration.release), known.size, known.sha256)
        for declaration in wanted.declarations
        if (known := lock.get(declaration.release)) is not None
    }
    store = StoreView("primary", writable=True, objects=held)
    actions = plan.make(wanted, lock, Observation((store,), root=RootView({}, "tree", ""))).actions
    seconds += time.perf_counter() - began
    entries = made = 0
    for number in range(releases):
        counts = tree(random.Random(number))
        entries += sum(counts.values())
        began = time.perf_counter()
        found = catalogs.layout(counts)
        seconds += time.perf_counter() - began
        made += len(found.entries)
        if found.excess:
            sys.exit(f"bench: {found.excess} are too large")
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": seconds,
        "peak": int(peak.split()[1]) * 1024,
        "actions": len(actions),
        "entries": entries,
        "catalogs": made,
    }


def tree(chance: random.Random) -> dict[str, int]:
    """Return the entries directly in each directory of a tree."""
    paths = [""]
    inside: Counter[str] = Counter({"": 0})
    for number in range(DIRECTORIES - 1):
        above = paths[chance.randrange(max(1, len(paths) // 2))]
        path = f"{above}/d{number}" if above else f"d{number}"
        paths.append(path)
        inside[above] += 1
        inside[path] += 0
    for place in chance.choices(paths, weights=[chance.paretovariate(1.0) for _ in paths], k=FILES):
        inside[place] += 1
    return dict(inside)


if __name__ == "__main__":
    main()
