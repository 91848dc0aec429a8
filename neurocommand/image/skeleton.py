"""What Apptainer adds to an image, asked of Apptainer itself: it converts one that has nothing but the configuration.

Everything that it writes depends on the configuration and on the reference alone, as long as ``unlike`` finds nothing
in the image that it would heed. So the scripts, labels and records of a SIF are those of the Apptainer that is
installed, whatever its version, and none of its text is ours.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from neurocommand.errors import ImageError, ProcessError
from neurocommand.files import remove_tree
from neurocommand.image import container, oci, squashfs
from neurocommand.image.container import DEFINITION, Container, Item
from neurocommand.image.header import DATA_JSON, locate
from neurocommand.image.layers import FileSystem, Node
from neurocommand.image.oci import NeedsApptainerError
from neurocommand.process import dying_with_us, find_program, run

INSPECTION = "inspect-metadata.json"
DEFINED, LABELS = ".singularity.d/Singularity", ".singularity.d/labels.json"
EMPTY_TAR = bytes(1024)
# Names in the root that Apptainer would follow, keep or read.
OWN_NAMES = (".singularity.d", "singularity", "environment", ".run", ".exec", ".test", ".shell", "scif")
OWN_DIRECTORIES = ("dev", "proc", "root", "var", "var/tmp", "tmp", "etc", "sys", "home")
OWN_FILES = ("etc/hosts", "etc/resolv.conf")
TIMEOUT = 300.0
PERMISSIVE = 0o200  # the root is made writable for its owner


@dataclass(frozen=True)
class Skeleton:
    """An empty image as Apptainer converts it: its SIF without the file system, and that as a file system of its own.

    ``layer`` is a file with the contents of its files, which its nodes' offsets mean.
    """

    sif: Container
    files: FileSystem
    layer: Path


def make(configuration: bytes, origin: tuple[str, str], directory: Path, number: int) -> Skeleton:
    """Ask Apptainer.

    Args:
        configuration: the image's own, as its registry has it.
        origin: what the SIF is to say that it was made from: transport and reference, both of plain characters.
        directory: where to work; must not exist.
        number: what nodes call the layer with the skeleton's contents.

    Raises:
        NeedsApptainerError: Apptainer is missing, fails, or writes something that we do not know.
        ImageError: the configuration is damaged.
    """
    runtime = find_program("apptainer") or find_program("singularity")
    if runtime is None:
        raise NeedsApptainerError("Apptainer is missing")
    directory.mkdir()
    # a name that nothing else in the image can hold, so that it can be replaced afterwards
    token = secrets.token_hex(16)
    transport, reference = origin
    diff_id = hashlib.sha256(EMPTY_TAR).hexdigest()
    _write_layout(directory / token, oci.with_one_layer(configuration, f"{reference}: configuration", diff_id))
    settings = {f"{name}_TMPDIR": str(directory) for name in ("APPTAINER", "SINGULARITY")}
    settings |= {f"{name}_DISABLE_CACHE": "true" for name in ("APPTAINER", "SINGULARITY")}
    settings |= {f"{name}_CACHEDIR": str(directory / "cache") for name in ("APPTAINER", "SINGULARITY")}
    try:
        argv = [*dying_with_us("TERM"), runtime, "--quiet", "build", "skeleton.sif", f"oci:{token}"]
        run(argv, env=settings, cwd=directory, timeout=TIMEOUT)
        made = container.read(directory / "skeleton.sif")
        partition = locate(directory / "skeleton.sif")
        squashfs.extract(directory / "skeleton.sif", partition.offset, directory / "tree")
    except (ProcessError, ImageError) as error:
        raise NeedsApptainerError(f"Apptainer makes no SIF of the image's configuration: {error.message}") from error
    wording = _Wording(token, transport, reference)
    layer = directory / "contents"
    files = _collect(directory / "tree", layer, number, wording)
    remove_tree(directory / "tree")
    return Skeleton(made.changed(wording.object), files, layer)


def unlike(image: FileSystem) -> str | None:
    """Return what Apptainer would heed in an image, so that the skeleton cannot be laid over it; None when nothing."""
    for name in OWN_NAMES:
        if name in image.root.entries:
            return f"it has /{name}"
    for path in OWN_DIRECTORIES:
        node = image.find(tuple(path.split("/")))
        if node is not None and node.kind != "directory":
            return f"its /{path} is a {node.kind}"
    for path in OWN_FILES:
        node = image.find(tuple(path.split("/")))
        if node is None:
            continue
        if node.kind != "file":
            return f"its /{path} is a {node.kind}"
        if sum(other is node for _, other in image.walk()) > 1:
            return f"its /{path} has a second name"
    return None


def lay_over(image: FileSystem, skeleton: Skeleton) -> None:
    """Add to an image what Apptainer adds; it must have nothing that ``unlike`` finds."""
    image.root.mode |= PERMISSIVE
    image.root.mtime = skeleton.files.root.mtime
    for path, node in skeleton.files.walk():
        place = tuple(path.split("/"))
        directory = image.directory(place[:-1])
        present = directory.entries.get(place[-1])
        if present is None:
            directory.entries[place[-1]] = replace(node, entries={})
            directory.mtime = node.mtime
        elif present.kind == "file":
            present.mode, present.mtime = node.mode, node.mtime
            present.size, present.layer, present.offset = node.size, node.layer, node.offset


class _Wording:
    """Puts the image's reference in the place of the empty one's, wherever Apptainer wrote it."""

    def __init__(self, token: str, transport: str, reference: str) -> None:
        self.token, self.transport, self.reference = token.encode(), transport.encode(), reference.encode()

    def object(self, item: Item) -> bytes:
        """Return a SIF's data object in the image's words."""
        if item.kind == DEFINITION:
            return self.change(item.content, 1)
        if item.kind == DATA_JSON and item.name == INSPECTION:
            return self.change(item.content, 2)
        return self.change(item.content, 0)

    def file(self, path: str, content: bytes) -> bytes:
        """Return the content of one of the files that Apptainer adds."""
        return self.change(content, 1 if path in (DEFINED, LABELS) else 0)

    def change(self, content: bytes, times: int) -> bytes:
        """Replace the reference and its transport, each exactly so many times.

        Raises:
            NeedsApptainerError: they stand there more or less often.
        """
        if times:
            places = (
                b"bootstrap: %s\nfrom: ",
                b"bootstrap: %s\\nfrom: ",
                b'deffile.bootstrap": "%s"',
                b'deffile.bootstrap":"%s"',
            )
            changes = [(place % b"oci", place % self.transport) for place in places]
            if sum(content.count(old) for old, _ in changes) != times:
                raise NeedsApptainerError("Apptainer names the image's transport in another way")
            for old, new in changes:
                content = content.replace(old, new)
        if content.count(self.token) != times:
            raise NeedsApptainerError("Apptainer names the image in another way")
        return content.replace(self.token, self.reference)


def _write_layout(directory: Path, configuration: bytes) -> None:
    """Write an OCI layout with one image (https://github.com/opencontainers/image-spec/blob/main/image-layout.md)."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, media_type: str) -> dict[str, object]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {
            "mediaType": f"application/vnd.oci.image.{media_type}",
            "digest": f"sha256:{digest}",
            "size": len(content),
        }

    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(configuration, "config.v1+json"),
        "layers": [blob(EMPTY_TAR, "layer.v1.tar")],
    }
    index = {"schemaVersion": 2, "manifests": [blob(json.dumps(manifest).encode(), "manifest.v1+json")]}
    (directory / "index.json").write_text(json.dumps(index), encoding="utf-8")
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")


def _collect(tree: Path, layer: Path, number: int, wording: _Wording) -> FileSystem:
    """Return an unpacked tree as a file system, all of it root's, with the contents of its files in one file."""
    made = FileSystem(0)
    made.root = _node(tree)
    with open(layer, "wb") as contents:
        for parent, directories, files in os.walk(tree):
            above = Path(parent).relative_to(tree)
            for name in directories + files:
                place = Path(parent, name)
                node = _node(place)
                if node.kind == "file":
                    content = wording.file(str(above / name), place.read_bytes())
                    node.layer, node.offset, node.size = number, contents.tell(), len(content)
                    contents.write(content)
                made.directory(above.parts).entries[name] = node
    return made


def _node(place: Path) -> Node:
    status = place.lstat()
    mode, mtime = stat.S_IMODE(status.st_mode), int(status.st_mtime)
    if stat.S_ISLNK(status.st_mode):
        return Node("symlink", 0o777, mtime=mtime, target=os.readlink(place))
    if stat.S_ISDIR(status.st_mode):
        return Node("directory", mode, mtime=mtime)
    if stat.S_ISREG(status.st_mode):
        return Node("file", mode, mtime=mtime)
    raise NeedsApptainerError(f"Apptainer adds something of an unknown kind: {place.name}")
