"""The one door to ``cvmfs_server``: each call with what it needs not to ask anybody anything, and what it came to.

Facts about it: docs/cvmfs.md. Its arguments are pasted into a shell unquoted, so only safe ones are handed over. It is
called in ``/``, since it refuses to work for who stands in the repository, and goes on when this process is killed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from neurocommand.answers import Answer, next_step, understand
from neurocommand.cvmfs.repository import Repository
from neurocommand.errors import CvmfsError
from neurocommand.process import Outliving
from neurocommand.recovery import Transaction

PROGRAM = "cvmfs_server"
_SAFE = re.compile(r"[A-Za-z0-9_./:+@=,-][A-Za-z0-9_./:+@=, -]*")
_TICK = 0.02  # seconds between looks at a short call
_SLOW = 1.0  # and at a long one

Watch = Callable[[float, str], None]
"""Told now and then how many seconds a call has taken, and what it has said."""


class Server:
    """``cvmfs_server`` for one repository; used under the repository's run lock only.

    Args:
        repository: the repository.
        log: the file that the last call's output is kept in.
    """

    def __init__(self, repository: Repository, log: Path) -> None:
        self.repository = repository
        self.log = log

    def ingest(self, parcel: Path | None, removes: Sequence[str], watch: Watch) -> Answer:
        """Publish a tar, below the repository's root, and remove paths, in one revision.

        Args:
            parcel: the tar, or None where nothing is added.
            removes: paths relative to the repository.
            watch: called often at first, to see the transaction open.
        """
        words = [word for path in removes for word in ("-d", path)]
        if parcel is not None:
            words += ["-t", str(parcel), "-b", "/"]
        return self._call("ingest", *words, self.repository.name, watch=watch)

    def transaction(self, template: tuple[str, str] | None = None) -> Answer:
        """Open a transaction; with a template, a directory is there already as another one is, by its catalogs."""
        words = ["-T", f"/{template[0]}=/{template[1]}"] if template else []
        return self._call("transaction", *words, self.repository.name)

    def publish(self, tag: str, text: str, watch: Watch) -> Answer:
        """Publish the open transaction, and give the revision its tag."""
        return self._call("publish", "-f", "-a", tag, "-m", text, self.repository.name, watch=watch)

    def abort(self) -> Answer:
        """Discard the open transaction."""
        return self._call("abort", "-f", self.repository.name)

    def mount(self) -> Answer:
        """Bring the repository's mounts back."""
        return self._call("mount", self.repository.name)

    def check(self) -> Answer:
        """Check the catalogs."""
        return self._call("check", "-c", self.repository.name)

    def tag(self, name: str, text: str) -> Answer:
        """Give the newest revision a tag."""
        return self._call("tag", "-a", name, "-m", text, self.repository.name)

    def has_tag(self, name: str) -> bool:
        """Tell whether there is a tag of a name.

        Raises:
            CvmfsError: that cannot be told.
        """
        answer = self._call("tag", "-i", name, "-x", self.repository.name)
        if answer.meaning != "done" and f"tag '{name}' does not exist" not in answer.said:
            raise CvmfsError(
                f"{self.repository.name}: whether there is a tag {name} cannot be told: {answer.said}",
                next_step(answer.meaning, self.repository.name),
            )
        return answer.meaning == "done"

    def tags(self) -> str:
        """Return the list of tags, a line each, as ``tag -l -x`` prints it.

        Raises:
            CvmfsError: it cannot be had.
        """
        answer = self._call("tag", "-l", "-x", self.repository.name)
        if answer.meaning != "done":
            raise CvmfsError(f"{self.repository.name}: its tags cannot be listed: {answer.said}")
        return self.log.read_text(encoding="utf-8", errors="replace")

    def rollback(self, tag: str, watch: Watch) -> Answer:
        """Make a new revision of what a tag names; later tags are removed."""
        return self._call("rollback", "-f", "-t", tag, self.repository.name, watch=watch)

    def difference(self, tag: str) -> str:
        """Return what differs between a tag and the newest revision, as ``diff -s`` prints it.

        Raises:
            CvmfsError: it cannot be had.
        """
        answer = self._call("diff", "-s", tag, "-d", "trunk", self.repository.name)
        if answer.meaning != "done":
            raise CvmfsError(f"{self.repository.name}: tag {tag} cannot be compared with: {answer.said}")
        return self.log.read_text(encoding="utf-8", errors="replace")

    def collect(self, watch: Watch, *, dry_run: bool = False) -> Answer:
        """Remove what no kept revision needs."""
        return self._call("gc", "-f", *(["-d"] if dry_run else []), self.repository.name, watch=watch)

    def open_transaction(self) -> Transaction | None:
        """Return the transaction that is open, whoever opened it."""
        try:
            flag = os.stat(self.repository.spool / "in_transaction.lock")
        except FileNotFoundError:
            return None
        try:
            by = pwd.getpwuid(flag.st_uid).pw_name
        except KeyError:
            by = f"user {flag.st_uid}"
        scratch = self.repository.spool / "scratch" / "current"
        empty = not scratch.is_dir() or not any(scratch.iterdir())
        return Transaction(f"{flag.st_ino}-{flag.st_mtime_ns}", flag.st_mtime_ns, by, empty)

    def is_publishing(self) -> bool:
        """Tell whether somebody holds the lock that is held while a revision is made."""
        try:
            descriptor = os.open(self.repository.spool / "is_publishing.lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK:
                raise
            return True
        finally:
            os.close(descriptor)
        return False

    def _call(self, command: str, *words: str, watch: Watch | None = None) -> Answer:
        unsafe = [word for word in words if not _SAFE.fullmatch(word)]
        if unsafe:
            raise CvmfsError(
                f"{PROGRAM} {command}: {unsafe[0]!r} cannot be handed over safely",
                "only letters, digits and ._/:+@=,- may be in it",
            )
        started = time.monotonic()
        running = Outliving([PROGRAM, command, *words], self.log, Path("/"))
        while not running.ended(_TICK if time.monotonic() - started < _SLOW else _SLOW):
            if watch is not None:
                watch(time.monotonic() - started, running.output)
        return understand(command, running.code, running.output)
