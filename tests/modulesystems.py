"""The two module systems that sites have, both real: Lmod, and Environment Modules, which are written in Tcl.

``setup/packages.sh test`` brings Lmod. ``setup/tcl-modules.sh`` unpacks Debian's package of the other into a folder,
where its files still name each other by their places of an installed package.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.users import User

FOLDER = Path(__file__).parents[1] / ".tools" / "tcl-modules"
SHELLS = {"bash": ["bash", "--noprofile", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "sh": ["sh", "-c"]}
INSTALLED = re.compile(rb"/usr/share/modules|/usr/lib/[a-z0-9_]+-linux-gnu|/etc/environment-modules")
_copies: list[Path] = []


def lmod_init(shell: str) -> Path:
    """Return the file that a shell (``bash``, ``zsh`` or ``sh``) sources to have Lmod."""
    path = Path("/usr/share/lmod/lmod/init") / shell
    assert path.exists(), "lmod is missing: run setup/packages.sh test (./test does)"
    return path


def tcl_init(shell: str) -> Path:
    """Return the file that a shell (``bash``, ``zsh`` or ``sh``) sources to have Environment Modules.

    It is in a copy that every user can read, as the checkout may be closed to others; removed after the session.
    """
    if not _copies:
        assert (FOLDER / ".installed").exists(), (
            "Environment Modules are missing: run setup/tcl-modules.sh (./test does)"
        )
        _copies.append(Path(tempfile.mkdtemp(prefix="neurocommand-tcl-modules-")))
        _copy(FOLDER, _copies[0])
    return _copies[0] / "usr/share/modules/init" / shell


def _copy(folder: Path, place: Path) -> None:
    shutil.copytree(folder, place, symlinks=True, dirs_exist_ok=True)
    for path in (place, *place.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        elif path.is_file() and not path.is_symlink() and b"\0" not in (content := path.read_bytes()):
            path.write_bytes(INSTALLED.sub(lambda found: bytes(place) + found[0], content))


@pytest.fixture(scope="session", autouse=True)
def copies_removed() -> Iterator[None]:
    """Remove what ``tcl_init`` made."""
    yield
    while _copies:
        shutil.rmtree(_copies.pop())


def run_with_modules(
    init: Path, modulepath: Path, script: str, user: User, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run a script as a user in a fresh shell, the one that ``init`` is for, with one tree of modulefiles.

    Args:
        init: what ``lmod_init`` or ``tcl_init`` returned.
        modulepath: the tree; the user must be able to read it.
        script: what the shell does once it has ``module`` and ``ml``.
        user: who runs it.
        env: more variables.
    """
    settings = {"MODULEPATH": str(modulepath), "LMOD_PAGER": "none", "LMOD_IGNORE_CACHE": "yes", **env}
    argv = [*SHELLS[init.name], f". '{init}'\n{script}"]
    done: subprocess.CompletedProcess[str] = user.run(argv, env=settings, text=True)
    return done
