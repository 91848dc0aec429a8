"""A stratum 0 for tests: a host of the simulator, served over loopback, with whatever fault a test wants."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import pwd
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import revisions, signing, union
from .host import Host
from .mishaps import Mishaps
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


class Stratum0(Mishaps):
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

    @property
    def owner(self) -> str:
        """Return the user who publishes: whoever runs the tests."""
        return pwd.getpwuid(os.geteuid()).pw_name

    def mkfs(self, *options: str) -> None:
        """Make the repository; private keys are made once for all hosts of this process."""
        self.host.keys.mkdir(parents=True, exist_ok=True)
        for kind, data in _private_keys().items():
            (self.host.keys / f"{self.name}.{kind}").write_bytes(data)
        done = self.run("mkfs", "-o", self.owner, "-w", self.url, *options, self.name)
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

    def foreign_transaction(self, path: str = "foreign", data: bytes = b"not ours\n") -> None:
        """Open a transaction as somebody else, who has written a file."""
        self.do("transaction")
        (self.union / path).write_bytes(data)

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
        return Seen(entry, (self.repository.pool / entry.raw).read_bytes() if entry.kind == "file" else b"")

    def checkout(self, directory: Path, revision: int | None = None) -> Path:
        """Lay out what a client sees in a new directory."""
        directory.mkdir()
        lay_out(directory, {"": Entry("directory", 0, 0, 0, 0)}, self.tree(revision), self.repository.pool)
        return directory

    @contextlib.contextmanager
    def client(self) -> Iterator[Path]:
        """Lay out what a client sees now, as long as the block lasts."""
        with tempfile.TemporaryDirectory(prefix="nctest-client-") as place:
            yield self.checkout(Path(place, "mounted"))

    def strays(self) -> list[str]:
        """Return paths where the union, while no transaction is open, is not as published: written past cvmfs."""
        tree = self.tree()
        found = scan(self.union, tree) | {"": tree[""]}
        return sorted({path for paths in union.changes(tree, found) for path in paths})


@functools.cache
def _private_keys() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as directory:
        keys = signing.Keys(Path(directory), "any")
        keys.make()
        return {kind: keys.path(kind).read_bytes() for kind in ("masterkey", "key")}
