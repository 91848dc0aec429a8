"""A `neurocommand sync` with nothing to do, against a serial loop that asks every web store for every object.

The manifest is grown from the project's own. There are three web stores on loopback, and 384 releases are deployed
under a root, all as the lock says; the stores answer HEAD with the sizes of the objects. Beside it stands a sync that
asks a directory only.

The baseline re-enacts what Neurodesk's own upload job does today: one `curl --head` after another, for each object and
each store, and no look at sizes, digests or the root at all. Each answer of the servers waits for --latency, for both
alike; the loop is then measured over the first 40 objects and scaled to all.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from pathlib import Path

import measure
from server import served

WEB_STORES = ("nectar", "aws", "third")
SAMPLE = 40
TARGET = 25.0


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=5)
    parser.add_argument("--releases", type=int, default=384, help="(default: %(default)s)")
    parser.add_argument(
        "--latency", type=float, default=100, metavar="MS", help="before each answer (default: %(default)g)"
    )
    options = parser.parse_args()
    measure.begin(f"noop: neurocommand sync, {options.releases:,} releases up to date, {options.latency:g} ms latency")
    with measure.scratch() as directory:
        measure.apart(write, directory, options.releases)
        keys = sorted(name for name in os.listdir(directory / "local") if name.endswith(".simg"))
        asked = keys if not options.latency else keys[:SAMPLE]
        sizes = {f"/{key}": (directory / "local" / key).stat().st_size for key in keys}
        with served(sizes, options.latency / 1000) as address:
            configure(directory / "web.yaml", *(f"{{name: {n}, kind: http, url: '{address}'}}" for n in WEB_STORES))
            configure(directory / "local.yaml", "{name: local, kind: directory, path: local}")
            seconds, alone, sampled = measure.alternately(
                options.runs,
                lambda: sync(directory, "web.yaml"),
                lambda: sync(directory, "local.yaml"),
                lambda: measure.seconds_of(lambda: ask_serially(address, asked)),
            )
    serial = [len(keys) / len(asked) * number for number in sampled]
    value = statistics.median(seconds)
    scaled = "" if asked == keys else f", scaled from {SAMPLE} objects"
    print("  every sync said: nothing to do")
    faster = statistics.median(serial) / value
    measure.tell("sync: 3 web stores, root", measure.spread(seconds), f"{TARGET:g} times faster", faster >= TARGET)
    measure.tell("sync: 1 directory, root", measure.spread(alone))
    measure.tell(f"{len(keys) * len(WEB_STORES)} curl --head in turn{scaled}", measure.spread(serial))
    measure.finish("noop", value, statistics.median(serial))


def write(directory: Path, releases: int) -> None:
    """Write a manifest, its lock, a store and a root that all agree."""
    import worlds

    wanted = worlds.write_manifest(directory / "apps.json", releases)
    named = [declaration.release for declaration in wanted.declarations]
    worlds.write_lock(directory / "apps.lock.json", named)
    worlds.fill_store(directory / "local", named)
    worlds.fill_root(worlds.Root(directory / "root"), wanted.declarations)


def configure(path: Path, *stores_as_text: str) -> None:
    """Write a configuration with some stores."""
    stores = "".join(f"  - {text}\n" for text in stores_as_text)
    text = f"manifest: apps.json\nlock: apps.lock.json\nstate: state\npublish: {{root: root}}\nstores:\n{stores}"
    path.write_text(text, encoding="utf-8")


def sync(directory: Path, configuration: str) -> float:
    """Run a sync that must find nothing to do."""
    done = measure.program(measure.neurocommand("--config", configuration, "sync"), directory)
    if done.output != "nothing to do\n":
        raise SystemExit(f"bench: sync found something to do:\n{done.output[-2000:]}")
    return done.seconds


def ask_serially(address: str, keys: list[str]) -> None:
    """Ask for one object after the other, a new curl each time, as a shell script does."""
    for key in keys:
        for _ in WEB_STORES:
            argv = [
                "curl",
                "--noproxy",
                "*",
                "--silent",
                "--head",
                "--fail",
                "--output",
                os.devnull,
                f"{address}/{key}",
            ]
            subprocess.run(argv, check=True)


if __name__ == "__main__":
    main()
