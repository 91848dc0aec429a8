"""How an S3 server is reached: the one door to boto3, which is loaded by the first question."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

from neurocommand.errors import StoreError

QUESTION = 1  # attempts: to repeat a question is the business of RetryingStore
PART = 4  # attempts: a part that fails is sent again by itself, not the whole object


@dataclass(frozen=True)
class Access:
    """Where a server is and who asks; credentials, proxies and CA bundles come from boto3's own places.

    Args:
        endpoint: address of a server that is not Amazon's; it is asked in path style.
        region: region of the bucket.
        profile: profile of boto3's configuration files.
        anonymous: send no credentials.
        connections: how many are kept open; at least as many as threads that share the store.
    """

    endpoint: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    connections: int = 32


class Clients:
    """The clients of one store, one for each number of attempts; shared by its threads.

    Args:
        store: the store's name in messages.
        access: how the server is reached.
    """

    def __init__(self, store: str, access: Access) -> None:
        self.store = store
        self.access = access
        self._opening = threading.Lock()
        self._opened: dict[int, Any] = {}

    def get(self, attempts: int = QUESTION) -> Any:
        """Return the client that tries each request so many times.

        Raises:
            StoreError: the settings cannot be meant.
        """
        with self._opening:
            if attempts not in self._opened:
                self._opened[attempts] = self._open(attempts)
            return self._opened[attempts]

    def close(self) -> None:
        """Close the connections that are kept for the next request."""
        for client in self._opened.values():
            client.close()

    def _open(self, attempts: int) -> Any:
        import boto3
        from botocore import UNSIGNED
        from botocore.config import Config

        # All bytes that we send carry their sha256 in a header that is signed: to take it again for the signature
        # would cost a third of the time of an upload.
        details: dict[str, Any] = {"payload_signing_enabled": False}
        if self.access.endpoint:
            details["addressing_style"] = "path"
        settings: dict[str, Any] = {
            "s3": details,
            "connect_timeout": 10,
            "read_timeout": 60,
            # With fewer, urllib3 complains on standard error.
            "max_pool_connections": self.access.connections,
            "retries": {"mode": "standard", "total_max_attempts": attempts},
            # Ours is sha256, stated with each request; the library's own CRC breaks older servers.
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
            # Else presigned addresses have a signature of version 2, which newer regions refuse.
            "signature_version": UNSIGNED if self.access.anonymous else "s3v4",
        }
        try:
            session = boto3.Session(profile_name=self.access.profile, region_name=self.access.region)
            return session.client("s3", endpoint_url=self.access.endpoint, config=Config(**settings))
        except ValueError as error:
            raise StoreError(f"store {self.store}: {error}", "check its endpoint and region") from error
