"""A docker-archive, the file that ``docker save`` writes, as Docker, skopeo and udocker all take it.

https://github.com/moby/docker-image-spec/blob/main/spec.md#combined-image-json--filesystem-changeset-format. udocker
1.3.17 reads the older part of the format alone: `repositories`, and a directory for each layer with VERSION and json.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, BinaryIO

from neurocommand.image import archive
from neurocommand.image.layers import Node
from neurocommand.image.treelayer import END, TreeLayer
from neurocommand.model import Release

# The first version of the layer's own document, and the only one: https://github.com/moby/moby/blob/v1.9.1/image/spec/v1.md
VERSION = b"1.0"


@dataclass(frozen=True)
class Description:
    """What an image says of itself.

    ``environment`` are (name, value), ``architecture`` is as Go names it, ``origin`` tells apart what the layer was
    made of: the digest of the SIF and its form.
    """

    release: Release
    environment: tuple[tuple[str, str], ...]
    architecture: str
    origin: str

    @property
    def name(self) -> tuple[str, str]:
        """The image's repository, as far as Docker allows the release's own name, and its tag.

        >>> Description(Release("fsl", "6.0.4A", "20210105"), (), "amd64", "").name
        ('fsl_6.0.4a', '20210105')
        """
        name = f"{self.release.application}_{self.release.version}".lower()
        # between words there is one dot, up to two underscores, or any number of dashes
        words = [word for word in re.split(r"[^a-z0-9]*-[^a-z0-9]*|_{3,}|\.[._]+|_+\.[._]*", name) if word]
        return "-".join(words).strip("._-"), self.release.build_date

    @property
    def created(self) -> datetime:
        """The build date; the beginning of 1970 where it is no date, such as ``latest``."""
        try:
            return datetime.strptime(self.release.build_date, "%Y%m%d").replace(tzinfo=timezone.utc)
        except ValueError:
            return datetime.fromtimestamp(0, timezone.utc)

    @property
    def document(self) -> dict[str, Any]:
        """What the image's and the layer's document have in common."""
        return {
            "architecture": self.architecture,
            "config": {
                "Cmd": ["/bin/sh"],
                "Env": [f"{name}={value}" for name, value in self.environment],
                "Labels": {
                    "org.opencontainers.image.title": self.release.application,
                    "org.opencontainers.image.version": self.release.version,
                },
            },
            "created": self.created.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "os": "linux",
        }


def write(layer: TreeLayer, description: Description, target: BinaryIO, advance: Callable[[int], None]) -> None:
    """Write an image of one layer; the same layer and description give the same bytes.

    Args:
        layer: the file system.
        description: the rest.
        target: where to write; a stream will do.
        advance: called with the bytes of the layer done so far.

    Raises:
        ImageError: the layer's tree changed, or cannot be read.
        OSError: the target cannot be written.
    """
    members = _Members(target, int(description.created.timestamp()))
    # The digest is known only after the layer is written, which may be larger than any memory. This is but a name.
    number = hashlib.sha256(f"{description.release.id} {description.origin}".encode()).hexdigest()
    members.directory(number)
    members.file(f"{number}/VERSION", VERSION)
    members.file(f"{number}/json", _json({**description.document, "id": number}))
    members.begin(f"{number}/layer.tar", layer.size)
    digest = layer.write(target, advance)
    members.end(layer.size)
    configuration = _json(
        {
            **description.document,
            "history": [
                {
                    "created": description.document["created"],
                    "created_by": f"neurocommand export {description.release.id}",
                }
            ],
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    )
    name = f"{hashlib.sha256(configuration).hexdigest()}.json"
    repository, tag = description.name
    members.file(name, configuration)
    # one tag only: udocker loads an image of two, and then cannot make a container of it
    entry = {"Config": name, "RepoTags": [f"{repository}:{tag}"], "Layers": [f"{number}/layer.tar"]}
    members.file("manifest.json", _json([entry]))
    members.file("repositories", _json({repository: {tag: number}}))
    target.write(END)


class _Members:
    """The members of the archive itself."""

    def __init__(self, target: BinaryIO, mtime: int) -> None:
        self.target = target
        self.mtime = mtime

    def directory(self, name: str) -> None:
        self.target.write(archive.header(name, Node("directory", 0o755, mtime=self.mtime), name))

    def file(self, name: str, content: bytes) -> None:
        self.begin(name, len(content))
        self.target.write(content)
        self.end(len(content))

    def begin(self, name: str, size: int) -> None:
        self.target.write(archive.header(name, Node("file", 0o644, mtime=self.mtime, size=size), name))

    def end(self, size: int) -> None:
        self.target.write(bytes(-size % archive.BLOCK))


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
