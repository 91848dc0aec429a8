"""An image asked of its registry: its digest ("absent" only when the registry itself says so), and its content.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pulling-manifests. Tokens and the
credentials of ``docker login`` are oras's (its auth backends). The requests themselves are ours: oras's own repeat each
failure for two minutes, never time out, and answer with a bare ValueError for whatever went wrong.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator
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
_ACCEPTED = {"Accept": ", ".join(MANIFEST_TYPES)}
_CHUNK = 1 << 18
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


class _Door:
    """A repository of a registry, with what it takes to be let in."""

    def __init__(self, reference: ImageReference, session: web.Session) -> None:
        self.reference = reference
        self.session = session
        self.authorization: dict[str, str] = {}
        repository = reference.repository
        if _is_hub(reference) and "/" not in repository:
            repository = f"library/{repository}"
        scheme = "http" if reference.insecure else "https"
        self.url = f"{scheme}://{_host(reference)}/v2/{repository}"

    def ask(self, method: str, path: str, headers: dict[str, str]) -> requests.Response:
        """Ask, and log in first where that is wanted; when a token is no longer good, another one is asked for."""
        tried = self.authorization
        answer = self._send(method, path, {**headers, **tried})
        challenge = answer.headers.get("Www-Authenticate", "")
        if answer.status_code == 401 and challenge:
            with answer:
                if self.authorization is tried:  # else another thread has logged in meanwhile
                    self.authorization = self._authenticate(answer, challenge, headers)
            answer = self._send(method, path, {**headers, **self.authorization})
        return answer

    def _send(self, method: str, path: str, headers: dict[str, str]) -> requests.Response:
        return self.session.request(method, f"{self.url}/{path}", headers=headers, stream=True)

    def _authenticate(self, answer: requests.Response, challenge: str, headers: dict[str, str]) -> dict[str, str]:
        """Let oras answer the challenge, with the credentials of ``docker login`` or with none."""
        import oras.provider  # slow to load, and most runs need no registry

        logging.getLogger("oras.logger").disabled = True
        kind = "basic" if challenge.lower().startswith("basic") else "token"
        try:
            backend: Any = oras.auth.get_auth_backend(kind, self.session, self.reference.insecure)
            container = oras.container.Container(str(self.reference))
            container.registry = _HUB_LOGIN if _is_hub(self.reference) else self.reference.registry
            backend.load_configs(container)
            given, changed = backend.authenticate_request(answer, dict(headers))
        # oras lets out whatever it meets in a challenge, a token or a credentials file that it does not expect.
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, ValueError):
                raise  # no answer from the place that gives tokens
            raise self.locked_out(f"log-in failed: {type(error).__name__}: {printable(str(error))}") from error
        if not changed:
            raise self.locked_out("gives no token")
        return {name: value for name, value in given.items() if name not in headers}

    def body(self, answer: requests.Response) -> bytes:
        """Return the whole body of an answer that must be small."""
        body = bytearray()
        for chunk in answer.iter_content(1 << 16):
            body += chunk
            if len(body) > _LIMIT:
                raise self.error(f"sends an image manifest of more than {_LIMIT >> 20} MiB")
        return bytes(body)

    def refusal(self, answer: requests.Response) -> RegistryError:
        """Return what to raise for an answer that is none."""
        status = answer.status_code
        if status == 429:
            seconds = web.retry_after(answer.headers)
            wait = f"; it asks to wait {seconds:.0f} s" if seconds is not None else ""
            return self.error(f"rate limited (429){wait}", "wait, or log in: registries let known users ask more often")
        if status in (401, 403):
            return self.locked_out(f"answers {status}")
        if status == 404:
            return self.error("answers 404, but not as a registry does", "is the registry's address right?")
        return self.error(f"answers {status}", "run it again later" if status in web.BUSY else "")

    def locked_out(self, message: str) -> RegistryError:
        """Return what to raise when we are not let in."""
        host = self.reference.registry
        hint = f"the repository is not there or is private: try `docker login {host}` (~/.docker/config.json)"
        return self.error(message, hint)

    def error(self, message: str, hint: str = "") -> RegistryError:
        """Return what to raise, with the registry's name."""
        return RegistryError(f"{self.reference}: {_host(self.reference)} {message}", hint)


class _Question(_Door):
    """The question which image a tag stands for."""

    def answer(self) -> str | None:
        """Return the digest, None when the image is certainly absent."""
        path = f"manifests/{self.reference.tag}"
        # HEAD first: registries that limit the rate count it less or not at all.
        with self.ask("HEAD", path, _ACCEPTED) as head:
            if head.status_code == 200:
                stated = self._stated_digest(head)
                if stated is not None:
                    return stated
            elif head.status_code not in (404, 405):
                raise self.refusal(head)
        with self.ask("GET", path, _ACCEPTED) as answer:
            body = self.body(answer)
            if answer.status_code == 200:
                return self._verified_digest(answer, body)
            if answer.status_code == 404 and _error_codes(body) & _ABSENT:
                return None
            raise self.refusal(answer)

    def _stated_digest(self, answer: requests.Response) -> str | None:
        """Return the digest in an answer's header; None when it has none."""
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        if kind not in MANIFEST_TYPES:
            raise self.error(f"answers with {printable(kind) or 'an unknown type'}, which is no image manifest")
        stated = answer.headers.get("Docker-Content-Digest")
        if stated is None:
            return None
        algorithm, _, digest = stated.partition(":")
        if algorithm != "sha256" or not SHA256.fullmatch(digest):
            raise self.error(f"states {printable(stated)!r}, which is no digest")
        return digest

    def _verified_digest(self, answer: requests.Response, body: bytes) -> str:
        digest = hashlib.sha256(body).hexdigest()
        if self._stated_digest(answer) not in (None, digest):
            raise self.error("states a digest that is not its image manifest's")
        return digest


class Pull(_Door):
    """The content of one image, by digest; may be asked by several threads at once.

    Args:
        reference: the image; its tag does not matter.
        session: is to be closed by who made it.
    """

    def manifest(self, sha256: str) -> bytes:
        """Return an image manifest or index, its digest verified.

        Raises:
            RegistryError: it cannot be had, or is another one.
        """
        with self._opened(f"manifests/sha256:{sha256}", _ACCEPTED) as answer:
            try:
                body = self.body(answer)
            except (requests.RequestException, OSError) as error:
                raise self._cut_off(error) from error
        if hashlib.sha256(body).hexdigest() != sha256:
            raise self.error("sends another image manifest than the one that was asked for")
        return body

    @contextlib.contextmanager
    def blob(self, sha256: str) -> Iterator[Iterator[bytes]]:
        """Open a blob: its bytes come as the registry sends them, unverified.

        Raises:
            RegistryError: it cannot be had, also while it is read.
        """
        with self._opened(f"blobs/sha256:{sha256}", {}) as answer:
            yield self._chunks(answer)

    @contextlib.contextmanager
    def _opened(self, path: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        try:
            answer = self.ask("GET", path, headers)
        except (requests.RequestException, OSError) as error:
            raise self._cut_off(error) from error
        with answer:
            if answer.status_code != 200:
                raise self.refusal(answer)
            yield answer

    def _chunks(self, answer: requests.Response) -> Iterator[bytes]:
        try:
            yield from answer.iter_content(_CHUNK)
        except (requests.RequestException, OSError) as error:
            raise self._cut_off(error) from error

    def _cut_off(self, error: Exception) -> RegistryError:
        return self.error(f"does not send the image: {web.reason(error)}", "check the network, and run it again")


@contextlib.contextmanager
def opened(reference: ImageReference) -> Iterator[Pull]:
    """Give the content of an image, for as long as the block lasts."""
    with web.Session() as session:
        yield Pull(reference, session)


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
