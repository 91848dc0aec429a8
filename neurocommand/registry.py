"""Image reference -> digest, asked of its registry; "absent" only when the registry itself says so.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests. Tokens and the
credentials of ``docker login`` are oras's (its auth backends). The requests themselves are ours: oras's own repeat each
failure for two minutes, never time out, and answer with a bare ValueError for whatever went wrong.
"""

from __future__ import annotations

import hashlib
import json
import logging
from typing import Any

import requests

from neurocommand import web
from neurocommand.errors import RegistryError, printable
from neurocommand.model import SHA256, ImageReference

MANIFEST_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# Docker Hub answers under another name than the one in its references, and `docker login` files it under a third.
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_HOST, _HUB_LOGIN = "registry-1.docker.io", "https://index.docker.io/v1/"
_ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"})
_LIMIT = 4 << 20  # bytes of an image manifest; the specification lets registries stop there


def resolve(reference: ImageReference, timeout: float = 30.0) -> str | None:
    """Return the bare hex sha256 of the image manifest (or index) behind a tag; None when it is certainly absent.

    Args:
        reference: the image.
        timeout: seconds to wait for each answer.

    Raises:
        RegistryError: the registry cannot be asked, does not let us in, limits the rate, or answers with something that
            is no image manifest or no digest.
    """
    try:
        with web.Session(read=timeout) as session:
            return _Question(reference, session).answer()
    except (requests.RequestException, OSError) as error:
        raise RegistryError(
            f"{reference}: {_host(reference)} cannot be asked: {web.reason(error)}", "check the network and its name"
        ) from error


class _Question:
    """One question to one registry, with what it takes to be let in."""

    def __init__(self, reference: ImageReference, session: web.Session) -> None:
        self.reference = reference
        self.session = session
        repository = reference.repository
        if _is_hub(reference) and "/" not in repository:
            repository = f"library/{repository}"
        scheme = "http" if reference.insecure else "https"
        self.url = f"{scheme}://{_host(reference)}/v2/{repository}/manifests/{reference.tag}"
        self.headers = {"Accept": ", ".join(MANIFEST_TYPES)}

    def answer(self) -> str | None:
        # HEAD first: registries that limit the rate count it less or not at all.
        with self._ask("HEAD") as head:
            if head.status_code == 200:
                stated = self._stated_digest(head)
                if stated is not None:
                    return stated
            elif head.status_code not in (404, 405):
                raise self._refusal(head)
        with self._ask("GET") as answer:
            body = self._body(answer)
            if answer.status_code == 200:
                return self._verified_digest(answer, body)
            if answer.status_code == 404 and _error_codes(body) & _ABSENT:
                return None
            raise self._refusal(answer)

    def _ask(self, method: str) -> requests.Response:
        answer = self.session.request(method, self.url, headers=self.headers, stream=True)
        challenge = answer.headers.get("Www-Authenticate", "")
        if answer.status_code == 401 and challenge and "Authorization" not in self.headers:
            with answer:
                self._authenticate(answer, challenge)
            answer = self.session.request(method, self.url, headers=self.headers, stream=True)
        return answer

    def _authenticate(self, answer: requests.Response, challenge: str) -> None:
        """Let oras answer the challenge, with the credentials of ``docker login`` or with none."""
        import oras.provider  # slow to load, and most runs need no registry

        logging.getLogger("oras.logger").disabled = True
        kind = "basic" if challenge.lower().startswith("basic") else "token"
        try:
            backend: Any = oras.auth.get_auth_backend(kind, self.session, self.reference.insecure)
            container = oras.container.Container(str(self.reference))
            container.registry = _HUB_LOGIN if _is_hub(self.reference) else self.reference.registry
            backend.load_configs(container)
            headers, changed = backend.authenticate_request(answer, dict(self.headers))
        # oras lets out whatever it meets in a challenge, a token or a credentials file that it does not expect.
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, ValueError):
                raise  # no answer from the place that gives tokens
            raise self._locked_out(f"log-in failed: {type(error).__name__}: {printable(str(error))}") from error
        if not changed:
            raise self._locked_out("gives no token")
        self.headers = headers

    def _stated_digest(self, answer: requests.Response) -> str | None:
        """Return the digest in an answer's header; None when it has none."""
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind not in MANIFEST_TYPES:
            raise self._error(f"answers with {printable(kind) or 'an unknown type'}, which is no image manifest")
        stated = answer.headers.get("Docker-Content-Digest")
        if stated is None:
            return None
        algorithm, _, digest = stated.partition(":")
        if algorithm != "sha256" or not SHA256.fullmatch(digest):
            raise self._error(f"states {printable(stated)!r}, which is no digest")
        return digest

    def _verified_digest(self, answer: requests.Response, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        if self._stated_digest(answer) not in (None, digest):
            raise self._error("states a digest that is not its image manifest's")
        return digest

    def _body(self, answer: requests.Response) -> bytes:
        body = bytearray()
        for chunk in answer.iter_content(1 << 16):
            body += chunk
            if len(body) > _LIMIT:
                raise self._error(f"sends an image manifest of more than {_LIMIT >> 20} MiB")
        return bytes(body)

    def _refusal(self, answer: requests.Response) -> RegistryError:
        status = answer.status_code
        if status == 429:
            seconds = web.retry_after(answer.headers)
            wait = f"; it asks to wait {seconds:.0f} s" if seconds is not None else ""
            return self._error(
                f"rate limited (429){wait}", "wait, or log in: registries let known users ask more often"
            )
        if status in (401, 403):
            return self._locked_out(f"answers {status}")
        if status == 404:
            return self._error("answers 404, but not as a registry does", "is the registry's address right?")
        return self._error(f"answers {status}", "run it again later" if status in web.BUSY else "")

    def _locked_out(self, message: str) -> RegistryError:
        host = self.reference.registry
        hint = f"the repository is not there or is private: try `docker login {host}` (~/.docker/config.json)"
        return self._error(message, hint)

    def _error(self, message: str, hint: str = "") -> RegistryError:
        return RegistryError(f"{self.reference}: {_host(self.reference)} {message}", hint)


def _is_hub(reference: ImageReference) -> bool:
    return reference.registry in _HUB


def _host(reference: ImageReference) -> str:
    return _HUB_HOST if _is_hub(reference) else reference.registry


def _error_codes(body: bytes) -> frozenset[str]:
    """Return the codes in a registry's error document; none when the body is anything else."""
    try:
        return frozenset(str(error["code"]) for error in json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError):
        return frozenset()
