"""Deploying a SIF as a tree, against bare unsquashfs of the same file, and `apptainer build --sandbox` beside it.

What neurocommand does more than unsquashfs: it reads the SIF to compare its digest with the lock, makes the tree
readable for all and harmless, finds commands and variables in it, writes wrappers and modulefile, the record last.

The SIF is made once and kept in the directory for temporary files: two thirds noise in files of 1 MB, the rest text in
40 files of 4 to 60 kB for every MB of the SIF. Every run starts with the disk's caches written back.
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from pathlib import Path

import images
import measure

from neurocommand.files import remove_tree
from neurocommand.image.sif import locate


def main() -> None:
    """Measure, and tell."""
    parser = measure.parser(__doc__, runs=3)
    parser.add_argument("--size", type=int, default=500, metavar="MB", help="size of the SIF (default: %(default)s)")
    options = parser.parse_args()
    image = images.cached_sif(options.size)
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
    prepared = images.Prepared(image, "bench", place, "tree")
    os.sync()
    seconds = measure.seconds_of(prepared.deploy)
    commands = os.listdir(prepared.directory.wrappers)
    if len(commands) != images.COMMANDS or not prepared.directory.record.exists():
        sys.exit(f"bench: the deployed release has {len(commands)} wrappers instead of {images.COMMANDS}")
    remove_tree(place)
    return seconds


def unsquash(image: Path, tree: Path) -> float:
    """Unpack the image with unsquashfs alone."""
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
    if not (tree / "opt" / "text").is_dir():
        sys.exit(f"bench: {tree} was not unpacked")
    remove_tree(tree)
    return seconds


if __name__ == "__main__":
    main()
