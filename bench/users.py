"""An ordinary user, who calls what root has deployed."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def ordinary_user(directory: Path) -> Iterator[dict[str, Any]]:
    """Give the options of subprocess.run that make an ordinary user run a program in a clean environment."""
    runtime = shutil.which("apptainer")
    if runtime is None:
        sys.exit("bench: apptainer is not on PATH: run ./test once, it installs it")
    env = {"PATH": f"{os.path.dirname(runtime)}:/usr/local/bin:/usr/bin:/bin"}
    if os.geteuid():
        yield {"env": {**env, "HOME": str(directory), "APPTAINER_USERNS": "1"}, "cwd": directory}
        return
    name = f"ncbench{os.getpid()}"
    subprocess.run(["useradd", "--create-home", "--home-dir", f"/home/{name}", name], check=True, capture_output=True)
    try:
        entry = pwd.getpwnam(name)
        who = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        with fuse_for_all(Path("/dev/fuse")):
            yield {"env": {**env, "HOME": entry.pw_dir}, "cwd": entry.pw_dir, **who}
    finally:
        subprocess.run(["userdel", "--remove", name], check=False, capture_output=True)


@contextlib.contextmanager
def fuse_for_all(device: Path) -> Iterator[None]:
    """Let users open /dev/fuse, as udev does on every real machine; a bare container has nobody who does it."""
    mode = stat.S_IMODE(device.stat().st_mode) if device.exists() else 0o666
    if mode & 0o006 != 0o006:
        device.chmod(0o666)
    try:
        yield
    finally:
        if mode & 0o006 != 0o006:
            device.chmod(mode)
