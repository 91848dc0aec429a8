"""An image asked of its registry: its digest ("absent" only when the registry itself says so), and its content."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

import requests

from neurocommand import registrysession, web
from neurocommand.bandwidth import Bandwidth
from neurocommand.errors import RegistryBusyError, RegistryError, printable
from neurocommand.model import SHA256, ImageReference
from neurocommand.pace import REST, Pace, WaitError
from neurocommand.registrysession import ABSENT, MANIFEST_TYPES, LoginError, OversizedError, RegistrySession
from neurocommand.settings import Budget, RegistrySettings

_CHUNK = 1 << 18
_NOT_SENT = "does not send the image"


class Registries:
    """Ask registries for digests, no oftener than they, and the settings, let us.

    Args:
        settings: the registries; a host may stand in several, then the smallest budget counts.
        bandwidth: kept to while blobs are read.
        clock: seconds that never go back.
        timeout: seconds to wait for each answer.
    """

    def __init__(
        self,
        settings: Sequence[RegistrySettings] = (),
        bandwidth: Bandwidth | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        timeout: float = 30.0,
    ) -> None:
        self.timeout = timeout
        self._bandwidth = bandwidth or Bandwidth()
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
        with contextlib.closing(self._session(reference)) as session:
            question = _Question(reference, session)
            with question.errors():
                return question.answer()

    @contextlib.contextmanager
    def opened(self, reference: ImageReference) -> Iterator[Pull]:
        """Give the content of an image, for as long as the block lasts.

        Its requests count for no budget, but a host that asked to be left alone is.
        """
        with contextlib.closing(self._session(reference, counted=False)) as session:
            yield Pull(reference, session, self._bandwidth)

    def _session(self, reference: ImageReference, *, counted: bool = True) -> RegistrySession:
        place = f"{reference.registry}/{reference.repository}"
        known = next((found for url, found in self._credentials.items() if f"{place}/".startswith(f"{url}/")), None)
        return RegistrySession(
            reference.registry,
            insecure=reference.insecure,
            credentials=known,
            read=self.timeout,
            pace=self._pace,
            counted=counted,
        )


def opened(reference: ImageReference) -> contextlib.AbstractContextManager[Pull]:
    """Give the content of an image; see ``Registries.opened``."""
    return Registries().opened(reference)


def resolve(reference: ImageReference, timeout: float = 30.0) -> str | None:
    """Ask a registry once; see ``Registries.resolve``."""
    return Registries(timeout=timeout).resolve(reference)


class _Door:
    """One repository of a registry: what is asked there, and what its refusals mean."""

    def __init__(self, reference: ImageReference, session: RegistrySession) -> None:
        self.reference = reference
        self.session = session
        repository = reference.repository
        if registrysession.is_hub(reference.registry) and "/" not in repository:
            repository = f"library/{repository}"
        self.repository = repository

    @contextlib.contextmanager
    def errors(self, said: str = "cannot be asked") -> Iterator[None]:
        """Turn whatever a request may raise into RegistryError; a network that fails is told in the given words."""
        try:
            yield
        except WaitError as error:
            raise self._busy(error.message, error.reason, "run it again later", error.seconds) from error
        except LoginError as error:
            raise self._locked_out(error.message) from error
        except OversizedError as error:
            raise self.error(error.message) from error
        except (requests.RequestException, OSError) as error:
            raise self.error(f"{said}: {web.reason(error)}", "check the network and `registries:`") from error

    def ask(self, method: str, place: str, *, accept: bool = True) -> requests.Response:
        """Ask for something in the repository; the answer's body is not read yet."""
        headers = {"Accept": ", ".join(MANIFEST_TYPES)} if accept else {}
        return self.session.ask(method, self.session.url(self.repository, place), self.repository, headers=headers)

    def refusal(self, answer: requests.Response) -> RegistryError:
        """Return what to raise for an answer that is none."""
        status, seconds = answer.status_code, web.retry_after(answer.headers)
        if status == 429:
            wait = f"; it asks to wait {seconds:.0f} s" if seconds is not None else ""
            hint = "wait, or log in: registries let known users ask more often"
            return self._busy(f"rate limited (429){wait}", "rate limited", hint, REST if seconds is None else seconds)
        if status in (401, 403):
            return self._locked_out(f"answers {status}")
        if status == 404:
            return self.error("answers 404, but not as a registry does", "is the registry's address right?")
        if status in web.BUSY or status >= 500:
            return self._busy(f"answers {status}", f"answers {status}", "run it again later", seconds)
        return self.error(f"answers {status}")

    def _locked_out(self, message: str) -> RegistryError:
        host = self.reference.registry
        hint = f"the repository is not there or is private: try `docker login {host}` (~/.docker/config.json)"
        return self.error(message, hint)

    def _busy(self, message: str, reason: str, hint: str, wait: float | None) -> RegistryError:
        said = f"{self.reference}: {self.session.host} {message}"
        return RegistryBusyError(said, hint, reason=reason, retry_after=wait)

    def error(self, message: str, hint: str = "") -> RegistryError:
        """Return what to raise, with the registry's name."""
        return RegistryError(f"{self.reference}: {self.session.host} {message}", hint)


class _Question(_Door):
    """The question which image a tag stands for."""

    def answer(self) -> str | None:
        """Return the digest, None when the image is certainly absent."""
        place = f"manifests/{self.reference.tag}"
        # HEAD first: registries that limit the rate count it less or not at all.
        with self.ask("HEAD", place) as head:
            if head.status_code == 200:
                stated = self._stated_digest(head)
                if stated is not None:
                    return stated
            elif head.status_code not in (404, 405):
                raise self.refusal(head)
        with self.ask("GET", place) as answer:
            body = registrysession.body_of(answer)
            if answer.status_code == 200:
                return self._verified_digest(answer, body)
            if answer.status_code == 404 and registrysession.error_codes(body) & ABSENT:
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
        bandwidth: kept to while blobs are read.
    """

    def __init__(self, reference: ImageReference, session: RegistrySession, bandwidth: Bandwidth) -> None:
        super().__init__(reference, session)
        self.bandwidth = bandwidth

    def manifest(self, sha256: str) -> bytes:
        """Return an image manifest or index, its digest verified.

        Raises:
            RegistryError: it cannot be had, or is another one.
        """
        with self._opened(f"manifests/sha256:{sha256}", accept=True) as answer, self.errors(_NOT_SENT):
            body = registrysession.body_of(answer)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise self.error("sends another image manifest than the one that was asked for")
        return body

    @contextlib.contextmanager
    def blob(self, sha256: str) -> Iterator[Iterator[bytes]]:
        """Open a blob: its bytes come as the registry sends them, unverified.

        Raises:
            RegistryError: it cannot be had, also while it is read.
        """
        with self._opened(f"blobs/sha256:{sha256}", accept=False) as answer:
            yield self._chunks(answer)

    @contextlib.contextmanager
    def _opened(self, place: str, *, accept: bool) -> Iterator[requests.Response]:
        with self.errors(_NOT_SENT):
            answer = self.ask("GET", place, accept=accept)
        with answer:
            if answer.status_code != 200:
                raise self.refusal(answer)
            yield answer

    def _chunks(self, answer: requests.Response) -> Iterator[bytes]:
        with self.errors(_NOT_SENT), self.bandwidth.used():
            for chunk in answer.iter_content(_CHUNK):
                self.bandwidth.spend(len(chunk))
                yield chunk
