"""export as a process of its own: from what is deployed, from a store, and what it refuses."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurocommand.files import remove_tree
from tests import servers
from tests.e2e.test_udocker import there  # noqa: F401
from tests.udocker import Desktop
from tests.world import World, sha256

ID = "small_1.0_20260101"


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, image_registry: servers.Registry) -> World:
    """A world in which small 1.0 is deployed as a tree; its tests leave it as it is but for their own files."""
    made = World(tmp_path_factory.mktemp("export") / "world", image_registry.host)
    made.path.mkdir()
    made.declare("small 1.0")
    made.configure()
    done = made.run("sync")
    assert done.code == 0, done.err
    return made


@pytest.fixture
def here(deployed: World) -> Iterator[World]:
    """The same, without the files of other tests."""
    yield deployed
    for name in files(deployed):
        remove_tree(deployed.path / name)


def files(world: World) -> set[str]:
    return {
        name for name in os.listdir(world.path) if "small" in name or "export" in name or "x." in name or "y." in name
    }


def names_in(path: Path) -> list[str]:
    return subprocess.run(["tar", "-tf", path], capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_deployed_tree_becomes_an_image_that_udocker_runs(here: World, there: Desktop) -> None:  # noqa: F811
    world, name = here, f"{ID}.docker.tar.gz"
    done = world.run("export", "small")
    assert done.code == 0, done.err
    assert done.out.startswith(f"{world.path}/{name}: written: ")
    assert done.out.endswith(f"image small_1.0:20260101, from {world.deployed('small 1.0')}/{ID}.simg\n")
    assert files(world) == {name}
    content = (world.path / name).read_bytes()
    assert content[:2] == b"\x1f\x8b"
    assert (world.path / name).stat().st_mode & 0o777 == 0o644
    shutil.copy(world.path / name, there.path)
    there.udocker("load", "-i", there.path / name)
    assert there.udocker("--quiet", "create", "--name=exported", "small_1.0:20260101")
    run = there.run("udocker", "--quiet", "run", "--nobanner", "exported", "smallhello", "x")
    assert (run.returncode, run.stdout) == (0, b"hello x\n"), run.stderr
    there.udocker("rm", "exported")
    there.udocker("rmi", "small_1.0:20260101")


def test_it_is_compressed_where_its_name_says_so_and_always_the_same(here: World) -> None:
    for name in ("x.tar", "x.tgz", "x.tar.gz", "y.tar.gz"):
        assert here.run("export", "small/1.0", "--format", "docker-archive", "-o", name).code == 0
    plain, packed = (here.path / "x.tar").read_bytes(), (here.path / "x.tar.gz").read_bytes()
    assert plain[257:262] == b"ustar"
    assert gzip.decompress(packed) == plain
    assert packed == (here.path / "y.tar.gz").read_bytes() == (here.path / "x.tgz").read_bytes()
    argv = ["skopeo", "inspect", f"docker-archive:{here.path}/x.tar"]
    told = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)
    assert (told["Architecture"], told["Os"], told["Created"]) == ("amd64", "linux", "2026-01-01T00:00:00Z")
    assert "DEPLOY_PATH=/opt/small/bin/" in told["Env"]
    copied = subprocess.run(
        ["skopeo", "copy", f"docker-archive:{here.path}/x.tar:small_1.0:20260101", f"dir:{here.path}/x.copied"],
        capture_output=True,
        check=False,
    )
    assert copied.returncode == 0, copied.stderr


def test_a_deployed_sif_must_be_what_its_record_says(world: World) -> None:
    world.config.write_text(world.config.read_text().replace("root: root", "root: root, format: sif"))
    assert world.run("sync").code == 0
    image = world.deployed("small 1.0") / f"{ID}.simg"
    assert image.is_file()
    told = world.outcomes("export", "small", "-o", "x.tar")
    assert (told["code"], told["outcome"], told["source"]) == (0, "written", str(image)), told
    assert told["image"] == "small_1.0:20260101"
    assert told["size"] == (world.path / "x.tar").stat().st_size
    assert any("layer.tar" in name for name in names_in(world.path / "x.tar"))
    content = bytearray(image.read_bytes())
    content[-5000] ^= 1
    image.unlink()  # the object in the store may be a hard link of it
    image.write_bytes(content)
    done = world.run("export", "small", "-o", "y.tar")
    assert done.code == 1
    assert "is not what its record says" in done.err
    assert files(world) == {"x.tar"}


def test_what_is_not_deployed_is_fetched_and_held_against_the_lock(synced: World) -> None:
    world = synced
    assert world.run("export", "small", "-o", "deployed.tar").code == 0
    told = world.outcomes("export", ID, "-o", "x.tar", "--from", "local")
    assert (told["code"], told["source"]) == (0, "the stores")
    shutil.rmtree(world.root)
    (world.path / ".y.tar.export").mkdir()
    (world.path / ".y.tar.export/tree").write_text("what a killed run left")
    assert world.run("export", "small", "-o", "y.tar").code == 0
    assert sha256(world.path / "x.tar") == sha256(world.path / "y.tar")
    stored = world.object("small 1.0")
    content = bytearray(stored.read_bytes())
    content[-5000] ^= 1
    stored.chmod(0o644)
    stored.write_bytes(content)
    done = world.run("export", "small", "-o", "small.tar")
    assert done.code == 4, done.err
    assert files(world) == {"x.tar", "y.tar"}


def test_what_is_there_is_not_replaced_unasked(here: World) -> None:
    (here.path / "x.tar").write_text("mine")
    done = here.run("export", "small", "-o", "x.tar", "--json")
    assert (done.code, json.loads(done.out)["exit_code"]) == (3, 3)
    assert (here.path / "x.tar").read_text() == "mine"
    assert here.run("export", "small", "-o", "x.tar", "--force").code == 0
    assert (here.path / "x.tar").stat().st_size > 1_000_000
    told = here.outcomes("export", "small", "-o", "y.tar.gz", "--dry-run")
    assert (told["code"], told["outcome"], told["compressed"]) == (0, "would be written", True)
    assert not (here.path / "y.tar.gz").exists()
    assert here.run("export", "small", "-o", "no/such/x.tar").code == 2
    assert here.run("export", "nothing").code == 2


def test_nothing_stays_of_a_file_that_cannot_be_written(here: World) -> None:
    done = subprocess.run(
        here.command("export", "small", "-o", "x.tar"),
        cwd=here.path,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000)),
    )
    assert done.returncode == 1
    assert "x.tar" in done.stderr
    assert "too large" in done.stderr
    assert files(here) == set()


def test_releases_are_completed(here: World) -> None:
    for word, complete in (("sma", "small"), ("small/", "small/1.0")):
        env = {
            "_NEUROCOMMAND_COMPLETE": "bash_complete",
            "COMP_CWORD": "2",
            "COMP_WORDS": f"neurocommand export {word}",
        }
        env["NEUROCOMMAND_CONFIG"] = str(here.config)
        done = subprocess.run(
            ["neurocommand"], env={**os.environ, **env}, cwd=here.path, capture_output=True, text=True, check=False
        )
        assert done.stdout.split(",")[-1].strip() == complete
