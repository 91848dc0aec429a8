"""install, module, remove and run, as a person without root uses them: the real Apptainer, the real Lmod."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import servers
from tests.users import User
from tests.world import World, listing, sha256

SMALL = "small 1.0"
REPOSITORY = Path(__file__).parent.parent.parent
ARGUMENTS = ["a b", "'", '"', "*", "", "x\ny", "é漢", "$(id)", "`id`", "\\", "-rf", "--", "a\tb", "~"]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory, ordinary_user: User) -> list[str]:
    """Give neurocommand as an ordinary user has it: a wheel, installed where that user may read."""
    home = ordinary_user.home / "program"
    wheels = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    source = tmp_path_factory.mktemp("source") / "neurocommand"
    shutil.copytree(REPOSITORY, source, symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info"))
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(wheels), str(source)], check=True, capture_output=True)
    (wheel,) = wheels.glob("*.whl")
    home.mkdir()
    interpreter = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    subprocess.run([interpreter, "-m", "venv", str(home)], check=True, capture_output=True)
    subprocess.run(
        [str(home / "bin/pip"), "install", "-q", "--no-compile", "--disable-pip-version-check", str(wheel)],
        check=True,
        capture_output=True,
    )
    return [str(home / "bin/neurocommand")]


@pytest.fixture
def installed(open_world: World, ordinary_user: User, program: list[str]) -> Path:
    """Give the prefix into which the ordinary user installed small 1.0 from a store."""
    world = open_world
    assert world.run("sync").code == 0
    shutil.rmtree(world.root)
    prefix = ordinary_user.home / "pre fix"
    shutil.rmtree(prefix, ignore_errors=True)
    done = ordinary_user.run(
        [*program, "--config", str(world.config), "install", "small", "--prefix", str(prefix)], env={"LANG": "C.UTF-8"}
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().splitlines()[-1] == f"module use '{prefix}/modules'"
    return prefix


def shell(user: User, prefix: Path, script: str, *words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a script in a fresh login shell after ``module use`` and ``ml``."""
    start = f"module use '{prefix}/modules'; ml small; {script}"
    done: subprocess.CompletedProcess[bytes] = user.run(["bash", "-lc", start, "bash", *words], **options)
    return done


def test_arguments_directory_streams_and_exit_codes_pass_unchanged(installed: Path, ordinary_user: User) -> None:
    place = ordinary_user.home / "a dir with 'spaces' and \"quotes\""
    place.mkdir(exist_ok=True)
    ordinary_user.give(place)
    done = shell(ordinary_user, installed, 'smallargs "$@"', *ARGUMENTS, cwd=place, env={"LANG": "C.UTF-8"})
    assert done.stdout.decode() == "".join(f"<{argument}>\n" for argument in ARGUMENTS)
    assert done.stderr == b""
    assert shell(ordinary_user, installed, "smallsh -c pwd", cwd=place).stdout.decode() == f"{place}\n"
    for code in (0, 1, 42, 126, 255):
        assert shell(ordinary_user, installed, f"smallexit {code}").returncode == code
    split = shell(ordinary_user, installed, "smallsh -c 'cat; echo error >&2'", input=b"in\0put\n", stdin=None)
    assert (split.stdout, split.stderr) == (b"in\0put\n", b"error\n")


def test_the_module_shows_commands_variables_and_help(installed: Path, ordinary_user: User) -> None:
    done = shell(
        ordinary_user, installed, "which smallhello; echo $SMALLMODE; module help small; ml -small; which smallhello"
    )
    text = done.stdout.decode() + done.stderr.decode()
    assert f"{installed}/containers/small_1.0_20260101/bin/smallhello" in text
    assert "quiet" in text
    assert "A small tool that says hello." in text
    assert done.returncode == 1, "after unloading the command is gone"


def test_programs_find_the_command_as_a_file(installed: Path, ordinary_user: User) -> None:
    script = "import shutil,subprocess; print(shutil.which('smallexit')); print(subprocess.call(['smallexit','3']))"
    done = shell(ordinary_user, installed, f'python3 -c "{script}"')
    assert done.stdout.decode().splitlines() == [f"{installed}/containers/small_1.0_20260101/bin/smallexit", "3"]


def test_a_second_install_does_nothing_and_a_removal_leaves_nothing(
    installed: Path, ordinary_user: User, open_world: World, program: list[str]
) -> None:
    verb = [*program, "--config", str(open_world.config)]
    options = ["--prefix", str(installed)]
    again = ordinary_user.run([*verb, "install", "small", *options])
    assert again.stdout.decode().splitlines()[0] == "nothing to do"
    renewed = ordinary_user.run([*verb, "install", "small", "--rewrap", "--json", *options])
    outcomes = json.loads(renewed.stdout)["outcomes"]
    assert [(outcome["action"], outcome["outcome"]) for outcome in outcomes] == [("rewrap", "done")]
    removed = ordinary_user.run([*verb, "remove", "small", *options])
    assert removed.returncode == 0, removed.stderr
    left = [name for name in listing(installed) if not name.startswith(".neurocommand")]
    assert left == ["containers", "containers/modules", "modules", "modules-tcl", "neurodesk-modules"]
    assert ordinary_user.run([*verb, "remove", "small", *options]).returncode == 2


def test_run_needs_no_module(installed: Path, ordinary_user: User, open_world: World, program: list[str]) -> None:
    verb = [*program, "--config", str(open_world.config), "run", "small"]
    environment = {"NEUROCOMMAND_PREFIX": str(installed), "LANG": "C.UTF-8"}
    done = ordinary_user.run([*verb, "smallargs", "--help", "-x", "a b"], env=environment)
    assert done.stdout.decode() == "<--help>\n<-x>\n<a b>\n", done.stderr
    assert ordinary_user.run([*verb, "--", "smallexit", "9"], env=environment).returncode == 9
    missing = ordinary_user.run([*verb, "nothing"], env=environment)
    assert missing.returncode == 127
    assert b"it has: smallargs" in missing.stderr


def test_a_tree_install_sets_variables_to_host_paths(world: World) -> None:
    assert world.run("sync").code == 0
    assert world.run("install", "small", "--format", "tree").code == 0
    text = (world.path / "prefix/modules/small/1.0.lua").read_text()
    assert "SMALLDIR" in text
    assert (world.path / "prefix/containers/small_1.0_20260101/small_1.0_20260101.simg/opt/small").is_dir()
    back = world.outcomes("install", "small", "--format", "sif")
    assert [o["reason"] for o in back["outcomes"]] == ["deployed as tree instead of sif"]


def serving(world: World, *contents: bytes) -> tuple[list[servers.WebServer], str]:
    """Start a web server per content, which serves it as small 1.0; returns them and the stores' configuration."""
    running = []
    for content in contents:
        place = world.path / f"www{len(running)}"
        place.mkdir()
        (place / "small_1.0_20260101.simg").write_bytes(content)
        running.append(servers.WebServer(servers.serve_directory(place)))
    entries = [f"{{name: w{number}, kind: http, url: '{server.url}'}}" for number, server in enumerate(running)]
    return running, f"[{', '.join(entries)}]"


@pytest.fixture
def sif(world: World) -> bytes:
    assert world.run("sync").code == 0
    content = world.object(SMALL).read_bytes()
    (world.path / "apps.lock.json").unlink()
    shutil.rmtree(world.root)
    return content


def test_an_unlocked_release_is_compared_between_its_mirrors(world: World, sif: bytes) -> None:
    running, stores = serving(world, sif, sif)
    world.configure(stores)
    with running[0], running[1]:
        refused = world.run("install", "small", "--require-lock")
        assert refused.code == 5
        assert "the lock does not know small_1.0_20260101" in refused.err
        done = world.run("install", "small")
        assert done.code == 0, done.err
        assert "unlocked" in done.err
    own = json.loads((world.path / "prefix/.neurocommand/apps.lock.json").read_text())["releases"]
    assert own["small_1.0_20260101"]["size"] == len(sif)
    installed = world.path / "prefix/containers/small_1.0_20260101/small_1.0_20260101.simg"
    assert sha256(installed) == own["small_1.0_20260101"]["sha256"]
    assert world.run("install", "small").out.splitlines()[0] == "nothing to do"


def test_two_mirrors_with_different_bytes_are_refused(world: World, sif: bytes) -> None:
    running, stores = serving(world, sif, sif[:-1] + bytes([sif[-1] ^ 1]))
    world.configure(stores)
    with running[0], running[1]:
        done = world.run("install", "small")
    assert done.code == 4
    assert "w0" in done.err
    assert "w1" in done.err
    assert not (world.path / "prefix/containers/small_1.0_20260101").exists()


def test_every_source_with_other_bytes_than_the_lock_is_exit_4_and_one_good_one_suffices(world: World) -> None:
    assert world.run("sync").code == 0
    content = world.object(SMALL).read_bytes()
    wrong = bytes(len(content))
    running, stores = serving(world, wrong, wrong, content)
    only_wrong = stores[: stores.index(", {name: w2")] + "]"
    with running[0], running[1], running[2]:
        world.configure(only_wrong)
        refused = world.run("install", "small")
        assert refused.code == 4, refused.err
        assert not (world.path / "prefix/containers/small_1.0_20260101").exists()
        world.configure(stores)
        done = world.run("install", "small")
        assert done.code == 0, done.err
        assert "w0" in done.err
        assert "w1" in done.err


def test_no_source_at_all_says_which_were_asked(world: World) -> None:
    world.configure(f"[{{name: gone, kind: http, url: '{servers.refused_url()}'}}]")
    done = world.run("install", "small")
    assert done.code == 1
    assert "gone" in done.err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("install",), 2, "name at least one release"),
        (("install", "smal"), 2, "did you mean small?"),
        (("install", "small/9"), 2, "did you mean small/1.0?"),
        (("remove",), 2, "Missing argument"),
        (("remove", "small"), 2, "not installed"),
        (("run", "small", "smallhello"), 127, "run: neurocommand install"),
        (("run", "small"), 2, "Missing argument"),
        (("show", "nothing"), 2, "see: neurocommand list"),
        (("frobnicate",), 2, "No such command"),
        (("sync", "--frob"), 2, "No such option"),
        (("list", "--manifest", "/nowhere"), 2, "does not exist"),
        (("check", "/nowhere"), 1, "cannot be read"),
        (("install", "small", "--prefix", "/proc/nowhere"), 1, "/proc/nowhere"),
    ],
)
def test_what_is_wrong_is_said_with_the_next_step(
    world: World, words: tuple[str, ...], code: int, message: str
) -> None:
    done = world.run(*words)
    assert done.code == code, done.err
    assert message in done.err


def test_publish_without_a_root_says_what_to_do(world: World) -> None:
    world.config.write_text(world.config.read_text().replace("publish: {root: root}\n", ""))
    done = world.run("publish")
    assert done.code == 2
    assert "give --root" in done.err
    assert world.run("sync").code == 0
    assert not world.root.exists()
    assert world.run("publish", "--root", str(world.path / "elsewhere")).code == 0
    assert (world.path / "elsewhere/modules/small/1.0.lua").exists()
