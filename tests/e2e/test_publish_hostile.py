"""Images with whatever a file system can hold: published as they are, or refused with a reason, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import images
from tests.e2e.test_publish import Site, any_site, site, stock
from tests.world import sha256

__all__ = ["any_site", "site", "stock"]

RELEASE = "small_1.0_20260101"
ENVIRONMENT = b'{"Env": ["PATH=/opt/small/bin:/bin", "DEPLOY_PATH=/opt/small/bin"]}'
NAMES = (b"new\nline", b"not \xff utf-8", b"quote'\"$(id)`id`\\", b" blank ", b"-rf", "ümlaut".encode(), b"n" * 255)
LINKS = {"absolute": "/opt/small", "dangling": "nowhere", "above": "../../../etc", "self": "self"}


def rich(tree: Path, *, many: int) -> None:
    """Fill a tree with everything that a sound image may hold."""
    top = os.fsencode(tree)
    (tree / "opt/small/bin").mkdir(parents=True)
    (tree / "opt/small/bin/smallhello").write_text("#!/bin/sh\necho hello\n")
    (tree / "opt/small/bin/smallhello").chmod(0o755)
    for name in (
        b"new\nline",
        b"not \xff utf-8",
        b"quote'\"$(id)`id`\\",
        b" blank ",
        b"-rf",
        "ümlaut".encode(),
        b"n" * 255,
    ):
        with open(os.path.join(top, name), "wb") as file:
            file.write(name)
    (tree / "sparse").touch()
    os.truncate(tree / "sparse", 64 << 20)
    (tree / "first").write_text("the same\n")
    os.link(tree / "first", tree / "second")
    for name, target in (
        ("absolute", "/opt/small"),
        ("dangling", "nowhere"),
        ("above", "../../../etc"),
        ("self", "self"),
    ):
        (tree / name).symlink_to(target)
    (tree / "closed").mkdir()
    (tree / "closed/inside").write_text("x")
    (tree / "closed").chmod(0)
    (tree / "unreadable").write_text("y")
    (tree / "unreadable").chmod(0)
    (tree / "setuid").write_text("#!/bin/sh\n")
    (tree / "setuid").chmod(0o4755)
    (tree / "empty").mkdir()
    (tree / "ends-with.wh").write_text("a whiteout only at the beginning of a name")
    (tree / "many").mkdir()
    for number in range(many):
        (tree / "many" / f"{number}").write_bytes(b"%d" % (number % 100))
    deep = tree
    for _ in range(60):
        deep = deep / "d"
        deep.mkdir()
    (deep / "end").write_text("deep")


def stored(site: Site, directory: Path, fill: Callable[[Path], None]) -> Path:
    """Put a tree into the store as the image of small 1.0, locked; returns the tree."""
    tree, squashfs = directory / "image", directory / "image.sqfs"
    tree.mkdir()
    fill(tree)
    subprocess.run(
        ["mksquashfs", tree, squashfs, "-quiet", "-no-progress", "-comp", "zstd", "-Xcompression-level", "1"],
        check=True,
        capture_output=True,
    )
    place = site.world.object("small 1.0")
    place.parent.mkdir(exist_ok=True)
    images.sif_file(place, squashfs.read_bytes(), ENVIRONMENT)
    squashfs.unlink()
    locked = {"sha256": sha256(place), "size": place.stat().st_size, "source_digest": None}
    path = site.world.path / "apps.lock.json"
    releases = json.loads(path.read_text())["releases"] if path.exists() else {}
    path.write_text(json.dumps({"version": 1, "releases": dict(sorted({**releases, RELEASE: locked}.items()))}))
    return tree


def contents(top: Path) -> dict[bytes, tuple[str, str, bool]]:
    """Return what stands below a directory: kind, content, and whether everybody may execute it; by raw names."""
    found = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = ""
            if stat.S_ISLNK(status.st_mode):
                content = os.fsdecode(os.readlink(path))
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            kind = stat.filemode(status.st_mode)[0]
            found[os.path.relpath(path, os.fsencode(top))] = (kind, content, bool(status.st_mode & 0o001))
    return found


def test_what_clients_see_is_what_the_image_had(any_site: Site, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    many = 100_000 if pytestconfig.getoption("--full") else 2_000
    tree = stored(any_site, tmp_path, lambda place: rich(place, many=many))
    done = any_site.run("publish")
    assert done.code == 0, done
    with any_site.stratum.client() as top:
        seen = contents(top / "containers" / RELEASE / f"{RELEASE}.simg")
    if os.geteuid() != 0:
        for name in ("closed", "unreadable"):
            (tree / name).chmod(0o755)
    expected = contents(tree)
    mounts = {b"data", b"mnt", b"neurodesktop-storage", b"tmp", b"cvmfs"}
    assert seen.keys() - expected.keys() == mounts, "mount points, and nothing else"
    assert {name: seen[name][:2] for name in expected} == {name: value[:2] for name, value in expected.items()}
    assert {name for name, (kind, _, executable) in seen.items() if kind == "-" and executable} == {
        b"opt/small/bin/smallhello",
        b"setuid",
    }


def whiteout(tree: Path) -> None:
    (tree / "opt").mkdir()
    (tree / "opt/.wh.data").write_text("x")


def opaque(tree: Path) -> None:
    (tree / ".wh..wh..opq").write_text("")


def catalog_directory(tree: Path) -> None:
    (tree / "a/.cvmfscatalog").mkdir(parents=True)


def full_catalog(tree: Path) -> None:
    (tree / ".cvmfscatalog").write_text("x")


def variable(tree: Path) -> None:
    (tree / "link").symlink_to("$(HOME)/x")


@pytest.mark.parametrize(
    "fill", [whiteout, opaque, catalog_directory, full_catalog, variable], ids=lambda one: one.__name__
)
def test_what_cvmfs_would_take_for_something_else_is_refused_and_named(
    fill: Callable[[Path], None], site: Site, tmp_path: Path
) -> None:
    stored(site, tmp_path, fill)
    served = site.stratum.served()
    done = site.run("publish")
    assert done.code == 1, done
    assert "CVMFS" in done.err
    assert site.stratum.served() == served, "no revision was made"


def test_one_hostile_image_is_no_harm_to_the_others(site: Site, tmp_path: Path) -> None:
    site.world.declare("small 1.0", "small 1.1", "other 2.0")
    stored(site, tmp_path, whiteout)
    done = site.run("sync")
    assert done.code == 1, done
    assert "opt/.wh.data: CVMFS takes names that begin with .wh. for deletions" in done.err
    assert site.releases() == {"other_2.0_20260101", "small_1.1_20260101"}
    assert site.stratum.revision == 2, "the others share a revision"
