"""Settings as values: what neurocommand.yaml says, checked and with absolute paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neurocommand.model import Format


@dataclass(frozen=True)
class RegistrySettings:
    """One registry: ``host[:port][/path]`` and how it names images."""

    name: str
    url: str
    templates: tuple[str, ...]
    insecure: bool


@dataclass(frozen=True)
class DirectorySettings:
    """A store in a directory; with ``create`` its parents are made too, else they must be there (a mounted disk)."""

    name: str
    path: Path
    writable: bool
    create: bool
    url: str = ""


@dataclass(frozen=True)
class S3Settings:
    """A store in an S3 bucket; credentials come from boto3's own sources. Sizes are in bytes."""

    name: str
    bucket: str
    endpoint: str | None
    region: str | None
    prefix: str
    profile: str | None
    anonymous: bool
    writable: bool
    url: str = ""
    part_size: int = 8 << 20
    concurrency: int = 4


@dataclass(frozen=True)
class HttpSettings:
    """A public store that is only read."""

    name: str
    url: str
    absent: tuple[int, ...]


StoreSettings = DirectorySettings | S3Settings | HttpSettings


@dataclass(frozen=True)
class DownloadSettings:
    """How objects are fetched: connections at once for one of them, with aria2 or without, and what knows the speeds.

    ``speeds`` is the file in which the speeds of hosts are kept; None: each is measured anew.
    """

    connections: int = 8
    aria2: bool = True
    speeds: Path | None = None


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured; paths are absolute."""

    manifest: str
    lock: Path
    state: Path
    spool: Path
    registries: tuple[RegistrySettings, ...]
    stores: tuple[StoreSettings, ...]
    prefix: Path
    install_format: Format
    root: Path | None
    publish_format: Format
    mount_points: tuple[str, ...]
    downloads: DownloadSettings
