"""wrappers/udocker.sh.in in a wrapper that has found no other runtime: the real udocker, proot and runc, as a user.

A stub stands for the wrapper, which sets what the fragment is told and then reads it.
"""

from __future__ import annotations

import contextlib
import io
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurocommand.image import dockerarchive
from neurocommand.image.treelayer import TreeLayer
from neurocommand.model import Release
from neurocommand.render.runtimeoptions import Options
from neurocommand.render.wrapper import bodies, wrapper
from neurocommand.settings import WrapperSettings
from tests import images
from tests.test_readme import TOP
from tests.udocker import Desktop, desktop
from tests.users import User
from tests.world import listing

FRAGMENT = TOP / "wrappers/udocker.sh.in"
RELEASE = Release("small", "1.0", "20260101")
CONTAINER = "small_1-0_20260101"
FAR = Path("/srv")  # not among the places that are always shown
by_root = pytest.mark.skipif(os.geteuid() != 0, reason=f"only root makes directories in {FAR}")
STUB = """#!/bin/sh
release='{release}' id={id} command={command} tmpdir=${{STUB_TMPDIR-}} passed=${{STUB_PASSED-}}
. "$release/udocker.sh"
"""
COMMANDS = ("smallhello", "smallexit", "smallargs", "smallsh", "nosuch")
ARGUMENTS = [
    "a b",
    "'",
    '"',
    "*",
    "",
    "x\ny",
    "é漢",
    "$(id)",
    "`id`",
    "\\",
    "-rf",
    "--",
    "a\tb",
    "~",
    " b ",
    "-i",
    "-t",
]
ARGUMENTS += ["-v", "-e", "A=B", "--volume=/", "--nobanner", "-", "x", "=", "--help", ""]
MODES = ("P1", "R1")  # proot, udocker's own default, and runc


class Site:
    """A deployed release, and the wrappers of its commands."""

    def __init__(self, there: Desktop, name: str, release: Release) -> None:
        self.desktop, self.release = there, release
        self.path = there.path / name / "containers" / release.id
        self.path.mkdir(parents=True)
        shutil.copy(FRAGMENT, self.path / "udocker.sh")
        for command in COMMANDS:
            wrapper = self.path / command
            wrapper.write_text(STUB.format(release=self.path, id=release.id, command=command))
            wrapper.chmod(0o755)
        there.path.joinpath(name).chmod(0o755)

    def command(self, mode: str, command: str, *words: str, shell: str = "dash") -> list[str]:
        argv = [*shell.split(), str(self.path / command), *words]
        return ["env", f"UDOCKER_DEFAULT_EXECUTION_MODE={mode}", *argv]

    def run(self, mode: str, command: str, *words: str, shell: str = "dash", **options: Any) -> Any:
        return self.desktop.run(*self.command(mode, command, *words, shell=shell), **options)


@pytest.fixture(scope="module")
def there(ordinary_user: User) -> Iterator[Desktop]:
    made = desktop(ordinary_user)
    yield made
    shutil.rmtree(made.path)


@pytest.fixture(scope="module")
def archived(there: Desktop, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A release whose image is there as an archive."""
    site = Site(there, "archi ved", RELEASE)
    tree = images.small().unpacked(tmp_path_factory.mktemp("tree") / "tree")
    environment = tuple(images.SMALL_ENVIRONMENT.items())
    packed = io.BytesIO()
    described = dockerarchive.Description(RELEASE, environment, "amd64", "")
    dockerarchive.write(TreeLayer(tree), described, packed, lambda done: None)
    (site.path / f"{RELEASE}.docker.tar.gz").write_bytes(packed.getvalue())  # tar finds out by itself
    return site


@pytest.fixture(scope="module")
def unpacked(there: Desktop) -> Site:
    """A release that is there as a tree of root's."""
    site = Site(there, "unpacked", Release("tree", "1.0", "20260101"))
    rootfs = images.small().directory(".singularity.d").directory(".singularity.d/env")
    recorded = "".join(
        f'export {name}="${{{name}:-"{value}"}}"\n'
        for name, value in (*images.SMALL_ENVIRONMENT.items(), ("FOO", "b ar"))
    )
    rootfs.file(".singularity.d/env/10-docker2singularity.sh", recorded, 0o644)
    rootfs.file(".singularity.d/env/99-base.sh", "exit 33", 0o644)
    rootfs.unpacked(site.path / f"{site.release}.simg")
    return site


@pytest.fixture
def ready(archived: Site) -> Site:
    """A release of which udocker has a container already."""
    done = archived.run("P1", "smallhello", "x")
    assert (done.returncode, done.stdout) == (0, b"hello x\n"), done.stderr
    return archived


def test_the_fragment_is_clean() -> None:
    done = subprocess.run(["shellcheck", "-s", "sh", FRAGMENT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("mode", "shell"),
    [
        ("P1", "busybox sh"),
        ("R1", "dash"),
        pytest.param("P1", "dash", marks=pytest.mark.full),
        pytest.param("R1", "busybox sh", marks=pytest.mark.full),
        pytest.param("R1", "bash", marks=pytest.mark.full),
    ],
)
def test_arguments_streams_and_exit_code_are_the_commands(ready: Site, mode: str, shell: str) -> None:
    done = ready.run(mode, "smallargs", *ARGUMENTS, shell=shell)
    assert (done.stdout.decode(), done.stderr) == ("".join(f"<{word}>\n" for word in ARGUMENTS), b"")
    done = ready.run(mode, "smallargs", "no", "-e", "mpty", shell=shell)
    assert (done.stdout, done.stderr) == (b"<no>\n<-e>\n<mpty>\n", b"")
    script = 'cat; echo "no news" >&2; exit 3'
    content = random.Random(1).randbytes(300_000)
    done = ready.run(mode, "smallsh", "-c", script, shell=shell, input=content, stdin=None)
    assert (done.returncode, done.stdout, done.stderr) == (3, content, b"no news\n")
    assert ready.run(mode, "smallsh", "-c", "kill -9 $$", shell=shell).returncode == 128 + signal.SIGKILL
    done = ready.run(mode, "nosuch", shell=shell)
    assert done.returncode == 127
    assert b"nosuch: not found" in done.stderr


@pytest.mark.parametrize("mode", MODES)
def test_it_runs_where_it_is_called_with_the_callers_files(ready: Site, mode: str) -> None:
    user = ready.desktop.user
    far = [FAR / f"{user.name} far = "] if os.geteuid() == 0 else []
    for place in (user.home / "in home ", ready.desktop.path / "with  blank", *far):
        place.mkdir()
        user.give(place)
        try:
            script = 'pwd; echo "$HOME"; echo done >made; [ -w "$HOME" ]'
            done = ready.run(mode, "smallsh", "-c", script, cwd=place)
            if place.parent == FAR:
                assert done.returncode == 126  # its last letter is a blank, which udocker takes away
                assert f"smallsh: udocker cannot show the directory {place}\n" == done.stderr.decode()
                continue
            assert (done.returncode, done.stdout.decode()) == (0, f"{place}\n{user.home}\n"), done.stderr
            assert (place / "made").read_text() == "done\n"
            assert (place / "made").owner() == user.name
        finally:
            shutil.rmtree(place)


@pytest.mark.parametrize("mode", MODES)
def test_the_wrapper_itself_runs_over_udocker(ready: Site, unpacked: Site, mode: str) -> None:
    """What it passes elsewhere it passes here, too; an APPTAINERENV_ variable counts more."""
    site = unpacked if mode == "P1" else ready
    for name, text in bodies(site.release, "tree" if mode == "P1" else "sif", WrapperSettings(), Options(), "").items():
        (site.path / name).write_text(text)
    tool = site.path / "bin" / "smallsh"
    tool.parent.mkdir()
    tool.write_text(wrapper(site.release, "smallsh"))
    tool.chmod(0o755)
    if mode == "R1":
        (site.path / f"{site.release}.simg").write_text("the wrapper asks for it, udocker does not read it")
    tmpdir = site.desktop.path / "t m p"
    tmpdir.mkdir(exist_ok=True)
    site.desktop.user.give(tmpdir)
    environment = {
        "NEUROCOMMAND_RUNTIME": "udocker",
        "NEUROCOMMAND_PASS": "MINE",
        "UDOCKER_DEFAULT_EXECUTION_MODE": mode,
        "TMPDIR": str(tmpdir),
        "OMP_NUM_THREADS": "3",
        "MINE": "a  'b'",
        "SINGULARITYENV_OMP_NUM_THREADS": "4",
        "PYTHONPATH": "/no",
    }
    script = 'echo "$OMP_NUM_THREADS|$MINE|$TMPDIR|$PYTHONPATH|$1"; echo x >"$TMPDIR/made"; exit 5'
    done = site.desktop.run(tool, "-c", script, "sh", "it's * $(id)", env=environment)
    assert (done.returncode, done.stderr) == (5, b"")
    assert done.stdout.decode() == f"4|a  'b'|{tmpdir}||it's * $(id)\n"
    assert (tmpdir / "made").read_text() == "x\n"


@by_root
@pytest.mark.parametrize("mode", MODES)
def test_places_elsewhere_are_shown(ready: Site, mode: str) -> None:
    user = ready.desktop.user
    places = [FAR / f"{user.name} {kind}" for kind in ("where", "temporary", "data")]
    try:
        for place in places:
            place.mkdir()
            (place / "x").write_text(place.name)
            user.give(place)
        env = {"STUB_TMPDIR": str(places[1]), "APPTAINER_BINDPATH": f"{places[2]}:/opt/data:ro,/no/such"}
        script = 'cat x "$TMPDIR/x" /opt/data/x; echo "$TMPDIR"; echo 1 >"$TMPDIR/new"'
        done = ready.run(mode, "smallsh", "-c", script, cwd=places[0], env=env)
        assert done.stdout.decode() == "".join(place.name for place in places) + f"{places[1]}\n", done.stderr
        assert (places[1] / "new").exists()
    finally:
        for place in places:
            shutil.rmtree(place)


@pytest.mark.parametrize("mode", MODES)
def test_variables_go_in_by_name_and_nobody_sees_their_values(ready: Site, mode: str) -> None:
    value = "  secret 'x' \n$HOME="
    env = {"STUB_PASSED": "ONE\nTWO", "ONE": value, "TWO": "", "THREE": "3"}
    script = 'printf "[%s][%s][%s]" "$ONE" "${TWO-unset}" "${THREE-unset}"; echo; echo $PATH; sleep 0.5'
    argv = ready.desktop.user.command(
        ready.command(mode, "smallsh", "-c", script), {**ready.desktop.environment, **env}
    )
    # the stub gets them as a wrapper does, but the test's own `env` must not show them
    started = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ready.desktop.user.home)
    assert started.stdout is not None
    first = b"".join(started.stdout.readline() for _ in range(3))
    lines = [Path(f"/proc/{pid}/cmdline") for pid in os.listdir("/proc") if pid.isdecimal()]
    shown = []
    for line in lines:
        with contextlib.suppress(OSError):
            shown.append(line.read_bytes())
    started.communicate()
    assert first.decode() == f"[{value}][][unset]\n{images.PATH}\n"
    assert any(b"--env=ONE" in line for line in shown)
    assert not [line for line in shown if b"secret" in line and b"--env=ONE" in line]


def test_a_container_is_made_once_by_many_calls_at_once(archived: Site) -> None:
    there = archived.desktop
    with contextlib.suppress(AssertionError):
        there.udocker("rm", CONTAINER)
    argv = there.user.command(archived.command("P1", "smallhello", "x"), there.environment)
    runs = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=there.user.home) for _ in range(3)
    ]
    ended = [(*run.communicate(), run.returncode) for run in runs]
    assert [(out, code) for out, _, code in ended] == [(b"hello x\n", 0)] * 3, ended
    assert b"".join(said for _, said, _ in ended).count(b"loading small_1.0_20260101 into udocker") == 1
    containers = [line for line in there.udocker("ps").splitlines() if "small_1.0:20260101" in line]
    assert len(containers) == 1
    assert "small_1.0:20260101" not in there.udocker("images"), "the image takes space beside its container"


def test_a_lock_that_a_killed_call_left_is_taken_away(archived: Site) -> None:
    there = archived.desktop
    with contextlib.suppress(AssertionError):
        there.udocker("rm", CONTAINER)
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    lock = there.home / "neurocommand" / f"{CONTAINER}.lock"
    there.run("mkdir", "-p", lock)
    there.run("sh", "-c", f"echo {gone} $(uname -n) >{lock}/by")
    done = archived.run("P1", "smallhello", "x", timeout=30)
    assert (done.returncode, done.stdout) == (0, b"hello x\n")
    assert not lock.exists()


def test_calls_at_once_over_runc_do_not_mix(ready: Site) -> None:
    there = ready.desktop
    runs = {}
    for word in map(str, range(4)):
        argv = there.user.command(ready.command("R1", "smallsh", "-c", f"echo {word}; exit 1{word}"), there.environment)
        runs[word] = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=there.user.home)
    ended = {word: (run.communicate()[0], run.returncode) for word, run in runs.items()}
    assert ended == {word: (f"{word}\n".encode(), 10 + int(word)) for word in runs}
    # a tree that was run leaves .mountpoints, which is udocker's own
    assert [path.name for path in (there.home / "neurocommand").iterdir() if path.name != ".mountpoints"] == []


def test_without_an_archive_it_says_what_to_do(there: Desktop) -> None:
    site = Site(there, "bare", Release("other", "1.0", "20260101"))
    for mode in MODES:
        done = site.run(mode, "smallhello")
        assert (done.returncode, done.stdout) == (127, b"")
        assert done.stderr.decode() == (
            "smallhello: udocker does not have other_1.0:20260101; run: neurocommand export other_1.0_20260101 "
            "--format docker-archive, then udocker load -i the file\n"
        )
    done = site.run("P1", "smallhello", env={"PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr.count(b"\n")) == (127, 1)
    (site.path / "other_1.0_20260101.docker.tar.gz").write_bytes(b"no archive")
    done = site.run("P1", "smallhello")
    assert (done.returncode, done.stdout) == (126, b"")
    assert b"udocker load: Error" in done.stderr


def test_an_image_that_the_user_loaded_will_do_and_stays(archived: Site) -> None:
    there = archived.desktop
    site = Site(there, "loaded", RELEASE)
    with contextlib.suppress(AssertionError):
        there.udocker("rm", CONTAINER)
    there.udocker("load", "-i", archived.path / f"{RELEASE}.docker.tar.gz")
    done = site.run("P1", "smallhello", "x")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello x\n", b"")
    assert "small_1.0:20260101" in there.udocker("images")
    there.udocker("rmi", "small_1.0:20260101")


def test_a_tree_needs_neither_archive_nor_copy(unpacked: Site) -> None:
    there, tree = unpacked.desktop, unpacked.path / f"{unpacked.release}.simg"
    before, place = listing(tree), there.user.home / "wd"
    place.mkdir()
    there.user.give(place)
    script = 'echo "$FOO:$PATH:$ONE"; pwd; id -u; echo 1 >/opt/new; exit 4'
    done = unpacked.run("P1", "smallsh", "-c", script, cwd=place, env={"STUB_PASSED": "ONE", "ONE": "1"})
    user = there.run("id", "-u").stdout.decode().strip()
    assert (done.returncode, done.stdout.decode()) == (4, f"b ar:{images.PATH}:1\n{place}\n{user}\n"), done.stderr
    assert unpacked.run("P1", "smallargs", *ARGUMENTS).stdout.decode() == "".join(f"<{w}>\n" for w in ARGUMENTS)
    if there.user.root:
        assert listing(tree) == before
    assert list(place.iterdir()) == []
    assert "tree_1.0" not in there.udocker("ps")
    # runc would write in it
    assert unpacked.run("R1", "smallhello").returncode == 127


@pytest.mark.parametrize(
    ("mode", "piped", "code"), [("P1", False, 1), ("R1", False, 130), ("P1", True, 1), ("R1", True, 143)]
)
def test_a_terminal_reaches_the_command(ready: Site, mode: str, piped: bool, code: int) -> None:
    there = ready.desktop
    assert on_terminal(there, ready.command(mode, "smallsh", "-c", "[ -t 0 ] && [ -t 1 ] && exit 7"))[1] == 7
    argv = ready.command(mode, "smallsh", "-c", "echo ready; sleep 20; echo late")
    if piped:
        argv = ["bash", "-c", """set -o pipefail; trap : INT; "$@" | (trap '' INT; cat)""", "bash", *argv]
    said, ended = on_terminal(there, argv, interrupt=b"ready")
    assert ended == code, said
    assert b"late" not in said


def on_terminal(there: Desktop, argv: list[str], interrupt: bytes = b"") -> tuple[bytes, int]:
    """Run a program on a terminal; press Ctrl-C when it has said something."""
    main, other = pty.openpty()
    command = ["setsid", "--ctty", *there.user.command(argv, there.environment)]
    started = subprocess.Popen(command, stdin=other, stdout=other, stderr=other, cwd=there.user.home)
    os.close(other)
    said, deadline = b"", time.monotonic() + 15
    while time.monotonic() < deadline:
        if select.select([main], [], [], 0.1)[0]:
            try:
                said += os.read(main, 4096)
            except OSError:
                break
        if interrupt and interrupt in said:
            os.write(main, b"\x03")
            interrupt = b""
    os.close(main)
    return said, started.wait(timeout=15)
