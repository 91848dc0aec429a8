"""A stratum 0 for tests: a host of the simulator, served over loopback, with whatever fault a test wants."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import revisions, signing, union
from .faults import STEPS
from .host import Host, Repository
from .trees import Entry, Tree, lay_out, scan
from .webserver import Handler

BIN = Path(__file__).parent / "bin"


@dataclass(frozen=True)
class Done:
    """A command that has ended: its exit code, and what it said, errors and all."""

    code: int
    said: str


@dataclass(frozen=True)
class Seen:
    """What a client sees at a path; ``data`` are a file's bytes, else empty."""

    entry: Entry
    data: bytes


class Stratum0:
    """A host with one repository; use as a context manager, or as ``Stratum0.make(directory, name)``."""

    def __init__(self, directory: Path, name: str = "neurodesk.test.local") -> None:
        self.directory = directory
        self.name = name
        self.host = Host(directory)
        self.bin = BIN
        self._server: http.server.ThreadingHTTPServer | None = None

    @classmethod
    @contextlib.contextmanager
    def make(cls, directory: Path, name: str = "neurodesk.test.local", *options: str) -> Iterator[Stratum0]:
        """Make a host in a directory, serve it and make a repository; ``options`` are mkfs's, -g -z unless given."""
        with cls(directory, name) as stratum:
            stratum.mkfs(*(options or ("-g", "-z")))
            yield stratum

    def __enter__(self) -> Stratum0:
        (self.directory / "srv/cvmfs").mkdir(parents=True, exist_ok=True)
        handler = functools.partial(Handler, directory=str(self.directory / "srv"))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end_orphan()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    # --- the host ---------------------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Return the repository's address."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}/cvmfs/{self.name}"

    @property
    def env(self) -> dict[str, str]:
        """Return what a publisher needs in its environment."""
        return {"PATH": f"{self.bin}:{os.environ['PATH']}", "CVMFS_SIMULATOR": str(self.directory)}

    @property
    def repository(self) -> Repository:
        """Return the repository as the simulator sees it."""
        return Repository(self.host, self.name)

    @property
    def union(self) -> Path:
        """Return the directory that shows the repository, and takes changes in a transaction."""
        return self.repository.union

    @property
    def storage(self) -> Path:
        """Return what is served."""
        return self.repository.storage

    @property
    def spool(self) -> Path:
        """Return the spool."""
        return self.repository.spool

    @property
    def public_key(self) -> Path:
        """Return the key that clients trust."""
        return self.repository.signing.path("pub")

    def mkfs(self, *options: str) -> None:
        """Make the repository; private keys are made once for all hosts of this process."""
        self.host.keys.mkdir(parents=True, exist_ok=True)
        for kind, data in _private_keys().items():
            self.repository.signing.path(kind).write_bytes(data)
        user = pwd.getpwuid(os.geteuid()).pw_name
        done = self.run("mkfs", "-o", user, "-w", self.url, *options, self.name)
        assert done.code == 0, done.said

    def command(self, *argv: str) -> list[str]:
        """Return the command that runs cvmfs_server; its environment is ``env``."""
        return [str(self.bin / "cvmfs_server"), *argv]

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start cvmfs_server; options are Popen's."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        return subprocess.Popen(self.command(*argv), **{"cwd": "/", "env": self.env, "text": True, **options})

    def run(self, *argv: str, **options: Any) -> Done:
        """Run cvmfs_server to its end, standard input at its end; options are subprocess.run's."""
        with self.popen(*argv, **options) as process:
            said, _ = process.communicate(timeout=120)
        return Done(process.returncode, said)

    def do(self, *argv: str) -> str:
        """Run cvmfs_server with the repository as its last word; it must succeed."""
        done = self.run(*argv, self.name)
        assert done.code == 0, done
        return done.said

    # --- what is there ----------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """Return the number of the public revision."""
        return int(self.served()["S"])

    def served(self) -> Mapping[str, str]:
        """Return the manifest's fields, as they are served now."""
        with urllib.request.urlopen(f"{self.url}/.cvmfspublished", timeout=10) as answer:
            return signing.parse_manifest(answer.read())

    @property
    def is_open(self) -> bool:
        """Tell whether the flag of a transaction is there."""
        return self.repository.flag.exists()

    @property
    def is_writable(self) -> bool:
        """Tell whether the union is mounted read/write."""
        return self.repository.mounted[0] == "rw"

    @property
    def is_publishing(self) -> bool:
        """Tell whether somebody holds the lock of who publishes."""
        return self.repository.is_publishing

    def tree(self, revision: int | None = None) -> Tree:
        """Return all that a client sees, not from what is served but from what was published."""
        return revisions.read(self.repository, revision or self.revision).tree

    def view(self, path: str, revision: int | None = None) -> Seen | None:
        """Return what a client sees at a path of the newest, or of a given revision; None where nothing is."""
        entry = self.tree(revision).get(path.strip("/"))
        if entry is None:
            return None
        return Seen(entry, (self.repository.state / "pool" / entry.raw).read_bytes() if entry.kind == "file" else b"")

    def checkout(self, directory: Path, revision: int | None = None) -> Path:
        """Lay out what a client sees in a new directory."""
        directory.mkdir()
        lay_out(directory, {"": Entry("directory", 0, 0, 0, 0)}, self.tree(revision), self.repository.state / "pool")
        return directory

    def strays(self) -> list[str]:
        """Return paths where the union, while no transaction is open, is not as published: written past cvmfs."""
        tree = self.tree()
        found = scan(self.union, tree) | {"": tree[""]}
        return sorted({path for paths in union.changes(tree, found) for path in paths})

    # --- faults -----------------------------------------------------------------------------------------------------

    def renew_whitelist(self, days: int = 30) -> None:
        """Sign a whitelist that is valid for so many days."""
        self.repository.objects.replace(".cvmfswhitelist", signing.whitelist(self.repository.signing, days))

    def expire_whitelist(self) -> None:
        """Let the whitelist have expired."""
        self.renew_whitelist(0)

    def fill_storage(self) -> None:
        """Let no new object fit into the storage."""
        self.repository.faults.order("storage-full")

    def free_storage(self) -> None:
        """Let objects fit again."""
        self.repository.faults.cancel("storage-full")

    def fill_spool(self) -> None:
        """Let nothing fit into the spool."""
        self.repository.faults.order("spool-full")

    def free_spool(self) -> None:
        """Let things fit into the spool again."""
        self.repository.faults.cancel("spool-full")

    def break_mount(self) -> None:
        """Take the mounts away, as a reboot does."""
        self.repository.set_mounted("none")

    def hold_mount(self, seconds: float) -> None:
        """Let every remount wait so long, as while another namespace holds the old mount."""
        self.repository.faults.order("hold-until", str(time.time() + seconds))

    def release_mount(self) -> None:
        """End what ``hold_mount`` began."""
        self.repository.faults.cancel("hold-until")

    def kill_at(self, step: str) -> None:
        """Kill the next command that reaches a step, and all its workers; steps are ``faults.STEPS``."""
        assert step in STEPS, step
        self.repository.faults.order("kill-at", step)

    def kill_worker(self) -> None:
        """Kill only the worker of the next publish or ingest."""
        self.repository.faults.order("kill-worker")

    def orphan(self, seconds: float) -> None:
        """Kill only the shell of the next publish or ingest; its worker holds the lock, and our output, so long."""
        self.repository.faults.order("orphan", str(seconds))

    def end_orphan(self) -> None:
        """End the worker that ``orphan`` has left."""
        worker = self.repository.faults.take("orphaned")
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)

    def fail_abort(self) -> None:
        """Let the next abort die."""
        self.repository.faults.order("abort-fails")

    def foreign_transaction(self, path: str = "foreign", data: bytes = b"not ours\n") -> None:
        """Open a transaction as somebody else, who has written a file."""
        self.do("transaction")
        (self.union / path).write_bytes(data)

    def corrupt(self, path: str) -> Path:
        """Let the object of a published file have other bytes; returns the object."""
        place = self.object(path)
        place.write_bytes(b"x" + place.read_bytes()[1:])
        return place

    def object(self, path: str) -> Path:
        """Return the object of a published file."""
        return self.repository.objects.path(self.tree()[path].stored)

    def copy(self, directory: Path) -> Path:
        """Copy what is served now, as a replica that is not renewed."""
        return Path(shutil.copytree(self.storage, directory))


@functools.cache
def _private_keys() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        keys = signing.Keys(Path(directory), "any")
        keys.make()
        return {kind: keys.path(kind).read_bytes() for kind in ("masterkey", "key")}
