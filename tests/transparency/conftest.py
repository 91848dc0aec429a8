"""The release of this suite, deployed once, and what is seen of each case by each route."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurocommand import contents
from neurocommand.image.sif import unpack
from neurocommand.image.tree import normalise
from neurocommand.layout import ReleaseDirectory
from neurocommand.model import Format, Inspection, Release
from neurocommand.render.runtimeoptions import Options
from neurocommand.settings import WrapperSettings
from tests.images import PATH, Rootfs, base, built_sif
from tests.transparency import processes, routes, warm
from tests.transparency.case import Case
from tests.transparency.routes import Bench, Call, Route
from tests.users import User

RELEASE = Release("transparent", "1.0", "20260102")
OWN = {"words": '#!/bin/sh\nfor a in "$@"; do printf "%s\\0" "$a"; done\n'}
FLOCK = "/usr/bin/flock"  # Debian's busybox has none
MOST_WARMINGS = 4  # times that a case is looked at until nothing that it calls is cold
ABSENT = "absent"  # a wrapper whose command the image lacks


def programs() -> tuple[str, ...]:
    """Return busybox's names for itself; its shell among them."""
    listed = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    return tuple(sorted(set(listed) - {"busybox", "sh", "flock"}))


def rootfs() -> Rootfs:
    made = base().directory("opt/small").directory("opt/small/bin")
    there = {member.name for member, _ in made.members}
    for name in programs():
        if f"bin/{name}" not in there:
            made.link(f"bin/{name}", "busybox")
    for name, text in OWN.items():
        made.file(f"opt/small/bin/{name}", text)
    made.file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", mode=0o644).file("etc/group", "root:x:0:\n", mode=0o644)
    for path in (FLOCK, *libraries(FLOCK)):
        made.file(path.lstrip("/"), Path(path).read_bytes())
    return made


def libraries(program: str) -> tuple[str, ...]:
    """Return the libraries of a program of the host's, the loader among them."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return tuple(word for word in listed.split() if word.startswith("/"))


@pytest.fixture(scope="session")
def transparency_sif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the image of this suite: all of busybox, and what writes its arguments."""
    return built_sif(rootfs(), {"PATH": PATH}, tmp_path_factory.mktemp("transparency") / "transparent.sif")


def deploy(sif: Path, root: Path, image_format: Format) -> ReleaseDirectory:
    """Write the release under a root, as a deployment does."""
    directory = ReleaseDirectory(root / "containers" / RELEASE.id, RELEASE)
    directory.path.mkdir(parents=True)
    if image_format == "tree":
        unpack(sif, directory.image)
        normalise(directory.image, ())
    else:
        shutil.copyfile(sif, directory.image)
    commands = tuple(sorted({*programs(), *OWN, "sh", "flock", ABSENT}))
    making = contents.Making(WrapperSettings(), Options())
    contents.write(directory, Inspection(commands, (), (), ""), image_format, making, umask=0o022)
    return directory


def _host_programs(directory: Path) -> None:
    """Write the image's programs for the host: the same busybox under the same names."""
    directory.mkdir()
    shutil.copyfile(shutil.which("busybox") or "", directory / "busybox")
    for name in (*programs(), "sh"):
        (directory / name).symlink_to("busybox")
    (directory / "flock").symlink_to(FLOCK)
    for name, text in OWN.items():
        (directory / name).write_text(text)
    for name in ("busybox", *OWN):
        (directory / name).chmod(0o755)


@pytest.fixture(scope="session", params=["sif", pytest.param("tree", marks=pytest.mark.full)])
def bench(
    request: pytest.FixtureRequest, transparency_sif: Path, ordinary_user: User, pytestconfig: pytest.Config
) -> Iterator[Bench]:
    """Give the release as its user finds it."""
    home = ordinary_user.home / f"transparency {request.param}"
    outside = Path("/srv" if ordinary_user.root else home) / f"neurocommand-transparency-{os.getpid()}"
    directory = deploy(transparency_sif, home / "root", request.param)
    (home / "bare").mkdir()
    for name in (*programs(), *OWN, "sh", "flock"):
        (home / "bare" / name).write_text(routes.bare_script(directory.image, name))
        (home / "bare" / name).chmod(0o755)
    _host_programs(home / "host")
    ordinary_user.give(home)
    with _signals_as_by_default():
        yield Bench(
            user=ordinary_user,
            release=directory.path,
            image=directory.image,
            host=home / "host",
            bare=home / "bare",
            place=home / "place",
            outside=outside,
            full=bool(pytestconfig.getoption("--full")),
        )
    warm.cool_down(ordinary_user)
    shutil.rmtree(home)
    shutil.rmtree(outside, ignore_errors=True)


@contextlib.contextmanager
def _signals_as_by_default() -> Iterator[None]:
    """Let tools begin with no signal ignored, though whoever runs the tests does, as a job of a script."""
    numbers = signal.valid_signals() - {signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ}
    ignored = [number for number in numbers if signal.getsignal(number) == signal.SIG_IGN]
    for number in ignored:
        signal.signal(number, signal.SIG_DFL)
    yield
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)


class Seen:
    """What was seen of the cases, each looked at once by each route."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._seen: dict[tuple[str, Route], tuple[Any, list[str]]] = {}
        self._never_warm = ""

    def of(self, case: Case, route: Route) -> tuple[Any, list[str]]:
        """Return what is seen of a case by a route, and what still ran after it."""
        key = (case.shared or case.name, route)
        if key not in self._seen:
            self._seen[key] = self._look(case, route)
        found, left = self._seen[key]
        return case.pick(found), left

    def _look(self, case: Case, route: Route) -> tuple[Any, list[str]]:
        if route != "warm":
            return self._observe(case, route)
        assert not self._never_warm, self._never_warm  # not each case shall wait for it
        try:
            warm.warm_up(self.bench.user, self.bench.release)
        except AssertionError as fault:
            self._never_warm = str(fault)
            raise
        for _ in range(MOST_WARMINGS):
            before = warm.holders(self.bench.user)
            found = self._observe(case, route)
            if warm.holders(self.bench.user) == before:
                break
            # it had a holder of its own options started: what it shows in that one counts
            warm.settle(self.bench.user)
        return found

    def _observe(self, case: Case, route: Route) -> tuple[Any, list[str]]:
        for directory in (self.bench.place, self.bench.outside):
            routes.emptied(directory, self.bench.user)
        before = processes.running(self.bench.user)
        try:
            found = case.observe(Call(self.bench, route))
        except BaseException:
            processes.end(self._left(before, 0))
            raise
        left = self._left(before, case.patience)
        names = sorted(processes.name(process) for process in left)
        processes.end(left)
        return found, names

    def _left(self, before: frozenset[int], patience: float) -> frozenset[int]:
        return processes.remaining(self.bench.user, before, patience, warm.is_holder)


@pytest.fixture(scope="session")
def seen(bench: Bench) -> Seen:
    """Give what was seen of the cases so far."""
    return Seen(bench)
