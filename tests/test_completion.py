"""Shell completion in real shells: what a person gets after the tab key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def test_zsh_completes_verbs_with_their_help_and_releases(env: dict[str, str], tmp_path: Path) -> None:
    def in_zsh(*words: str) -> list[str]:
        return run(["zsh", "-f", "-c", ZSH, "zsh", *words], env, tmp_path).splitlines()

    (check,) = in_zsh("neurocommand", "ch")
    assert check.startswith("check:Check a manifest")
    assert in_zsh("neurocommand", "install", "fs") == ["fsl"]


def test_completing_a_release_loads_little_more_than_the_program_itself(env: dict[str, str], tmp_path: Path) -> None:
    """A person waits for it with a finger on the key. Measured against --version, since machines may be busy."""
    asked = {**env, PROTOCOL: "bash_complete", "COMP_WORDS": "neurocommand install fs", "COMP_CWORD": "2"}

    def seconds(argv: list[str], settings: dict[str, str]) -> float:
        began = time.monotonic()
        run(argv, settings, tmp_path)
        return time.monotonic() - began

    assert run([str(PROGRAM)], asked, tmp_path) == "plain,fsl\n"
    completing = min(seconds([str(PROGRAM)], asked) for _ in range(5))
    assert completing < 8 * min(seconds([str(PROGRAM), "--version"], env) for _ in range(5))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shells_are_here(shell: str) -> None:
    assert shutil.which(shell), f"{shell} is missing: ./test installs it (setup/packages.sh test)"
