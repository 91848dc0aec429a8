"""OCI image documents as values: which layers an image has, and which image of an index is meant.

https://github.com/opencontainers/image-spec/blob/main/manifest.md, image-index.md and config.md; Docker's own formats
have the same fields under other media types.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from neurocommand.errors import ImageError, printable

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LAYER = re.compile(
    r"application/vnd\.(oci\.image\.layer\.v1\.tar(\+(gzip|zstd))?|docker\.image\.rootfs\.diff\.tar(\.(gzip|zstd))?)"
)
MOST_LAYERS = 1000
HINT = "build and push the image again"


class NeedsApptainerError(ImageError):
    """Something about an image that only Apptainer itself can carry out exactly as it does."""


@dataclass(frozen=True)
class Descriptor:
    """What an image manifest says of a blob: bare hex sha256, size in bytes, media type."""

    sha256: str
    size: int
    media_type: str


@dataclass(frozen=True)
class ImageManifest:
    """The blobs of one image: its configuration, and its layers, lowest first."""

    configuration: Descriptor
    layers: tuple[Descriptor, ...]


def parse(text: bytes, where: str, architecture: str) -> ImageManifest | Descriptor:
    """Read an image manifest; of an index, return the descriptor of the image for this architecture.

    Args:
        text: the document.
        where: what faults are reported against.
        architecture: as Go names it: ``amd64``.

    Raises:
        NeedsApptainerError: it is of a kind that is left to Apptainer.
        ImageError: it is damaged.
    """
    document = _object(text, where)
    if isinstance(document.get("manifests"), list):
        return _chosen(document["manifests"], where, architecture)
    layers = document.get("layers")
    if not isinstance(layers, list) or "config" not in document:
        raise NeedsApptainerError(f"{where}: neither an image manifest nor an index")
    if len(layers) > MOST_LAYERS:
        raise ImageError(f"{where}: has {len(layers)} layers; more than {MOST_LAYERS} are no image", HINT)
    found = tuple(_descriptor(entry, f"{where}: layer {n}") for n, entry in enumerate(layers, 1))
    for number, layer in enumerate(found, 1):
        if not _LAYER.fullmatch(layer.media_type):
            raise NeedsApptainerError(f"{where}: layer {number} is of type {printable(layer.media_type)!r}")
    if not found:
        raise NeedsApptainerError(f"{where}: has no layers")
    return ImageManifest(_descriptor(document["config"], f"{where}: configuration"), found)


def with_one_layer(configuration: bytes, where: str, diff_id: str) -> bytes:
    """Return an image's configuration for an image that has another, single layer.

    Args:
        configuration: the image's own.
        where: what faults are reported against.
        diff_id: sha256 of the uncompressed layer, as bare hex.

    Raises:
        NeedsApptainerError: it can be read in two ways.
        ImageError: it is damaged.
    """
    document = _object(configuration, where)
    changed = {name: value for name, value in document.items() if name.lower() not in ("rootfs", "history")}
    changed["rootfs"] = {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]}
    return json.dumps(changed).encode()


def _chosen(entries: list[Any], where: str, architecture: str) -> Descriptor:
    fitting = []
    for entry in entries:
        platform = entry.get("platform") if isinstance(entry, dict) else None
        if not isinstance(platform, dict):
            raise NeedsApptainerError(f"{where}: an index that does not say for which platform an image is")
        if (platform.get("os"), platform.get("architecture")) == ("linux", architecture):
            fitting.append(entry)
    if len(fitting) != 1:
        raise NeedsApptainerError(f"{where}: an index with {len(fitting)} images for linux/{architecture}")
    return _descriptor(fitting[0], where)


def _descriptor(entry: Any, where: str) -> Descriptor:
    if not isinstance(entry, dict):
        raise ImageError(f"{where}: is no descriptor", HINT)
    digest, size, media_type = entry.get("digest"), entry.get("size"), entry.get("mediaType", "")
    match = _DIGEST.fullmatch(digest) if isinstance(digest, str) else None
    if match is None or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise ImageError(f"{where}: its descriptor has no sha256 digest, or no size", HINT)
    return Descriptor(match[1], size, media_type if isinstance(media_type, str) else "")


def _object(text: bytes, where: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        # Go's reader does not tell upper case from lower, so these would be one name to Apptainer
        if len({name.lower() for name in made}) != len(pairs):
            raise NeedsApptainerError(f"{where}: a JSON object with a name that stands twice")
        return made

    try:
        document = json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ImageError(f"{where}: is no JSON", HINT) from error
    if not isinstance(document, dict):
        raise ImageError(f"{where}: is no JSON object", HINT)
    return document
