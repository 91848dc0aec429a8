"""Work dealt out to several machines: they share stores alone, and their locks are united without loss."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.lock import Lock, render
from neurocommand.model import Artifact, Release
from tests.servers import Respond, WebServer, serve_directory
from tests.world import World, sha256

LABELS = ("small 1.0", "small 1.1", "other 2.0")


def locked(path: Path) -> set[str]:
    return set(json.loads(path.read_text())["releases"])


def test_jobs_of_a_matrix_share_the_stores_and_their_locks_unite(world: World) -> None:
    world.declare(*LABELS)
    planned = world.run("plan", "--format", "github-matrix", "--jobs", "2")
    assert planned.code == 0, planned.err
    jobs = json.loads(planned.out)["include"]
    assert len(jobs) == 2
    locks = []
    for index, job in enumerate(jobs):
        machine = World(world.path / f"machine{index}", world.registry)
        machine.path.mkdir()
        shutil.copy(world.path / "apps.json", machine.path)
        machine.configure("[{name: local, kind: directory, path: ../store}]")
        assert machine.run("sync", *job["releases"].split()).code == 0
        locks.append(str(machine.path / "apps.lock.json"))
    assert not locked(Path(locks[0])) & locked(Path(locks[1]))
    assert world.run("lock", "merge", *locks).code == 0
    assert locked(world.path / "apps.lock.json") == {world.release(label).id for label in LABELS}
    assert all(sha256(world.object(label)) == world.lock[world.release(label).id]["sha256"] for label in LABELS)
    done = world.run("sync")
    assert "0 failed" in done.out
    assert world.run("plan", "--format", "github-matrix").out == '{"include": []}\n'


def begin(world: World, script: Path, *words: str, task: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        ["bash", str(script), *words],
        text=True,
        cwd=world.path,
        env={**os.environ, "SLURM_ARRAY_TASK_ID": task},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(world: World, script: Path, *words: str, task: str = "") -> tuple[int, str]:
    process = begin(world, script, *words, task=task)
    out = process.communicate(timeout=240)[0]
    return process.returncode, out


def array(world: World, jobs: int) -> Path:
    planned = world.run("plan", "--format", "slurm", "--jobs", str(jobs))
    assert planned.code == 0, planned.err
    script = world.path / "array.sh"
    script.write_text(planned.out)
    return script


def test_the_tasks_of_a_slurm_array_do_the_work_of_one_sync(
    world: World, web_server: Callable[[Respond], WebServer]
) -> None:
    world.declare(*LABELS)
    address = f"{web_server(serve_directory(world.path)).url}/apps.json"
    world.config.write_text(world.config.read_text().replace("manifest: apps.json", f"manifest: {address}"))
    script = array(world, 2)
    tasks = [begin(world, script, task=task) for task in ("1", "2")]
    assert [(task.communicate(timeout=240)[0], task.returncode)[1] for task in tasks] == [0, 0]
    assert not world.root.exists()
    code, out = run(world, script, "merge")
    assert code == 0, out
    assert locked(world.path / "state/apps.lock.json") == {world.release(label).id for label in LABELS}
    assert all(world.deployed(label).is_dir() for label in LABELS)
    assert world.run("sync").out == "nothing to do\n"
    assert not list((world.path / "state").rglob("*.simg"))


@pytest.mark.parametrize("again", ["the same script", "a new plan"])
def test_a_task_whose_upload_fails_loses_nothing_and_goes_on_when_it_is_run_again(world: World, again: str) -> None:
    world.declare(*LABELS)
    script = array(world, 2)
    # `deal` gives the first task the first and the third release; a directory in an object's place takes no upload
    unlucky = "small 1.1"
    world.object(unlucky).mkdir(parents=True)
    tasks = [begin(world, script, task=task) for task in ("1", "2")]
    outs = [task.communicate(timeout=240)[0] for task in tasks]
    codes = [task.returncode for task in tasks]
    assert sorted(codes) == [0, 1], outs
    kept = world.path / "state/shards" / world.release(unlucky).id / "spool" / world.object(unlucky).name
    digest = sha256(kept)
    code, out = run(world, script, "merge")
    assert code == 1
    assert f"{world.release(unlucky)}: not uploaded yet" in out
    assert not (world.path / "apps.lock.json").exists()
    assert world.outcomes("plan")["problems"] == []
    world.object(unlucky).rmdir()
    if again == "a new plan":
        script = array(world, 1)
    for task in ("1", "2")[: len(codes) if again == "the same script" else 1]:
        code, out = run(world, script, task=task)
        assert code == 0, out
        assert "convert: " not in out
    code, out = run(world, script, "merge")
    assert code == 0, out
    assert sha256(world.object(unlucky)) == digest == world.lock[world.release(unlucky).id]["sha256"]
    assert world.run("sync").out == "nothing to do\n"
    assert set(world.lock) == {world.release(label).id for label in LABELS}


def test_a_run_apart_knows_what_is_locked_and_touches_no_root(world: World) -> None:
    release = world.release("small 1.0")
    (world.path / "apps.lock.json").write_text(render(Lock({release: Artifact("a" * 64, 1)})))
    before = (world.path / "apps.lock.json").read_bytes()
    planned = world.outcomes("sync", "--apart", "mine")
    assert planned["code"] == 1
    assert [problem["kind"] for problem in planned["problems"]] == ["lost"], planned
    (world.path / "mine/apps.lock.json").write_text(render(Lock({release: Artifact("b" * 64, 1)})))
    assert world.run("sync", "--apart", "mine").code == 4
    assert (world.path / "apps.lock.json").read_bytes() == before
    assert not world.root.exists()
    for words in (("--root", "elsewhere"), ("--prune",)):
        done = world.run("sync", "--apart", "mine", *words)
        assert (done.code, "--apart excludes" in done.err) == (2, True)


def test_shards_of_a_number_together_are_everything(world: World) -> None:
    world.declare(*LABELS)
    seen = [
        action["release"]
        for index in (1, 2, 3)
        for action in world.outcomes("plan", "--shard", f"{index}/3")["actions"]
        if action["action"] == "convert"
    ]
    assert sorted(seen) == sorted(world.release(label).id for label in LABELS)


@pytest.mark.parametrize("shard", ["0/2", "3/2", "x", "1/", "1", "-1/2", "1/99999"])
def test_what_is_no_shard_is_refused(world: World, shard: str) -> None:
    done = world.run("plan", "--shard", shard)
    assert done.code == 2
    assert "is no shard" in done.err


def test_locks_that_differ_are_refused_and_nothing_is_written(world: World) -> None:
    release, other = Release("small", "1.0", "20260101"), Release("other", "2.0", "20260101")
    ours = {release: Artifact("a" * 64, 1), other: Artifact("c" * 64, 1)}
    (world.path / "ours.json").write_text(render(Lock(ours)))
    (world.path / "theirs.json").write_text(render(Lock({release: Artifact("b" * 64, 1)})))
    done = world.run("lock", "merge", "ours.json", "theirs.json")
    assert done.code == 4
    assert "theirs.json: small_1.0_20260101: sha256 bbb" in done.err
    assert not (world.path / "apps.lock.json").exists()


def test_it_works_as_a_merge_driver_of_git(world: World) -> None:
    def git(*words: str, code: int = 0) -> None:
        identity = ["-c", "user.name=x", "-c", "user.email=x@y"]
        done = subprocess.run(["git", *identity, *words], cwd=world.path, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr

    def lock(*releases: str) -> None:
        artifacts = {Release.parse(name): Artifact("a" * 64, 1) for name in releases}
        (world.path / "apps.lock.json").write_text(render(Lock(artifacts)))

    driver = " ".join(world.command("lock", "merge", "--output", "%A", "%A", "%B"))
    git("init", "-q", "-b", "main")
    git("config", "merge.neurocommand-lock.driver", driver)
    (world.path / ".gitattributes").write_text("apps.lock.json merge=neurocommand-lock\n")
    lock("b_1_20260101")
    git("add", ".gitattributes", "apps.lock.json")
    git("commit", "-qm", "base")
    git("checkout", "-qb", "side")
    lock("b_1_20260101", "c_1_20260101")
    git("commit", "-qam", "side")
    git("checkout", "-q", "main")
    lock("a_1_20260101", "b_1_20260101", "d_1_20260101")
    git("commit", "-qam", "main")
    git("merge", "-q", "side", "-m", "both")
    assert locked(world.path / "apps.lock.json") == {f"{name}_1_20260101" for name in "abcd"}
