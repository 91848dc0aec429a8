"""Converting an image from a registry to a SIF, against `apptainer build` with its defaults, from the same registry.

The images are the demo's, real Debian packages: dcm2niix, and with --all MRtrix3, too. They are built once by
examples/images/build.sh, which needs Debian's archive, and kept with the registry that holds them in FOLDER. Each
conversion is a process of its own and begins with nothing cached. The figure is that of the image that gains least.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import measure

IMAGES = {"dcm2niix": ("1.0.20220720", "20261104"), "mrtrix3": ("3.0.3", "20261111")}
CONVERT = """
import sys
from pathlib import Path
from neurocommand import registry
from neurocommand.image import conversion
from neurocommand.model import ImageReference
host, repository, digest, path, compression = sys.argv[1:]
image = ImageReference(host, repository, "none", insecure=True)
with registry.opened(image) as source:
    conversion.convert(
        conversion.Image(f"{host}/{repository}@sha256:{digest}", digest, True, source), Path(path),
        compression=compression, scratch=Path(path).parent / "scratch", report=print,
    )
"""


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--all", action="store_true", help="MRtrix3, too: minutes more")
    parser.add_argument("--compression", choices=("zstd", "gzip"), default="zstd", help="of our SIFs")
    folder = measure.CHECKOUT / ".demo"
    parser.add_argument(
        "--folder",
        type=Path,
        default=folder,
        help="what holds images and registry, as the demo's does (default: .demo)",
    )
    options = parser.parse_args()
    names = list(IMAGES) if options.all else ["dcm2niix"]
    with measure.scratch() as directory, registry(options.folder.absolute(), directory) as host:
        digests = {name: image(name, host, options.folder.absolute()) for name in names}
        results = [compared(name, host, digests[name], directory, options) for name in names]
    value, baseline = min(results, key=lambda result: result[1] / result[0])
    measure.finish("convert", value, baseline)


def compared(name: str, host: str, digest: str, directory: Path, options: object) -> tuple[float, float]:
    """Convert one image in turns, tell, and return the median of our seconds and of Apptainer's."""
    measure.begin(f"convert: {name} {IMAGES[name][0]}")
    sizes: dict[str, int] = {}
    work: dict[str, list[float]] = {"ours": [], "theirs": []}

    def ours() -> float:
        path = emptied(directory) / "ours.sif"
        words = [host, repository(name), digest, path, options.compression]  # type: ignore[attr-defined]
        done = measure.program([sys.executable, "-c", CONVERT, *words], directory)
        if done.output:
            sys.exit(f"bench: {done.output}")
        sizes["ours"] = path.stat().st_size
        work["ours"].append(done.cpu)
        return done.seconds

    def theirs() -> float:
        path = emptied(directory) / "theirs.sif"
        settings = [f"APPTAINER_CACHEDIR={path.parent}", f"APPTAINER_TMPDIR={path.parent}", "APPTAINER_USERNS=1"]
        argv = ["env", *settings, "apptainer", "--quiet", "build", "--no-https", path]
        done = measure.program([*argv, f"docker://{host}/{repository(name)}@sha256:{digest}"], directory)
        sizes["theirs"] = path.stat().st_size
        work["theirs"].append(done.cpu)
        return done.seconds

    mine, other = measure.alternately(options.runs, ours, theirs)  # type: ignore[attr-defined]
    value, baseline = statistics.median(mine), statistics.median(other)
    measure.tell("neurocommand.image.conversion, with its start", measure.spread(mine))
    measure.tell("apptainer build", measure.spread(other))
    measure.tell("times faster", f"{baseline / value:.2f}", "6", baseline >= 6 * value)
    # what tells more than the clock on a machine that has other work
    spent = [statistics.median(work[name]) for name in ("ours", "theirs")]
    measure.tell(
        "processor seconds", f"{spent[0]:.1f} instead of {spent[1]:.1f} ({spent[1] / spent[0]:.1f} times less)"
    )
    text = f"{sizes['ours']:,} instead of {sizes['theirs']:,}"
    measure.tell("bytes", text, "no more", sizes["ours"] <= sizes["theirs"])
    return value, baseline


def emptied(directory: Path) -> Path:
    """Return a new empty directory in the place of the last one; nothing waits to be written when it returns."""
    place = directory / "run"
    if place.exists():
        subprocess.run(["chmod", "-R", "u+rwX", place], check=True)
        shutil.rmtree(place)
    place.mkdir()
    os.sync()
    return place


def repository(name: str) -> str:
    """Return an image's repository, as the demo names it."""
    return f"neurodesk/{name}_{IMAGES[name][0]}"


def image(name: str, host: str, folder: Path) -> str:
    """Return the digest of an image in the registry; it is built when it is not there."""
    version, date = IMAGES[name]
    address = f"http://{host}/v2/{repository(name)}/manifests/{date}"
    request = urllib.request.Request(address, headers={"Accept": "application/vnd.oci.image.manifest.v1+json"})
    for _ in range(2):
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request) as answer:
            manifest = json.load(answer)
            print(
                f"convert: {name}: {sum(layer['size'] for layer in manifest['layers']) / measure.MB:.0f} MB in layers"
            )
            return str(answer.headers["Docker-Content-Digest"]).removeprefix("sha256:")
        print(f"convert: building the image of {name}, once", flush=True)
        build = measure.CHECKOUT / "examples/images/build.sh"
        argv = [build, folder / "images", name, version, f"{host}/{repository(name)}:{date}"]
        subprocess.run(argv, check=True, stdout=sys.stderr)
    sys.exit(f"bench: {name} is not in the registry after it was pushed")


@contextlib.contextmanager
def registry(folder: Path, directory: Path) -> Iterator[str]:
    """Serve the registry that is kept in a folder on a free port of loopback; yields ``host:port``."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    (folder / "registry").mkdir(parents=True, exist_ok=True)
    # the demo takes only a folder that it knows
    (folder / ".neurocommand-demo").touch()
    configuration = directory / "registry.yml"
    configuration.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{folder}/registry'}}}}\nhttp: {{addr: '{host}', secret: bench}}\n",
        encoding="utf-8",
    )
    with open(directory / "registry.log", "wb") as log:
        serving = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", "docker-registry", "serve", configuration], stdout=log, stderr=log
        )
    try:
        for _ in range(200):
            with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"http://{host}/v2/"):
                break
            time.sleep(0.05)
        yield host
    finally:
        serving.send_signal(signal.SIGTERM)
        serving.wait()


if __name__ == "__main__":
    main()
