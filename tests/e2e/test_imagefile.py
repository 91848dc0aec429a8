"""convert --from: one release from an image in a file, without any registry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import images
from tests.world import World, listing, sha256

SMALL = "small 1.0"


@pytest.fixture
def alone(tmp_path: Path) -> World:
    """A world whose registry nobody answers for."""
    made = World(tmp_path / "alone", "127.0.0.1:9")
    made.path.mkdir()
    made.declare(SMALL, "other 1.0")
    made.configure()
    return made


@pytest.fixture
def saved(world: World, alone: World) -> Path:
    """The image of the registry as ``docker save`` writes it."""
    path = alone.path / "toy.tar"
    image = f"docker://{world.registry}/neurodesk/small_1.0:20260101"
    images.run(["skopeo", "copy", "--src-tls-verify=false", image, f"docker-archive:{path}:toy:1"])
    return path


def test_the_record_has_the_same_fields_as_from_a_registry(world: World, alone: World, saved: Path) -> None:
    assert world.run("convert", "small").code == 0
    done = alone.run("convert", "small", "--from", "docker-archive:toy.tar")
    assert done.code == 0, done.err
    theirs, ours = world.lock["small_1.0_20260101"], alone.lock["small_1.0_20260101"]
    assert theirs.keys() == ours.keys()
    inspected = images.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker-archive:{saved}"])
    assert ours["source_digest"] == json.loads(inspected)["config"]["digest"].removeprefix("sha256:")
    waiting = alone.spool / "small_1.0_20260101.simg"
    assert (ours["sha256"], ours["size"]) == (sha256(waiting), waiting.stat().st_size)
    assert alone.run("sync", "small").code == 0
    assert (alone.deployed(SMALL) / "bin/smallhello").is_file()
    again = alone.run("convert", "small", "--from", "docker-archive:toy.tar")
    assert (again.code, alone.lock["small_1.0_20260101"]) == (0, ours)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["small", "--from", "docker-archive:nowhere.tar"], 1, "nowhere.tar: cannot be read: No such file"),
        (["small", "--from", "docker-archive:apps.json"], 1, "apps.json: is no sound tar file"),
        (["small", "--from", "docker-archive:."], 1, "cannot be read: Is a directory"),
        (["small", "--from", "docker-archive:"], 1, "cannot be read: Is a directory"),
        (["small", "--from", "apps.json"], 2, "write docker-archive:FILE or oci-archive:FILE"),
        (["--from", "docker-archive:apps.json"], 2, "name just one"),
        (["small", "other", "--from", "docker-archive:apps.json"], 2, "name just one"),
    ],
)
def test_what_cannot_be_converted_is_told_and_nothing_is_written(
    words: list[str], code: int, said: str, alone: World
) -> None:
    before = listing(alone.path)
    done = alone.run("convert", *words)
    assert (done.code, said in done.err) == (code, True), done.err
    assert listing(alone.path) == before
