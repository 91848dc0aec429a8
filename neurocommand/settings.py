"""Settings as values: what neurocommand.yaml says, checked and with absolute paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from neurocommand.model import Format


@dataclass(frozen=True)
class Credentials:
    """A name and a password; never shown."""

    username: str
    password: str = field(repr=False)


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


@dataclass(frozen=True)
class OciSettings:
    """A store that is one repository of a registry, ``host[:port]/path``.

    Args:
        name: the store's name.
        url: registry and repository.
        insecure: plain http.
        images: the registry of the images, on the same host, where SIFs are made referrers of them.
        writable: objects may be put there.
        state: the directory that remembers unfinished uploads.
        credentials: from the environment.
    """

    name: str
    url: str
    insecure: bool
    images: RegistrySettings | None
    writable: bool
    state: Path
    credentials: Credentials | None = None


StoreSettings = DirectorySettings | S3Settings | OciSettings | HttpSettings


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
