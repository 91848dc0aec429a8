"""The one door to subprocess."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which as find_program
from typing import NoReturn

from neurocommand.errors import ProcessError

__all__ = ["Completed", "find_program", "replace_process", "run"]


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


def replace_process(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become another program: same process, so that signals and exit code are its own.

    Raises:
        ProcessError: the program cannot be executed.
    """
    try:
        os.execvpe(argv[0], list(argv), {**os.environ, **env})  # noqa: S606
    except OSError as error:
        raise ProcessError(f"{argv[0]}: {error.strerror}") from error
