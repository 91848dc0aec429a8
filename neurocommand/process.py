"""The one door to subprocess."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which as find_program
from typing import NoReturn

from neurocommand.errors import ProcessError

__all__ = ["Completed", "feed", "find_program", "replace_process", "run"]

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
