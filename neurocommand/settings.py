"""Settings as values: what neurocommand.yaml says, checked and with absolute paths."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from neurocommand.model import Format

# of a store: None, where none is given, is "sync" for the primary and "copy" for a mirror
Mode = Literal["copy", "sync"]


@dataclass(frozen=True)
class Credentials:
    """A name and a password; never shown."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Budget:
    """How often one run may ask a host: at most so many requests within so many seconds."""

    requests: int = 1000
    seconds: float = 3600.0


Compression = Literal["zstd", "gzip"]


@dataclass(frozen=True)
class RegistrySettings:
    """One registry: ``host[:port][/path]`` and how it names images."""

    name: str
    url: str
    templates: tuple[str, ...]
    insecure: bool
    budget: Budget = Budget()
    credentials: Credentials | None = None


@dataclass(frozen=True)
class DirectorySettings:
    """A store in a directory; with ``create`` its parents are made too, else they must be there (a mounted disk)."""

    name: str
    path: Path
    writable: bool
    create: bool
    mode: Mode | None = None
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
    mode: Mode | None = None
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
    mode: Mode | None = None


@dataclass(frozen=True)
class RcloneSettings:
    """A store that is a remote of the user's own rclone configuration, ``name:path``."""

    name: str
    remote: str
    writable: bool
    url: str = ""
    mode: Mode | None = None


StoreSettings = DirectorySettings | S3Settings | RcloneSettings | OciSettings | HttpSettings


@dataclass(frozen=True)
class RetentionSettings:
    """How long what is unlisted stays, and how much may go at once.

    Args:
        grace_days: days from the one on which a release was first seen unlisted.
        floor: releases that the manifest must declare, so that anything may be deleted.
        cap: releases that one run may delete objects of, unless it is forced.
        pinned: release ids, or applications, that stay in any case.
        gap_days: days that runs may be apart; more than that is taken for a clock that went wrong.
    """

    grace_days: int = 90
    floor: int = 10
    cap: int = 5
    pinned: frozenset[str] = frozenset()
    gap_days: int = 40


@dataclass(frozen=True)
class DownloadSettings:
    """How objects are fetched: connections at once for one of them, with aria2 or without, and what knows the speeds.

    ``speeds`` is the file in which the speeds of hosts are kept; None: each is measured anew.
    """

    connections: int = 8
    aria2: bool = True
    speeds: Path | None = None


@dataclass(frozen=True)
class CvmfsSettings:
    """A CVMFS repository: where it is served, and how fresh it has to be.

    Args:
        repository: its full name.
        servers: addresses of the repository on the servers that clients use.
        stratum0: its address on the server that all others copy from; None where it is not known.
        public_key: the file of its master public key.
        lag_minutes: how long a server may lack the newest revision.
        age_hours: since when a server's revision may have been signed; None: for ever.
        release_file: the file that each visible release has below ``containers/<release>/``.
        configuration: CVMFS's own directory.
    """

    repository: str
    servers: tuple[str, ...]
    stratum0: str | None
    public_key: Path
    lag_minutes: int = 90
    age_hours: int | None = None
    release_file: str = "record.json"
    configuration: Path = Path("/etc/cvmfs")

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, each once, the stratum 0's first."""
        first = (self.stratum0,) if self.stratum0 else ()
        return tuple(dict.fromkeys((*first, *self.servers)))


Gpu = Literal["off", "auto", "on"]


@dataclass(frozen=True)
class Bind:
    """A host path that containers see, at a path of their own; both absolute."""

    source: str
    destination: str
    read_only: bool = False


@dataclass(frozen=True)
class WrapperSettings:
    """What every wrapper under a root does.

    Args:
        gpu: graphics processors in the container; ``auto`` where the host's libraries work in the image.
        warm: keep a container running between calls.
        warm_idle: seconds without a call after which it ends.
        passed: more variables that commands get from their callers; ``*`` at a name's end stands for any characters.
        binds: host paths that containers see where they exist.
    """

    gpu: Gpu = "off"
    warm: bool = False
    warm_idle: int = 600
    passed: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()


@dataclass(frozen=True)
class LimitSettings:
    """How much goes on at once.

    Args:
        conversions: images that are converted; one keeps all processors busy.
        transfers: uploads and downloads.
        bandwidth: bytes per second of all transfers together; None: no limit.
    """

    conversions: int = 1
    transfers: int = 4
    bandwidth: int | None = None

    @property
    def releases(self) -> int:
        """How many releases are worked on."""
        return self.conversions + self.transfers


@dataclass(frozen=True)
class RepositorySettings:
    """The CVMFS repository that this machine publishes.

    Args:
        name: of the repository.
        configuration: where ``cvmfs_server`` keeps its configuration.
        whitelist_days: days that its whitelist must be good for.
        min_free: bytes that its storage must have left beside what is published.
        revision_size: bytes of trees from which on a revision is made.
        revision_entries: files and directories from which on a revision is made.
        revision_seconds: seconds after which a revision is made of what is ready.
    """

    name: str
    configuration: Path
    whitelist_days: float
    min_free: int
    revision_size: int
    revision_entries: int
    revision_seconds: int


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured; paths are absolute.

    ``sets`` are the named sets: name and the releases that its module loads, as the file names them.
    ``repository`` is the one that ``root`` is the directory of.
    ``lock_from`` is the lock that a run with a lock of its own starts from, and leaves as it is; else None.
    """

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
    quorum: int | None
    retention: RetentionSettings
    compression: Compression
    downloads: DownloadSettings
    limits: LimitSettings
    wrappers: WrapperSettings = field(default_factory=WrapperSettings)
    sets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    repository: RepositorySettings | None = None
    lock_from: Path | None = None
    cvmfs: CvmfsSettings | None = None

    @property
    def prunable(self) -> frozenset[str]:
        """Names of the stores that may lose objects: those that sync, and the primary unless it is told to copy.

        The primary is the first writable one.
        """
        writable = [store for store in self.stores if not isinstance(store, HttpSettings) and store.writable]
        return frozenset(s.name for s in writable if s.mode == "sync" or (s is writable[0] and s.mode is None))
