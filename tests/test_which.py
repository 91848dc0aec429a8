"""which and run: what the releases of this host give, without manifest, store or network."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neurocommand import indexing
from neurocommand.layout import Root
from neurocommand.model import Notice, Release
from neurocommand.render.wrapper import tombstone
from tests.test_indexing import deploy, later
from tests.world import Completed

NEW = Release("fsl", "6.0.10", "20250601")
LATE = Release("fsl", "6.0.9", "20260101")
BAD = Release("fsl", "7.0", "20260201")
AFNI = Release("afni", "26.0", "20260301")


class Host:
    """A prefix and a shared root, and a configuration of which everything else is out of reach."""

    def __init__(self, path: Path, address: str) -> None:
        self.path, self.prefix, self.root = path, Root(path / "prefix"), Root(path / "root")
        (path / "own.yaml").write_text(
            f"manifest: {address}\nstate: state\nstores: [{{name: web, kind: http, url: '{address}'}}]\n"
            f"install: {{prefix: prefix}}\npublish: {{root: root}}\n"
        )

    def run(self, *words: str) -> Completed:
        argv = [sys.executable, "-m", "neurocommand", "--config", "own.yaml", *words]
        done = subprocess.run(
            argv, cwd=self.path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "a bug in neurocommand" not in done.stderr, done.stderr
        return Completed(done.returncode, done.stdout, done.stderr)

    def values(self, *words: str) -> Any:
        done = self.run("which", "--json", *words)
        assert (done.code, done.err) == (0, "")
        return json.loads(done.out)

    def ids(self, *words: str) -> list[str]:
        return [value["id"] for value in self.values(*words)]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        made = Host(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}/apps.json")
        deploy(made.prefix, NEW, "bet", "bet2", "flirt")
        deploy(made.root, NEW, "bet", "bet2", "flirt")
        deploy(made.root, LATE, "bet", "eddy")
        deploy(made.root, BAD, "bet", "melodic", withdrawn=Notice("wrong results.", LATE, "2026-02-10"))
        deploy(made.root, AFNI, "3dcalc", "bet")
        for root in (made.prefix, made.root):
            indexing.renew(root, None)
        yield made
        with pytest.raises(BlockingIOError):
            silent.accept()


def test_the_default_version_comes_first_then_the_newest(host: Host) -> None:
    assert host.ids("bet") == [AFNI.id, NEW.id, LATE.id]
    assert host.ids("eddy") == [LATE.id]
    defaults = {value["id"]: value["default"] for value in host.values("bet")}
    assert defaults == {AFNI.id: True, NEW.id: True, LATE.id: False}


def test_everything_is_told_of_a_release(host: Host) -> None:
    assert host.values("flirt") == [
        {
            "command": "flirt",
            "application": "fsl",
            "version": "6.0.10",
            "build_date": "20250601",
            "id": NEW.id,
            "root": str(host.prefix.path),
            "path": str(host.prefix.release(NEW).wrappers / "flirt"),
            "default": True,
            "withdrawn": None,
        }
    ]
    place = host.prefix.release(NEW).wrappers
    assert host.run("which", "flirt").out == f"flirt  fsl/6.0.10  {NEW.id}  {place}/flirt  default\n"


def test_all_shows_second_copies_and_what_is_withdrawn(host: Host) -> None:
    assert host.ids("bet", "--all") == [AFNI.id, NEW.id, NEW.id, LATE.id, BAD.id]
    roots = [value["root"] for value in host.values("bet", "--all") if value["id"] == NEW.id]
    assert roots == [str(host.prefix.path), str(host.root.path)]
    last = host.values("bet", "--all")[-1]["withdrawn"]
    assert last == {"reason": "wrong results.", "successor": LATE.id, "since": "2026-02-10"}


def test_what_only_a_withdrawn_release_gives_is_shown_as_such(host: Host) -> None:
    assert host.ids("melodic") == [BAD.id]
    shown = host.run("which", "melodic").out
    assert shown.endswith("/melodic  withdrawn since 2026-02-10: wrong results; use fsl/6.0.9 instead\n")


def test_patterns(host: Host) -> None:
    found = [(value["command"], value["id"]) for value in host.values("bet*")]
    assert found == [("bet", AFNI.id), ("bet", NEW.id), ("bet", LATE.id), ("bet2", NEW.id)]
    assert {value["command"] for value in host.values("[0-9]*")} == {"3dcalc"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("be", "did you mean bet"),
        ("BET", "did you mean bet"),
        ("flrit", "did you mean flirt"),
        ("q", "neurocommand list"),
    ],
)
def test_an_unknown_command(host: Host, name: str, hint: str) -> None:
    done = host.run("which", name)
    assert (done.code, done.out) == (1, "")
    assert f"error: {name}: no release" in done.err
    assert hint in done.err
    as_json = host.run("which", name, "--json")
    assert (as_json.code, json.loads(as_json.out)["exit_code"]) == (1, 1)
    assert hint in json.loads(as_json.out)["next"]


def test_a_hostile_word_is_shown_safely(host: Host) -> None:
    done = host.run("which", "\x1b[31m" + "x" * 500)
    assert done.code == 1
    assert "\x1b" not in done.err


def test_one_more_root(host: Host) -> None:
    other = Root(host.path / "other")
    deploy(other, Release("tool", "1.0", "20260101"), "othertool")
    indexing.renew(other, None)
    assert host.run("which", "othertool").code == 1
    assert host.ids("othertool", "--root", "other") == ["tool_1.0_20260101"]
    assert host.ids("flirt", "--root", "nowhere") == [NEW.id]


def test_records_answer_where_the_index_does_not(host: Host) -> None:
    host.prefix.index.unlink()
    host.root.index.write_text(host.root.index.read_text()[:-2])
    done = host.run("which", "bet", "--json")
    assert [value["id"] for value in json.loads(done.out)] == [AFNI.id, NEW.id, LATE.id]
    assert f"{host.prefix.index} is missing" in done.err
    assert f"{host.root.index} is damaged" in done.err
    assert "next: " in done.err
    indexing.renew(host.prefix, None)
    indexing.renew(host.root, None)
    deploy(host.root, AFNI, "3dcalc", "newtool")
    later(host.root.release(AFNI).record)
    done = host.run("which", "newtool")
    assert (done.code, "is older than what is deployed" in done.err) == (0, True)


def test_nothing_deployed_is_no_damage(tmp_path: Path) -> None:
    empty = Host(tmp_path, "http://127.0.0.1:9/apps.json")
    done = empty.run("which", "bet")
    assert done.code == 1
    assert "warning" not in done.err


def test_the_answer_takes_one_file_and_not_every_record(host: Host) -> None:
    """Records that say nothing any more, of the same time as before: whoever read one would see it."""
    for number in range(20):
        deploy(host.root, Release(f"app{number}", "1.0", "20260101"), f"tool{number}x7")
    indexing.renew(host.root, None)
    for path in host.root.containers.glob("*/record.json"):
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        path.write_text("nothing")
        os.utime(path, ns=times)
    assert host.ids("tool2x7") == ["app2_1.0_20260101"]


# --- run ------------------------------------------------------------------------------------------------------------


def wrap(root: Root, release: Release, name: str, text: str) -> None:
    path = root.release(release).wrappers / name
    path.write_text(f"#!/bin/sh\nnc_command={name}\n{text}")
    path.chmod(0o755)


@pytest.fixture
def runnable(host: Host) -> Host:
    wrap(host.root, LATE, "bet", "echo late\n")
    wrap(host.root, BAD, "bet", tombstone(BAD, Notice("wrong results.", LATE, "2026-02-10")))
    for root in (host.prefix, host.root):
        wrap(root, NEW, "bet", "echo new\n")
    return host


def test_a_withdrawn_release_is_passed_over(runnable: Host) -> None:
    assert runnable.run("run", "fsl", "bet").out == "new\n"
    assert runnable.run("run", "fsl/6.0.9", "bet").out == "late\n"


@pytest.mark.parametrize("named", ["fsl/7.0", BAD.id])
def test_a_withdrawn_release_that_is_named_says_so_itself(runnable: Host, named: str) -> None:
    done = runnable.run("run", named, "bet")
    assert (done.code, done.out) == (69, "")
    assert done.err == f"bet: {BAD.id} is withdrawn since 2026-02-10: wrong results; use fsl/6.0.9 instead\n"


def test_where_only_withdrawn_ones_are_left_the_wrapper_says_so(runnable: Host) -> None:
    for root, release in ((runnable.prefix, NEW), (runnable.root, NEW), (runnable.root, LATE)):
        root.release(release).record.unlink()
    assert runnable.run("run", "fsl", "bet").code == 69


def test_another_build_of_a_version_counts_before_a_withdrawn_one(runnable: Host) -> None:
    rebuilt = Release("fsl", "6.0.9", "20260601")
    deploy(runnable.root, rebuilt, "bet", withdrawn=Notice("faulty"))
    assert runnable.run("run", "fsl/6.0.9", "bet").out == "late\n"


def test_a_copy_that_is_not_withdrawn_counts_first(runnable: Host) -> None:
    deploy(runnable.prefix, NEW, "bet", withdrawn=Notice("faulty"))
    assert runnable.run("run", "fsl", "bet").out == "new\n"
