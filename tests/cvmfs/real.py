"""A real stratum 0 for tests: cvmfs_server of this machine, Apache on port 80, and a repository for each test."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from . import signing
from .simulator import Done


def why_not() -> str:
    """Return why there is no real stratum 0 here; nothing where there is one."""
    if not shutil.which("cvmfs_server"):
        return "cvmfs_server is not installed"
    if os.geteuid() != 0:
        return "cvmfs_server needs root"
    with contextlib.suppress(OSError), contextlib.closing(urllib.request.urlopen("http://127.0.0.1/", timeout=5)):
        return ""
    return "no web server answers on port 80"


class RealStratum0:
    """A real repository; has of Stratum0 what can be had. What cannot be provoked skips the test and says so."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.url = f"http://localhost/cvmfs/{name}"
        self.union = Path("/cvmfs") / name
        self.spool = Path("/var/spool/cvmfs") / name
        self.storage = Path("/srv/cvmfs") / name
        self.public_key = Path(f"/etc/cvmfs/keys/{name}.pub")
        self.env = dict(os.environ)

    @classmethod
    @contextlib.contextmanager
    def make(cls, name: str, *options: str) -> Iterator[RealStratum0]:
        """Make a repository, and remove it in the end; ``options`` are mkfs's, -g -z unless given."""
        stratum = cls(name)
        made = stratum.run("mkfs", "-o", "root", *(options or ("-g", "-z")), name)
        try:
            assert made.code == 0, made.said
            yield stratum
        finally:
            stratum.run("rmfs", "-f", name)

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        """Start cvmfs_server; options are Popen's."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        return subprocess.Popen(["cvmfs_server", *argv], **{"cwd": "/", "text": True, **options})

    def run(self, *argv: str, **options: Any) -> Done:
        """Run cvmfs_server to its end, standard input at its end; options are Popen's."""
        with self.popen(*argv, **options) as process:
            said, _ = process.communicate(timeout=300)
        return Done(process.returncode, said)

    def do(self, *argv: str) -> str:
        """Run cvmfs_server with the repository as its last word; it must succeed."""
        done = self.run(*argv, self.name)
        assert done.code == 0, done
        return done.said

    @property
    def revision(self) -> int:
        """Return the number of the public revision."""
        return int(self.served()["S"])

    def served(self) -> Mapping[str, str]:
        """Return the manifest's fields, as they are served now."""
        request = urllib.request.Request(f"{self.url}/.cvmfspublished", headers={"Cache-Control": "max-age=0"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return signing.parse_manifest(answer.read())

    @property
    def is_open(self) -> bool:
        """Tell whether the flag of a transaction is there."""
        return (self.spool / "in_transaction.lock").exists()

    @property
    def is_writable(self) -> bool:
        """Tell whether the union is mounted read/write."""
        lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
        return any(line[1] == str(self.union) and "rw" in line[3].split(",") for line in lines)

    @property
    def directory(self) -> Path:
        """Return the directory that the host is below."""
        return Path("/")

    @contextlib.contextmanager
    def client(self) -> Iterator[Path]:
        """Mount the repository as a client that has never seen it."""
        with tempfile.TemporaryDirectory(prefix="nctest-client-") as place:
            directory, configuration = Path(place, "mounted"), Path(place, "client.conf")
            directory.mkdir()
            Path(place, "cache").mkdir()
            settings = {
                "CVMFS_SERVER_URL": self.url,
                "CVMFS_PUBLIC_KEY": str(self.public_key),
                "CVMFS_HTTP_PROXY": "DIRECT",
                "CVMFS_CACHE_BASE": f"{place}/cache",
                "CVMFS_RELOAD_SOCKETS": f"{place}/cache",
                "CVMFS_NFILES": "1024",
            }
            configuration.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
            command = ["cvmfs2", "-o", f"config={configuration},allow_other", self.name, str(directory)]
            subprocess.run(command, check=True, capture_output=True)
            try:
                yield directory
            finally:
                subprocess.run(["umount", str(directory)], check=True, capture_output=True)

    def tree(self) -> dict[str, tuple[str, int, str]]:
        """Return all that a client sees: kind, mode, and a file's sha256 or a link's target, by path."""
        with self.client() as top:
            found = {}
            for path in top.rglob("*"):
                status = path.lstat()
                content = os.readlink(path) if path.is_symlink() else ""
                if stat.S_ISREG(status.st_mode):
                    content = hashlib.sha256(path.read_bytes()).hexdigest()
                kind = stat.filemode(status.st_mode)[0]
                found[str(path.relative_to(top))] = (kind, stat.S_IMODE(status.st_mode), content)
            return found

    def view(self, path: str) -> Any:
        """Return what a client sees at a path; None where nothing is."""
        with self.client() as top:
            place = top / path
            return SimpleNamespace(data=place.read_bytes()) if place.is_file() else None

    def foreign_transaction(self, path: str = "foreign", data: bytes = b"not ours\n") -> None:
        """Open a transaction as somebody else, who has written a file."""
        self.do("transaction")
        (self.union / path).write_bytes(data)

    def renew_whitelist(self, days: int = 30) -> None:
        """Sign a whitelist that is valid for so many days."""
        self.do("resign", "-f", "-d", str(days))

    def expire_whitelist(self) -> None:
        """Let the whitelist have expired."""
        self.renew_whitelist(0)

    def break_mount(self) -> None:
        """Take the mounts away, as a reboot does."""
        for path in (self.union, self.spool / "rdonly"):
            subprocess.run(["umount", path], check=True, capture_output=True)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        pytest.skip(f"the real cvmfs_server cannot be made to {name.replace('_', ' ')}")
