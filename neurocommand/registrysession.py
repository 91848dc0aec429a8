"""Requests to an OCI registry, with the log-in that it asks for.

The protocol: https://github.com/opencontainers/distribution-spec/blob/main/spec.md. Tokens and the credentials of
``docker login`` are oras's (its auth backends). The requests themselves are ours: oras's own repeat each failure for
two minutes, never time out, and answer with a bare ValueError for whatever went wrong.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from neurocommand import web
from neurocommand.errors import NeurocommandError, printable
from neurocommand.pace import Pace
from neurocommand.settings import Credentials

INDEX = "application/vnd.oci.image.index.v1+json"
IMAGE_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_TYPES = (
    INDEX,
    IMAGE_MANIFEST,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ABSENT = frozenset({"MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"})
MANIFEST_LIMIT = 4 << 20  # bytes; the specification lets registries stop there
# Docker Hub answers under another name than the one in its references, and `docker login` files it under a third.
_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HUB_HOST, _HUB_LOGIN = "registry-1.docker.io", "https://index.docker.io/v1/"
_REALM = re.compile(r'realm="([^"]*)"', re.IGNORECASE)
# Seconds that a token holds at least (https://distribution.github.io/distribution/spec/auth/token/, expires_in).
TOKEN_LIFETIME = 60.0


class LoginError(NeurocommandError):
    """A registry did not let us in; the message says how it refused."""


class OversizedError(NeurocommandError):
    """A registry sends a document beyond the limit."""


@dataclass(frozen=True)
class _Grant:
    """What lets us in, and since when (seconds of the monotonic clock)."""

    header: str
    since: float


class RegistrySession:
    """Requests to one registry; threads may share it.

    A log-in is asked for when the registry challenges, kept per repository and purpose, and renewed when it is refused
    later. It goes to the registry's own host alone.

    Args:
        registry: ``host[:port]`` as in image references.
        insecure: plain http.
        credentials: instead of those of ``docker login``.
        read: seconds to wait for the next bytes.
        pace: when the host may be asked again.
        counted: requests count for the host's budget.
    """

    def __init__(
        self,
        registry: str,
        *,
        insecure: bool = False,
        credentials: Credentials | None = None,
        read: float = 60.0,
        pace: Pace | None = None,
        counted: bool = True,
    ) -> None:
        self.registry = registry
        self.host = host_of(registry)
        self.insecure = insecure
        self.credentials = credentials
        self.base = f"{'http' if insecure else 'https'}://{self.host}"
        self._pace = pace
        self._spend = None if pace is None else pace.spend if counted else pace.check
        self._session = web.Session(read=read)
        self._session.auth = web.as_it_is  # what ~/.netrc says of the host would replace the token
        self._granting = threading.Lock()
        self._grants: dict[tuple[str, str], _Grant] = {}

    def url(self, repository: str, place: str) -> str:
        """Return the address of something in a repository, such as ``manifests/1.0``."""
        return f"{self.base}/v2/{repository}/{place}"

    def ask(
        self,
        method: str,
        url: str,
        repository: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        params: Mapping[str, str] | None = None,
        redirects: bool = True,
    ) -> requests.Response:
        """Send a request and return its answer, unread; it is sent again once when the registry asks to log in.

        Args:
            method: of HTTP.
            url: anywhere; the log-in is sent to the registry's host only.
            repository: what the request is about.
            headers: of the request.
            data: its body; a stream is not sent twice.
            params: more for the address's query.
            redirects: follow them.

        Raises:
            LoginError: the registry does not let us in.
            WaitError: the host is not to be asked now.
            requests.RequestException, OSError: no whole answer.
        """
        purpose = (repository, {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(method, "push"))
        own = urlsplit(url)[:2] == urlsplit(self.base)[:2]
        grant = self._grants.get(purpose) if own else None

        def send(used: _Grant | None) -> requests.Response:
            if self._spend is not None and own:
                self._spend(self.host)
            given = {**(headers or {}), **({"Authorization": used.header} if used else {})}
            answer = self._session.request(
                method, url, headers=given, data=data, params=params, stream=True, allow_redirects=redirects
            )
            if self._pace is not None and own:
                self._pace.heed(self.host, answer.status_code, web.retry_after(answer.headers))
            return answer

        answer = send(grant)
        challenge = answer.headers.get("Www-Authenticate", "")
        if answer.status_code != 401 or not challenge or not own or not isinstance(data, bytes | None):
            return answer
        with answer:
            renewed = self._grant(purpose, grant, answer, challenge)
        return send(renewed)

    def granted(self, repository: str) -> str | None:
        """Return the Authorization header that reads a repository; None where none was asked for."""
        grant = self._grants.get((repository, "pull"))
        return grant.header if grant else None

    def refresh(self, repository: str) -> None:
        """Forget a token for reading, so that the next request brings one that holds its whole time."""
        with self._granting:
            self._grants.pop((repository, "pull"), None)

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        self._session.close()

    def _grant(
        self, purpose: tuple[str, str], refused: _Grant | None, answer: requests.Response, challenge: str
    ) -> _Grant:
        with self._granting:
            current = self._grants.get(purpose)
            if current is not None and current is not refused:
                return current  # another thread logged in meanwhile
            header = self._logged_in(purpose[0], answer, challenge)
            self._grants[purpose] = _Grant(header, time.monotonic())
            return self._grants[purpose]

    def _logged_in(self, repository: str, answer: requests.Response, challenge: str) -> str:
        """Let oras answer a challenge, with the credentials given, those of ``docker login``, or none."""
        import oras.provider  # slow to load, and most runs need no registry

        logging.getLogger("oras.logger").disabled = True
        kind = "basic" if challenge.lower().startswith("basic") else "token"
        realm = _REALM.search(challenge)
        if kind == "token" and realm and not self.insecure and urlsplit(realm[1]).scheme != "https":
            raise LoginError(f"wants a log-in over {printable(urlsplit(realm[1]).scheme) or 'no https'}")
        try:
            backend: Any = oras.auth.get_auth_backend(kind, self._session, self.insecure)
            if self.credentials is not None:
                backend.set_basic_auth(self.credentials.username, self.credentials.password)
            else:
                container = oras.container.Container(f"{self.registry}/{repository}:any")
                container.registry = _HUB_LOGIN if is_hub(self.registry) else self.registry
                backend.load_configs(container)
            headers, changed = backend.authenticate_request(answer, {})
        # oras lets out whatever it meets in a challenge, a token or a credentials file that it does not expect.
        except Exception as error:
            if isinstance(error, OSError) and not isinstance(error, ValueError):
                raise  # no answer from the place that gives tokens
            raise LoginError(f"log-in failed: {type(error).__name__}: {printable(str(error))}") from error
        if not changed:
            raise LoginError("gives no token")
        return str(headers["Authorization"])


def is_hub(registry: str) -> bool:
    """Tell whether a registry is Docker Hub."""
    return registry in _HUB


def host_of(registry: str) -> str:
    """Return the host that answers for a registry."""
    return _HUB_HOST if is_hub(registry) else registry


def body_of(answer: requests.Response) -> bytes:
    """Read a document to its end.

    Raises:
        OversizedError: it is longer than a registry's documents are.
    """
    body = bytearray()
    for chunk in answer.iter_content(1 << 16):
        body += chunk
        if len(body) > MANIFEST_LIMIT:
            raise OversizedError(f"sends an image manifest of more than {MANIFEST_LIMIT >> 20} MiB")
    return bytes(body)


def error_codes(body: bytes) -> frozenset[str]:
    """Return the codes in a registry's error document; none when the body is anything else."""
    try:
        return frozenset(str(error["code"]) for error in json.loads(body)["errors"])
    except (ValueError, KeyError, TypeError):
        return frozenset()
