"""A tree as an image in a file: what is in it, what is left out, and that the bytes depend on nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from neurocommand.errors import ImageError
from neurocommand.image import filetree, imagefile, sif
from neurocommand.image.dockerarchive import Description, write
from neurocommand.image.treelayer import TreeLayer
from neurocommand.model import REPOSITORY, Release
from tests import images
from tests.users import User

RELEASE = Release("small", "1.0", "20260101")
DESCRIBED = Description(RELEASE, (("PATH", "/bin"), ("ODD", "a=b\nc")), "arm64", "origin")


def layer_of(tree: Path) -> tuple[bytes, TreeLayer]:
    layer, written, advanced = TreeLayer(tree), io.BytesIO(), [0]
    digest = layer.write(written, advanced.append)
    content = written.getvalue()
    assert digest == hashlib.sha256(content).hexdigest()
    assert len(content) == layer.size == advanced[-1]
    return content, layer


def members(content: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(content), encoding="utf-8", errors="surrogateescape") as opened:
        return {member.name: member for member in opened}


def packed(tree: Path, described: Description = DESCRIBED) -> bytes:
    written = io.BytesIO()
    write(TreeLayer(tree), described, written, lambda done: None)
    return written.getvalue()


def test_a_layer_is_what_tar_unpacks_to_the_same_tree(tmp_path: Path) -> None:
    tree = images.small().unpacked(tmp_path / "tree")
    long = tree / ("d" * 200) / ("e" * 200)
    long.mkdir(parents=True)
    (long / "x").write_bytes(b"x" * 1000)
    (tree / "twice").hardlink_to(tree / "README.md")
    (tree / "new\nline\\ é").write_bytes(b"")
    (tree / os.fsdecode(b"\xff")).write_bytes(b"1")
    (tree / "up").symlink_to("../../../etc/passwd")
    (tree / "absolute").symlink_to("/" + "a" * 150)
    os.utime(tree / "README.md", (1, 1_000_000_000.75))
    content, _ = layer_of(tree)
    (tmp_path / "layer.tar").write_bytes(content)
    (tmp_path / "back").mkdir()
    subprocess.run(["tar", "-C", tmp_path / "back", "-xf", tmp_path / "layer.tar"], check=True)
    for place in ("back", "tree"):
        shutil.rmtree(tmp_path / place / "tmp")  # open to all in a layer: below
    done = subprocess.run(["diff", "-r", "--no-dereference", tmp_path / "tree", tmp_path / "back"], check=False)
    assert done.returncode == 0
    found = members(content)
    assert found["README.md"].mtime == 1_000_000_000
    assert found["twice"].islnk()
    assert found["up"].linkname == "../../../etc/passwd"
    assert list(found) == sorted(found, key=lambda name: [os.fsencode(part) for part in name.split("/")])


def test_everything_is_roots_and_harmless(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    rootfs = images.Rootfs().directory("closed", 0o700).file("closed/setuid", "x", 0o6711).file("private", "", 0o600)
    rootfs.file("open", "", 0o666).directory("tmp", 0o755).directory("var").directory("var/tmp").directory(
        "srv", 0o1777
    )
    rootfs.unpacked(tree)
    (tree / "setuid").touch()
    (tree / "setuid").chmod(0o6711)
    found = members(layer_of(tree)[0])
    assert {name: oct(member.mode) for name, member in found.items()} == {
        "closed": "0o755",
        "closed/setuid": "0o755",
        "open": "0o644",
        "private": "0o644",
        "setuid": "0o755",
        "srv": "0o755",
        "tmp": "0o1777",
        "var": "0o755",
        "var/tmp": "0o1777",
    }
    assert {(member.uid, member.gid, member.uname) for member in found.values()} == {(0, 0, "")}


def test_what_is_no_part_of_an_image_is_left_out(tmp_path: Path) -> None:
    tree = images.small().unpacked(tmp_path / "tree")
    (tree / ".singularity.d/env").mkdir(parents=True)
    (tree / ".run").symlink_to(".singularity.d/actions/run")
    (tree / "environment").symlink_to("/.singularity.d/env/90-environment.sh")
    (tree / "opt/own").symlink_to("../.singularity.d/env")
    (tree / "opt/.wh.small").touch()
    (tree / ".wh..wh..opq").touch()
    os.mkfifo(tree / "opt/fifo")
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tree / "srv/socket"))
    expected = {"fifo": 1, "socket": 1, "name that a layer keeps for removed files": 2, "part of Apptainer's own": 3}
    if os.geteuid() == 0:
        os.mknod(tree / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        expected["device node"] = 1
    content, layer = layer_of(tree)
    assert dict(layer.left_out) == expected
    assert {n for n in members(content) if "own" in n or "wh" in n or "fifo" in n or "singularity" in n} == {"opt/own"}


def test_what_cannot_be_read_is_named_and_nothing_outside_is_touched(ordinary_user: User) -> None:
    tree = ordinary_user.home / "closed tree"
    tree.mkdir()
    (tree / "file").write_text("x")
    (tree / "file").chmod(0o000)
    if ordinary_user.root:
        os.chown(tree / "file", 0, 0)
    code = (
        "import sys, io\nfrom pathlib import Path\nfrom neurocommand.image.treelayer import TreeLayer\n"
        "from neurocommand.errors import ImageError\n"
        "try: TreeLayer(Path(sys.argv[1])).write(io.BytesIO(), print)\n"
        "except ImageError as error: print(error)\n"
    )
    done = ordinary_user.python(code, tree)
    shutil.rmtree(tree)
    last = done.stdout.decode().splitlines()[-1]
    assert last == f"{tree}/file: cannot be put into a layer: Permission denied", done.stderr


@pytest.mark.parametrize("change", ["shorter", "longer", "link", "gone", "more"])
def test_a_tree_that_changes_meanwhile_is_refused(tmp_path: Path, change: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_bytes(b"x" * 1000)
    (tmp_path / "secret").write_bytes(b"s" * 1000)
    layer = TreeLayer(tree)
    (tree / "file").unlink()
    if change == "link":
        (tree / "file").symlink_to(tmp_path / "secret")
    elif change == "more":
        (tree / "file").write_bytes(b"x" * 1000)
        (tree / "other").touch()
    elif change != "gone":
        (tree / "file").write_bytes(b"x" * (400 if change == "shorter" else 2000))
    written = io.BytesIO()
    with pytest.raises(ImageError, match="changed while it was read"):
        layer.write(written, lambda done: None)
    assert b"sss" not in written.getvalue()


def test_the_archive_says_what_docker_and_udocker_ask_for(tmp_path: Path) -> None:
    content = packed(images.small().unpacked(tmp_path / "tree"))
    with tarfile.open(fileobj=io.BytesIO(content)) as opened:
        texts = {m.name: opened.extractfile(m).read() for m in opened if m.isfile()}  # type: ignore[union-attr]
    (entry,) = json.loads(texts["manifest.json"])
    assert entry["RepoTags"] == ["small_1.0:20260101"]
    (layer,) = entry["Layers"]
    number = layer.removesuffix("/layer.tar")
    assert json.loads(texts["repositories"]) == {"small_1.0": {"20260101": number}}
    assert texts[f"{number}/VERSION"] == b"1.0"
    assert json.loads(texts[f"{number}/json"])["id"] == number
    assert entry["Config"] == f"{hashlib.sha256(texts[entry['Config']]).hexdigest()}.json"
    document = json.loads(texts[entry["Config"]])
    assert document["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(texts[layer]).hexdigest()}"]}
    assert (document["architecture"], document["os"]) == ("arm64", "linux")
    assert document["created"] == "2026-01-01T00:00:00Z"
    assert document["config"]["Env"] == ["PATH=/bin", "ODD=a=b\nc"]
    assert document["config"]["Cmd"] == ["/bin/sh"]
    assert {member.mtime for member in members(content).values()} == {1767225600}


def test_two_trees_that_say_the_same_give_the_same_bytes(tmp_path: Path) -> None:
    one = packed(images.small().unpacked(tmp_path / "one"))
    other = images.small()
    other.members.reverse()
    other.unpacked(tmp_path / "other")
    for path in (tmp_path / "one").rglob("*"):
        status = path.lstat()
        other_path = tmp_path / "other" / path.relative_to(tmp_path / "one")
        os.utime(other_path, ns=(0, status.st_mtime_ns), follow_symlinks=False)
    assert packed(tmp_path / "other") == one


def test_a_sif_gives_the_same_bytes_whoever_unpacks_it(tmp_path: Path, ordinary_user: User) -> None:
    rootfs = images.small().file("root/private", "x", 0o600).directory("closed", 0o000)
    rootfs.add("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    image = images.packed_sif(rootfs, tmp_path / "image.sif")
    sif.unpack(image, tmp_path / "tree")
    filetree.make_readable(tmp_path / "tree")
    place = ordinary_user.home / "whoever"
    place.mkdir()
    shutil.copy(image, place / "image.sif")
    ordinary_user.give(place)
    code = (
        "import sys\nfrom pathlib import Path\nfrom neurocommand.image import filetree, squashfs, treelayer, header\n"
        "here = Path(sys.argv[1])\n"
        "squashfs.extract(here / 'image.sif', header.locate(here / 'image.sif').offset, here / 'tree')\n"
        "filetree.make_readable(here / 'tree')\n"
        "print(treelayer.TreeLayer(here / 'tree').write(open('/dev/null', 'wb'), lambda done: None))\n"
    )
    done = ordinary_user.python(code, place)
    shutil.rmtree(place)
    assert done.stdout.decode().strip() == hashlib.sha256(layer_of(tmp_path / "tree")[0]).hexdigest(), done.stderr


def test_what_is_written_can_be_converted_again(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    path.write_bytes(packed(images.small().unpacked(tmp_path / "tree")))
    assert imagefile.image_of(path).transport == "docker-archive"


@pytest.mark.parametrize("application", ["fsl", "a__b_", "a_-b", "a--b-", "x___y"])
@pytest.mark.parametrize("version", ["1.0", "6.0.4A", "1..2.", "1."])
def test_a_name_is_one_that_docker_allows(application: str, version: str) -> None:
    repository, tag = Description(Release(application, version, "latest"), (), "amd64", "").name
    assert REPOSITORY.fullmatch(repository), repository
    assert tag == "latest"


@pytest.mark.parametrize(
    ("date", "created"), [("latest", "1970-01-01T00:00:00Z"), ("20269901", "1970-01-01T00:00:00Z")]
)
def test_a_build_date_that_is_none_is_the_beginning(date: str, created: str) -> None:
    assert Description(Release("fsl", "1", date), (), "amd64", "").document["created"] == created
