"""Wrappers: parsed by three shells and shellcheck, and run for real as an ordinary user."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurocommand.image import sif
from neurocommand.image.tree import normalise
from neurocommand.model import Format, Notice, Release
from neurocommand.render import templates
from neurocommand.render.runtimeoptions import Options, allowed
from neurocommand.render.wrapper import bodies, tombstone, wrapper
from neurocommand.settings import Bind, WrapperSettings
from tests.users import User

GOLDEN = Path(__file__).parents[1] / "golden"
RELEASE = Release("small", "1.0", "20260102")
SHELLS = tuple(
    (shutil.which(name) or name, *rest) for name, *rest in (["dash"], ["bash", "--posix"], ["busybox", "sh"])
)
FORMATS: tuple[Format, ...] = ("tree", "sif")

HOSTILE = (
    "",
    " ",
    "two words",
    "'single'",
    '"double"',
    "*",
    "?[a-z]*",
    "$HOME $(id) `id`",
    "back\\slash\\n",
    "new\nline\n",
    "tab\t",
    "é 脳 \U0001f9e0",
    "-x",
    "--",
    "--help",
    "a;b|c&d>e<f",
    "~",
    "#",
    "!",
    "a=b",
    "{a,b}",
    "%s%n",
    "x" * 10_000,
)


def names(text: str) -> str:
    return text.replace("\n", "<newline>")


# --- the text ------------------------------------------------------------------------------------------------------


DEFAULTS, NONE = WrapperSettings(), Options()


def texts(
    image_format: Format = "tree",
    settings: WrapperSettings = DEFAULTS,
    options: Options = NONE,
    glibc: str = "2.31",
    release: Release = RELEASE,
) -> dict[str, str]:
    """Return everything that is generated for a release with the command ``@tool.x``, by file name."""
    return {"tool": wrapper(release, "@tool.x"), **bodies(release, image_format, settings, options, glibc)}


SITE = WrapperSettings(
    "auto", True, 90, ("SUBJECTS_DIR", "FS_*"), (Bind("/scratch", "/scratch"), Bind("/d", "/e", True))
)
MANIFEST = allowed(["--nv", "--bind=/tmp:/scratch", "--writable-tmpfs"])


@pytest.mark.parametrize("name", ["tool", "wrapper.sh", "warm.sh", "holder.sh"])
def test_golden(name: str) -> None:
    """To renew after a change that is meant: write the text that is shown to the file."""
    assert texts()[name] == (GOLDEN / "wrapper.tree" / name).read_text()


def test_golden_of_a_sif_with_settings() -> None:
    assert texts("sif", SITE, MANIFEST)["wrapper.sh"] == (GOLDEN / "wrapper.sif.sh").read_text()


def test_golden_tombstone() -> None:
    successor = Release("small", "1.1", "20260301")
    text = tombstone(RELEASE, Notice("it's wrong; $(id) `id` \\", successor, "2026-03-02"))
    assert text == (GOLDEN / "tombstone.sh").read_text()


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("name", ["tool", "wrapper.sh", "warm.sh", "holder.sh", "udocker.sh"])
def test_parsers(name: str, image_format: Format, tmp_path: Path) -> None:
    path = tmp_path / "tool"
    path.write_text(texts(image_format, SITE, MANIFEST)[name])
    # what is sourced has its variables from elsewhere, and a wrapper has them for what it sources; -ef, -nt and the
    # limits are not in POSIX, but in every sh of SHELLS
    elsewhere = "--exclude=SC1090,SC1091,SC2034,SC2154,SC2317,SC2329,SC3013,SC3045"
    for argv in (*((*shell, "-n") for shell in SHELLS), ("shellcheck", "--shell=sh", elsewhere)):
        assert shutil.which(argv[0]), f"{argv[0]} is missing: run setup/packages.sh test (./test does)"
        done = subprocess.run([*argv, path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), argv


def test_only_release_and_command_differ() -> None:
    one, other = wrapper(RELEASE, "bet"), wrapper(Release("fsl", "6.0", "20250101"), "flirt")
    assert one.replace(RELEASE.id, "R").replace("bet", "C") == other.replace("fsl_6.0_20250101", "R").replace(
        "flirt", "C"
    )


def test_the_revision_is_12_hex_digits() -> None:
    assert len(templates.REVISION) == 12
    assert int(templates.REVISION, 16) >= 0


def test_values_are_filled_in_once() -> None:
    assert templates.fill("a@X@b@Y@", {"X": "@Y@", "Y": "y@X@"}) == "a@Y@by@X@"
    with pytest.raises(KeyError):
        templates.fill("@NOPE@", {})


# --- what the runtime is given: each shell, with a runtime that shows its arguments -----------------------------------

SHOW = '#!/bin/sh\nprintf \'%s\\0\' "$@"\nenv -0 >"$SHOWN"\n'


@dataclass
class Bench:
    """A release under a root, and a runtime that only shows what it was given."""

    root: Path
    runtime: Path

    @property
    def directory(self) -> Path:
        return self.root / "containers" / RELEASE.id

    @property
    def tool(self) -> Path:
        return self.directory / "bin" / "tool"

    def write(
        self,
        settings: WrapperSettings = DEFAULTS,
        options: Options = NONE,
        image_format: Format = "tree",
    ) -> None:
        """Write what the wrapper sources."""
        for name, text in bodies(RELEASE, image_format, settings, options, "2.31").items():
            (self.directory / name).write_text(text)

    def run(
        self, *argv: str, shell: tuple[str, ...] = ("dash",), cwd: Path | None = None, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        settings = {"PATH": f"{self.runtime.parent}:/usr/bin:/bin", "SHOWN": str(self.root / "shown"), **environment}
        return subprocess.run(
            [*shell, str(self.tool), *argv], capture_output=True, check=False, env=settings, cwd=cwd or self.root
        )

    def given(
        self, *argv: str, shell: tuple[str, ...] = ("dash",), cwd: Path | None = None, **environment: str
    ) -> list[str]:
        done = self.run(*argv, shell=shell, cwd=cwd, **environment)
        assert (done.returncode, done.stderr) == (0, b"")
        return os.fsdecode(done.stdout).split("\0")[:-1]

    def environment(self) -> dict[str, str]:
        pairs = os.fsdecode((self.root / "shown").read_bytes()).split("\0")[:-1]
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path.resolve() / "root", tmp_path.resolve() / "bin" / "apptainer")
    (made.directory / f"{RELEASE.id}.simg").mkdir(parents=True)
    made.runtime.parent.mkdir()
    made.runtime.write_text(SHOW)
    made.runtime.chmod(0o755)
    made.tool.parent.mkdir()
    made.tool.write_text(wrapper(RELEASE, "tool"))
    made.tool.chmod(0o755)
    made.write()
    return made


def image_of(bench: Bench) -> str:
    return f"{bench.directory}/{RELEASE.id}.simg"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_the_command_line(shell: tuple[str, ...], bench: Bench) -> None:
    expected = ["--silent", "exec", "--cleanenv", "--pwd", str(bench.root), image_of(bench), "tool", *HOSTILE]
    assert bench.given(*HOSTILE, shell=shell) == expected
    given = bench.environment()
    assert given["APPTAINER_NO_EVAL"] == "1"
    assert not {name for name in given if name.startswith("APPTAINERENV_")} - {"APPTAINERENV_TERM"}  # bash sets TERM


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    "name", ["a b", "a,b", "a:b", "a'b", 'a"b', "a\nb", "$x", "*", "é", "-x", "trailing\n"], ids=names
)
def test_the_working_directory(name: str, shell: tuple[str, ...], bench: Bench) -> None:
    directory = bench.root / name
    directory.mkdir()
    (bench.root / "link").symlink_to(directory)
    for cwd in (directory, bench.root / "link"):
        given = bench.given(shell=shell, cwd=cwd)
        assert given[3:6] == ["--pwd", str(directory), image_of(bench)]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_a_deleted_working_directory(shell: tuple[str, ...], bench: Bench) -> None:
    """The runtime decides; the wrapper neither fails nor speaks."""
    code = f'mkdir "$0" && cd "$0" && rmdir "$0" && exec {" ".join(shell)} "$1"'
    settings = {"PATH": f"{bench.runtime.parent}:/usr/bin:/bin", "SHOWN": str(bench.root / "shown")}
    done = subprocess.run(
        ["sh", "-c", code, bench.root / "gone", bench.tool], capture_output=True, check=False, env=settings
    )
    assert done.returncode == 0
    assert b"tool" in done.stdout
    assert str(bench.tool).encode() not in done.stderr


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_variables(shell: tuple[str, ...], bench: Bench) -> None:
    passed = {
        "DISPLAY": ":0",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "",
        "TZ": "a,b'\"$(id)`id`\\\n*é",
        "TERM": "xterm",
        "OMP_NUM_THREADS": "2",
        "CUDA_VISIBLE_DEVICES": "0,1",
    }
    other = {"SECRET": "x", "LD_PRELOAD_X": "y", "HOME": "/root"}
    own = {"APPTAINERENV_TERM": "mine", "SINGULARITYENV_DISPLAY": "mine", "APPTAINERENV_FREE": "z"}
    bench.given(shell=shell, **passed, **other, **own)
    given = {
        name: value
        for name, value in bench.environment().items()
        if name.startswith(("APPTAINERENV", "SINGULARITYENV"))
    }
    handed = {f"APPTAINERENV_{name}": value for name, value in passed.items() if name not in ("TERM", "DISPLAY")}
    assert given == {**handed, **own}


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_another_runtime_and_its_prefix(shell: tuple[str, ...], bench: Bench) -> None:
    other = bench.runtime.rename(bench.root / "my singularity")
    assert bench.run(shell=shell, PATH="/nowhere").returncode == 127
    given = bench.given(shell=shell, NEUROCOMMAND_RUNTIME=str(other), TZ="UTC")
    assert given[0] == "--silent"
    assert bench.environment()["SINGULARITYENV_TZ"] == "UTC"
    other.rename(bench.runtime.parent / "singularity")
    tools = bench.root / "tools"
    tools.mkdir()
    for name in ("env", "readlink"):
        (tools / name).symlink_to(shutil.which(name) or "")
    bench.given(shell=shell, PATH=f"{bench.runtime.parent}:{tools}", TZ="UTC")
    assert bench.environment()["SINGULARITY_NO_EVAL"] == "1"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_failures_are_one_clear_line(shell: tuple[str, ...], bench: Bench) -> None:
    for code, word, environment in (
        (127, b"neither apptainer nor singularity", {"PATH": "/nowhere"}),
        (127, b"NEUROCOMMAND_RUNTIME: there is no command nope", {"NEUROCOMMAND_RUNTIME": "nope"}),
    ):
        done = bench.run(shell=shell, **environment)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (code, b"", 1)
        assert word in done.stderr
        assert done.stderr.startswith(b"tool: ")
    (bench.directory / f"{RELEASE.id}.simg").rmdir()
    done = bench.run(shell=shell)
    assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (126, b"", 1)
    assert b"missing or cannot be read; install small_1.0_20260102 again" in done.stderr


def test_a_file_is_no_tree_and_an_absent_sif_is_missed(bench: Bench) -> None:
    image = bench.directory / f"{RELEASE.id}.simg"
    image.rmdir()
    image.write_text("file")
    assert bench.run().returncode == 126
    bench.write(image_format="sif")
    assert bench.run().returncode == 0
    image.unlink()
    assert bench.run().returncode == 126


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_more_options_are_split_and_nothing_else(shell: tuple[str, ...], bench: Bench) -> None:
    given = bench.given("x", shell=shell, neurodesk_singularity_opts=" --nv  --overlay /tmp/* $(id) ")
    assert given[2:9] == ["--cleanenv", "--pwd", str(bench.root), "--nv", "--overlay", "/tmp/*", "$(id)"]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_links_to_the_wrapper_and_other_ways(shell: tuple[str, ...], bench: Bench, tmp_path: Path) -> None:
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    (elsewhere / "link").symlink_to(bench.tool)
    (elsewhere / "again").symlink_to("link")
    (elsewhere / "bin").symlink_to(bench.tool.parent)
    settings = {"PATH": f"{bench.runtime.parent}:/usr/bin:/bin", "SHOWN": str(bench.root / "shown")}
    for argv, cwd in (
        ([elsewhere / "link"], bench.root),
        ([elsewhere / "again"], bench.root),
        ([elsewhere / "bin/tool"], bench.root),
        (["./tool"], bench.tool.parent),
        (["bin/tool"], bench.directory),
        ([*shell, "tool"], bench.tool.parent),
        ([*shell, "again"], elsewhere),
    ):
        done = subprocess.run([str(word) for word in argv], capture_output=True, check=False, env=settings, cwd=cwd)
        assert (done.returncode, done.stderr) == (0, b""), argv
        image = os.fsdecode(done.stdout).split("\0")[5]
        assert os.path.samefile(os.path.join(cwd, image), image_of(bench)), argv


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("name", "flag", "value"),
    [
        ("scratch", "--bind", "{0}:{0}"),
        ("a b", "--bind", "{0}:{0}"),
        ("a,b", "--mount", 'type=bind,"source={0}","destination={0}"'),
        ("a:b", "--mount", 'type=bind,"source={0}","destination={0}"'),
        ('a"b', "--mount", 'type=bind,"source={1}","destination={1}"'),
        ("a\nb", "--bind", "{0}:{0}"),
        ("a\\b", "--mount", 'type=bind,"source={0}","destination={0}"'),
    ],
    ids=names,
)
def test_tmpdir(name: str, flag: str, value: str, shell: tuple[str, ...], bench: Bench) -> None:
    place = Path("/dev/shm")  # writable for all, and neither below /tmp nor in a home
    directory = place / f"neurocommand-test-{os.getpid()}" / name
    directory.mkdir(parents=True)
    try:
        given = bench.given(shell=shell, TMPDIR=str(directory), HOME="/home/me")
        # --mount reads CSV, RFC 4180: a quote inside quotes is doubled
        assert given[5:-2] == [flag, value.format(directory, str(directory).replace('"', '""'))]
        assert bench.environment().get("APPTAINERENV_TMPDIR") == (str(directory) if flag else None)
        bench.given(shell=shell, TMPDIR=str(directory), HOME=str(place))
        assert bench.environment()["APPTAINERENV_TMPDIR"] == str(directory)
    finally:
        shutil.rmtree(directory.parent)


@pytest.mark.parametrize("value", ["", "/nowhere/at/all", "relative", "/etc/passwd"])
def test_a_tmpdir_that_is_none(value: str, bench: Bench) -> None:
    assert bench.given(TMPDIR=value)[5:] == [image_of(bench), "tool"]
    assert "APPTAINERENV_TMPDIR" not in bench.environment()


def test_a_tmpdir_below_tmp_is_seen_anyway(bench: Bench) -> None:
    with_link = bench.root / "link"  # below /tmp, leads elsewhere
    with_link.symlink_to("/var/lib")
    assert bench.given(TMPDIR=str(with_link))[5:7] == ["--bind", "/var/lib:/var/lib"]
    assert bench.environment()["APPTAINERENV_TMPDIR"] == "/var/lib"
    assert bench.given(TMPDIR="/tmp/..//tmp")[5:] == [image_of(bench), "tool"]
    assert bench.environment()["APPTAINERENV_TMPDIR"] == "/tmp"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_xauthority(shell: tuple[str, ...], bench: Bench) -> None:
    cookie = bench.root / "cookie"
    cookie.touch()
    given = bench.given(shell=shell, XAUTHORITY=str(cookie))
    assert given[5:7] == ["--bind", f"{cookie}:{cookie}:ro"]
    assert bench.environment()["APPTAINERENV_XAUTHORITY"] == str(cookie)
    odd = cookie.rename(bench.root / "coo,kie")
    given = bench.given(shell=shell, XAUTHORITY=str(odd))
    assert given[5:7] == ["--mount", f'type=bind,"source={odd}","destination={odd}",ro']
    for value in ("/nowhere", "relative", ""):
        assert bench.given(shell=shell, XAUTHORITY=value)[5:] == [image_of(bench), "tool"]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_root_asks_for_a_user_namespace_only_when_it_lacks_capabilities(shell: tuple[str, ...], bench: Bench) -> None:
    status = Path("/proc/self/status").read_text()
    effective = int(status.split("CapEff:")[1].split()[0], 16)
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    lacks = os.geteuid() == 0 and effective != (1 << (last + 1)) - 1
    bench.given(shell=shell)
    assert bench.environment().get("APPTAINER_USERNS") == ("1" if lacks else None)
    bench.given(shell=shell, APPTAINER_USERNS="0")
    assert bench.environment()["APPTAINER_USERNS"] == "0"


# --- the real runtime, as an ordinary user ----------------------------------------------------------------------------


@dataclass
class Deployed:
    """The small image under a root that its user can read, as a tree or as a SIF."""

    user: User
    root: Path
    image_format: Format

    @property
    def image(self) -> Path:
        return self.root / "containers" / RELEASE.id / f"{RELEASE.id}.simg"

    def tool(self, name: str) -> str:
        return str(self.root / "containers" / RELEASE.id / "bin" / name)

    def run(self, name: str, *argv: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        return self.user.run([self.tool(name), *argv], **options)  # type: ignore[arg-type,no-any-return]

    def bare(self, *argv: str, **options: object) -> subprocess.CompletedProcess[bytes]:
        """Run the bare runtime with the options that the wrapper documents."""
        command = ["apptainer", "--silent", "exec", "--cleanenv", str(self.image), *argv]
        return self.user.run(command, **options)  # type: ignore[arg-type,no-any-return]


@pytest.fixture(scope="module", params=FORMATS)
def deployed(request: pytest.FixtureRequest, small_sif: Path, ordinary_user: User) -> Iterator[Deployed]:
    made = Deployed(ordinary_user, ordinary_user.home / f"root {request.param}", request.param)
    made.image.parent.mkdir(parents=True)
    if request.param == "tree":
        sif.unpack(small_sif, made.image)
        normalise(made.image, ())
    else:
        shutil.copyfile(small_sif, made.image)
    (made.image.parent / "bin").mkdir()
    for command in ("smallhello", "smallexit", "smallargs", "smallsh", "missing"):
        path = made.image.parent / "bin" / command
        path.write_text(wrapper(RELEASE, command))
        path.chmod(0o755)
    for name, text in bodies(RELEASE, request.param, WrapperSettings(), Options(), "").items():
        (made.image.parent / name).write_text(text)
    made.user.give(made.root)
    yield made
    shutil.rmtree(made.root)


@pytest.fixture(scope="module")
def places(ordinary_user: User) -> Iterator[Path]:
    """Give a directory that the runtime does not show by itself, the user's own; in the home where there is no root."""
    place = Path("/srv" if ordinary_user.root else ordinary_user.home) / f"neurocommand-test-{os.getpid()}"
    place.mkdir()
    yield ordinary_user.give(place)
    shutil.rmtree(place)


def test_arguments_pass_unchanged(deployed: Deployed) -> None:
    done = deployed.run("smallargs", *HOSTILE)
    assert done.stdout == "".join(f"<{word}>\n" for word in HOSTILE).encode()
    assert (done.returncode, done.stderr) == (0, b"")


def test_streams_and_exit_codes(deployed: Deployed) -> None:
    data = bytes(range(256)) * 500
    done = deployed.run("smallsh", "-c", "cat; echo to stderr >&2; exit 7", stdin=None, input=data)
    assert (done.returncode, done.stdout, done.stderr) == (7, data, b"to stderr\n")
    for code in (0, 1, 126, 127, 255):
        assert deployed.run("smallexit", str(code)).returncode == code


def test_a_command_that_the_image_lacks(deployed: Deployed) -> None:
    ours, bare = deployed.run("missing"), deployed.bare("missing")
    assert (ours.returncode, ours.stdout) == (bare.returncode, bare.stdout)
    assert b"missing" in ours.stderr


@pytest.mark.parametrize(
    "name", ["plain", "a b", "a,b", "a:b", "a'b", 'a"b', "a\nb", "$x", "*", "é", "-x", "a\\b"], ids=names
)
def test_the_callers_directory(name: str, deployed: Deployed, places: Path) -> None:
    directory = places / deployed.image_format / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "file").write_text("seen")
    deployed.user.give(places)
    script = 'printf "%s|" "$PWD" "$(pwd -P)"; cat file; echo new > made'
    done = deployed.run("smallsh", "-c", script, cwd=directory)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == f"{directory}|{directory}|seen".encode()
    assert (directory / "made").read_text() == "new\n"


@pytest.mark.parametrize("place", ["home", "home/below", "/tmp", "/", "/usr/bin", "/etc", "/mnt", "/dev/shm", "/proc"])
def test_other_directories(place: str, deployed: Deployed) -> None:
    """Where the runtime shows its own directory of that name, that one is meant."""
    below = deployed.user.home / "below"
    below.mkdir(exist_ok=True)
    cwd = {"home": deployed.user.home, "home/below": below}.get(place, Path(place))
    done = deployed.run("smallsh", "-c", "pwd", cwd=cwd)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{cwd}\n".encode(), b"")


def test_mnt_is_the_hosts(deployed: Deployed) -> None:
    listed = deployed.run("smallsh", "-c", "ls -di .", cwd=Path("/mnt")).stdout.split()[0]
    assert int(listed) == Path("/mnt").stat().st_ino


def test_environment(deployed: Deployed) -> None:
    value = "a,b'\"$(id)`id`\\ \n*é"
    own = {"APPTAINERENV_A": value, "SINGULARITYENV_B": value, "TZ": value, "LANG": "C.UTF-8", "OMP_NUM_THREADS": "2"}
    script = 'for n in A B TZ LANG OMP_NUM_THREADS SECRET SMALL; do eval "printf \'%s|\' \\"\\${$n-unset}\\""; done'
    done = deployed.run("smallsh", "-c", script, env={**own, "SECRET": "x"})
    assert done.stdout.decode() == f"{value}|{value}|{value}|C.UTF-8|2|unset|unset|"
    assert done.stderr == b""


def test_binds(deployed: Deployed, places: Path) -> None:
    (places / "data").mkdir(exist_ok=True)
    (places / "data/file").write_text("bound")
    deployed.user.give(places)
    for name in ("APPTAINER_BINDPATH", "SINGULARITY_BINDPATH"):
        done = deployed.run("smallsh", "-c", "cat /inside/file", env={name: f"{places}/data:/inside"})
        assert (done.stdout, done.stderr) == (b"bound", b"")
    done = deployed.run(
        "smallsh", "-c", "cat /inside/file", env={"neurodesk_singularity_opts": f"--bind {places}/data:/inside"}
    )
    assert (done.stdout, done.stderr) == (b"bound", b"")


@pytest.mark.parametrize("name", ["scratch", "a b", "a,b", "a:b"])
def test_tmpdir_for_real(name: str, deployed: Deployed, places: Path) -> None:
    directory = places / "tmpdirs" / name
    directory.mkdir(parents=True, exist_ok=True)
    deployed.user.give(places)
    script = 'printf %s "$TMPDIR"; echo x >"$TMPDIR/made by tool"'
    done = deployed.run("smallsh", "-c", script, env={"TMPDIR": str(directory)})
    assert (done.returncode, done.stdout, done.stderr) == (0, str(directory).encode(), b"")
    assert (directory / "made by tool").read_text() == "x\n"


def test_xauthority_is_read_only(deployed: Deployed, places: Path) -> None:
    cookie = places / "cook,ie"
    cookie.write_text("key")
    deployed.user.give(places)
    script = 'cat "$XAUTHORITY"; { echo x >"$XAUTHORITY"; } 2>/dev/null || echo " refused"'
    done = deployed.run("smallsh", "-c", script, env={"XAUTHORITY": str(cookie)})
    assert (done.stdout, done.stderr) == (b"key refused\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_end_it_as_they_end_the_bare_runtime(number: signal.Signals, deployed: Deployed) -> None:
    codes = []
    for argv in (
        [deployed.tool("smallsh"), "-c", "echo ready; exec sleep 60"],
        ["apptainer", "--silent", "exec", "--cleanenv", str(deployed.image), "sh", "-c", "echo ready; exec sleep 60"],
    ):
        with subprocess.Popen(
            deployed.user.command(argv), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=deployed.user.home
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(0.1)
            process.send_signal(number)
            codes.append(process.wait(timeout=30))
    assert codes[0] == codes[1]
    assert codes[0] != 0


def test_the_tool_can_handle_a_signal(deployed: Deployed) -> None:
    argv = [deployed.tool("smallsh"), "-c", 'trap "echo caught; exit 9" TERM; echo ready; while :; do sleep 0.05; done']
    with subprocess.Popen(deployed.user.command(argv), stdout=subprocess.PIPE, cwd=deployed.user.home) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.terminate()
        assert process.stdout.read() == b"caught\n"
        assert process.wait(timeout=30) == 9


def test_the_root_may_be_moved_and_linked(deployed: Deployed) -> None:
    moved = deployed.root.rename(deployed.root.with_name(f"moved, {deployed.image_format}"))
    link = deployed.root.with_name("a link")
    link.symlink_to(moved)
    try:
        for root in (moved, link):
            done = deployed.user.run([f"{root}/containers/{RELEASE.id}/bin/smallhello", "you"])
            assert (done.returncode, done.stdout, done.stderr) == (0, b"hello you\n", b"")
    finally:
        link.unlink()
        moved.rename(deployed.root)


def test_as_whoever_runs_the_tests(deployed: Deployed) -> None:
    """As root without all capabilities the bare runtime refuses; the wrapper works."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("APPTAINER", "SINGULARITY"))}
    done = subprocess.run([deployed.tool("smallhello"), "me"], capture_output=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello me\n", b"")
