"""One case per kind of store: how to make one on its real server, and how to act behind its back.

To add a store: write a case of these few members and name it in ``CASES``; the whole suite then runs against it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import tenacity

from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Store
from neurocommand.stores.retry import RetryingStore
from neurocommand.stores.s3 import S3Store
from tests.servers import Respond, WebServer, refused_url, serve_directory


class Case(ABC):
    """A store under test: ``store`` is the store, ``recipe`` the Python text that makes it in another process."""

    store: Store
    recipe: str = ""

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
    def __init__(self, directory: Path, moto_url: str, **_: Any) -> None:
        self.bucket, self.url = directory.name.replace("_", "-").lower(), moto_url
        self.server = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
        self.server.create_bucket(Bucket=self.bucket)
        arguments = f"'bucket', {self.bucket!r}, endpoint={moto_url!r}, prefix='images', stale_after=0"
        self.recipe = f"from neurocommand.stores.s3 import S3Store\nstore = S3Store({arguments})"
        self.store = S3Store("bucket", self.bucket, endpoint=moto_url, prefix="images", stale_after=0)

    def plant(self, key: str, data: bytes) -> None:
        self.server.put_object(Bucket=self.bucket, Key=f"images/{key}", Body=data)

    def unreachable(self) -> Store:
        return S3Store("gone", self.bucket, endpoint=refused_url())

    def read_only(self) -> Store:
        return S3Store("bucket", self.bucket, endpoint=self.url, prefix="images", writable=False)

    def leftovers(self) -> list[str]:
        uploads = self.server.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [upload["Key"] for upload in uploads]


class HttpCase(Case):
    def __init__(self, directory: Path, web_server: Callable[[Respond], WebServer], **_: Any) -> None:
        self.path = directory / "served"
        self.path.mkdir()
        self.store = HttpStore("web", web_server(serve_directory(self.path)).url)

    def plant(self, key: str, data: bytes) -> None:
        (self.path / key).write_bytes(data)

    def unreachable(self) -> Store:
        return HttpStore("gone", refused_url())


CASES: dict[str, type[Case]] = {"directory": DirectoryCase, "retry": RetryingCase, "s3": S3Case, "http": HttpCase}
WRITABLE = ("directory", "retry", "s3")
LISTABLE = ("directory", "retry", "s3")
