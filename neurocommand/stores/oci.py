"""A store that is one repository of an OCI registry: each SIF an artifact as ``apptainer push oras://`` makes it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import requests

from neurocommand.errors import ImmutableError, StoreError, TransientStoreError
from neurocommand.files import copy_with_digest
from neurocommand.layout import object_key, release_of_key, release_of_tag, sif_tag
from neurocommand.model import Artifact, Release, StoredObject
from neurocommand.registrysession import IMAGE_MANIFEST, TOKEN_LIFETIME, RegistrySession
from neurocommand.settings import Credentials, RegistrySettings
from neurocommand.stores import ocifaults, ocimanifest, ocinote
from neurocommand.stores.interface import Advance, Content, Link, check_key
from neurocommand.stores.ocimanifest import SifManifest
from neurocommand.stores.ocireferrers import Referrers
from neurocommand.stores.ocirepository import REDIRECTS, Repository
from neurocommand.stores.ociupload import BlobUpload
from neurocommand.stores.transfer import Arriving, ObjectStream, VerifiedReader, check_kept, reading, receive

PART = 32 << 20
_ASKED_AT_ONCE = 16
_CONFIG = Artifact(hashlib.sha256(ocimanifest.CONFIG).hexdigest(), len(ocimanifest.CONFIG))


class OciStore:
    """Keep objects as artifacts of one repository, the release id as the tag; the layer's digest is the SIF's sha256.

    Where the images of releases are in the same registry, each SIF is made a referrer of its image as well. A put sends
    the blob, the referrer and, last, the tag.

    Args:
        name: the store's name in messages.
        url: ``host[:port]/path``: the registry and the repository.
        insecure: plain http.
        credentials: instead of those of ``docker login``.
        writable: False refuses ``put`` and ``delete``.
        images: the registry of the images, for referrers; on the same host.
        state: the directory that remembers unfinished uploads; without it, what a killed run sent is left to the
            registry's own clean-up.
        part: bytes of one request of an upload; only so many are in memory.
    """

    listable = True
    lists_digests = True
    local = False

    def __init__(
        self,
        name: str,
        url: str,
        *,
        insecure: bool = False,
        credentials: Credentials | None = None,
        writable: bool = True,
        images: RegistrySettings | None = None,
        state: Path | None = None,
        part: int = PART,
    ) -> None:
        self.name = name
        self.writable = writable
        self.state = state
        self.part = part
        host, _, self.repository = url.partition("/")
        self._session = RegistrySession(host, insecure=insecure, credentials=credentials)
        self._sharing = threading.Lock()
        self._repository = Repository(name, self._session, self.repository)
        self._referrers = Referrers(self._repository, images) if images is not None else None

    def list(self) -> Iterator[StoredObject]:
        """Yield every SIF under the tag of a release; each is asked for, since a list of tags says nothing of them."""
        with self._normalised("cannot be listed"):
            tags = [tag for tag in self._repository.tags() if _key(tag)]
            with ThreadPoolExecutor(_ASKED_AT_ONCE) as pool:
                found = list(pool.map(self._repository.manifest, tags))
        objects = [
            StoredObject(_key(tag), manifest.layer.size, manifest.layer.sha256)
            for tag, manifest in zip(tags, found, strict=True)
            if isinstance(manifest, SifManifest)
        ]
        yield from sorted(objects, key=lambda seen: seen.key)

    def stat(self, key: str) -> StoredObject | None:
        """Read the image manifest."""
        tag = sif_tag(self._release(key))
        with self._normalised(f"cannot tell whether it holds {key}"):
            manifest = self._repository.sif(tag)
        return None if manifest is None else StoredObject(key, manifest.layer.size, manifest.layer.sha256)

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        """Send the blob, then the image manifest under its tag: nothing is visible before."""
        release = self._release(key, writing=True)
        with self._normalised(f"cannot take {key}"):

            def send(repository: str) -> None:
                self._upload(repository).send(source, artifact, lambda _: None)

            before = self._repository.sif(sif_tag(release))
            if self._repository.has_blob(artifact):
                with reading(source) as stream:
                    copy_with_digest(VerifiedReader(stream, source, artifact), None, advance)
            else:
                with ocinote.held(self.state / f"{key}.upload" if self.state else None) as note:
                    self._upload(self.repository, note).send(source, artifact, advance)
            self._publish(release, artifact, before, send)
        check_kept(self.name, key, artifact, self.stat(key))

    def link(self, key: str) -> Link:
        """Return the layer's address with a token, or where the registry sends its readers for it."""
        tag = sif_tag(self._release(key))
        with self._normalised(f"cannot tell where {key} is"):
            self._session.refresh(self.repository)
            manifest = self._repository.sif(tag)
            if manifest is None:
                raise StoreError(f"store {self.name}: holds no {key}")
            with self._repository.ask("GET", f"blobs/{manifest.layer.digest}", redirects=False) as answer:
                target = answer.headers.get("Location", "")
                if answer.status_code == 200:
                    return self._own_link(answer.url)
                if answer.status_code not in REDIRECTS or not target:
                    raise self._repository.refusal(f"cannot tell where {key} is", answer)
        url = urljoin(answer.url, target)
        if urlsplit(url).scheme != urlsplit(self._session.base).scheme:
            raise StoreError(f"store {self.name}: {self._session.host} sends readers of {key} away from https")
        # A signed address, which takes no log-in beside its signature.
        stated = parse_qs(urlsplit(url).query).get("X-Amz-Expires", [""])[0]
        return Link(url, expires_in=float(stated) if stated.isdecimal() else TOKEN_LIFETIME)

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        """Stream the layer to a file."""
        with self.opened(key) as stream:
            return receive(stream, path, advance)

    @contextmanager
    def opened(self, key: str) -> Iterator[ObjectStream]:
        """Ask for the layer; redirects are followed."""
        tag = sif_tag(self._release(key))
        with self._normalised(f"cannot read {key}"):
            manifest = self._repository.sif(tag)
            if manifest is None:
                raise StoreError(f"store {self.name}: holds no {key}")
            answer = self._repository.ask("GET", f"blobs/{manifest.layer.digest}")
        with answer:
            if answer.status_code != 200:
                with self._normalised(f"cannot read {key}"):
                    raise self._repository.refusal(f"cannot read {key}", answer)
            stated = StoredObject(key, manifest.layer.size, manifest.layer.sha256)
            yield ObjectStream(self.name, Arriving(answer.raw), stated, lambda: self._normalised(f"{key} broke off"))

    def delete(self, key: str) -> None:
        """Delete the image manifest, and the referrer that was made with it; the blob goes with the next clean-up."""
        release = self._release(key, writing=True)
        with self._normalised(f"cannot remove {key}"):
            manifest = self._repository.sif(sif_tag(release))
            if manifest is None:
                return
            if manifest.title != key:
                # An image manifest is deleted by its digest, with all its tags: this one may have others than ours.
                layer = manifest.layer
                self._publish(release, Artifact(layer.sha256, layer.size), manifest, lambda _: None)
                manifest = self._repository.sif(sif_tag(release)) or manifest
            if manifest.referrer is not None and self._referrers is not None:
                self._referrers.remove(release, manifest.referrer)
            with self._repository.ask("DELETE", f"manifests/sha256:{manifest.sha256}") as answer:
                self._check_deleted(key, answer)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._session.close()

    def _own_link(self, url: str) -> Link:
        granted = self._session.granted(self.repository)
        if granted is None:
            return Link(url)
        expires_in = None if granted.startswith("Basic ") else TOKEN_LIFETIME
        return Link(url, (("Authorization", granted),), expires_in)

    def _publish(
        self, release: Release, artifact: Artifact, before: SifManifest | None, send: Callable[[str], None]
    ) -> None:
        """Put the tag, unless somebody else put other bytes there meanwhile."""
        key, tag, referrer = object_key(release), sif_tag(release), None
        # Registries take two uploads of one blob at once badly, and all SIFs share this one.
        with self._sharing:
            if not self._repository.has_blob(_CONFIG):
                self._upload(self.repository).send_bytes(ocimanifest.CONFIG)
        if self._referrers is not None:
            referrer = self._referrers.add(release, artifact, self.repository, send)
        body = ocimanifest.written(key, artifact, referrer=referrer)
        now = self._repository.sif(tag)
        if now is not None and now != before and now.layer.sha256 != artifact.sha256:
            raise ImmutableError(
                f"store {self.name}: somebody else put sha256 {now.layer.sha256} under {key} meanwhile",
                "a release id never changes its bytes: find out which one is right",
            )
        with self._repository.ask("PUT", f"manifests/{tag}", {"Content-Type": IMAGE_MANIFEST}, body) as answer:
            if answer.status_code != 201:
                raise self._repository.refusal(f"cannot take {key}", answer)

    def _release(self, key: str, *, writing: bool = False) -> Release:
        """Return the release of a key: what is no release has no tag here."""
        check_key(self.name, key)
        if writing and not self.writable:
            raise StoreError(f"store {self.name}: is read-only")
        release = release_of_key(key)
        try:
            if release is None:
                raise ValueError(f"{key} is no release's")
            sif_tag(release)
        except ValueError as error:
            raise StoreError(f"store {self.name}: {error}", "a registry cannot hold it") from error
        return release

    def _upload(self, repository: str, note: ocinote.Note | None = None) -> BlobUpload:
        def refusal(answer: requests.Response) -> StoreError:
            return self._repository.refusal("cannot take a blob", answer)

        return BlobUpload(self._session, repository, refusal, self.part, note or ocinote.Note())

    def _check_deleted(self, key: str, answer: requests.Response) -> None:
        if answer.status_code in (200, 202, 404):
            return
        error = self._repository.refusal(f"cannot remove {key}", answer)
        if answer.status_code in (400, 405) and not isinstance(error, TransientStoreError):
            error = StoreError(f"{error.message}: it does not delete", "delete it where the registry is administered")
        raise error

    def _normalised(self, what: str) -> AbstractContextManager[None]:
        return ocifaults.normalised(f"store {self.name}: {what}", self._session.host)


def _key(tag: str) -> str:
    """Return the key of what a tag names; nothing for a tag that is no release's."""
    release = release_of_tag(tag)
    return object_key(release) if release is not None else ""
