"""Ways to one tool: through its wrapper, cold and warm, by the bare runtime, and on the host itself."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from tests.transparency import documented, outcomes, warm
from tests.transparency.outcomes import Outcome
from tests.users import User

Route = Literal["cold", "warm", "bare", "direct"]
TIMEOUT = 120
LOADED = 20  # times that a sleep of a second may take on a machine that does other things, too


@dataclass(frozen=True)
class Bench:
    """A release that is deployed for a user, the same programs on the host, and places to call them in."""

    user: User
    release: Path  # the release's directory
    image: Path
    host: Path  # a directory of the same programs
    bare: Path  # a directory of scripts that call the bare runtime
    place: Path  # of the calls: emptied before each
    outside: Path  # not below /tmp or the home directory; emptied before each call
    full: bool

    def directory(self, route: Route) -> Path:
        """Return where the tools of a route are, each under its own name."""
        return {"bare": self.bare, "direct": self.host}.get(route, self.release / "bin")


@dataclass(frozen=True)
class Call:
    """One call by one route, seen as its observer sees it."""

    bench: Bench
    route: Route

    @property
    def user(self) -> User:
        """Who calls."""
        return self.bench.user

    @property
    def place(self) -> Path:
        """The directory of this call, empty before it."""
        return self.bench.place

    @property
    def tools(self) -> Path:
        """The directory of the tools, as this route has them."""
        return self.bench.directory(self.route)

    def environment(self, given: Mapping[str, str] | None) -> dict[str, str]:
        """Return the caller's environment for this route."""
        found = {"HOME": str(self.user.home), **(given or {})}
        if self.route == "warm":
            return {**found, **warm.SETTING}
        return documented.settings(found) if self.route == "bare" else found

    def command(
        self, argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None, named: bool = True
    ) -> list[str]:
        """Return the command line of a tool, as its user's.

        Args:
            argv: a tool's name and its arguments.
            env: what the caller's environment has but HOME and PATH.
            cwd: where it will be called; the call's place by default.
            named: whether the working directory has a name that the bare runtime can be given.
        """
        settings = self.environment(env)
        line = [str(self.tools / argv[0]), *argv[1:]]
        if self.route == "bare":
            options = documented.options(self.environment(env), (cwd or self.place) if named else None)
            line = ["apptainer", *options, str(self.bench.image), *argv]
        return self.user.command(line, settings)

    def run(
        self,
        *argv: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        input: bytes | None = None,  # noqa: A002 - as subprocess has it
        **options: Any,
    ) -> Outcome:
        """Call a tool and return what can be seen of it; options are subprocess.run's."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "timeout": TIMEOUT, **options}
        if input is None:
            options.setdefault("stdin", subprocess.DEVNULL)
        else:
            options["input"] = input
        line = self.command(argv, env, cwd)
        done = subprocess.run(line, cwd=cwd or self.place, check=False, **options)
        return Outcome(done.returncode, done.stdout or b"", done.stderr or b"", outcomes.files(self.place))

    def start(
        self, *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a tool; its process is the one that a caller knows."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(self.command(argv, env, cwd), cwd=cwd or self.place, **options)

    def caller(
        self, *argv: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, **options: Any
    ) -> Outcome:
        """Run a program of the host's that calls tools: $T is the shell's path, $B the directory of all.

        Its first words may be any program's; options are subprocess.run's.
        """
        settings = {"T": str(self.tools / "ash"), "B": str(self.tools), **self.environment(env)}
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": TIMEOUT, **options}
        line = self.user.command(argv, settings)
        done = subprocess.run(line, cwd=cwd or self.place, check=False, **options)
        return Outcome(done.returncode, done.stdout or b"", done.stderr or b"", outcomes.files(self.place))


def bare_script(image: Path, tool: str) -> str:
    """Return a script that becomes the bare runtime's call of a tool, for callers that need one word."""
    line = shlex.join(["apptainer", "--silent", "exec", "--cleanenv"])
    return f'#!/bin/sh\nexec {line} --pwd "$(pwd -P)" {shlex.quote(str(image))} {tool} "$@"\n'


def emptied(directory: Path, user: User) -> Path:
    """Make a directory anew, empty and its user's."""
    if directory.exists():
        for parent, names, _ in os.walk(directory):
            for name in names:
                path = Path(parent, name)
                if not path.is_symlink():
                    path.chmod(0o700)  # for who is not root
        shutil.rmtree(directory)
    directory.mkdir(parents=True)
    return user.give(directory)


def read_line(stream: IO[bytes] | None) -> bytes:
    """Return the next line of a started tool's output."""
    assert stream is not None
    return stream.readline()


def close(process: subprocess.Popen[bytes]) -> None:
    """Close our ends of a started tool's pipes."""
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            stream.close()
