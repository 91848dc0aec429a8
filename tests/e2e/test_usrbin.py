"""An image whose programs are in /usr/bin, among hundreds of the distribution's own: the host's stay the host's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from neurocommand import record
from neurocommand.deploy import Deployer
from neurocommand.events import Event, Noted
from neurocommand.files import digest_of
from neurocommand.image.inspection import is_excluded_command
from neurocommand.layout import Root
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, Release
from tests import images
from tests.users import User

LMOD = "/usr/share/lmod/lmod/init"
RELEASE = Release("usrbin", "1.0", "20260101")
DECLARATION = Declaration(RELEASE, "usrbin 1.0", 1, ("workflows",), True, True, ())
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEPLOY_PATH": "/usr/bin"}
# what a Debian image has, whatever this host has; the shells, coreutils, interpreters and package managers first
NAMES = """
    sh bash dash zsh tcsh busybox ls cat cp mv rm mkdir env id date head tail sort uniq cut tr wc tee true
    test [ timeout stat realpath readlink sed awk gawk mawk grep egrep find xargs diff file less tar gzip xz
    zstd unzip which which.debianutils whereis python3 python3.11 python3.11-config pydoc3.11 py3compile
    perl perl5.36.0 perl5.36-x86_64-linux-gnu pod2man R Rscript java javac tclsh lua5.3 ruby node apt
    apt-get apt-cache apt-key apt-extracttemplates dpkg dpkg-deb dpkg-query dpkg-buildpackage debconf
    deb-systemd-helper rpm dnf conda mamba pip pip3 pip3.11 npm gem cargo sudo su login ssh scp git
    git-shell gpg curl wget gcc gcc-12 x86_64-linux-gnu-gcc-12 make ld.bfd strip strings ps kill pgrep mount
    umount lsblk man apropos localedef locale-gen iconv msgfmt gettext systemctl journalctl dbus-send
    xdg-open x-terminal-emulator fc-list squashfuse fusermount3 apptainer sbatch mpirun module ml
    neurocommand
"""
SYSTEM = set(NAMES.split())
TOOLS = ["usrbintool", "usrbin2nii", "recon-usr", "3dusr", "@usr_auto"]
ASKED = "sh ls which python3 bash env cat sed awk grep perl git sudo"


def in_usr_bin() -> list[str]:
    """Return over 500 names of the distribution's: this host's own, and what every Debian image has."""
    names = {*SYSTEM, *(name for name in os.listdir("/usr/bin") if os.access(f"/usr/bin/{name}", os.X_OK))}
    return sorted([*names, *(f"x86_64-linux-gnu-more{number}" for number in range(520 - len(names)))])


def rootfs() -> images.Rootfs:
    """Return an image with the names in /usr/bin: programs of two kinds and links, and some that are no commands."""
    made, elf = images.base(), b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\0\x3e\0" + bytes(44)
    for number, name in enumerate(in_usr_bin()):
        if number % 3 == 0:
            made.link(f"usr/bin/{name}", "/bin/busybox")
        else:
            made.file(f"usr/bin/{name}", elf if number % 3 == 1 else images.HELLO)
    for name in TOOLS:
        made.file(f"usr/bin/{name}")
    for name in ("-rf", "a b", "new\nline", "$(id)", ".hidden"):
        made.file(f"usr/bin/{name}")
    return made.file("usr/bin/data", b"\0\1\2").file("usr/bin/notes", "text", mode=0o644)


@pytest.fixture(scope="module")
def place(ordinary_user: User) -> Iterator[tuple[Root, list[str]]]:
    """Give the root under which the image is deployed as a tree, and what was said of it."""
    directory = Path(tempfile.mkdtemp(dir=ordinary_user.home))
    directory.chmod(0o755)
    noted: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Noted):
            noted.append(event.message)

    image = sif(directory)
    deployer = Deployer(Root(directory / "root"), "tree", (), listen, shared=True)
    with deployer.locked():
        deployer.prepare()
        deployer.deploy(DECLARATION, Artifact(*digest_of(image)), image)
    yield deployer.root, noted
    shutil.rmtree(directory)


def sif(directory: Path) -> Path:
    configuration = {"Env": [f"{name}={value}" for name, value in ENVIRONMENT.items()]}
    return images.packed_sif(rootfs(), directory / "usrbin.sif", json.dumps(configuration).encode())


def commands(root: Root) -> tuple[str, ...]:
    path = root.release(RELEASE).record
    return record.parse(path.read_text(), path.name).commands


def after_module(root: Root, user: User, shell: str, script: str) -> tuple[list[str], list[str]]:
    """Return the lines that a script prints in a shell before the module is loaded, and after."""
    start = f"source {LMOD}/{shell}; module use '{root.modules}'"
    options = ["--norc"] if shell == "bash" else ["-f"]
    done = user.run([shell, *options, "-c", f"{start}; {script}; echo --; ml usrbin; {script}"])
    assert b"rror" not in done.stderr, done.stderr
    before, after = done.stdout.decode().split("--\n")
    return before.splitlines(), after.splitlines()


def test_the_genuine_tools_are_commands_and_the_system_is_not(place: tuple[Root, list[str]]) -> None:
    found = set(commands(place[0]))
    assert len(in_usr_bin()) > 500
    assert set(TOOLS) <= found
    assert found & SYSTEM == set()
    assert not found & {"-rf", "a b", "new\nline", "$(id)", ".hidden", "data", "notes"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_hosts_programs_stay_the_hosts(place: tuple[Root, list[str]], ordinary_user: User, shell: str) -> None:
    names = " ".join(f"'{name}'" for name in sorted({*ASKED.split(), *SYSTEM}))
    before, after = after_module(
        place[0], ordinary_user, shell, f'for name in {names}; do echo "$name $(command -v "$name")"; done'
    )
    assert before == after
    assert f"sh {shutil.which('sh', path='/usr/local/bin:/usr/bin:/bin')}" in before
    _, found = after_module(place[0], ordinary_user, shell, f"command -v {' '.join(TOOLS)}")
    wrappers = place[0].release(RELEASE).wrappers
    assert found == [f"{wrappers}/{name}" for name in TOOLS]


def test_a_tool_runs_and_the_module_is_one_line(place: tuple[Root, list[str]], ordinary_user: User) -> None:
    _, ran = after_module(place[0], ordinary_user, "bash", "usrbintool a b 2>/dev/null")
    assert ran == ["hello a b"]
    start = f"source {LMOD}/bash; unset MODULEPATH; module use '{place[0].modules}'"
    done = ordinary_user.run(["bash", "--norc", "-c", f"{start}; module -t avail 2>&1"])
    shown = [line for line in done.stdout.decode().splitlines() if "usrbin/" in line]
    assert shown == ["usrbin/", "usrbin/1.0"], "the terse form names the application, too"
    whole = ordinary_user.run(["bash", "--norc", "-c", f"{start}; LMOD_PAGER=none module avail 2>&1"])
    assert whole.stdout.decode().count("usrbin/") == 1


def test_what_is_skipped_is_said_but_not_on_hundreds_of_lines(place: tuple[Root, list[str]]) -> None:
    _, noted = place
    for name in ("'-rf'", "'a b'", "'$(id)'", "'.hidden'", "'data'"):
        assert any(name in note for note in noted), name
    assert any("hide a program of the host" in note and "names" in note for note in noted)
    assert len(noted) < 30


def test_no_program_of_the_hosts_base_system_would_be_hidden() -> None:
    """Held against the packages that every Debian has, where this is one: Priority required and important."""
    query = shutil.which("dpkg-query")
    if query is None:
        pytest.skip("this is no Debian")
    listed = subprocess.run([query, "-W", "-f", "${Priority} ${Package}\n"], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    base = [package for priority, package in pairs if priority in ("required", "important")]
    files = subprocess.run([query, "-L", *base], capture_output=True, text=True, check=False).stdout.splitlines()
    programs = {Path(name).name for name in files if Path(name).parent.name in ("bin", "sbin") and os.path.isfile(name)}
    assert len(programs) > 100
    assert [name for name in sorted(programs) if not is_excluded_command(name)] == []


def test_a_sif_gives_the_same_and_the_manifest_may_expose_more(place: tuple[Root, list[str]], tmp_path: Path) -> None:
    image = sif(tmp_path)
    deployer = Deployer(Root(tmp_path / "root"), "sif", (), lambda _: None)
    exposing = replace(DECLARATION, expose=("git", "python3"))
    with deployer.locked():
        deployer.prepare()
        deployed = deployer.deploy(DECLARATION, Artifact(*digest_of(image)), image)
        assert deployed.commands == commands(place[0])
        renewed = deployer.rewrap(exposing, deployed)
    assert set(renewed.commands) == {*deployed.commands, "git", "python3"}
    assert renewed.wrapper_revision != deployed.wrapper_revision
