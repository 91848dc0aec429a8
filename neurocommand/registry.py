"""Image reference -> digest, asked of its registry; "absent" only when the registry itself says so."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Sequence

import requests

from neurocommand import registrysession, web
from neurocommand.errors import RegistryBusyError, RegistryError, printable
from neurocommand.model import SHA256, ImageReference
from neurocommand.pace import Pace, WaitError
from neurocommand.registrysession import ABSENT, MANIFEST_TYPES, LoginError, OversizedError, RegistrySession
from neurocommand.settings import Budget, RegistrySettings


class Registries:
    """Ask registries for digests, no oftener than they, and the settings, let us.

    Args:
        settings: the registries; a host may stand in several, then the smallest budget counts.
        clock: seconds that never go back.
        timeout: seconds to wait for each answer.
    """

    def __init__(
        self,
        settings: Sequence[RegistrySettings] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout: float = 30.0,
    ) -> None:
        self.timeout = timeout
        self._credentials = {entry.url: entry.credentials for entry in settings if entry.credentials is not None}
        budgets: dict[str, Budget] = {}
        for entry in settings:
            host = registrysession.host_of(entry.url.partition("/")[0])
            budgets[host] = min(budgets.get(host, entry.budget), entry.budget, key=lambda each: each.requests)
        self._pace = Pace(budgets, clock)

    def resolve(self, reference: ImageReference) -> str | None:
        """Return the bare hex sha256 of the image manifest (or index) behind a tag; None when it is certainly absent.

        Raises:
            RegistryBusyError: the registry limits the rate, is down, or is not to be asked now.
            RegistryError: it cannot be asked, does not let us in, or answers with something that is no image manifest
                or no digest.
        """
        place = f"{reference.registry}/{reference.repository}"
        known = next((found for url, found in self._credentials.items() if f"{place}/".startswith(f"{url}/")), None)
        session = RegistrySession(
            reference.registry, insecure=reference.insecure, credentials=known, read=self.timeout, pace=self._pace
        )
        with contextlib.closing(session):
            return _Question(reference, session).answered()


def resolve(reference: ImageReference, timeout: float = 30.0) -> str | None:
    """Ask a registry once; see ``Registries.resolve``."""
    return Registries(timeout=timeout).resolve(reference)


class _Question:
    """One question to one registry."""

    def __init__(self, reference: ImageReference, session: RegistrySession) -> None:
        self.reference = reference
        self.session = session
        repository = reference.repository
        if registrysession.is_hub(reference.registry) and "/" not in repository:
            repository = f"library/{repository}"
        self.repository = repository

    def answered(self) -> str | None:
        try:
            return self.answer()
        except WaitError as error:
            raise self._busy(error.message, error.reason, "run it again later") from error
        except LoginError as error:
            raise self._locked_out(error.message) from error
        except OversizedError as error:
            raise self._error(error.message) from error
        except (requests.RequestException, OSError) as error:
            raise self._error(f"cannot be asked: {web.reason(error)}", "check the network and its name") from error

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
            body = registrysession.body_of(answer)
            if answer.status_code == 200:
                return self._verified_digest(answer, body)
            if answer.status_code == 404 and registrysession.error_codes(body) & ABSENT:
                return None
            raise self._refusal(answer)

    def _ask(self, method: str) -> requests.Response:
        url = self.session.url(self.repository, f"manifests/{self.reference.tag}")
        return self.session.ask(method, url, self.repository, headers={"Accept": ", ".join(MANIFEST_TYPES)})

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

    def _refusal(self, answer: requests.Response) -> RegistryError:
        status = answer.status_code
        if status == 429:
            seconds = web.retry_after(answer.headers)
            wait = f"; it asks to wait {seconds:.0f} s" if seconds is not None else ""
            hint = "wait, or log in: registries let known users ask more often"
            return self._busy(f"rate limited (429){wait}", "rate limited", hint)
        if status in (401, 403):
            return self._locked_out(f"answers {status}")
        if status == 404:
            return self._error("answers 404, but not as a registry does", "is the registry's address right?")
        if status in web.BUSY or status >= 500:
            return self._busy(f"answers {status}", f"answers {status}", "run it again later")
        return self._error(f"answers {status}")

    def _locked_out(self, message: str) -> RegistryError:
        host = self.reference.registry
        hint = f"the repository is not there or is private: try `docker login {host}` (~/.docker/config.json)"
        return self._error(message, hint)

    def _busy(self, message: str, reason: str, hint: str) -> RegistryError:
        return RegistryBusyError(f"{self.reference}: {self.session.host} {message}", hint, reason=reason)

    def _error(self, message: str, hint: str = "") -> RegistryError:
        return RegistryError(f"{self.reference}: {self.session.host} {message}", hint)
