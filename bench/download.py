"""A `neurocommand get` from one mirror and from two, and curl's from the first of them, side by side.

Each mirror is a process on loopback that sends so many bytes per second to all of its connections together, as a
server does whose line is the bottleneck. Every `get` starts from nothing: Python, aria2, the question which mirror is
how fast; and it ends with the sha256 of all bytes and the file on disk. curl takes no digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import shutil
import statistics
from pathlib import Path

import measure
from server import limited

RELEASE = "large_1.0_20250101"
TWICE = 1.8
CURL = 1.05


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--size", type=float, default=500, metavar="MB", help="of the object (default: %(default)s)")
    parser.add_argument("--rate", type=float, default=25, metavar="MB/S", help="of a mirror (default: %(default)s)")
    options = parser.parse_args()
    measure.begin(f"download: {options.size:g} MB, each mirror gives {options.rate:g} MB/s")
    with measure.scratch() as directory, contextlib.ExitStack() as servers:
        path = directory / "object"
        sha256 = write(path, int(options.size * measure.MB))
        mirrors = [servers.enter_context(limited(path, options.rate * measure.MB)) for _ in range(2)]
        configure(directory, sha256, path.stat().st_size)
        two, one, curl = measure.alternately(
            options.runs,
            lambda: get(directory, mirrors, sha256),
            lambda: get(directory, mirrors[:1], sha256),
            lambda: fetch_with_curl(directory, mirrors[0]),
        )
    value, alone, baseline = (statistics.median(results) for results in (two, one, curl))
    measure.tell("two mirrors", measure.spread(two), f"{TWICE:g} times one", alone / value >= TWICE)
    measure.tell("one mirror", measure.spread(one), f"{CURL:g} times curl at most", alone <= CURL * baseline)
    measure.tell("curl, one mirror", measure.spread(curl))
    measure.tell("one mirror divided by curl", f"{alone / baseline:.3f}")
    measure.finish("download", value, alone)


def write(path: Path, size: int) -> str:
    """Write an object that nothing can compress, and return its sha256."""
    block = random.Random(1).randbytes(1 << 20)
    digest = hashlib.sha256()
    with open(path, "wb") as stream:
        for number in range(0, size, len(block)):
            piece = (number.to_bytes(8, "big") + block[8:])[: size - number]
            stream.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def configure(directory: Path, sha256: str, size: int) -> None:
    """Write a manifest with one release, and its lock."""
    application, version, date = RELEASE.split("_")
    group = {"apps": {f"{application} {version}": {"version": date, "exec": ""}}, "categories": ["body"]}
    (directory / "apps.json").write_text(json.dumps({application: group}), encoding="utf-8")
    locked = {"sha256": sha256, "size": size, "source_digest": None}
    lock = {"version": 1, "releases": {RELEASE: locked}}
    (directory / "apps.lock.json").write_text(json.dumps(lock), encoding="utf-8")


def get(directory: Path, mirrors: list[str], sha256: str) -> float:
    """Download from some mirrors."""
    stores = "".join(f"  - {{name: mirror{n}, kind: http, url: '{url}'}}\n" for n, url in enumerate(mirrors))
    text = f"manifest: apps.json\nlock: apps.lock.json\nstate: state\nstores:\n{stores}"
    (directory / "n.yaml").write_text(text, encoding="utf-8")
    shutil.rmtree(directory / "state", ignore_errors=True)
    argv = measure.neurocommand("--config", "n.yaml", "get", "large", "-o", "got", "--json")
    done = measure.program(argv, directory)
    told = json.loads(done.output)
    if (told["sha256"], told["source"].count("mirror")) != (sha256, len(mirrors)):
        raise SystemExit(f"bench: not from all mirrors: {told}")
    (directory / "got").unlink()
    return done.seconds


def fetch_with_curl(directory: Path, mirror: str) -> float:
    """Download as a shell script does."""
    done = measure.program(["curl", "-sS", "--fail", "-o", "got", f"{mirror}/{RELEASE}.simg"], directory)
    (directory / "got").unlink()
    return done.seconds


if __name__ == "__main__":
    main()
