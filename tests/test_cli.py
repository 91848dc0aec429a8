"""The command line as a process: its streams, its messages, and the ways in which a run ends badly."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from neurocommand.runlock import RunLock
from tests.servers import refused_url
from tests.world import World

ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, "-m", "neurocommand"]


def run(words: Sequence[str], cwd: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command; by default with both streams collected."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    return subprocess.run(
        [*PROGRAM, *words], cwd=cwd, env=env, stdin=subprocess.DEVNULL, text=True, timeout=120, check=False, **options
    )


def in_shell(text: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which ``nc`` is the command."""
    line = f'nc() {{ {sys.executable} -m neurocommand "$@"; }}\n{text}'
    return subprocess.run(
        ["bash", "-c", line],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


class Gone:
    """The writing end of a pipe that nobody reads."""

    def __enter__(self) -> int:
        reading, self.writing = os.pipe()
        os.close(reading)
        return self.writing

    def __exit__(self, *_: object) -> None:
        os.close(self.writing)


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [["list"], ["list", "--json"], ["--help"], ["list", "--help"], ["show", "niimath"]])
def test_a_reader_that_went_away_is_no_failure(words: list[str], tmp_path: Path) -> None:
    with Gone() as pipe:
        done = run(words, tmp_path, stdout=pipe)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_failure_keeps_its_code_when_nobody_reads(tmp_path: Path) -> None:
    with Gone() as pipe:
        assert (
            run(["show", "nothing"], tmp_path, stdout=pipe, stderr=pipe).returncode
            == run(["show", "nothing"], tmp_path).returncode
            != 0
        )


def test_an_output_that_cannot_be_written_is_a_failure_that_is_said(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="ascii") as full:
        done = run(["list"], tmp_path, stdout=full)
    assert (done.returncode, done.stderr) == (
        1,
        "error: this machine: No space left on device\n  next: free some space, or name another place\n",
    )


@pytest.mark.parametrize("words", [["--help"], ["list"]])
def test_letters_that_a_terminal_lacks_are_no_failure(words: list[str], tmp_path: Path) -> None:
    assert run(words, tmp_path, env={"PYTHONIOENCODING": "ascii"}).returncode == 0


# What no code expects: a library that is not there.
BUG = """
import sys, tempfile
from neurocommand import cli
tempfile.tempdir = sys.argv.pop(1)
sys.modules["yaml"] = None
cli.main()
"""


@pytest.mark.parametrize("place", ["there", "nowhere"])
def test_a_bug_is_told_apart_and_its_trace_is_kept(place: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    argv = [sys.executable, "-c", BUG, str(tmp_path / place), "list", "\x1b\udcff", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == json.loads(done.stdout)["exit_code"] == 1
    assert "error: a bug in neurocommand: ModuleNotFoundError" in done.stderr
    saved = [path.read_text() for path in (tmp_path / "there").iterdir()]
    assert "Traceback" in "".join([*saved, done.stderr])
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("closing", ["2>&-", ">&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_failure(closing: str, tmp_path: Path) -> None:
    done = in_shell(f"nc list {closing}", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("stderr", ["closed", "full", "unread"])
def test_work_goes_on_when_its_messages_cannot_be_shown(stderr: str, world: World) -> None:
    how = {"closed": "2>&-", "full": "2>/dev/full", "unread": "2>&1 | head -1"}[stderr]
    done = in_shell(f"set -o pipefail; nc --config {world.config} sync {how}", world.path)
    assert done.returncode == 0, done.stdout
    assert world.deployed("small 1.0").is_dir()
    assert world.run("sync").out == "nothing to do\n"


def test_a_log_that_cannot_be_written_ends_without_the_work(world: World) -> None:
    done = world.run("--log-file", "/dev/full", "sync")
    assert done.code == 0, done.err
    assert done.err.count("/dev/full: the log ends here: No space left on device") == 1
    assert world.deployed("small 1.0").is_dir()


def test_a_log_that_cannot_be_begun_is_refused_at_once(tmp_path: Path) -> None:
    done = run(["--log-file", "nowhere/log", "list"], tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nowhere/log: cannot be written: No such file" in done.stderr


def logged(world: World, *words: str, code: int) -> tuple[str, str]:
    """Run a verb with -q and a log; return the log's messages without their times, and what was shown."""
    log = world.path / "log"
    done = world.run("-q", "--log-file", str(log), *words)
    assert done.code == code, done.err
    lines = log.read_text().splitlines()
    log.unlink()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ", line) for line in lines)
    return "".join(line.partition(" ")[2] + "\n" for line in lines), done.out + done.err


def test_the_log_has_all_that_a_person_is_shown_and_more(world: World) -> None:
    assert "convert  small_1.0_20260101: " in logged(world, "sync", "--dry-run", code=0)[0]
    assert "small_1.0_20260101: deploy: done: " in logged(world, "sync", code=0)[0]
    (world.path / "store/small_1.0_20260101.simg").unlink()
    shutil.rmtree(world.root)
    text, shown = logged(world, "sync", code=1)
    assert "problem  small_1.0_20260101: lost: " in text
    assert "1 problem" in text
    assert all(line in text for line in shown.splitlines())
    assert "1 problem\n" in logged(world, "sync", "--json", code=1)[0]
    assert "lost: " in logged(world, "status", code=1)[0]


def test_the_log_has_how_a_run_ended_badly(world: World) -> None:
    assert logged(world, "install", "smal", code=2)[0] == (
        "error: smal: no such release in the manifest\n  next: did you mean small?\n"
    )
    assert logged(world, "sync", "--frob", code=2)[0].startswith("error: No such option")
    (world.path / "apps.json").write_text("{")
    assert "error: " in logged(world, "sync", code=1)[0]
    with RunLock(world.path / "state/lock"):
        world.declare("small 1.0")
        assert "the run lock is held by" in logged(world, "sync", code=75)[0]


# --- messages ---------------------------------------------------------------------------------------------------------


def test_what_is_shown_is_not_obeyed_by_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[2Jb.json").write_text("{}")
    for words in (["check", "a\x1b[2Jb.json"], ["check", "\x1b[2J.json"], ["--config", "\x1b[2J", "list"]):
        done = run(words, tmp_path)
        assert "\x1b" not in done.stderr + done.stdout
    assert "\\x1b[2J" in done.stderr
    log = tmp_path / "log"
    run(["--log-file", str(log), "list"], tmp_path)
    assert "\x1b" not in log.read_text()


def test_a_password_in_the_manifests_address_is_not_shown(tmp_path: Path) -> None:
    address = refused_url().replace("http://", "http://user:s3cret@") + "/apps.json"
    (tmp_path / "neurocommand.yaml").write_text(f"manifest: {address}\nstate: state\n")
    for words in (["list"], ["check"], ["check", "--json"], ["status"]):
        done = run(words, tmp_path)
        assert done.returncode == 1
        assert "s3cret" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["--config", "none.yaml", "list", "--json"], 2, "No such file"),
        (["show", "nothing", "--json"], 2, "nothing"),
        (["--log-file", "nowhere/log", "list", "--json"], 2, "nowhere/log"),
    ],
)
def test_with_json_an_error_is_json_too(words: list[str], code: int, error: str, tmp_path: Path) -> None:
    done = run(words, tmp_path)
    values = json.loads(done.stdout)
    assert set(values) == {"error", "next", "exit_code"}
    assert values["exit_code"] == done.returncode == code
    assert error in values["error"]
    assert done.stderr.startswith("error: ")


def test_the_words_of_another_program_ask_for_nothing(tmp_path: Path) -> None:
    done = run(["run", "niimath", "niimath", "--json"], tmp_path)
    assert (done.returncode, done.stdout) == (127, "")


def test_a_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    done = in_shell("mkdir gone; cd gone; rmdir ../gone; nc list", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: the current directory does not exist any more\n  next: go to another one: cd\n"


def test_a_user_without_a_home_is_told_to_set_one(request: pytest.FixtureRequest) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to be a user without an entry in passwd")
    # may read everything, since this checkout and its Python may be closed to others
    capability = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    nobody = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups", *capability, "env", "-u", "HOME"]
    nobody.append(f"PYTHONPATH={ROOT}")
    # click asks access(2) itself, which no capability answers
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    request.addfinalizer(lambda: shutil.rmtree(place))
    manifest = shutil.copy(ROOT / "apps.json", place)

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [*nobody, *PROGRAM, *words]
        return subprocess.run(argv, cwd="/", capture_output=True, text=True, timeout=60, check=False)

    assert ask("check", manifest).returncode == 0
    assert ask("list", "--manifest", manifest).returncode == 0
    assert ask("list").returncode == 0
    assert ask("install", "niimath", "--dry-run", "--prefix", str(place / "prefix")).returncode == 0
    for words in (["install", "niimath"], ["sync", "niimath"], ["remove", "niimath"]):
        done = ask(*words)
        assert done.returncode != 0
        assert re.search("home directory is not known.*\n  next: set HOME", done.stderr), done.stderr


# --- run --------------------------------------------------------------------------------------------------------------


def test_a_wrapper_that_cannot_be_started(synced: World) -> None:
    wrapper = synced.deployed("small 1.0") / "bin/smallhello"
    wrapper.chmod(0o644)
    done = synced.run("run", "small", "smallhello")
    assert (done.code, done.out) == (126, "")
    assert "Permission denied" in done.err
    assert "--rewrap" in done.err
    wrapper.unlink()
    assert synced.run("run", "small", "smallhello").code == 126


def test_a_record_that_is_damaged_or_cannot_be_reached_is_said(synced: World) -> None:
    (synced.deployed("small 1.0") / "record.json").write_text("{")
    done = synced.run("run", "small", "smallhello")
    assert done.code == 126
    assert "record" in done.err
    containers = synced.root / "containers"
    containers.rename(synced.root / "kept")
    containers.symlink_to("containers")  # a link in a circle: nobody, not even root, gets through
    done = synced.run("run", "small", "smallhello")
    assert done.code == 126
    assert "Too many levels of symbolic links" in done.err
    containers.unlink()
    assert synced.run("run", "small", "smallhello").code == 127


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "--root", ""], "no directory is named"),
        (["list", "--json", "--format", "log"], "--json and --format log"),
        (["list", "--manifest", "loop/apps.json"], "Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = run(words, tmp_path)
    assert done.returncode == 2
    assert message in done.stderr


def closed(path: Path) -> None:
    """Make a path that nobody, not even root, can look into."""
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(path.name)


def test_what_the_machine_refuses_has_a_next_step(world: World) -> None:
    closed(world.path / "apps.lock.json")
    done = world.run("plan")
    assert (done.code, "apps.lock.json: cannot be read: " in done.err) == (1, True), done.err
    assert "next: mend its symbolic links" in done.err
    (world.path / "apps.lock.json").unlink()
    world.root.mkdir()
    (world.root / "containers").write_text("")
    done = world.run("plan")
    assert "root/containers: Not a directory\n  next: something else stands in its place" in done.err
    (world.root / "containers").unlink()
    closed(world.spool)
    assert "next: " in world.run("convert").err


def test_a_registry_that_cannot_tell_and_none_at_all_have_a_next_step(world: World) -> None:
    text = world.config.read_text()
    world.config.write_text(text.replace(world.registry, refused_url().removeprefix("http://")))
    done = world.run("convert")
    assert "cannot tell" in done.err
    assert "next: check the network and `registries:`" in done.err
    world.config.write_text(re.sub(r"registries: .*", "registries: []", text))
    done = world.run("convert")
    assert "no registry is configured to ask for its image\n  next: name one in `registries:`" in done.err


@pytest.fixture
def two_versions(world: World) -> World:
    """A world where small 1.0 and 1.1 are installed, in the prefix."""
    world.declare("small 1.0", "small 1.1")
    assert world.run("convert").code == 0
    assert world.run("upload").code == 0
    assert world.run("install", "small/1.0", "small/1.1").code == 0
    return world


def test_run_asks_nobody_but_what_is_deployed(two_versions: World) -> None:
    world = two_versions
    (world.path / "apps.json").write_text("{")
    (world.path / "apps.lock.json").write_text("{")
    for argument, version in (("small", "1.1"), ("small/1.0", "1.0"), ("small_1.1_20260101", "1.1")):
        done = world.run("run", argument, "smallsh", "-c", "cat /opt/small/version")
        assert (done.code, done.out, done.err) == (0, f"small {version}", "")
    world.config.write_text(world.config.read_text().replace("apps.json", refused_url() + "/apps.json"))
    done = world.run("run", "small", "smallexit", "7")
    assert (done.code, done.out, done.err) == (7, "", "")


@pytest.mark.parametrize(
    ("argument", "hint"), [("small/9", "did you mean small/1.1, small/1.0?"), ("smal", "did you mean small?")]
)
def test_run_names_what_is_deployed_instead(two_versions: World, argument: str, hint: str) -> None:
    done = two_versions.run("run", argument, "smallhello")
    assert done.code == 127
    assert hint in done.err


def test_run_takes_the_highest_version_that_has_a_record(two_versions: World) -> None:
    (two_versions.path / "prefix/containers/small_1.1_20260101/record.json").unlink()
    assert two_versions.run("run", "small", "smallsh", "-c", "cat /opt/small/version").out == "small 1.0"


def test_an_installed_release_that_the_manifest_lists_no_more_is_shown(two_versions: World) -> None:
    two_versions.declare("small 1.0")
    done = two_versions.run("show", "small/1.1")
    assert done.code == 0, done.err
    assert "not in the manifest" in done.out
    assert f"{two_versions.path}/prefix: deployed" in done.out
    values = two_versions.outcomes("show", "small/1.1")
    assert (values["label"], values["categories"]) == (None, ["body"])
    assert "smallhello" in values["commands"]
    assert two_versions.run("show", "small/9").code == 2
