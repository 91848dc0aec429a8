"""The door to rclone: commands through rclone-python, bytes through pipes, exit codes as errors of a store.

rclone-python hands its commands to a shell, so no word reaches it that could mean anything there. Bytes do not pass
through its functions: they copy between paths, which could hold anything, and cannot be stopped. The program reads or
writes a pipe of this process instead, named by ``/proc/<pid>/fd/<number>``; it ends when this process does.

Exit codes: https://rclone.org/docs/#exit-code.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import select
import threading
from collections.abc import Callable, Iterator, Sequence

from neurocommand.errors import StoreError, StoreFullError, TransientStoreError, printable

# The remote of a user's own configuration, and a path of plain names in it; the same rule as in the schema.
REMOTE = re.compile(
    r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}:/?[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*", re.ASCII
)
_WORD = re.compile(r"[A-Za-z0-9_./:*-]+", re.ASCII)
_PATIENCE = ("--contimeout", "15s", "--timeout", "60s", "--retries", "1", "--low-level-retries", "3")
_ABSENT = (3, 4)
_TEMPORARY = 5
_TICK = 200  # milliseconds
_FULL = re.compile(r"no space left|quota|\b413\b|\b507\b|insufficient storage", re.IGNORECASE)
_NETWORK = re.compile(
    r"connection (refused|reset|timed out)|i/o timeout|no such host|handshake timeout|unexpected EOF"
    r"|\b50[0234]\b|\b429\b"
)


class NotThereError(StoreError):
    """rclone says that there is no such directory or object."""


class Rclone:
    """rclone as one store uses it; threads may share it.

    Args:
        store: the store's name in messages.
        remote: ``name:path``.

    Raises:
        StoreError: the remote holds what a shell could take for something else.
    """

    def __init__(self, store: str, remote: str) -> None:
        if not REMOTE.fullmatch(remote):
            raise StoreError(f"store {store}: {printable(remote)!r} is no remote", "write name:path, of plain names")
        self.store = store
        self.remote = remote

    def run(self, what: str, *words: str) -> str:
        """Run a command and return what it prints.

        Args:
            what: what is tried, for messages.
            words: the command; each of plain characters.

        Raises:
            NotThereError: there is no such directory or object.
            StoreError: rclone is missing, or failed.
        """
        job = self._started(words, "")
        job.join()
        return self._result(what, job)

    def feed(self, what: str, words: Sequence[str], chunks: Iterator[bytes]) -> None:
        """Run a command that reads bytes from its standard input; when they break off, it sees them end early.

        Nothing is started before the first bytes are there.
        """
        first = next(chunks, b"")
        source, sink = os.pipe()
        job = None
        try:
            os.set_blocking(sink, False)
            job = self._started(words, f"< /proc/{os.getpid()}/fd/{source}")
            self._write(job, sink, first)
            for chunk in chunks:
                self._write(job, sink, chunk)
        finally:
            os.close(sink)
            if job is not None:
                job.join()
            os.close(source)
        self._result(what, job)

    @contextlib.contextmanager
    def reading(self, what: str, *words: str) -> Iterator[_Output]:
        """Run a command and hand out what it writes to its standard output, as it comes."""
        source, sink = os.pipe()
        job = None
        try:
            os.set_blocking(source, False)
            job = self._started(words, f"> /proc/{os.getpid()}/fd/{sink}")
            started = job
            yield _Output(job, source, lambda: self._result(what, started))
        finally:
            os.close(source)
            os.close(sink)
            if job is not None:
                job.join()

    def _started(self, words: Sequence[str], redirection: str) -> _Job:
        from rclone_python import rclone
        from rclone_python.logs import logger

        # it would print what rclone says
        logger.disabled = True
        logging.getLogger("rclone_python").disabled = True
        if not rclone.is_installed():
            raise StoreError(
                f"store {self.store}: needs rclone, which is not on PATH",
                "install it (https://rclone.org/install/) and configure its remote: rclone config",
            )
        odd = [word for word in words if not _WORD.fullmatch(word)]
        if odd:
            raise StoreError(f"store {self.store}: {printable(odd[0])!r} is not handed to rclone")
        job = _Job([*words, *_PATIENCE, redirection])
        job.start()
        return job

    def _write(self, job: _Job, sink: int, chunk: bytes) -> None:
        rest, waiting = memoryview(chunk), select.poll()
        waiting.register(sink, select.POLLOUT)
        while rest and job.is_alive():
            if waiting.poll(_TICK):
                with contextlib.suppress(BlockingIOError):
                    rest = rest[os.write(sink, rest) :]

    def _result(self, what: str, job: _Job) -> str:
        code, stdout, stderr = job.answer
        if code == 0:
            return stdout
        lines = [_TIME.sub("", line) for line in stderr.strip().splitlines()]
        said = printable(lines[-1] if lines else f"exit {code}", 300)
        text = f"store {self.store}: {what}: rclone: {said}"
        if code in _ABSENT:
            raise NotThereError(text, f"is {self.remote} right, and was it made? rclone mkdir {self.remote}")
        if _FULL.search(stderr):
            raise StoreFullError(text, "free some space there, or raise its quota")
        if code == _TEMPORARY or _NETWORK.search(stderr):
            raise TransientStoreError(text)
        raise StoreError(text, "try the same with rclone itself: rclone lsf " + self.remote)


class _Job(threading.Thread):
    """One run of rclone; ``answer`` is its exit code, standard output and standard error."""

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__(name="rclone", daemon=True)
        self.words = tuple(words)
        self.answer: tuple[int, str, str] = (-1, "", "did not run")

    def run(self) -> None:
        """Run it; the function below those of rclone-python, since theirs lose the exit code."""
        from rclone_python.utils import run_rclone_cmd

        try:
            command, *arguments = self.words
            code, stdout, stderr = run_rclone_cmd(command, arguments, raise_errors=False)
            self.answer = (int(code), stdout, stderr)
        except (OSError, ValueError) as error:
            self.answer = (-1, "", str(error))


class _Output:
    """What a run of rclone writes."""

    def __init__(self, job: _Job, source: int, check: Callable[[], object]) -> None:
        self.job = job
        self.source = source
        self.check = check

    def read(self, size: int, /) -> bytes:
        """Return what is there, at most ``size`` bytes; none once the program ended well.

        Raises:
            StoreError: it failed.
        """
        waiting = select.poll()
        waiting.register(self.source, select.POLLIN)
        while True:
            # asked before the pipe is: what was written before the end is there after it
            ended = not self.job.is_alive()
            if waiting.poll(0 if ended else _TICK):
                return os.read(self.source, size)
            if ended:
                self.check()
                return b""


_TIME = re.compile(r"^[0-9/]{10} [0-9:]{8} ")
