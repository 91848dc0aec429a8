"""Images to deploy: a small one that Apptainer builds, and one of any size; and what deploys them."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import measure

from neurocommand.deploy import Deployer
from neurocommand.events import ignore
from neurocommand.files import digest_of
from neurocommand.layout import Root
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, Format, Release

COMMANDS = 20


class Prepared:
    """An image that is about to be deployed as version 1.0 of an application under a new root."""

    def __init__(self, image: Path, application: str, root: Path, image_format: Format) -> None:
        release = Release(application, "1.0", "20260101")
        self.image, self.artifact = image, Artifact(*digest_of(image))
        self.declaration = Declaration(release, f"{application} 1.0", 1, ("workflows",), True, True, ())
        self.deployer = Deployer(Root(root), image_format, ("/mnt",), ignore)
        self.deployer.prepare()
        self.directory = self.deployer.root.release(release)

    def deploy(self) -> None:
        """Deploy it."""
        self.deployer.deploy(self.declaration, self.artifact, self.image)


def image_writer() -> ModuleType:
    """Return the tests' module that makes images without a network."""
    sys.path.append(str(measure.CHECKOUT))
    from tests import images

    return images


def small_sif(path: Path) -> Path:
    """Build the tests' small image with Apptainer."""
    writer = image_writer()
    writer.built_sif(writer.small(), writer.SMALL_ENVIRONMENT, path)
    return path


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
        image_writer().sif_file(draft, squashfs.read_bytes(), configuration)
        os.replace(draft, image)
