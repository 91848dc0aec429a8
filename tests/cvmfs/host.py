"""A publisher's host in a directory: its configuration, spool, storage, keys and locks, laid out as on a real one."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .faults import Faults
from .objects import Objects
from .signing import Keys, expiry, now
from .words import RefusedError

SPOOL = ("cache", "ofs_workdir", "ovl_work", "rdonly", "scratch/current", "tmp")


@dataclass(frozen=True)
class Host:
    """A host whose / is a directory."""

    root: Path

    @property
    def configuration(self) -> Path:
        """Return where repositories are configured."""
        return self.root / "etc/cvmfs/repositories.d"

    @property
    def keys(self) -> Path:
        """Return where keys are."""
        return self.root / "etc/cvmfs/keys"

    def names(self) -> list[str]:
        """Return the names of all repositories."""
        return sorted(path.parent.name for path in self.configuration.glob("*/server.conf"))

    def repository(self, name: str) -> Repository:
        """Return a repository, whether it exists or not."""
        return Repository(self, name)


@dataclass(frozen=True)
class Repository:
    """A repository of this host."""

    host: Host
    name: str

    @property
    def exists(self) -> bool:
        """Tell whether it is configured here."""
        return (self.host.configuration / self.name / "server.conf").is_file()

    @cached_property
    def settings(self) -> dict[str, str]:
        """Return its configuration."""
        text = (self.host.configuration / self.name / "server.conf").read_text()
        words = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {name: " ".join(shlex.split(value)) for name, _, value in words}

    @property
    def union(self) -> Path:
        """Return the directory where its tree is seen and changed."""
        return Path(self.settings["CVMFS_UNION_DIR"])

    @property
    def spool(self) -> Path:
        """Return its spool."""
        return Path(self.settings["CVMFS_SPOOL_DIR"])

    @property
    def has_gateway(self) -> bool:
        """Tell whether what is published here goes through a gateway."""
        return self.settings["CVMFS_UPSTREAM_STORAGE"].startswith("gw,")

    @cached_property
    def upstream(self) -> Repository:
        """Return the repository that has storage, keys and revisions: this one, or the gateway's."""
        if self.has_gateway:
            return Host(Path((self.state / "gateway").read_text())).repository(self.name)
        return self

    @property
    def storage(self) -> Path:
        """Return its storage."""
        return Path(self.upstream.settings["CVMFS_UPSTREAM_STORAGE"].split(",")[2])

    @property
    def pool(self) -> Path:
        """Return where the plain bytes of every file are."""
        return self.upstream.state / "pool"

    @property
    def state(self) -> Path:
        """Return where the simulator keeps what a real host keeps in its mounts, and what tests ask."""
        return self.host.root / "state" / self.name

    @property
    def flag(self) -> Path:
        """Return the file that says that a transaction is open."""
        return self.spool / "in_transaction.lock"

    @property
    def lock(self) -> Path:
        """Return the file that whoever publishes holds a lock on."""
        return self.spool / "is_publishing.lock"

    @property
    def temporary(self) -> Path:
        """Return where databases are built."""
        return self.spool / "tmp"

    @property
    def faults(self) -> Faults:
        """Return what tests have ordered."""
        return Faults(self.state / "faults")

    @property
    def objects(self) -> Objects:
        """Return the storage's objects."""
        return Objects(self.storage, self.pool, self.faults)

    @property
    def signing(self) -> Keys:
        """Return its keys."""
        return Keys(self.upstream.host.keys, self.name)

    @property
    def owner(self) -> pwd.struct_passwd:
        """Return the user who publishes."""
        return pwd.getpwnam(self.settings["CVMFS_USER"])

    @property
    def is_ours(self) -> bool:
        """Tell whether the caller may publish."""
        return os.geteuid() in (0, self.owner.pw_uid)

    @property
    def whitelist_is_expired(self) -> bool:
        """Tell whether clients refuse the repository."""
        return expiry((self.storage / ".cvmfswhitelist").read_bytes()) <= now()

    @property
    def mounted(self) -> tuple[str, int]:
        """Return how the union is mounted (rw, ro or none), and on which revision."""
        mode, revision = json.loads((self.state / "mounts").read_text())
        return mode, revision

    def hide(self) -> None:
        """Let the union be as it is where nothing is mounted: an empty directory."""
        self.union.rename(self.state / "unmounted")
        self.union.mkdir()

    def reveal(self) -> None:
        """Let the union hold again what it held before ``hide``."""
        if (self.state / "unmounted").exists():
            self.union.rmdir()
            (self.state / "unmounted").rename(self.union)

    def set_mounted(self, mode: str, revision: int | None = None) -> None:
        """Say how the union is mounted, and where it changes, on which revision."""
        temporary = self.state / f"mounts.{os.getpid()}"
        temporary.write_text(json.dumps([mode, self.mounted[1] if revision is None else revision]))
        temporary.replace(self.state / "mounts")

    @contextlib.contextmanager
    def publishing(self, busy: RefusedError) -> Iterator[int]:
        """Hold the lock of who publishes; raises ``busy`` where another does. Gives the lock's descriptor."""
        with contextlib.ExitStack() as stack:
            while True:
                file = stack.enter_context(open(self.lock, "ab"))
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise busy from None
                if self.lock.exists() and self.lock.stat().st_ino == os.fstat(file.fileno()).st_ino:
                    break  # else its last holder has just removed it
            try:
                yield file.fileno()
            finally:
                self.lock.unlink(missing_ok=True)

    @property
    def is_publishing(self) -> bool:
        """Tell whether somebody holds the lock."""
        try:
            with open(self.lock, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


def known(host: Host, name: str) -> Repository:
    """Return a repository that exists; refuses as commands of the publisher library do."""
    repository = host.repository(name)
    if not repository.exists:
        text = f"Unable to find the configuration file `server.conf` for the cvmfs publisher: {name}"
        raise RefusedError(1, f"CernVM-FS error: {text}")
    return repository


def existing(host: Host, name: str) -> Repository:
    """Return a repository that exists; refuses as the shell part of cvmfs_server does."""
    repository = host.repository(name)
    if not repository.exists:
        raise RefusedError(1, f"The repository {name} does not exist.")
    return repository


def owned(repository: Repository) -> None:
    """Refuse a caller who may not change tags or storage."""
    if not repository.is_ours:
        owner = repository.settings["CVMFS_USER"]
        raise RefusedError(1, f"Permission denied: Repository {repository.name} is owned by {owner}")
