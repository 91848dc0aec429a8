"""Deploying a SIF as a tree, against bare unsquashfs of the same file, and `apptainer build --sandbox` beside it.

What neurocommand does more than unsquashfs: it reads the SIF to compare its digest with the lock, makes the tree
readable for all and harmless, finds commands and variables in it, writes wrappers and modulefile, the record last.

The SIF is made once and kept in the directory for temporary files: two thirds noise in files of 1 MB, the rest text in
40 files of 4 to 60 kB for every MB of the SIF. Every run starts with the disk's caches written back.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import measure

COMMANDS = 20


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--size", type=int, default=500, metavar="MB", help="size of the SIF (default: %(default)s)")
    options = parser.parse_args()
    image = cached_sif(options.size)
    measure.begin(f"deploy: a SIF of {image.stat().st_size / measure.MB:.0f} MB as a tree")
    with measure.scratch() as directory:
        ours, bare, sandbox = measure.alternately(
            options.runs,
            lambda: deploy(image, directory / "root"),
            lambda: unsquash(image, directory / "tree"),
            lambda: build_sandbox(image, directory),
        )
    value, baseline = statistics.median(ours), statistics.median(bare)
    measure.tell("neurocommand.deploy.Deployer, all of it", measure.spread(ours))
    measure.tell("unsquashfs, bare", measure.spread(bare))
    measure.tell("apptainer build --sandbox", measure.spread(sandbox))
    measure.tell("deploying costs more than unsquashfs by", f"{value - baseline:.3f} s")
    measure.finish("deploy", value, baseline)


def deploy(image: Path, place: Path) -> float:
    """Deploy the image under a new root, and return how long that takes."""
    from neurocommand.deploy import Deployer
    from neurocommand.events import ignore
    from neurocommand.files import digest_of, remove_tree
    from neurocommand.layout import Root
    from neurocommand.manifest import Declaration
    from neurocommand.model import Artifact, Release

    release = Release("bench", "1.0", "20260101")
    declaration = Declaration(release, "bench 1.0", 1, ("workflows",), True, True, ())
    artifact = Artifact(*digest_of(image))
    deployer = Deployer(Root(place), "tree", ("/data", "/mnt"), ignore)
    deployer.prepare()
    os.sync()
    seconds = measure.seconds_of(lambda: deployer.deploy(declaration, artifact, image))
    commands = os.listdir(deployer.root.release(release).wrappers)
    if len(commands) != COMMANDS or not deployer.root.release(release).record.exists():
        sys.exit(f"bench: the deployed release has {len(commands)} wrappers instead of {COMMANDS}")
    remove_tree(place)
    return seconds


def unsquash(image: Path, tree: Path) -> float:
    """Unpack the image with unsquashfs alone."""
    from neurocommand.image.sif import locate

    os.sync()
    argv = ["unsquashfs", "-quiet", "-no-progress", "-offset", str(locate(image).offset), "-dest", tree, image]
    return removed_after(tree, measure.program(argv, tree.parent).seconds)


def build_sandbox(image: Path, directory: Path) -> float:
    """Unpack the image with Apptainer, in a user namespace, where even root of a container has all rights."""
    os.sync()
    tree, temporary = directory / "sandbox", directory / "temporary"
    temporary.mkdir()
    settings = ["env", f"APPTAINER_TMPDIR={temporary}", f"APPTAINER_CACHEDIR={temporary}"]
    argv = [*settings, "unshare", "-r", "apptainer", "--quiet", "build", "--sandbox", tree, image]
    done = measure.program(argv, directory)
    shutil.rmtree(temporary)
    return removed_after(tree, done.seconds)


def removed_after(tree: Path, seconds: float) -> float:
    """Remove a tree, and return what was measured."""
    from neurocommand.files import remove_tree

    if not (tree / "opt" / "text").is_dir():
        sys.exit(f"bench: {tree} was not unpacked")
    remove_tree(tree)
    return seconds


def cached_sif(size: int) -> Path:
    """Return the SIF of about so many MB; made when it is not there yet."""
    cache = Path(tempfile.gettempdir()) / f"neurocommand-bench-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    if cache.lstat().st_uid != os.getuid():
        sys.exit(f"bench: {cache} is not yours: remove it, or set TMPDIR")
    image = cache / f"made-1-of-{size}-MB.sif"
    if not image.exists():
        print(f"deploy: making a SIF of about {size} MB, once: {image}", flush=True)
        measure.apart(make_sif, image, size)
    return image


def make_sif(image: Path, size: int) -> None:
    """Make a SIF of noise and text; its bytes depend on nothing but its size and mksquashfs."""
    sys.path.append(str(measure.CHECKOUT))
    from tests import images

    chance = random.Random(size)
    words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(5000)]
    block = " ".join(chance.choices(words, k=2_000_000)).encode()
    with measure.scratch() as directory:
        tree, squashfs, draft = directory / "tree", directory / "squashfs", image.with_suffix(".partial")
        for name in ("bin", "etc", "opt/bench/bin", "opt/text", "opt/noise", "tmp"):
            (tree / name).mkdir(parents=True)
        for number in range(COMMANDS):
            (tree / "opt/bench/bin" / f"tool{number}").write_text("#!/bin/sh\n")
            (tree / "opt/bench/bin" / f"tool{number}").chmod(0o755)
        for number in range(size * 2 // 3):
            (tree / "opt/noise" / f"{number}.nii.gz").write_bytes(chance.randbytes(measure.MB))
        for number, length in zip(range(40 * size), itertools.cycle((4_000, 8_000, 16_000, 32_000, 60_000))):
            start = chance.randrange(len(block) - length)
            place = tree / "opt/text" / str(number // 500)
            place.mkdir(exist_ok=True)
            (place / f"{number}.txt").write_bytes(block[start : start + length])
        argv = ["mksquashfs", tree, squashfs, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "3"]
        subprocess.run([*argv, "-all-root", "-no-xattrs"], check=True, stdout=subprocess.DEVNULL)
        configuration = b'{"Env": ["PATH=/opt/bench/bin:/bin", "DEPLOY_PATH=/opt/bench/bin"]}'
        images.sif_file(draft, squashfs.read_bytes(), configuration)
        os.replace(draft, image)


if __name__ == "__main__":
    main()
