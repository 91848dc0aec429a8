"""What S3 servers and boto3 say when something fails, as errors of a store."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from neurocommand.errors import StoreError, StoreFullError, TransientStoreError, plain_reason, printable

_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "InsufficientCapacity", "XMinioStorageFull"})
_BUSY = frozenset({408, 429, 500, 502, 503, 504})
_CREDENTIALS = "boto3 takes credentials from its own places: AWS_ACCESS_KEY_ID, AWS_PROFILE, ~/.aws"


@contextlib.contextmanager
def normalised(text: str) -> Iterator[None]:
    """Turn what boto3 raises in a block into StoreError, with ``text`` before the reason."""
    from botocore import exceptions
    from urllib3.exceptions import HTTPError

    try:
        yield
    except exceptions.ClientError as error:
        raise _refusal(text, error) from error
    except exceptions.SSLError as error:
        raise StoreError(f"{text}: {plain_reason(error)}", "is AWS_CA_BUNDLE set as this site needs it?") from error
    except (
        exceptions.ConnectionError,
        exceptions.HTTPClientError,
        exceptions.IncompleteReadError,
        HTTPError,
    ) as error:
        raise TransientStoreError(f"{text}: {plain_reason(error)}") from error
    except (exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound) as error:
        raise StoreError(f"{text}: {error}", _CREDENTIALS) from error
    except exceptions.BotoCoreError as error:
        raise StoreError(f"{text}: {printable(' '.join(str(error).split()), 200)}") from error


def code(error: Any) -> str:
    """Return the code in an S3 error (a botocore ClientError)."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status(error: Any) -> int:
    """Return the HTTP status of an S3 error (a botocore ClientError)."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _refusal(text: str, error: Any) -> StoreError:
    message = str(error.response.get("Error", {}).get("Message", ""))
    said = [str(status(error)), code(error) if code(error) != str(status(error)) else "", message]
    shown = f"{text}: {printable(' '.join(word for word in said if word), 200)}"
    # Ceph says QuotaExceeded with 403, Swift's own API "Upload exceeds quota." with 413, its S3 API the same with 400.
    full = code(error) in _FULL or status(error) == 507
    if full or (status(error) in (400, 403, 413) and "quota" in message.lower()):
        return StoreFullError(shown, "free some space there, or raise its quota")
    if code(error) == "NoSuchUpload":  # somebody took it for a killed run's; a new one may go well
        return TransientStoreError(shown)
    if status(error) in _BUSY:
        stated = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("retry-after", "")
        return TransientStoreError(shown, retry_after=float(stated) if stated.isdecimal() else None)
    return StoreError(shown, _CREDENTIALS if status(error) in (400, 401, 403) else "")
