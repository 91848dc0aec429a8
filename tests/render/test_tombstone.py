"""Wrappers of withdrawn releases: whatever the notice says, the shell only prints it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocommand.model import Notice, Release
from neurocommand.render.wrapper import tombstone, wrapper

RELEASE = Release("tool", "1.0", "20260102")


@settings(max_examples=40)
@given(st.text("'\"\\$`\n!*~ ab-@", max_size=20) | st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_a_reason_is_printed_as_it_is(text: str) -> None:
    script = "nc_command=x; " + tombstone(RELEASE, Notice(text, since="2026-01-31"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
    expected = f"x: {RELEASE} is withdrawn since 2026-01-31: {text.rstrip('.')}\n"
    assert (done.returncode, done.stdout, done.stderr.decode()) == (69, b"", expected)


@pytest.mark.parametrize("shell", ["dash", "bash"])
@pytest.mark.parametrize("command", ["bet", "@run", "a.b-c+d"])
def test_a_command_says_why(shell: str, command: str, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / command).write_text(wrapper(RELEASE, command))
    (tmp_path / "wrapper.sh").write_text(tombstone(RELEASE, Notice("it's $(id) `id` %s \\n")))
    argv = [shell, tmp_path / "bin" / command, "argument"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr == f"{command}: tool_1.0_20260102 is withdrawn: it's $(id) `id` %s \\n\n"
