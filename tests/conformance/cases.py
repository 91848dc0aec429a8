"""One case per kind of store: how to make one on its real server, and how to act behind its back.

To add a store: write a case of these few members and name it in ``CASES``; the whole suite then runs against it.
"""

from __future__ import annotations

import hashlib
import subprocess
import urllib.error
import urllib.parse
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest
import tenacity

from neurocommand.bandwidth import Bandwidth
from neurocommand.model import TAG, StoredObject
from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Store
from neurocommand.stores.oci import OciStore
from neurocommand.stores.paced import PacedStore
from neurocommand.stores.rclone import RcloneStore
from neurocommand.stores.retry import RetryingStore
from neurocommand.stores.s3 import S3Store
from tests.ceph import Ceph
from tests.servers import Registry, Respond, WebServer, push_sif, refused_url, serve_directory
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

    def planted(self, key: str, data: bytes) -> StoredObject:
        """Return what the store is to say of an object that was planted: no more than it can know."""
        return StoredObject(key, len(data))

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


class PacedCase(DirectoryCase):
    def __init__(self, directory: Path, **_: Any) -> None:
        super().__init__(directory)
        self.store = PacedStore(self.store, Bandwidth(1 << 40))
        self.recipe += (
            "\nfrom neurocommand.bandwidth import Bandwidth\nfrom neurocommand.stores.paced import PacedStore\n"
            "store = PacedStore(store, Bandwidth(1 << 40))"
        )

    def unreachable(self) -> Store:
        return PacedStore(super().unreachable(), Bandwidth(1 << 40))

    def read_only(self) -> Store:
        return PacedStore(super().read_only(), Bandwidth(1 << 40))


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


class RcloneCase(Case):
    """An rclone remote; things happen behind the store's back by rclone itself, as anybody may use it."""

    settings = ""
    segments = ""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        self.remote, self.directory = f"remote:{path}", directory
        configuration = directory / "rclone.conf"
        gone = f"type = swift\nauth = {refused_url()}/auth/v1.0\nauth_version = 1\nuser = u\nkey = k\n"
        configuration.write_text(f"[remote]\n{self.settings}\n[gone]\n{gone}")
        monkeypatch.setenv("RCLONE_CONFIG", str(configuration))
        self.rclone("mkdir", self.remote)
        self.recipe = (
            "from neurocommand.stores.rclone import RcloneStore\n"
            f"store = RcloneStore('rclone', {self.remote!r}, stale_after=0)"
        )
        self.store = RcloneStore("rclone", self.remote, stale_after=0)

    def rclone(self, *words: str, data: bytes = b"") -> str:
        argv = ["rclone", "--retries", "1", *words]
        return subprocess.run(argv, input=data, check=True, capture_output=True).stdout.decode()

    def unreachable(self) -> Store:
        return RcloneStore("gone", "gone:somewhere")

    def read_only(self) -> Store:
        return RcloneStore("rclone", self.remote, writable=False)


class LocalRcloneCase(RcloneCase):
    settings = "type = local"

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
        self.path = directory / "kept"
        super().__init__(directory, monkeypatch, str(self.path))

    def plant(self, key: str, data: bytes) -> None:
        (self.path / key).parent.mkdir(exist_ok=True)
        (self.path / key).write_bytes(data)

    def leftovers(self) -> list[str]:
        return [path.name for path in self.path.glob(".partial/*")]


class SwiftRcloneCase(RcloneCase):
    """A container of a real Swift; what is bigger than half a MiB becomes a large object of segments."""

    def __init__(self, directory: Path, swift: Swift, monkeypatch: pytest.MonkeyPatch, **_: Any) -> None:
        self.swift, self.container = swift, directory.name
        self.settings = (
            f"type = swift\nauth = {swift.auth_url}\nauth_version = 1\n"
            f"user = {swift.user}\nkey = {swift.key}\nchunk_size = 512Ki"
        )
        super().__init__(directory, monkeypatch, f"{self.container}/images")

    def plant(self, key: str, data: bytes) -> None:
        self.swift.ask("PUT", f"{self.container}/images/{urllib.parse.quote(key)}", body=data)

    def leftovers(self) -> list[str]:
        """Segments that no object of the container is made of."""
        try:
            listed = self.swift.ask("GET", f"{self.container}_segments")[2].decode().split()
        except urllib.error.HTTPError:
            return []
        used = []
        for name in self.swift.ask("GET", self.container)[2].decode().splitlines():
            headers = self.swift.ask("HEAD", f"{self.container}/{urllib.parse.quote(name)}")[1]
            used.append(urllib.parse.unquote(headers.get("x-object-manifest", "/")).partition("/")[2])
        return [name for name in listed if not any(prefix and name.startswith(prefix) for prefix in used)]


class OciCase(Case):
    links = True

    def __init__(self, directory: Path, registry: Registry, **_: Any) -> None:
        self.server, self.state = registry, directory / "state"
        url, part = f"{registry.host}/neurodesk/sif", 6 << 20
        self.recipe = (
            "from neurocommand.stores.oci import OciStore\n"
            f"store = OciStore('registry', {url!r}, insecure=True, state=Path({str(self.state)!r}), part={part})"
        )
        self.store = OciStore("registry", url, insecure=True, state=self.state, part=part)

    def plant(self, key: str, data: bytes) -> None:
        repository, _, name = f"neurodesk/sif/{key}".rpartition("/")
        tag = name.removesuffix(".simg")
        if not TAG.fullmatch(tag):
            return  # a registry cannot hold it, so there is nothing to pass over
        push_sif(self.server.host, repository, tag, data)

    def unreachable(self) -> Store:
        return OciStore("gone", f"{refused_url().removeprefix('http://')}/neurodesk/sif", insecure=True)

    def read_only(self) -> Store:
        return OciStore("registry", f"{self.server.host}/neurodesk/sif", insecure=True, writable=False)

    def leftovers(self) -> list[str]:
        # The bytes: after DELETE this registry keeps an empty upload with the state of its digest, for a week.
        uploads = self.server.storage.glob("docker/registry/v2/repositories/**/_uploads/*/data")
        return [path.parent.name for path in uploads] + [path.name for path in self.state.glob("*")]

    def planted(self, key: str, data: bytes) -> StoredObject:
        # the digest of the layer, which the registry itself checked when it took it
        return StoredObject(key, len(data), hashlib.sha256(data).hexdigest())


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
    "paced": PacedCase,
    "s3": MotoCase,
    "swift-s3": SwiftS3Case,
    "ceph": CephCase,
    "swift-rclone": SwiftRcloneCase,
    "local-rclone": LocalRcloneCase,
    "oci": OciCase,
    "http": HttpCase,
}
WRITABLE = ("directory", "retry", "paced", "s3", "swift-s3", "ceph", "swift-rclone", "local-rclone", "oci")
LISTABLE = ("directory", "retry", "paced", "s3", "swift-s3", "ceph", "swift-rclone", "local-rclone", "oci")
FULL = ("ceph",)  # only with --full
