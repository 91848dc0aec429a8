"""The benchmarks: each runs, and ends with what a machine can read; what they measure is nobody's promise here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"
SHARED = ("images", "measure", "server", "users", "worlds")
BENCHMARKS = sorted(path.stem for path in BENCH.glob("*.py") if path.stem not in SHARED)


def run(name: str, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "NEUROCOMMAND_TEST_DATA"}
    argv = [sys.executable, str(BENCH / f"{name}.py"), *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", BENCHMARKS)
def test_help(name: str) -> None:
    assert "--runs" in run(name, "--help")


@pytest.mark.parametrize(
    ("name", "arguments", "compared"),
    [
        ("check", ["--releases", "200"], True),
        ("plan", ["--releases", "200"], False),
        ("noop", ["--releases", "20"], True),
        ("deploy", ["--size", "3"], True),
        ("download", ["--size", "20"], True),
        ("upload", ["--size", "20"], True),
        ("modules", ["--releases", "20", "--commands", "5"], True),
    ],
)
def test_the_last_line(name: str, arguments: list[str], compared: bool, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for_people, last = run(name, "--runs", "1", *arguments).rstrip("\n").rsplit("\n", 1)
    result = json.loads(last)
    assert list(result) == ["name", "value", "unit", "baseline", "speedup"]
    assert (result["name"], result["unit"]) == (name, "s")
    assert result["value"] > 0
    if compared:
        assert result["speedup"] == pytest.approx(result["baseline"] / result["value"], rel=0.01)
    else:
        assert result["baseline"] is result["speedup"] is None
    assert for_people.startswith(f"{name}: ") or f"\n{name}: " in for_people
    assert "[target" in for_people or name == "deploy"
    assert [path.name for path in tmp_path.iterdir() if "cache" not in path.name] == []
