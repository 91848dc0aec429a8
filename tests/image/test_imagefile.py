"""Images in files: as docker and skopeo write them, converted as from a registry; and what is no such file."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand.errors import ImageError
from neurocommand.image import conversion, sif
from neurocommand.image.imagefile import image_of
from neurocommand.image.oci import NeedsApptainerError
from tests import images, oci_images
from tests.images import Rootfs

LAYERS = (Rootfs().directory("etc").file("etc/motd", "hello\n"), Rootfs().file("etc/issue", "there\n"))
Files = dict[str, bytes | str]  # a text is the target of a symbolic link


def archive(path: Path, files: Files) -> Path:
    with tarfile.open(path, "w") as target:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            if isinstance(content, str):
                member.type, member.linkname = tarfile.SYMTYPE, content
            else:
                member.size = len(content)
            target.addfile(member, io.BytesIO(content) if isinstance(content, bytes) else None)
    return path


def layout(made: oci_images.OciImage) -> Files:
    entry = {"mediaType": oci_images.MANIFEST, "digest": f"sha256:{made.sha256}", "size": len(made.manifest_text)}
    blobs = {**made.blobs, made.sha256: made.manifest_text}
    return {
        "oci-layout": b'{"imageLayoutVersion": "1.0.0"}',
        "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode(),
        **{f"blobs/sha256/{name}": content for name, content in blobs.items()},
    }


def saved(compress: bool = False) -> Files:
    """Return what ``docker save`` writes; the second layer is a link, as where an image before has it."""
    tars = [oci_images.tar(layer) for layer in LAYERS]
    digests = [f"sha256:{hashlib.sha256(content).hexdigest()}" for content in tars]
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": digests}})
    entry = {"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}
    first, second = (gzip.compress(content) for content in tars) if compress else tars
    return {
        "a/layer.tar": first,
        "b/layer.tar": "../c/layer.tar",
        "c/layer.tar": second,
        "c.json": config.encode(),
        "manifest.json": json.dumps([entry]).encode(),
    }


def convert(path: Path, where: Path) -> tuple[conversion.Image, list[str]]:
    said = list[str]()
    image = image_of(path)
    conversion.convert(image, where, compression="gzip", scratch=where.parent / "scratch", report=said.append)
    return image, said


def what_it_holds(path: Path) -> tuple[str, ...]:
    """Return the image's two files, and the transport and the reference that the SIF says it was made from."""
    tree = path.with_suffix(".tree")
    sif.unpack(path, tree)
    said = dict(line.split(": ", 1) for line in (tree / ".singularity.d/Singularity").read_text().splitlines() if line)
    return (tree / "etc/motd").read_text(), (tree / "etc/issue").read_text(), said["bootstrap"], said["from"]


def test_a_layout_is_the_image_that_a_registry_would_state(tmp_path: Path) -> None:
    made = oci_images.image(*LAYERS)
    image, said = convert(archive(tmp_path / "toy.tar", layout(made)), tmp_path / "toy.sif")
    assert (image.sha256, image.reference) == (made.sha256, f"toy.tar@sha256:{made.sha256}")
    assert said == []
    assert what_it_holds(tmp_path / "toy.sif") == ("hello\n", "there\n", "oci-archive", image.reference)


def test_a_docker_archive_is_known_by_its_configuration(tmp_path: Path) -> None:
    files = saved()
    image, said = convert(archive(tmp_path / "toy.tar", files), tmp_path / "toy.sif")
    config = files["c.json"]
    assert isinstance(config, bytes)
    assert (image.sha256, image.address) == (hashlib.sha256(config).hexdigest(), f"docker-archive:{tmp_path}/toy.tar")
    assert said == []
    assert what_it_holds(tmp_path / "toy.sif") == ("hello\n", "there\n", "docker-archive", image.reference)


def test_layers_that_are_compressed_are_left_to_apptainer(tmp_path: Path) -> None:
    image = image_of(archive(tmp_path / "toy.tar", saved(compress=True)))
    with pytest.raises(NeedsApptainerError, match="its layers are compressed"):
        image.source.manifest(image.sha256)
    _, said = convert(tmp_path / "toy.tar", tmp_path / "toy.sif")
    assert said[0].startswith("left to apptainer build")
    assert what_it_holds(tmp_path / "toy.sif")[:2] == ("hello\n", "there\n")


def test_what_skopeo_writes_is_the_same_image_either_way(tmp_path: Path) -> None:
    oci_images.written(oci_images.image(*LAYERS), tmp_path / "layout")
    for kind in ("docker-archive", "oci-archive"):
        images.run(["skopeo", "copy", f"oci:{tmp_path}/layout:1", f"{kind}:{tmp_path}/{kind}.tar:toy:1"])
        image, said = convert(tmp_path / f"{kind}.tar", tmp_path / f"{kind}.sif")
        assert said == []
        assert what_it_holds(tmp_path / f"{kind}.sif") == ("hello\n", "there\n", kind, image.reference)


def changed(name: str, content: bytes | str | None) -> Files:
    files = saved()
    if content is None:
        del files[name]
    else:
        files[name] = content
    return files


ONE = {"Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"]}
HOSTILE: dict[str, tuple[Files, str]] = {
    "nothing": ({}, "has no file 'manifest.json'"),
    "no list": (changed("manifest.json", b"no JSON"), "manifest.json: is no JSON"),
    "deep": (changed("manifest.json", b"[" * 100_000), "manifest.json: is no JSON"),
    "another list": (changed("manifest.json", b'["x"]'), "manifest.json: is no list of images"),
    "two images": (changed("manifest.json", json.dumps([ONE, ONE]).encode()), "names 2 images, not one"),
    "no names": (changed("manifest.json", b'[{"Config": 1, "Layers": [2]}]'), "names no configuration, or no layers"),
    "out": (
        changed("manifest.json", json.dumps([{**ONE, "Config": "../../../etc/passwd"}]).encode()),
        "has no file '../../../etc/passwd'",
    ),
    "absolute": (changed("manifest.json", json.dumps([{**ONE, "Config": "/etc/passwd"}]).encode()), "has no file"),
    "link out": (changed("c.json", "/etc/passwd"), "has no file 'c.json'"),
    "link to itself": (changed("c.json", "c.json"), "has no file 'c.json'"),
    "no layer": (changed("a/layer.tar", None), "has no file 'a/layer.tar'"),
    "no digests": (changed("c.json", b"{}"), "does not say the sha256 of each layer"),
    "odd digests": (changed("c.json", b'{"rootfs": {"diff_ids": ["sha256:x"]}}'), "does not say the sha256"),
    "fewer layers": (
        changed("c.json", json.dumps({"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}).encode()),
        "knows 1 layers, the archive has 2",
    ),
    "an index of nothing": ({"index.json": b"[]"}, "index.json: is no list of images"),
    "no digest": ({"index.json": b'{"manifests": [{"digest": "md5:1"}]}'}, "states no sha256 of its image"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_sound_archive_is_named_with_its_place(case: str, tmp_path: Path) -> None:
    files, said = HOSTILE[case]
    with pytest.raises(ImageError) as caught:
        image_of(archive(tmp_path / "toy.tar", files))
    assert str(tmp_path / "toy.tar") in caught.value.message
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "No such file"), (gzip.compress(b"x", mtime=0), "is compressed"), (b"x" * 1024, "no sound tar file")],
)
def test_what_is_no_tar_file_is_named(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "toy.tar").write_bytes(content)
    with pytest.raises(ImageError, match=said):
        image_of(tmp_path / "toy.tar")


def test_a_file_that_goes_away_is_named(tmp_path: Path) -> None:
    image = image_of(archive(tmp_path / "toy.tar", saved()))
    (tmp_path / "toy.tar").unlink()
    with pytest.raises(ImageError, match=r"toy\.tar: cannot be read: No such file"):
        conversion.convert(
            image, tmp_path / "toy.sif", compression="gzip", scratch=tmp_path / "scratch", report=lambda line: None
        )


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_a_layer_with_other_bytes_than_it_was_named_for_is_refused(kind: str, tmp_path: Path) -> None:
    made = oci_images.image(*LAYERS)
    files = saved() if kind == "docker-archive" else layout(made)
    name = max(files, key=lambda name: len(files[name]) if name.startswith(("a/", "blobs")) else -1)
    content = files[name]
    assert isinstance(content, bytes)
    path = archive(tmp_path / "toy.tar", {**files, name: content[:-1] + b"y"})
    with pytest.raises(ImageError, match=r"other bytes|no sound"):
        convert(path, tmp_path / "toy.sif")
    assert not (tmp_path / "toy.sif").exists()


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
def test_whatever_is_damaged_is_said_with_its_place_or_still_an_image(damages: list[tuple[float, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = archive(Path(directory, "toy.tar"), saved())
        content = bytearray(path.read_bytes())
        for place, byte in damages:
            content[int(place * len(content))] = byte
        path.write_bytes(content)
        said = ""
        try:
            image = image_of(path)
            image.source.manifest(image.sha256)
        except ImageError as error:
            said = error.message
        assert not said or str(path) in said
