"""udocker as an ordinary user has it: the package, and an engine made of this system's own proot, without a network."""

from __future__ import annotations

import importlib.util
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.users import User

PROGRAM = """#!/usr/bin/python3 -EsB
import sys
sys.path.insert(0, {package!r})
from udocker.maincmd import main
main()
"""
# what udocker looks for in an engine, by machine and by kernel
PROOTS = [f"proot-{machine}{kernel}" for machine in ("x86_64", "arm64") for kernel in ("", "-4_8_0")]


@dataclass(frozen=True)
class Desktop:
    """A user with udocker and no other runtime; ``path`` is a directory of the user's own."""

    user: User
    path: Path

    @property
    def home(self) -> Path:
        """Where udocker keeps what it has."""
        return self.path / "udocker"

    @property
    def environment(self) -> dict[str, str]:
        """UDOCKER_DIR and PATH."""
        return {"UDOCKER_DIR": str(self.home), "PATH": f"{self.path}/bin:/usr/bin:/bin"}

    def run(self, *argv: str | Path, env: dict[str, str] | None = None, **options: Any) -> Any:
        """Run a program as the user; returns its subprocess.CompletedProcess, output as bytes."""
        return self.user.run([str(word) for word in argv], env={**self.environment, **(env or {})}, **options)

    def udocker(self, *words: str | Path, env: dict[str, str] | None = None) -> str:
        """Run udocker, which must end well, and return what it prints."""
        done = self.run("udocker", *words, env=env)
        assert done.returncode == 0, done.stderr.decode()
        return str(done.stdout.decode())


def desktop(user: User) -> Desktop:
    """Set up udocker for a user."""
    made = Desktop(user, user.home / "desktop")
    found = importlib.util.find_spec("udocker")
    assert found is not None, "udocker is missing: pip install -e '.[test]' (./test does)"
    assert found.origin is not None
    package = made.path / "package"
    shutil.copytree(Path(found.origin).parent, package / "udocker", ignore=shutil.ignore_patterns("__pycache__"))
    program = made.path / "bin" / "udocker"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(package=str(package)))
    program.chmod(0o755)
    for place in (made.path, *made.path.rglob("*")):
        place.chmod(place.stat().st_mode | (0o555 if place.is_dir() else 0o444))
    engine = _engine(made)
    user.give(made.path)
    made.udocker("install", env={"UDOCKER_TARBALL": str(engine)})
    return made


def _engine(made: Desktop) -> Path:
    said = re.search(
        r'"([0-9.]+)"', (made.path / "package/udocker/config.py").read_text().partition("tarball_release")[2]
    )
    assert said is not None
    proot = shutil.which("proot")
    assert proot, "proot is missing: run setup/packages.sh test (./test does)"
    content = made.path / "engine" / "udocker_dir"
    for name in ("bin", "lib", "doc"):
        (content / name).mkdir(parents=True)
    (content / "lib/VERSION").write_text(said[1])
    for name in PROOTS:
        shutil.copy(proot, content / "bin" / name)
    with tarfile.open(made.path / "engine.tgz", "w:gz") as archive:
        archive.add(content, "udocker_dir")
    return made.path / "engine.tgz"
