"""Image manifests of SIFs in a registry, as text: made, read, and listed as referrers.

The form is the one of ``apptainer push oras://``: a config without content, and one layer that is the SIF. Referrers:
https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from neurocommand.model import REPOSITORY, SHA256, SIZE_LIMIT, Artifact
from neurocommand.registrysession import IMAGE_MANIFEST, INDEX

CONFIG_TYPE = "application/vnd.sylabs.sif.config.v1+json"
SIF_TYPE = "application/vnd.sylabs.sif.layer.v1.sif"
CONFIG = b"{}"
_TITLE = "org.opencontainers.image.title"
_REFERRER = "neurocommand.referrer"


@dataclass(frozen=True)
class Descriptor:
    """What a registry holds: media type, bare hex sha256, size in bytes."""

    media_type: str
    sha256: str
    size: int

    @property
    def digest(self) -> str:
        """The digest as registries write it."""
        return f"sha256:{self.sha256}"

    def fields(self) -> dict[str, Any]:
        """Return the descriptor as it stands in a manifest."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Referrer:
    """Where the referrer of an image stands: repository, its own bare hex sha256, that of the image."""

    repository: str
    sha256: str
    subject: str


@dataclass(frozen=True)
class SifManifest:
    """An image manifest that describes a SIF.

    Args:
        sha256: of the manifest itself, bare hex.
        layer: the SIF.
        title: what the SIF is called there; empty when nothing is said.
        referrer: the referrer that was made beside it, if one was.
    """

    sha256: str
    layer: Descriptor
    title: str
    referrer: Referrer | None = None


def described(content: bytes, media_type: str) -> Descriptor:
    """Return the descriptor of some content."""
    return Descriptor(media_type, hashlib.sha256(content).hexdigest(), len(content))


def written(
    title: str, artifact: Artifact, *, subject: Descriptor | None = None, referrer: Referrer | None = None
) -> bytes:
    """Return the image manifest of a SIF; equal arguments give equal bytes.

    Args:
        title: the name that clients give to the file.
        artifact: the SIF.
        subject: the image that the manifest refers to.
        referrer: where the referrer of the same SIF stands.
    """
    layer = {**Descriptor(SIF_TYPE, artifact.sha256, artifact.size).fields(), "annotations": {_TITLE: title}}
    fields: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "config": described(CONFIG, CONFIG_TYPE).fields(),
        "layers": [layer],
    }
    if subject is not None:
        fields["subject"] = subject.fields()
    if referrer is not None:
        fields["annotations"] = {_REFERRER: f"{referrer.repository}@{referrer.sha256}@{referrer.subject}"}
    return json.dumps(fields, separators=(",", ":")).encode()


def read(body: bytes) -> SifManifest | None:
    """Read an image manifest; None when it does not describe one SIF and nothing else."""
    try:
        fields = json.loads(body)
        (layer,) = fields["layers"]
        algorithm, _, sha256 = layer["digest"].partition(":")
        size = layer["size"]
        is_sif = fields["config"]["mediaType"] == CONFIG_TYPE and layer["mediaType"] == SIF_TYPE
        title = (layer.get("annotations") or {}).get(_TITLE, "")
        referrer = _referrer((fields.get("annotations") or {}).get(_REFERRER, ""))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    stated = algorithm == "sha256" and SHA256.fullmatch(sha256) and type(size) is int and 0 <= size < SIZE_LIMIT
    if not (is_sif and stated):
        return None
    layer = Descriptor(SIF_TYPE, sha256, size)
    return SifManifest(hashlib.sha256(body).hexdigest(), layer, title if isinstance(title, str) else "", referrer)


def _referrer(text: str) -> Referrer | None:
    repository, *digests = text.split("@")
    if not REPOSITORY.fullmatch(repository) or len(digests) != 2 or not all(map(SHA256.fullmatch, digests)):
        return None
    return Referrer(repository, *digests)


def referrers_tag(subject: str) -> str:
    """Return the tag under which the referrers of an image are listed where the registry does not list them itself."""
    return f"sha256-{subject}"


def with_referrer(index: bytes | None, manifest: Descriptor) -> bytes:
    """Return a list of referrers (an image index) with one more; the same when it is listed already.

    Args:
        index: the list that is there; None when there is none.
        manifest: the referrer's image manifest.

    Raises:
        ValueError: what is there is no such list.
    """
    others = [entry for entry in _listed(index) if entry.get("digest") != manifest.digest]
    return _index([*others, {**manifest.fields(), "artifactType": CONFIG_TYPE}])


def without_referrer(index: bytes, sha256: str) -> bytes | None:
    """Return a list of referrers without one; None when it is not listed.

    Raises:
        ValueError: what is there is no such list.
    """
    listed = _listed(index)
    others = [entry for entry in listed if entry.get("digest") != f"sha256:{sha256}"]
    return _index(others) if len(others) < len(listed) else None


def _listed(index: bytes | None) -> list[dict[str, Any]]:
    if index is None:
        return []
    fields = json.loads(index)
    entries = fields.get("manifests") if isinstance(fields, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("no image index")
    return entries


def _index(entries: list[dict[str, Any]]) -> bytes:
    fields = {"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}
    return json.dumps(fields, separators=(",", ":")).encode()
