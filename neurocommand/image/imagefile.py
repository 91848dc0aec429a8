"""An image in a file, as ``docker save`` and skopeo write it: the tar file of an OCI layout, or a docker-archive.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md and
https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format. Nothing is
unpacked: names of members are only looked up, so that none leads anywhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from neurocommand.errors import ImageError, printable
from neurocommand.image import members
from neurocommand.image.blobs import GZIP
from neurocommand.image.conversion import Image
from neurocommand.image.layers import Node
from neurocommand.image.oci import MOST_LAYERS, NeedsApptainerError

MOST_MEMBERS = 10_000
LARGEST_DOCUMENT = 16 << 20
HINT = "save the image again: docker save -o image.tar, or skopeo copy … oci-archive:image.tar"
_PIECE = 1 << 18
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}", re.ASCII)
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIGURATION = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def image_of(path: Path) -> Image:
    """Return the one image of a file, to be converted as one of a registry.

    Its digest is that of the image manifest where the file is an OCI layout: what a registry states to which it is
    copied as it is. A docker-archive has no image manifest; then it is that of the image's configuration, the "image
    id", which names the digests of all layers.

    Raises:
        ImageError: the file cannot be read, is no such archive, is damaged, or has not just one image.
    """
    archive = _Archive(path)
    source = _Layout(archive) if "index.json" in archive.nodes else _Saved(archive)
    name = path.name if _PLAIN.fullmatch(path.name) else "image.tar"
    return Image(
        f"{name}@sha256:{source.sha256}",
        source.sha256,
        insecure=False,
        source=source,
        transport=source.transport,
        address=f"{source.transport}:{path.absolute()}",
    )


class _Archive:
    """A tar file, its members by name; of a name that stands twice the last one counts."""

    def __init__(self, path: Path) -> None:
        self.path, self.where = path, printable(str(path))
        self.nodes: dict[str, Node] = {}
        with self.opened() as stream:
            if stream.read(2) == GZIP:
                raise ImageError(f"{self.where}: is compressed", "uncompress it first: gunzip")
        for number, member in enumerate(members.read(path, 0, self.where)):
            if number >= MOST_MEMBERS:
                raise ImageError(f"{self.where}: has more than {MOST_MEMBERS} members", HINT)
            self.nodes[posixpath.normpath(member.name)] = member.node

    def file(self, name: str) -> Node:
        """Return the file of a name, or what a symbolic link of that name leads to in the archive itself."""
        node = self.nodes.get(posixpath.normpath(name))
        if node is not None and node.kind == "symlink":
            node = self.nodes.get(posixpath.normpath(posixpath.join(posixpath.dirname(name), node.target)))
        elif node is not None and node.kind == "hardlink":
            node = self.nodes.get(posixpath.normpath(node.target))
        if node is None or node.kind != "file":
            raise ImageError(f"{self.where}: has no file {printable(name)!r}", HINT)
        return node

    def pieces(self, node: Node) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        left = node.size
        with self.opened() as stream:
            stream.seek(node.offset)
            while left and (piece := stream.read(min(left, _PIECE))):
                left -= len(piece)
                yield piece

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """Open the archive for a block, and tell its faults from those of a file that is written meanwhile."""
        try:
            stream = open(self.path, "rb")  # noqa: SIM115  (closed below; only its opening is judged)
        except OSError as error:
            raise ImageError(f"{self.where}: cannot be read: {error.strerror}", "is its name right?") from error
        with stream:
            yield stream

    def bytes_of(self, name: str) -> bytes:
        """Return a small file."""
        node = self.file(name)
        if node.size > LARGEST_DOCUMENT:
            raise ImageError(f"{self.where}: {printable(name)}: {node.size} bytes are no document", HINT)
        return b"".join(self.pieces(node))

    def fault(self, name: str, what: str) -> ImageError:
        """Return what to raise for a file of the archive."""
        return ImageError(f"{self.where}: {printable(name)}: {what}", HINT)

    def json(self, name: str) -> Any:
        """Return a JSON document."""
        try:
            return json.loads(self.bytes_of(name))
        except (ValueError, RecursionError) as error:
            raise self.fault(name, "is no JSON") from error

    def the_one(self, name: str, listed: Any) -> dict[str, Any]:
        """Return the only entry of a list of images."""
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise self.fault(name, "is no list of images")
        if len(listed) != 1:
            raise self.fault(name, f"names {len(listed)} images, not one")
        return listed[0]  # type: ignore[no-any-return]


class _Layout:
    """The blobs of an OCI layout."""

    transport = "oci-archive"

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        index = archive.json("index.json")
        entry = archive.the_one("index.json", index.get("manifests") if isinstance(index, dict) else None)
        found = _DIGEST.fullmatch(str(entry.get("digest")))
        if found is None:
            raise archive.fault("index.json", "states no sha256 of its image")
        self.sha256 = found[1]

    def manifest(self, sha256: str) -> bytes:
        """Return an image manifest or index, its digest verified."""
        name = f"blobs/sha256/{sha256}"
        text = self.archive.bytes_of(name)
        if hashlib.sha256(text).hexdigest() != sha256:
            raise self.archive.fault(name, "has other bytes than its name says")
        return text

    @contextlib.contextmanager
    def blob(self, sha256: str) -> Iterator[Iterable[bytes]]:
        """Open a blob."""
        yield self.archive.pieces(self.archive.file(f"blobs/sha256/{sha256}"))


class _Saved:
    """A docker-archive: a list of layers that are not compressed, whose digests the configuration knows."""

    transport = "docker-archive"

    def __init__(self, archive: _Archive) -> None:
        self.archive = archive
        entry = archive.the_one("manifest.json", archive.json("manifest.json"))
        name, layers = entry.get("Config"), entry.get("Layers")
        if not isinstance(name, str) or not isinstance(layers, list) or not all(isinstance(n, str) for n in layers):
            raise archive.fault("manifest.json", "names no configuration, or no layers")
        configuration, self._files = archive.file(name), dict[str, Node]()
        content = archive.bytes_of(name)
        self.sha256 = hashlib.sha256(content).hexdigest()
        self._files[self.sha256] = configuration
        digests = self._digests(name)
        if len(digests) != len(layers) or len(layers) > MOST_LAYERS:
            raise archive.fault(name, f"knows {len(digests)} layers, the archive has {len(layers)}")
        self._layers = [(digest, archive.file(layer)) for digest, layer in zip(digests, layers, strict=True)]
        self._files.update(self._layers)

    def _digests(self, name: str) -> list[str]:
        document = self.archive.json(name)
        root = document.get("rootfs") if isinstance(document, dict) else None
        listed = root.get("diff_ids") if isinstance(root, dict) else None
        found = [_DIGEST.fullmatch(str(entry)) for entry in listed] if isinstance(listed, list) else []
        if not found or None in found:
            raise self.archive.fault(name, "does not say the sha256 of each layer")
        return [match[1] for match in found if match is not None]

    def manifest(self, sha256: str) -> bytes:
        """Return an image manifest as a registry would have it, if it kept layers that are not compressed."""
        if any(next(self.archive.pieces(node), b"").startswith(GZIP) for _, node in self._layers):
            raise NeedsApptainerError(f"{self.archive.where}: its layers are compressed")
        described = {"mediaType": _CONFIGURATION, "digest": f"sha256:{self.sha256}"}
        layers = [{"mediaType": _LAYER, "digest": f"sha256:{name}", "size": node.size} for name, node in self._layers]
        document = {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {**described, "size": self._files[self.sha256].size},
            "layers": layers,
        }
        return json.dumps(document).encode()

    @contextlib.contextmanager
    def blob(self, sha256: str) -> Iterator[Iterable[bytes]]:
        """Open a blob."""
        yield self.archive.pieces(self._files[sha256])
