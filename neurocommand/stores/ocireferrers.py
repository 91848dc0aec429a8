"""SIFs as referrers of the images that they were made from: who asks a registry about an image is told of its SIF.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests-with-subject. A referrer stands
in its image's repository; where the registry keeps no list of referrers itself, it is kept under a tag there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from neurocommand.layout import image_references, object_key
from neurocommand.model import Artifact, Release
from neurocommand.registrysession import ABSENT, IMAGE_MANIFEST, INDEX, MANIFEST_TYPES, body_of
from neurocommand.registrysession import error_codes as codes
from neurocommand.settings import RegistrySettings
from neurocommand.stores import ocimanifest, ocinote
from neurocommand.stores.ocimanifest import Descriptor, Referrer
from neurocommand.stores.ocirepository import Repository
from neurocommand.stores.ociupload import BlobUpload

_ACCEPT = {"Accept": ", ".join(MANIFEST_TYPES)}


class Referrers:
    """The referrers of the images of one registry.

    Args:
        store: the repository that holds the SIFs, in the same registry.
        images: how images are named there.
    """

    def __init__(self, store: Repository, images: RegistrySettings) -> None:
        self.session = store.session
        self.images = images
        self.refusal = store.refusal
        self.error = store.error

    def add(
        self, release: Release, artifact: Artifact, repository: str, send: Callable[[str], None]
    ) -> Referrer | None:
        """Make a SIF a referrer of its image; return where it stands, None where the image is not known or not there.

        Args:
            release: whose SIF it is.
            artifact: the SIF.
            repository: holds the SIF's blob.
            send: sends the blob to a repository, where the registry does not let repositories share it.
        """
        if artifact.source_digest is None:
            return None
        for image in image_references(release, self.images.url, self.images.templates):
            subject = self._image(image.repository, artifact.source_digest)
            if subject is not None:
                return self._added(release, artifact, subject, (repository, image.repository), send)
        return None

    def remove(self, release: Release, referrer: Referrer) -> None:
        """Delete a referrer; one that is gone is no error.

        Whoever may write to the store says where it stands: what is not in a repository of the release's own image, or
        is no SIF, stays.

        Args:
            release: whose SIF it is.
            referrer: where it is said to stand.
        """
        if not self._may_hold(release, referrer.repository) or not self._is_sif_or_gone(referrer):
            return
        tag = ocimanifest.referrers_tag(referrer.subject)
        listed = self._index(referrer.repository, tag)
        with self._a_list(referrer.repository, tag):
            index = ocimanifest.without_referrer(listed, referrer.sha256) if listed is not None else None
        if index is not None:
            self._put(referrer.repository, tag, index, INDEX)
        url = self.session.url(referrer.repository, f"manifests/sha256:{referrer.sha256}")
        with self.session.ask("DELETE", url, referrer.repository) as answer:
            if answer.status_code not in (200, 202, 404):
                raise self.refusal("cannot delete the referrer of an image", answer)

    def _may_hold(self, release: Release, repository: str) -> bool:
        images = image_references(release, self.images.url, self.images.templates)
        with contextlib.suppress(ValueError):  # a name that no registry can hold
            return any(image.repository == repository for image in images)
        return False

    def _is_sif_or_gone(self, referrer: Referrer) -> bool:
        url = self.session.url(referrer.repository, f"manifests/sha256:{referrer.sha256}")
        with self.session.ask("GET", url, referrer.repository, headers=_ACCEPT) as answer:
            body = body_of(answer)
            if answer.status_code not in (200, 404):
                raise self.refusal("cannot read the referrer of an image", answer)
        return answer.status_code == 404 or ocimanifest.read(body) is not None

    def _added(
        self,
        release: Release,
        artifact: Artifact,
        subject: Descriptor,
        repositories: tuple[str, str],
        send: Callable[[str], None],
    ) -> Referrer:
        source, target = repositories
        if not self._mounted(artifact, source, target):
            send(target)
        upload = BlobUpload(
            self.session, target, lambda answer: self.refusal("cannot send a blob", answer), 1, ocinote.Note()
        )
        upload.send_bytes(ocimanifest.CONFIG)
        body = ocimanifest.written(object_key(release), artifact, subject=subject)
        manifest = ocimanifest.described(body, IMAGE_MANIFEST)
        if not self._put(target, manifest.digest, body, IMAGE_MANIFEST):
            self._list(target, subject, manifest)
        return Referrer(target, manifest.sha256, subject.sha256)

    def _image(self, repository: str, digest: str) -> Descriptor | None:
        url = self.session.url(repository, f"manifests/sha256:{digest}")
        with self.session.ask("GET", url, repository, headers=_ACCEPT) as answer:
            body = body_of(answer)
            if answer.status_code == 404 and codes(body) & ABSENT:
                return None
            if answer.status_code != 200:
                raise self.refusal(f"cannot tell whether {repository} has the image", answer)
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        found = ocimanifest.described(body, kind)
        return found if found.sha256 == digest else None

    def _mounted(self, artifact: Artifact, source: str, target: str) -> bool:
        """Let one repository share a blob of another."""
        url, params = self.session.url(target, "blobs/uploads/"), {"mount": f"sha256:{artifact.sha256}", "from": source}
        with self.session.ask("POST", url, target, data=b"", params=params) as answer:
            if answer.status_code not in (201, 202):
                raise self.refusal("cannot share a blob between repositories", answer)
            if answer.status_code == 201:
                return True
            upload = BlobUpload(
                self.session, target, lambda said: self.refusal("cannot send a blob", said), 1, ocinote.Note()
            )
            upload.drop(answer)
        return False

    def _list(self, repository: str, subject: Descriptor, manifest: Descriptor) -> None:
        """List a referrer under a tag (referrers tag schema)."""
        tag = ocimanifest.referrers_tag(subject.sha256)
        before = self._index(repository, tag)
        with self._a_list(repository, tag):
            index = ocimanifest.with_referrer(before, manifest)
        if index != before:
            self._put(repository, tag, index, INDEX)

    @contextlib.contextmanager
    def _a_list(self, repository: str, tag: str) -> Iterator[None]:
        try:
            yield
        except (ValueError, RecursionError) as error:
            said = f"{self.session.host} holds something under the tag {tag} of {repository} that lists no referrers"
            raise self.error(said, "remove it there") from error

    def _index(self, repository: str, tag: str) -> bytes | None:
        url = self.session.url(repository, f"manifests/{tag}")
        with self.session.ask("GET", url, repository, headers={"Accept": INDEX}) as answer:
            body = body_of(answer)
            if answer.status_code == 404 and codes(body) & ABSENT:
                return None
            if answer.status_code != 200:
                raise self.refusal("cannot read the referrers of an image", answer)
        return body

    def _put(self, repository: str, place: str, body: bytes, kind: str) -> bool:
        """Put a manifest; return whether the registry lists referrers itself."""
        url = self.session.url(repository, f"manifests/{place}")
        with self.session.ask("PUT", url, repository, headers={"Content-Type": kind}, data=body) as answer:
            if answer.status_code != 201:
                raise self.refusal("cannot put the referrer of an image", answer)
            return "OCI-Subject" in answer.headers
