"""One repository of a registry, as a store reads it: tags, image manifests, and what the registry says of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urljoin

import requests

from neurocommand.errors import StoreError, printable
from neurocommand.model import Artifact
from neurocommand.registrysession import ABSENT, MANIFEST_TYPES, RegistrySession, body_of, error_codes
from neurocommand.stores import ocifaults, ocimanifest
from neurocommand.stores.ocimanifest import SifManifest

REDIRECTS = (301, 302, 303, 307, 308)
_PAGE = 1000


@dataclass(frozen=True)
class Foreign:
    """Something is under a tag that is no SIF."""


class Repository:
    """A repository that holds SIFs.

    Args:
        store: the store's name in messages.
        session: of the registry.
        path: the repository's name.
    """

    def __init__(self, store: str, session: RegistrySession, path: str) -> None:
        self.store = store
        self.session = session
        self.path = path

    def ask(
        self,
        method: str,
        place: str,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        *,
        redirects: bool = True,
    ) -> requests.Response:
        """Ask for something in the repository, such as ``manifests/1.0``."""
        url = self.session.url(self.path, place)
        return self.session.ask(method, url, self.path, headers=headers, data=data, redirects=redirects)

    def refusal(self, what: str, answer: requests.Response) -> StoreError:
        """Return the error that an answer stands for; ``what`` says what was tried."""
        return ocifaults.refusal(f"store {self.store}: {what}", self.session.host, answer)

    def error(self, message: str, hint: str = "") -> StoreError:
        """Return an error with the store's name."""
        return StoreError(f"store {self.store}: {message}", hint)

    def has_blob(self, artifact: Artifact) -> bool:
        """Ask whether the registry has the bytes already; a redirect says so as well."""
        with self.ask("HEAD", f"blobs/sha256:{artifact.sha256}", redirects=False) as answer:
            if answer.status_code in REDIRECTS:
                return True
            if answer.status_code in (200, 404):
                return answer.status_code == 200 and answer.headers.get("Content-Length") == str(artifact.size)
            raise self.refusal("cannot tell what it holds", answer)

    def sif(self, tag: str) -> SifManifest | None:
        """Return what is under a tag; None when nothing is.

        Raises:
            StoreError: something is there that is no SIF: it is not ours to replace or to delete.
        """
        found = self.manifest(tag)
        if isinstance(found, Foreign):
            raise StoreError(
                f"store {self.store}: holds something under the tag {tag} that is no SIF",
                "remove it there, or give the store a repository of its own",
            )
        return found

    def manifest(self, tag: str) -> SifManifest | Foreign | None:
        """Return what is under a tag, be it a SIF or not; None when nothing is.

        Raises:
            StoreError: the registry cannot tell.
        """
        with self.ask("GET", f"manifests/{tag}", {"Accept": ", ".join(MANIFEST_TYPES)}) as answer:
            if answer.status_code not in (200, 404):
                raise self.refusal(f"cannot tell what is under the tag {tag}", answer)
            body = body_of(answer)
            if answer.status_code == 404:
                if error_codes(body) & ABSENT:
                    return None
                raise self.error(f"{self.session.host} answers 404, but not as a registry does", "is its url right?")
            kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
            if kind not in MANIFEST_TYPES:
                shown = printable(kind) or "an unknown type"
                raise self.error(f"{self.session.host} answers with {shown}, which is no image manifest")
        return ocimanifest.read(body) or Foreign()

    def tags(self) -> Iterator[str]:
        """Yield every tag of the repository, page by page; none where there is no repository yet."""
        url, seen = self.session.url(self.path, f"tags/list?n={_PAGE}"), set[str]()
        while url and url not in seen:
            seen.add(url)
            with self.session.ask("GET", url, self.path) as answer:
                if answer.status_code not in (200, 404):
                    raise self.refusal("cannot be listed", answer)
                body = body_of(answer)
                if answer.status_code == 404 and error_codes(body) & ABSENT and len(seen) == 1:
                    return
                following = answer.links.get("next", {}).get("url", "")
            yield from self._listed(body)
            url = urljoin(url, following) if following else ""
        if url:
            raise self.error("cannot be listed: its list of tags goes in a circle")

    def _listed(self, body: bytes) -> Sequence[str]:
        try:
            tags = json.loads(body)["tags"] or []
        except (ValueError, KeyError, TypeError):
            tags = [None]
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise self.error("cannot be listed: its answer is no list of tags", "is its url right?")
        return tags
