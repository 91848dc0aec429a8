"""OCI images of any layers and any configuration: as a source of blobs, and pushed to a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from neurocommand.errors import RegistryError
from tests.images import Rootfs

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def tar(rootfs: Rootfs, form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a layer with these members."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, errors="surrogateescape") as archive:
        for member, content in rootfs.members:
            archive.addfile(member, io.BytesIO(content))
    return target.getvalue()


@dataclass
class OciImage:
    """An image; ``raw`` are its layers as blobs, of whatever media type."""

    raw: Sequence[bytes]
    config: dict[str, Any] = field(default_factory=dict)
    media_type: str = LAYER
    architecture: str = "amd64"

    def __post_init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        configuration = {
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {
                "type": "layers",
                "diff_ids": [f"sha256:{hashlib.sha256(_plain(b)).hexdigest()}" for b in self.raw],
            },
        }
        layers = [self._descriptor(blob, self.media_type) for blob in self.raw]
        described = self._descriptor(json.dumps(configuration).encode(), CONFIG)
        self.manifest_text = json.dumps(
            {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        ).encode()
        self.sha256 = hashlib.sha256(self.manifest_text).hexdigest()

    def _descriptor(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    def manifest(self, sha256: str) -> bytes:
        """Give the image manifest, as a registry does."""
        return self.manifest_text

    @contextmanager
    def blob(self, sha256: str) -> Iterator[Iterable[bytes]]:
        """Give a blob in pieces, as a registry does."""
        if sha256 not in self.blobs:
            raise RegistryError("no such blob")
        content = self.blobs[sha256]
        yield (content[start : start + 1000] for start in range(0, len(content), 1000))

    def push(self, host: str, repository: str, tag: str = "", auth: tuple[str, str] | None = None) -> str:
        """Push it, and return its reference by digest."""
        base = f"http://{host}/v2/{repository}"
        with requests.Session() as session:
            session.auth = auth
            for digest, content in self.blobs.items():
                place = session.post(f"{base}/blobs/uploads/").headers["Location"]
                session.put(place, params={"digest": f"sha256:{digest}"}, data=content).raise_for_status()
            headers = {"Content-Type": MANIFEST}
            put = session.put(
                f"{base}/manifests/{tag or f'sha256:{self.sha256}'}", data=self.manifest_text, headers=headers
            )
            put.raise_for_status()
        return f"{host}/{repository}@sha256:{self.sha256}"


def image(*layers: Rootfs, **fields: Any) -> OciImage:
    """Return an image of these layers, compressed with gzip."""
    return OciImage([gzip.compress(tar(layer), 1, mtime=0) for layer in layers], **fields)


def _plain(blob: bytes) -> bytes:
    try:
        return gzip.decompress(blob)
    except (OSError, EOFError, ValueError):
        return blob


def written(made: OciImage, directory: Path) -> Path:
    """Write an image as an OCI layout with the tag ``1``; returns the layout."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)
    for digest, content in {**made.blobs, made.sha256: made.manifest_text}.items():
        (blobs / digest).write_bytes(content)
    entry = {"mediaType": MANIFEST, "digest": f"sha256:{made.sha256}", "size": len(made.manifest_text)}
    entry["annotations"] = {"org.opencontainers.image.ref.name": "1"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory
