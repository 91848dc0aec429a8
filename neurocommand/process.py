"""The one door to subprocess."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import queue
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which as find_program
from typing import NoReturn

from neurocommand.errors import ProcessError

__all__ = [
    "Background",
    "Completed",
    "Outliving",
    "dying_with_us",
    "feed",
    "find_program",
    "replace_process",
    "run",
]

PIPE = 1 << 20


@dataclass(frozen=True)
class Completed:
    """How a program ended: exit code (negative: the signal), and its output as text."""

    code: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Run a program without a shell and with an empty standard input, and collect its output.

    Args:
        argv: program and arguments.
        env: variables added to the environment.
        cwd: working directory.
        timeout: seconds after which the program and all that it started are killed.
        check: raise when the program fails; else the caller looks at ``code``.

    Raises:
        ProcessError: the program is not there, took too long, or failed.
    """
    try:
        # A session of its own, so that all that the program started ends with it.
        with subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        ) as process:
            try:
                stdout, stderr = process.communicate(timeout=timeout)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise
    except FileNotFoundError as error:
        raise ProcessError(f"{argv[0]}: not found", f"install {argv[0]}, or put it on PATH") from error
    except OSError as error:
        raise ProcessError(f"{argv[0]}: cannot be executed: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ProcessError(f"{argv[0]}: took more than {timeout:g} s") from error
    completed = Completed(process.returncode, stdout.decode(errors="replace"), stderr.decode(errors="replace"))
    if check and completed.code != 0:
        last = "\n".join((completed.stderr or completed.stdout).strip().splitlines()[-5:])
        how = f"signal {-completed.code}" if completed.code < 0 else f"exit {completed.code}"
        raise ProcessError(f"{argv[0]} failed ({how}): {last}")
    return completed


def feed(
    argv: Sequence[str], write: Callable[[io.BufferedWriter], None], *, env: Mapping[str, str] | None = None
) -> Completed:
    """Run a program without a shell, and write its standard input.

    Args:
        argv: program and arguments.
        write: is given a buffered file; whatever it raises, the program is killed first. That the program reads no
            more is no fault of the writer: the exit code says why.
        env: variables added to the environment.

    Raises:
        ProcessError: the program is not there.
    """
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(  # noqa: SIM115, RUF100  (ends below, whatever happens)
                list(argv),
                bufsize=PIPE,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=stderr,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise ProcessError(f"{argv[0]}: cannot be executed: {error.strerror}") from error
        try:
            assert isinstance(process.stdin, io.BufferedWriter)  # noqa: S101
            with contextlib.suppress(OSError):  # more than an ordinary user may have
                fcntl.fcntl(process.stdin, fcntl.F_SETPIPE_SZ, PIPE)
            with contextlib.suppress(BrokenPipeError), process.stdin as target:
                write(target)
            process.wait()
        except BaseException:
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        stdout.seek(0)
        stderr.seek(0)
        said = stdout.read().decode(errors="replace"), stderr.read().decode(errors="replace")
    return Completed(process.returncode, *said)


def replace_process(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become another program: same process, so that signals and exit code are its own.

    Raises:
        ProcessError: the program cannot be executed.
    """
    try:
        os.execvpe(argv[0], list(argv), {**os.environ, **env})  # noqa: S606
    except OSError as error:
        raise ProcessError(f"{argv[0]}: {error.strerror}") from error


class Background:
    """A program that runs beside us as long as a ``with`` block runs, and is read line by line; it ends with the block.

    It is asked to end first, so that it can put its files in order, and killed when it does not. Where this process is
    killed, it is asked by the kernel (``dying_with_us``); the thread that starts it must live as long as the block.

    Args:
        argv: program and arguments.
        env: variables added to the environment.
        patience: seconds that it has to end.
        holding: open files that it keeps open as well, so that their locks last as long as it runs.

    Raises:
        ProcessError: on entering, when it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        env: Mapping[str, str] | None = None,
        *,
        patience: float = 5.0,
        holding: Sequence[int] = (),
    ) -> None:
        self.argv = [*dying_with_us("TERM"), *argv]
        self.holding = tuple(holding)
        self.env = {**os.environ, **(env or {})}
        self.patience = patience
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def __enter__(self) -> Background:
        try:
            # a session of its own: a Ctrl-C in the terminal is for us, and we end it in order
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
                pass_fds=self.holding,
            )
        except OSError as error:
            raise ProcessError(f"{self.argv[0]}: cannot be started: {error.strerror}") from error
        self._reader = threading.Thread(target=self._read, name=f"output of {self.argv[0]}", daemon=True)
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._process.terminate()
            self._process.wait(self.patience)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self.kill()
            self._process.wait()
            self._reader.join()

    def kill(self) -> None:
        """Leave it no time to put anything in order."""
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def line(self, seconds: float = 0.0) -> str | None:
        """Return the next line of its output (standard error is among it); None when none comes in that time."""
        try:
            return self._lines.get(timeout=seconds) if seconds > 0 else self._lines.get_nowait()
        except queue.Empty:
            return None

    def _read(self) -> None:
        output = self._process.stdout
        assert output is not None  # noqa: S101  (it was asked for)
        with output:
            for line in output:
                self._lines.put(line.decode(errors="replace").rstrip("\n"))
        self._lines.put(None)


class Outliving:
    """A program that goes on when this process ends, however that ends, since what it does must not be left half done.

    What it says goes to a file, so that it need not stop when nobody reads it.

    Args:
        argv: program and arguments.
        output: the file; emptied first.
        cwd: working directory.

    Raises:
        ProcessError: it cannot be started.
        OSError: the file cannot be written.
    """

    def __init__(self, argv: Sequence[str], output: Path, cwd: Path) -> None:
        self._output = output
        with open(output, "wb") as stream:
            try:
                self._process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=stream,
                    stderr=subprocess.STDOUT,
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise ProcessError(f"{argv[0]}: cannot be started: {error.strerror}", f"is {argv[0]} here?") from error

    def ended(self, seconds: float) -> bool:
        """Wait so long, and tell whether it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    @property
    def code(self) -> int:
        """Its exit code, once it has ended; negative: the signal."""
        return self._process.returncode

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self._output.read_text(encoding="utf-8", errors="replace")


def dying_with_us(name: str) -> list[str]:
    """Return what to put before a command so that it gets a signal when this process is killed.

    A killed run must leave nobody behind that goes on writing. Empty where setpriv (util-linux) cannot be had; see
    PR_SET_PDEATHSIG in prctl(2).

    Args:
        name: the signal's name without SIG.
    """
    return ["setpriv", "--pdeathsig", name] if find_program("setpriv") else []
