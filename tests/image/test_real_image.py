"""A real image, Debian's dcm2niix as the demo builds it: our SIF against Apptainer's own, file by file."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from neurocommand import registry as registries
from neurocommand.image import conversion
from neurocommand.model import ImageReference
from tests import images, sifs
from tests.servers import Registry

ROOT = Path(__file__).parents[2]
REPOSITORY, TAG = "neurodesk/dcm2niix_1.0.20220720", "20261104"


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_a_real_image_becomes_what_apptainer_makes_of_it(registry: Registry, tmp_path: Path) -> None:
    reference = f"{registry.host}/{REPOSITORY}:{TAG}"
    build = [ROOT / "examples/images/build.sh", tmp_path / "images", "dcm2niix", "1.0.20220720", reference]
    subprocess.run(build, check=True, stdin=subprocess.DEVNULL)
    image = ImageReference(registry.host, REPOSITORY, TAG, insecure=True)
    digest = registries.resolve(image)
    assert digest is not None
    name = f"{registry.host}/{REPOSITORY}@sha256:{digest}"
    since, said = time.time() - 5, list[str]()
    with registries.opened(image) as source:
        conversion.convert(
            conversion.Image(name, digest, True, source),
            tmp_path / "ours.sif",
            compression="zstd",
            scratch=tmp_path / "scratch",
            report=said.append,
        )
    assert said == []  # nothing was left to Apptainer
    scratch = tmp_path / "theirs"
    scratch.mkdir()
    settings = {"APPTAINER_CACHEDIR": f"{scratch}/cache", "APPTAINER_TMPDIR": str(scratch), "APPTAINER_USERNS": "1"}
    argv = ["apptainer", "--quiet", "build", "--no-https", tmp_path / "theirs.sif", f"docker://{name}"]
    images.run(argv, env={**os.environ, **settings})
    assert sifs.differences(tmp_path / "ours.sif", tmp_path / "theirs.sif", tmp_path, since) == []
