"""One case per kind of store: how to make one on its real server, and how to act behind its back.

To add a store: write a case of these few members and name it in ``CASES``; the whole suite then runs against it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import tenacity

from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Store
from neurocommand.stores.retry import RetryingStore
from neurocommand.stores.s3 import S3Store
from tests.ceph import Ceph
from tests.servers import Respond, WebServer, refused_url, serve_directory
from tests.swift import Swift


class Case(ABC):
    """A store under test: ``store`` is the store, ``recipe`` the Python text that makes it in another process."""

    store: Store
    recipe: str = ""
    links: bool = False  # whether it gives addresses of its objects

    @abstractmethod
    def plant(self, key: str, data: bytes) -> None:
        """Put an object there without the store's help."""

    @abstractmethod
    def unreachable(self) -> Store:
        """Make a store of this kind that cannot be asked."""

    def read_only(self) -> Store:
        """Make one that refuses to write; by default the store is one."""
        return self.store

    def leftovers(self) -> list[str]:
        """Name what unfinished puts left behind."""
        return []

    def close(self) -> None:
        """Close what the case opened."""
        return


class DirectoryCase(Case):
    def __init__(self, directory: Path, **_: Any) -> None:
        self.path = directory / "store"
        self.store = DirectoryStore("here", self.path)
        self.recipe = (
            "from neurocommand.stores.directory import DirectoryStore\n"
            f"store = DirectoryStore('here', Path({str(self.path)!r}))"
        )

    def plant(self, key: str, data: bytes) -> None:
        (self.path / key).parent.mkdir(parents=True, exist_ok=True)
        (self.path / key).write_bytes(data)

    def unreachable(self) -> Store:
        return DirectoryStore("gone", self.path.parent / "not mounted" / "store")

    def read_only(self) -> Store:
        return DirectoryStore("here", self.path, writable=False)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.path.rglob("*.partial")]


class RetryingCase(DirectoryCase):
    def __init__(self, directory: Path, **_: Any) -> None:
        super().__init__(directory)
        self.store = RetryingStore(self.store, wait=tenacity.wait_none())
        self.recipe += "\nfrom neurocommand.stores.retry import RetryingStore\nstore = RetryingStore(store)"

    def unreachable(self) -> Store:
        return RetryingStore(super().unreachable(), wait=tenacity.wait_none())

    def read_only(self) -> Store:
        return RetryingStore(super().read_only())


class S3Case(Case):
    """A bucket; in parts of the smallest size that S3 allows, so that small objects are many."""

    PART = 5 << 20
    links = True
    atomic = False  # whether of several writers with the same condition one is sure to win

    def __init__(self, directory: Path, server: Any, url: str, credentials: dict[str, str]) -> None:
        self.bucket, self.url, self.server = directory.name.replace("_", "-").lower(), url, server
        self.server.create_bucket(Bucket=self.bucket)
        self.records = directory / "uploads"
        self.store = self.make()
        self.credentials = credentials
        self.recipe = self.recipe_of()

    def recipe_of(self, **others: Any) -> str:
        """Return the Python text that makes the store, with other arguments where they are given."""
        arguments = ", ".join(f"{name}={value!r}" for name, value in {**self.arguments(), **others}.items())
        return (
            f"import os\nfrom pathlib import PosixPath\nos.environ.update({self.credentials!r})\n"
            f"from neurocommand.stores.s3 import S3Store\nstore = S3Store('bucket', {self.bucket!r}, {arguments})"
        )

    def arguments(self) -> dict[str, Any]:
        return {
            "endpoint": self.url,
            "prefix": "images",
            "part_size": self.PART,
            "records": self.records,
            "stale_after": 0,
        }

    def make(self, **others: Any) -> S3Store:
        return S3Store("bucket", self.bucket, **{**self.arguments(), **others})

    def plant(self, key: str, data: bytes) -> None:
        self.server.put_object(Bucket=self.bucket, Key=f"images/{key}", Body=data)

    def unreachable(self) -> Store:
        return S3Store("gone", self.bucket, endpoint=refused_url())

    def read_only(self) -> Store:
        return self.make(writable=False)

    def leftovers(self) -> list[str]:
        uploads = self.server.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        records = [path.name for path in self.records.iterdir()] if self.records.is_dir() else []
        return [upload["Key"] for upload in uploads] + records

    def close(self) -> None:
        self.server.close()


class MotoCase(S3Case):
    def __init__(self, directory: Path, moto_url: str, **_: Any) -> None:
        server = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
        super().__init__(directory, server, moto_url, {})


class SwiftS3Case(S3Case):
    """Swift's S3 API: private buckets, checksums that are looked at, and conditions that it knows in part."""

    def __init__(self, directory: Path, swift: Swift, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
        super().__init__(directory, swift.s3(), swift.url, credentials(swift, monkeypatch))


class CephCase(S3Case):
    """Ceph's S3: as Swift's, and one winner of several writers."""

    atomic = True

    def __init__(self, directory: Path, ceph: Ceph, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
        super().__init__(directory, ceph.s3(), ceph.url, credentials(ceph, monkeypatch))


def credentials(server: Swift | Ceph, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Give boto3 a server's credentials, and return them for other processes."""
    found = {"AWS_ACCESS_KEY_ID": server.user, "AWS_SECRET_ACCESS_KEY": server.key}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


class HttpCase(Case):
    links = True

    def __init__(self, directory: Path, web_server: Callable[[Respond], WebServer], **_: Any) -> None:
        self.path = directory / "served"
        self.path.mkdir()
        self.store = HttpStore("web", web_server(serve_directory(self.path)).url)

    def plant(self, key: str, data: bytes) -> None:
        (self.path / key).write_bytes(data)

    def unreachable(self) -> Store:
        return HttpStore("gone", refused_url())


CASES: dict[str, type[Case]] = {
    "directory": DirectoryCase,
    "retry": RetryingCase,
    "s3": MotoCase,
    "swift-s3": SwiftS3Case,
    "ceph": CephCase,
    "http": HttpCase,
}
WRITABLE = ("directory", "retry", "s3", "swift-s3", "ceph")
LISTABLE = ("directory", "retry", "s3", "swift-s3", "ceph")
FULL = ("ceph",)  # only with --full
