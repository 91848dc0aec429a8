"""The plan of 10,000 releases over 3 stores and a root: the pure function alone, and the whole command beside it.

The world is mixed: four in five releases are locked, and of each object and deployment there are good, damaged, old and
absent ones, so that every kind of action and of problem occurs.
"""

from __future__ import annotations

import gc
import json
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import measure

TARGET, ENOUGH = 1.0, 100 * measure.MB
STORES = ("first", "second", "third")


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=7)
    parser.add_argument("--releases", type=int, default=10_000, help="(default: %(default)s)")
    options = parser.parse_args()
    measure.begin(f"plan: {options.releases:,} releases over {len(STORES)} stores and a root")
    runs = [measure.apart(pure, options.releases) for _ in range(options.runs)]
    print(f"  {runs[0]['decided']}")
    seconds, grown, peak = ([run[name] for run in runs] for name in ("seconds", "grown", "peak"))
    value, most = statistics.median(seconds), max(peak)
    measure.tell("the pure plan", measure.spread(seconds), f"< {TARGET} s", value < TARGET)
    measure.tell("resident memory that it adds, at most", f"{max(grown) / measure.MB:.1f} MB")
    measure.tell("peak memory of the process, world included", f"{most / measure.MB:.1f} MB", "< 100 MB", most < ENOUGH)
    with measure.scratch() as directory:
        measure.apart(write, directory, options.releases)
        command = measure.neurocommand("--config", "neurocommand.yaml", "plan", "--json")
        whole = [measure.program(command, directory, codes=(0, 1, 4)) for _ in range(max(1, options.runs // 2))]
    actions = len(json.loads(whole[0].output)["actions"])
    measure.tell(f"neurocommand plan --json, {actions:,} actions", measure.spread([run.seconds for run in whole]))
    measure.tell("its peak memory", f"{max(run.peak for run in whole) / measure.MB:.1f} MB")
    measure.finish("plan", value)


def pure(releases: int) -> dict[str, object]:
    """Make a world and plan it once; return seconds, memory in bytes and what was decided."""
    import worlds

    from neurocommand import plan
    from neurocommand.observation import Observation, StoreView

    wanted = worlds.manifesttext.parse(json.dumps(worlds.grown(releases)), "apps.json")
    named = [declaration.release for declaration in wanted.declarations]
    lock = worlds.lock_of(release for number, release in enumerate(named) if number % 5)
    views = tuple(StoreView(name, place < 2, objects(named, place)) for place, name in enumerate(STORES))
    observation = Observation(views, root=root(wanted.declarations))
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far: proc(5)
    before = memory("VmRSS")
    start = time.perf_counter()
    made = plan.make(wanted, lock, observation)
    seconds = time.perf_counter() - start
    peak = memory("VmHWM")
    kinds = Counter(type(action).__name__ for action in made.actions) + Counter(p.kind for p in made.problems)
    told = ", ".join(f"{number:,} {kind}" for kind, number in kinds.items())
    return {"seconds": seconds, "grown": peak - before, "peak": peak, "decided": told}


def objects(releases: Sequence, place: int) -> dict:
    """Return what a store holds: good with and without a stated digest, absent, and of a wrong size."""
    import worlds

    from neurocommand.layout import object_key
    from neurocommand.model import StoredObject

    held = {}
    for number, release in enumerate(releases):
        known, fate = worlds.artifact(release), fate_of(number, place)
        if fate != "absent":
            size = known.size - (fate == "damaged")
            held[release] = StoredObject(object_key(release), size, known.sha256 if fate == "good" else None)
    return held


def fate_of(number: int, place: int) -> str:
    """Return what a store makes of a release: every combination over the stores occurs."""
    return ("good", "unstated", "absent", "damaged")[number // 4**place % 4]


def root(declarations: Sequence) -> object:
    """Return a root on which a quarter each is right, made by older templates, half-written, and absent."""
    import worlds

    from neurocommand.model import DeployRecord
    from neurocommand.observation import Deployed, HalfDeployed, RootView

    found: dict = {}
    for number, declaration in enumerate(declarations):
        release, known = declaration.release, worlds.artifact(declaration.release)
        if number % 4 < 2:
            revision = ("today", "yesterday")[number % 4]
            fields = (release, known.sha256, known.size, "tree", ("command",), declaration.categories, revision)
            found[release] = Deployed(DeployRecord(*fields), complete=True)
        elif number % 4 == 2:
            found[release] = HalfDeployed("left half-written by a run that was killed")
    return RootView(found, "tree", "today")


def write(directory: Path, releases: int) -> None:
    """Write manifest, lock, three stores in directories and the configuration."""
    import worlds

    wanted = worlds.write_manifest(directory / "apps.json", releases)
    named = [declaration.release for declaration in wanted.declarations]
    worlds.write_lock(directory / "apps.lock.json", [release for n, release in enumerate(named) if n % 5])
    fates = {(release, place): fate_of(n, place) for n, release in enumerate(named) for place in range(len(STORES))}
    for place, name in enumerate(STORES):
        held = [release for release in named if fates[release, place] != "absent"]
        damaged = {release for release in held if fates[release, place] == "damaged"}
        worlds.fill_store(
            directory / name, held, lambda release, odd=damaged: worlds.artifact(release).size - (release in odd)
        )
    stores = "".join(f"  - {{name: {name}, kind: directory, path: {name}}}\n" for name in STORES)
    text = f"manifest: apps.json\nlock: apps.lock.json\nstate: state\nstores:\n{stores}"
    (directory / "neurocommand.yaml").write_text(text)


def memory(name: str) -> int:
    """Return a figure of this process's memory in bytes; proc(5)."""
    return 1024 * int(re.findall(rf"^{name}:\s*(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)[0])


if __name__ == "__main__":
    main()
