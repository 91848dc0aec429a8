"""Publishing MRtrix3's tree to a CVMFS repository, against Neurodesk's way; then a version that shares 95 % of it.

Neurodesk's way: in a transaction what `singularity build --sandbox` does, then a publication for the tree and one for
each category. The second version has every file's time new and other content in one file of twenty. Processor seconds
are those of the whole machine, as much of the work is done by daemons.

Takes the real cvmfs_server: root, a web server on port 80 that serves /srv/cvmfs, and no other user of mount
namespaces. The repositories are made and removed. The image is the demo's, see convert.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import convert
import measure

from neurocommand.files import digest_of
from neurocommand.image.sif import locate
from neurocommand.model import Release

FASTER, LESS, STORED = 1.7, 3.0, 0.06
FIRST = Release("mrtrix3", "3.0.3", "20261111")
SECOND = Release("mrtrix3", "3.0.4", "20261112")
CATEGORIES = ("diffusion imaging",)
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What something took: wall seconds, processor seconds of the machine, and bytes that were stored."""

    seconds: float
    cpu: float
    stored: int

    def __str__(self) -> str:
        return f"{self.cpu:.1f} processor s, {self.stored / measure.MB:.1f} MB stored"


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=1)
    parser.add_argument("--folder", type=Path, default=measure.CHECKOUT / ".demo", help="of the demo's images")
    options = parser.parse_args()
    require()
    with measure.scratch() as directory, convert.registry(options.folder.absolute(), directory) as host:
        first, second = images(host, options.folder.absolute(), directory)
        measure.begin(f"publish: MRtrix3, a SIF of {first.stat().st_size / measure.MB:.0f} MB")
        ours, theirs, again = [], [], []
        for number in range(options.runs):
            with repository(f"bench-theirs-{os.getpid()}-{number}.test.local") as name:
                theirs.append(cost(name, lambda name=name: neurodesk(name, first, directory)))
            with repository(f"bench-ours-{os.getpid()}-{number}.test.local") as name:
                site = Site(directory / f"site{number}", name)
                ours.append(cost(name, lambda site=site: site.publish({FIRST: first})))
                again.append(cost(name, lambda site=site: site.publish({FIRST: first, SECOND: second})))
    tell(ours, theirs, again)


def tell(ours: list[Cost], theirs: list[Cost], again: list[Cost]) -> None:
    """Print what was measured; of several runs the best of each counts, as other work only adds."""
    first, other, second = (min(costs, key=lambda one: one.cpu) for costs in (ours, theirs, again))
    seconds, baseline = min(one.seconds for one in ours), min(one.seconds for one in theirs)
    measure.tell(
        "neurocommand publish", f"{seconds:.1f} s, {first.cpu:.1f} processor s, {first.stored / 1e6:.0f} MB stored"
    )
    measure.tell(
        "Neurodesk's way", f"{baseline:.1f} s, {other.cpu:.1f} processor s, {other.stored / 1e6:.0f} MB stored"
    )
    measure.tell("times faster", f"{baseline / seconds:.2f}", f">= {FASTER}", baseline >= FASTER * seconds)
    measure.tell("the second version", f"{second.seconds:.1f} s, {second.cpu:.1f} processor s")
    measure.tell(
        "processor seconds less", f"{first.cpu / second.cpu:.1f} times", f">= {LESS}", first.cpu >= LESS * second.cpu
    )
    part = second.stored / first.stored
    measure.tell("its bytes stored", f"{part:.3f} of the first's", f"<= {STORED}", part <= STORED)
    measure.finish("publish", seconds, baseline)


def require() -> None:
    """End the benchmark where there is no real stratum 0."""
    reason = ""
    if os.geteuid() != 0 or not shutil.which("cvmfs_server"):
        reason = "cvmfs_server is not installed, or this is not root"
    else:
        try:
            urllib.request.urlopen("http://127.0.0.1/", timeout=5).close()
        except OSError as error:
            reason = f"no web server answers on port 80: {error}"
    if reason:
        sys.exit(f"bench: {reason}")


@contextlib.contextmanager
def repository(name: str) -> Iterator[str]:
    """Make a repository, and remove it in the end."""
    subprocess.run(["cvmfs_server", "mkfs", "-o", "root", "-z", "-g", name], check=True, capture_output=True, cwd="/")
    try:
        yield name
    finally:
        subprocess.run(["cvmfs_server", "rmfs", "-f", name], check=False, capture_output=True, cwd="/")


def cost(name: str, function: Callable[[], None]) -> Cost:
    """Return what a call takes, and what it adds to a repository's storage."""
    os.sync()
    before, stored, start = busy(), size(name), time.perf_counter()
    function()
    return Cost(time.perf_counter() - start, busy() - before, size(name) - stored)


def busy() -> float:
    """Return the seconds that all processors have worked so far: proc(5)."""
    fields = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / TICKS


def size(name: str) -> int:
    """Return the bytes of all objects of a repository."""
    data = Path("/srv/cvmfs", name, "data")
    return sum(path.stat().st_size for path in data.glob("[0-9a-f][0-9a-f]/*"))


class Site:
    """A publisher of a repository: configuration, store and lock."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        (path / "store").mkdir(parents=True)
        (path / "neurocommand.yaml").write_text(
            f"manifest: apps.json\nstate: state\nregistries: []\npublish: {{repository: {name}}}\n"
            "stores: [{name: local, kind: directory, path: store}]\n"
        )

    def publish(self, sifs: dict[Release, Path]) -> None:
        """Publish releases whose SIFs are in the store."""
        apps, locked = {}, {}
        for release, sif in sifs.items():
            place = self.path / "store" / f"{release.id}.simg"
            if not place.exists():
                os.link(sif, place)
            apps[f"{release.application} {release.version}"] = {"version": release.build_date, "exec": ""}
            sha256, length = digest_of(sif)
            locked[release.id] = {"sha256": sha256, "size": length, "source_digest": None}
        group = {"mrtrix3": {"apps": apps, "categories": list(CATEGORIES)}}
        (self.path / "apps.json").write_text(json.dumps(group, indent=4))
        (self.path / "apps.lock.json").write_text(json.dumps({"version": 1, "releases": dict(sorted(locked.items()))}))
        measure.program(measure.neurocommand("--config", self.path / "neurocommand.yaml", "publish"), self.path)


def neurodesk(name: str, sif: Path, directory: Path) -> None:
    """Publish a SIF as Neurodesk's sync_containers_to_cvmfs.sh does."""
    place = Path("/cvmfs", name, "containers", FIRST.id)
    call("transaction", name)
    place.mkdir(parents=True)
    # what `singularity build --sandbox` of a SIF comes to; it cannot be called where root has not all capabilities
    offset = str(locate(sif).offset)
    measure.program(["unsquashfs", "-n", "-f", "-offset", offset, "-d", place / f"{FIRST.id}.simg", sif], directory)
    call("publish", "-m", f"added {FIRST.id}", name)
    for category in CATEGORIES:
        call("transaction", name)
        modules = Path("/cvmfs", name, "neurodesk-modules", category.replace(" ", "_"), "mrtrix3")
        modules.mkdir(parents=True)
        (modules / "3.0.3.lua").write_text('prepend_path("PATH", "x")\n')
        call("publish", "-m", "added modules", name)


def call(*words: str) -> None:
    """Run cvmfs_server."""
    subprocess.run(["cvmfs_server", *words], check=True, capture_output=True, cwd="/", stdin=subprocess.DEVNULL)


def images(host: str, folder: Path, directory: Path) -> tuple[Path, Path]:
    """Return MRtrix3's SIF, and that of a version of which one file in twenty differs, and every time."""
    first, second = directory / "first.sif", directory / "second.sif"
    digest = convert.image("mrtrix3", host, folder)
    words = [host, convert.repository("mrtrix3"), digest, first, "gzip"]
    measure.program([sys.executable, "-c", convert.CONVERT, *words], directory)
    measure.apart(rebuild, first, second, directory)
    return first, second


def rebuild(first: Path, second: Path, directory: Path) -> None:
    """Make the second version's SIF of the first one's tree."""
    import images as made

    tree, squashfs = directory / "tree", directory / "second.sqfs"
    place = ["-offset", str(locate(first).offset), "-dest", tree, first]
    subprocess.run(["unsquashfs", "-quiet", "-no-progress", *place], check=True, stdout=subprocess.DEVNULL)
    now = time.time()
    for number, path in enumerate(sorted(one for one in tree.rglob("*") if not one.is_symlink())):
        if path.is_file() and number % 20 == 0:
            with open(path, "ab") as file:
                file.write(b"\n")
        os.utime(path, (now, now))
    argv = ["mksquashfs", tree, squashfs, "-quiet", "-no-progress", "-comp", "gzip", "-all-root", "-no-xattrs"]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    made.image_writer().sif_file(
        second, squashfs.read_bytes(), b'{"Env": ["PATH=/usr/bin:/bin", "DEPLOY_BINS=mrinfo"]}'
    )
    squashfs.unlink()
    shutil.rmtree(tree)


if __name__ == "__main__":
    main()
