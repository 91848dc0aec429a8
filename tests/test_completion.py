"""Shell completion in real shells: what a person gets after the tab key."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurocommand import indexing
from neurocommand.layout import Root
from neurocommand.model import Release
from tests.test_indexing import deploy
from tests.users import User
from tests.world import World

PROGRAM = Path(sys.executable).with_name("neurocommand")
PROTOCOL = "_NEUROCOMMAND_COMPLETE"


@pytest.fixture
def env(own_home: Path) -> dict[str, str]:
    """An environment in which ``neurocommand`` is the one under test, as it would be for a user who installed it."""
    return {**os.environ, "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}", "HOME": str(own_home)}


def run(argv: list[str], env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


BASH = """
set -e
eval "$(neurocommand completion bash)"
complete -p neurocommand >/dev/null
function=$(complete -p neurocommand | sed -E 's/.*-F ([^ ]+).*/\\1/')
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
"$function" neurocommand "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def in_bash(words: list[str], env: dict[str, str], cwd: Path) -> list[str]:
    return run(["bash", "--norc", "-c", BASH, "bash", *words], env, cwd).splitlines()


def test_bash_completes_verbs_releases_and_options(env: dict[str, str], tmp_path: Path) -> None:
    assert in_bash(["neurocommand", "ch"], env, tmp_path) == ["check"]
    assert in_bash(["neurocommand", "install", "fs"], env, tmp_path) == ["fsl"]
    versions = in_bash(["neurocommand", "install", "fsl/"], env, tmp_path)
    assert versions
    assert all(version.startswith("fsl/") for version in versions)
    assert in_bash(["neurocommand", "install", "--form"], env, tmp_path) == ["--format"]
    assert in_bash(["neurocommand", "install", "--format", "s"], env, tmp_path) == ["sif"]
    assert in_bash(["neurocommand", "install", "no such release"], env, tmp_path) in ([], [""])


def completed(words: list[str], env: dict[str, str], cwd: Path) -> list[str]:
    """Return what the program offers for the last word; it prints nothing else, and asks no network."""
    asked = {**env, PROTOCOL: "bash_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
    return [line.removeprefix("plain,") for line in run([str(PROGRAM)], asked, cwd).splitlines() if line]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with a manifest of its own, and small 1.0 installed."""
    entry = {"version": "20260101", "exec": ""}
    groups = {"small": {"apps": {"small 1.0": entry, "small 1.1": entry}, "categories": []}}
    (tmp_path / "apps.json").write_text(json.dumps(groups))
    (tmp_path / "own.yaml").write_text("manifest: apps.json\nstate: state\ninstall: {prefix: prefix}\n")
    release = tmp_path / "prefix/containers/small_1.0_20260101"
    release.mkdir(parents=True)
    (release / "record.json").write_text("{}")
    (tmp_path / "prefix/containers/small_1.1_20260101").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        ("--config own.yaml install s", ["small"]),
        ("--config own.yaml install small/", ["small/1.0", "small/1.1"]),
        ("install --manifest apps.json small/", ["small/1.0", "small/1.1"]),
        ("--config broken.yaml install --manifest apps.json s", ["small"]),
        ("--config own.yaml remove small/", ["small/1.0"]),
        ("--config own.yaml run small/", ["small/1.0"]),
        ("remove --prefix prefix s", ["small"]),
        ("--config own.yaml remove --prefix elsewhere s", []),
        ("--config broken.yaml install s", []),
        ("--config nowhere.yaml run s", []),
        ("--config faulty.yaml show s", []),
        ("--config far.yaml install s", []),
    ],
)
def test_completion_obeys_its_own_command_line(
    env: dict[str, str], place: Path, words: str, candidates: list[str]
) -> None:
    (place / "broken.yaml").write_text("stores: 5\n")
    (place / "faulty.yaml").write_text("manifest: broken.yaml\n")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/apps.json"
        (place / "far.yaml").write_text(f"manifest: {address}\nstate: state\n")
        assert completed(["neurocommand", *words.split(" ")], env, place) == candidates


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory with a configuration whose manifest and stores are out of reach, and releases under two roots."""
    far = "http://127.0.0.1:9"
    (tmp_path / "own.yaml").write_text(
        f"manifest: {far}/apps.json\nstores: [{{name: web, kind: http, url: '{far}'}}]\n"
        "state: state\ninstall: {prefix: prefix}\npublish: {root: root}\n"
    )
    deploy(Root(tmp_path / "prefix"), Release("fsl", "6.0", "20260101"), "bet", "bet2", "flirt")
    deploy(Root(tmp_path / "root"), Release("fsl", "5.0", "20250101"), "bet", "feat")
    deploy(Root(tmp_path / "root"), Release("afni", "26.0", "20260101"), "3dcalc", "@auto_tlrc", "betterthis")
    for name in ("prefix", "root"):
        indexing.renew(Root(tmp_path / name), None)
    return tmp_path


COMMANDS = [
    ("which be", ["bet", "bet2", "betterthis"]),
    ("which 3", ["3dcalc"]),
    ("which @", ["@auto_tlrc"]),
    ("which nosuch", []),
    ("which --root elsewhere ot", ["othertool"]),
    ("run fsl b", ["bet", "bet2"]),
    ("run fsl/5.0 f", ["feat"]),
    ("run fsl_5.0_20250101 f", ["feat"]),
    ("run afni -- 3", ["3dcalc"]),
    ("run nosuch b", []),
    ("run fs", ["fsl"]),
]


@pytest.mark.parametrize(("words", "candidates"), COMMANDS)
def test_commands_are_completed_from_the_index(
    env: dict[str, str], host: Path, words: str, candidates: list[str]
) -> None:
    deploy(Root(host / "elsewhere"), Release("other", "1.0", "20260101"), "othertool")
    assert completed(["neurocommand", "--config", "own.yaml", *words.split(" ")], env, host) == candidates


def test_commands_are_completed_without_an_index_as_well(env: dict[str, str], host: Path) -> None:
    for name in ("prefix", "root"):
        (host / name / "commands.tsv").unlink()
    for words, candidates in (COMMANDS[0], COMMANDS[5]):
        assert completed(["neurocommand", "--config", "own.yaml", *words.split(" ")], env, host) == candidates


def test_the_words_of_a_command_are_files(env: dict[str, str], host: Path) -> None:
    words = ["neurocommand", "--config", "own.yaml", "run", "fsl", "bet", "in"]
    assert completed(words, env, host) == ["file,in"]


def test_bash_completes_commands(env: dict[str, str], host: Path) -> None:
    environment = {**env, "NEUROCOMMAND_CONFIG": str(host / "own.yaml")}
    assert in_bash(["neurocommand", "which", "be"], environment, host) == ["bet", "bet2", "betterthis"]
    assert in_bash(["neurocommand", "run", "fsl", ""], environment, host) == ["bet", "bet2", "flirt"]
    assert in_bash(["neurocommand", "run", "af"], environment, host) == ["afni"]


def test_completing_a_command_among_many_is_fast(env: dict[str, str], host: Path) -> None:
    """384 releases with 100 commands each; measured against --version, since machines may be busy."""
    for number in range(384):
        names = (f"tool{number}x{one}" for one in range(100))
        deploy(Root(host / "root"), Release(f"app{number}", "1.0", "20260101"), *names)
    indexing.renew(Root(host / "root"), None)
    asked = {**env, PROTOCOL: "bash_complete", "COMP_CWORD": "4"}
    asked["COMP_WORDS"] = "neurocommand --config own.yaml which tool200x7"
    assert run([str(PROGRAM)], asked, host).splitlines()[0] == "plain,tool200x7"
    alone = min(seconds([str(PROGRAM), "--version"], env, host) for _ in range(3))
    assert min(seconds([str(PROGRAM)], asked, host) for _ in range(3)) < 8 * alone


def test_a_followed_manifest_is_completed_from_its_copy(env: dict[str, str], place: Path) -> None:
    address = "http://127.0.0.1:9/apps.json"
    (place / "far.yaml").write_text(f"manifest: {address}\nstate: state\n")
    copy = place / "state/manifest" / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.json"
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps({"address": address, "etag": "", "text": (place / "apps.json").read_text()}))
    assert completed(["neurocommand", "--config", "far.yaml", "install", "s"], env, place) == ["small"]


def test_zsh_can_parse_the_script(env: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "_neurocommand"
    script.write_text(run([str(PROGRAM), "completion", "zsh"], env, tmp_path), encoding="utf-8")
    assert script.read_text(encoding="utf-8").startswith("#compdef neurocommand\n")
    run(["zsh", "-f", "-n", str(script)], env, tmp_path)


# compadd and _describe work inside zsh's line editor only; what the script hands to them is what is shown.
ZSH = """
autoload -Uz compinit && compinit -u -d "$HOME/.zcompdump"
eval "$(neurocommand completion zsh)"
compadd() { print -l -- "${completions[@]}" }
_describe() { print -l -- "${completions_with_descriptions[@]}" }
words=("$@") CURRENT=$#
"${_comps[neurocommand]}"
"""


def in_zsh(words: list[str], env: dict[str, str], cwd: Path) -> list[str]:
    return run(["zsh", "-f", "-c", ZSH, "zsh", *words], env, cwd).splitlines()


def test_zsh_completes_verbs_with_their_help_and_releases(env: dict[str, str], tmp_path: Path) -> None:
    (check,) = in_zsh(["neurocommand", "ch"], env, tmp_path)
    assert check.startswith("check:Check a manifest")
    assert in_zsh(["neurocommand", "install", "fs"], env, tmp_path) == ["fsl"]


def test_zsh_completes_commands(env: dict[str, str], host: Path) -> None:
    environment = {**env, "NEUROCOMMAND_CONFIG": str(host / "own.yaml")}
    assert in_zsh(["neurocommand", "which", "be"], environment, host) == ["bet", "bet2", "betterthis"]
    assert in_zsh(["neurocommand", "run", "fsl", ""], environment, host) == ["bet", "bet2", "flirt"]
    assert in_zsh(["neurocommand", "run", "af"], environment, host) == ["afni"]


# --- the commands of a module that is loaded ------------------------------------------------------------------------

LMOD = "/usr/share/lmod/lmod/init"
# zsh's own completer of commands (_command_names) offers these names
ZSH_COMMANDS = "zmodload zsh/parameter; rehash; print -l -- ${(ok)commands[(I)small*]}"


def test_commands_of_a_loaded_module_complete_as_ordinary_programs(open_world: World, ordinary_user: User) -> None:
    assert open_world.run("sync").code == 0
    for shell, names in (("bash", "compgen -c small | sort"), ("zsh", ZSH_COMMANDS)):
        script = f"source {LMOD}/{shell}; module use '{open_world.root}/modules'; {names}; echo --; ml small; {names}"
        done = ordinary_user.run([shell, *(["--norc"] if shell == "bash" else ["-f"]), "-c", script])
        before, after = done.stdout.decode().split("--\n")
        assert before.split() == [], shell
        assert after.split() == ["smallargs", "smallexit", "smallhello", "smallsh"], done.stderr


def seconds(argv: list[str], settings: dict[str, str], cwd: Path) -> float:
    began = time.monotonic()
    run(argv, settings, cwd)
    return time.monotonic() - began


def test_completing_a_release_loads_little_more_than_the_program_itself(env: dict[str, str], tmp_path: Path) -> None:
    """A person waits for it with a finger on the key. Measured against --version, since machines may be busy."""
    asked = {**env, PROTOCOL: "bash_complete", "COMP_WORDS": "neurocommand install fs", "COMP_CWORD": "2"}

    assert run([str(PROGRAM)], asked, tmp_path) == "plain,fsl\n"
    completing = min(seconds([str(PROGRAM)], asked, tmp_path) for _ in range(5))
    assert completing < 8 * min(seconds([str(PROGRAM), "--version"], env, tmp_path) for _ in range(5))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shells_are_here(shell: str) -> None:
    assert shutil.which(shell), f"{shell} is missing: ./test installs it (setup/packages.sh test)"
