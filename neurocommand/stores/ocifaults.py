"""What registries say when something fails, as errors of a store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import requests
import urllib3

from neurocommand import registrysession, web
from neurocommand.errors import StoreError, StoreFullError, TransientStoreError, printable
from neurocommand.registrysession import LoginError, OversizedError


@contextlib.contextmanager
def normalised(text: str, registry: str) -> Iterator[None]:
    """Turn what a request raises in a block into StoreError, with ``text`` before the reason."""
    try:
        yield
    except LoginError as error:
        raise StoreError(f"{text}: {registry} {error.message}", login_hint(registry)) from error
    except OversizedError as error:
        raise StoreError(f"{text}: {registry} {error.message}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        said = f"{text}: {web.reason(error)} ({registry})"
        raise (TransientStoreError(said) if web.is_transient(error) else StoreError(said)) from error


def refusal(text: str, registry: str, answer: requests.Response) -> StoreError:
    """Return the error that an answer stands for, which is read to its end."""
    status, body = answer.status_code, registrysession.body_of(answer)
    said = f"{text}: {registry} answers {' '.join((str(status), *_words(body)))}"
    if status == 507 or (status in (403, 413) and b"quota" in body.lower()):
        return StoreFullError(said, "free some space there, or raise its quota")
    # A blob that was taken a moment ago and is unknown now: somebody else's upload of the same one got in between.
    if status in web.BUSY or registrysession.error_codes(body) & {"MANIFEST_BLOB_UNKNOWN"}:
        return TransientStoreError(said, retry_after=web.retry_after(answer.headers))
    if status in (401, 403):
        return StoreError(said, login_hint(registry))
    return StoreError(said, "is its url right?" if status == 404 else "")


def login_hint(registry: str) -> str:
    """Say how to be let in."""
    return (
        f"try `docker login {registry}` (~/.docker/config.json), or give its credentials in the environment "
        "(NEUROCOMMAND_<NAME>_USERNAME and _PASSWORD)"
    )


def _words(body: bytes) -> list[str]:
    """Return code and message of the first error in a registry's error document."""
    try:
        error = json.loads(body)["errors"][0]
        return [printable(str(error[field])) for field in ("code", "message") if error.get(field)]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return []
