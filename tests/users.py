"""An ordinary user for tests: one of its own where the tests run as root, else whoever runs them."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PATH = "/usr/local/bin:/usr/bin:/bin"
PACKAGE = Path(__file__).parents[1] / "neurocommand"
MADE = re.compile(r"nctest([0-9]+)")  # an ordinary user of the test run with this process id


@dataclass(frozen=True)
class User:
    """Runs programs as an unprivileged user in a clean environment; ``home`` is a temporary directory of its own."""

    name: str
    home: Path
    root: bool  # whether the tests are root, so that the user is another one

    def command(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> list[str]:
        """Return the command that runs ``argv`` as this user, with HOME, PATH and ``env`` as its environment."""
        become = ["setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups", "--inh-caps=-all"]
        settings = {"HOME": str(self.home), "PATH": runtime_path(), **(env or {})}
        clean = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
        return [*(become if self.root else []), *clean, *argv]

    def run(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None, **options: Any) -> Any:
        """Run a program and return its subprocess.CompletedProcess, output as bytes; options are subprocess.run's."""
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "cwd": self.home, "timeout": 120, **options}
        return subprocess.run(self.command(argv, env), check=False, **options)

    def give(self, path: Path) -> Path:
        """Make a path and all below it this user's own."""
        if self.root:
            entry = pwd.getpwnam(self.name)
            for directory, names, files in os.walk(path):
                for name in (".", *names, *files):
                    os.lchown(os.path.join(directory, name), entry.pw_uid, entry.pw_gid)
        return path

    def python(self, code: str, *words: str | Path) -> Any:
        """Run code that imports neurocommand, as ``run`` does.

        Where the tests run from, and their own Python, may be closed to others (a checkout in /root, a pyenv): so this
        is the system's Python, which has no other packages, on a copy of ours.
        """
        copy = self.home / ".package"
        if not copy.exists():
            shutil.copytree(PACKAGE, copy / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
            for path in (copy, *copy.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
        argv = ["/usr/bin/python3", "-B", "-c", code, *map(str, words)]
        return self.run(argv, env={"PYTHONPATH": str(copy)})


def runtime_path() -> str:
    """Return a PATH on which the runtime is, wherever it was installed."""
    runtime = shutil.which("apptainer")
    assert runtime, "apptainer is missing: run setup/apptainer.sh (./test does)"
    directory = os.path.dirname(runtime)
    return PATH if directory in PATH.split(":") else f"{directory}:{PATH}"


@pytest.fixture(scope="session")
def ordinary_user() -> Iterator[User]:
    """Give an unprivileged user; made for this session and removed after it where the tests run as root."""
    if os.geteuid() != 0:
        home = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
        yield User(pwd.getpwuid(os.getuid()).pw_name, home, root=False)
        shutil.rmtree(home, ignore_errors=True)
        return
    _remove_stale_users()
    name = f"nctest{os.getpid()}"
    home = Path("/home") / name
    subprocess.run(["useradd", "--create-home", "--home-dir", str(home), name], check=True, capture_output=True)
    try:
        with _fuse_for_all():
            yield User(name, home, root=True)
    finally:
        _end_processes(pwd.getpwnam(name).pw_uid)
        subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)


def _remove_stale_users() -> None:
    """Remove the users of test runs that were killed: nothing runs under their process id, or as one of them."""
    for entry in pwd.getpwall():
        made = MADE.fullmatch(entry.pw_name)
        if not made or entry.pw_dir != f"/home/{entry.pw_name}":
            continue
        if not Path(f"/proc/{made[1]}").exists() and not _processes(entry.pw_uid):
            subprocess.run(["userdel", "--remove", entry.pw_name], check=False, capture_output=True)


def _processes(user: int) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if process.stat().st_uid == user:
                found.append(int(process.name))
    return found


def _end_processes(user: int) -> None:
    """End what this run's own user still runs: a killed runtime leaves the mount of its image, which keeps the user."""
    deadline = time.monotonic() + 10
    while (left := _processes(user)) and time.monotonic() < deadline:
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.05)


@contextlib.contextmanager
def _fuse_for_all() -> Iterator[None]:
    """Let users open /dev/fuse, as udev does on every real machine; a bare container has nobody who does it."""
    device = Path("/dev/fuse")
    mode = stat.S_IMODE(device.stat().st_mode) if device.exists() else 0o666
    if mode & 0o006 == 0o006:
        yield
        return
    device.chmod(0o666)
    try:
        yield
    finally:
        device.chmod(mode)
