"""sync: from a manifest to a deployed release, on the real Apptainer and a real registry; and what it refuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import struct
import subprocess
import time
from pathlib import Path

import pytest

from neurocommand.image import header
from neurocommand.model import Release
from tests import images, servers
from tests.world import World, listing, sha256

SMALL = "small 1.0"


def test_the_whole_line_then_nothing_to_do(world: World) -> None:
    done = world.run("sync")
    assert done.code == 0, done.err
    assert done.out == "4 done, 0 failed, 0 skipped, 0 problems\n".replace("4", "3")
    locked = world.lock["small_1.0_20260101"]
    assert sha256(world.object(SMALL)) == locked["sha256"]
    assert world.object(SMALL).stat().st_size == locked["size"]
    record = json.loads((world.deployed(SMALL) / "record.json").read_text())
    assert record["sha256"] == locked["sha256"]
    assert sorted(os.listdir(world.deployed(SMALL) / "bin")) == record["commands"]
    assert record["commands"] == ["smallargs", "smallexit", "smallhello", "smallsh"]
    again = world.run("sync")
    assert (again.code, again.out) == (0, "nothing to do\n")
    for stage in ("convert", "upload to local", "deploy"):
        assert any(
            line.startswith(f"small_1.0_20260101: {stage}: ") and "MB in" in line for line in done.err.splitlines()
        )


def test_nothing_is_left_behind(synced: World) -> None:
    assert listing(synced.path / "state") == {
        "lock": sha256(synced.path / "state/lock"),
        "runs.jsonl": sha256(synced.path / "state/runs.jsonl"),
        "spool": "directory",
        "spool/.neurocommand-scratch": "directory",
        "status.json": sha256(synced.path / "state/status.json"),
        "unlisted.json": sha256(synced.path / "state/unlisted.json"),
    }
    assert json.loads((synced.path / "state/unlisted.json").read_text())["unlisted"] == {}
    assert [name for name in listing(synced.root / ".neurocommand") if name not in ("lock", "staging")] == []


def test_a_dry_run_writes_nothing_and_takes_no_lock(world: World) -> None:
    before = listing(world.path)
    done = world.run("sync", "--dry-run")
    assert done.code == 0
    assert done.out.splitlines()[-1] == "3 actions, 0 problems"
    planned = world.outcomes("plan")
    assert [(action["action"], action["reason"]) for action in planned["actions"]] == [
        ("convert", "not locked, and in no store"),
        ("upload", "absent"),
        ("deploy", "not deployed"),
    ]
    assert listing(world.path) == before


def test_the_stages_one_by_one(world: World) -> None:
    assert world.outcomes("convert", "small")["outcomes"][0]["outcome"] == "done"
    assert (world.spool / "small_1.0_20260101.simg").is_file()
    assert not world.object(SMALL).exists()
    blocked = world.run("publish", "small")
    assert blocked.code == 1
    assert "needs upload first" in blocked.out
    assert world.run("upload", "small").code == 0
    assert not (world.spool / "small_1.0_20260101.simg").exists()
    assert world.run("publish", "small").code == 0
    assert world.run("sync").out == "nothing to do\n"


def test_publishing_asks_no_registry(synced: World, tmp_path: Path) -> None:
    shutil.rmtree(synced.root)
    synced.registry = servers.refused_url().removeprefix("http://").rstrip("/")
    synced.configure()
    done = synced.run("publish")
    assert done.code == 0, done.err
    assert synced.deployed(SMALL).is_dir()


def test_one_failure_does_not_stop_the_others(world: World) -> None:
    world.declare(SMALL, "missing 3.0", "other 2.0")
    done = world.run("sync")
    assert done.code == 1
    assert done.out == "6 done, 1 failed, 2 skipped, 0 problems\n"
    assert "no registry has its image" in done.err
    assert world.deployed("other 2.0").is_dir()
    again = world.outcomes("sync")
    assert {outcome["release"] for outcome in again["outcomes"]} == {"missing_3.0_20260101"}


def test_a_registry_that_cannot_tell_is_not_taken_for_a_no(world: World) -> None:
    world.registry = servers.refused_url().removeprefix("http://").rstrip("/")
    world.configure()
    done = world.run("sync")
    assert done.code == 1
    assert "cannot tell" in done.err
    assert not (world.path / "apps.lock.json").exists()


def test_a_second_version_and_a_new_category(synced: World) -> None:
    synced.declare(SMALL, "small 1.1", categories=("body", "image registration"))
    done = synced.outcomes("sync")
    assert [(o["action"], o["release"], o["reason"]) for o in done["outcomes"]] == [
        ("rewrap", "small_1.0_20260101", "its categories changed"),
        ("convert", "small_1.1_20260101", "not locked, and in no store"),
        ("upload", "small_1.1_20260101", "absent"),
        ("deploy", "small_1.1_20260101", "not deployed"),
    ]
    link = synced.root / "neurodesk-modules/image_registration/small/1.0.lua"
    assert link.resolve() == (synced.root / "modules/small/1.0.lua").resolve()
    synced.declare(SMALL, "small 1.1", categories=("image_registration",))
    assert synced.run("sync").code == 0
    assert not (synced.root / "neurodesk-modules/body").exists()
    assert synced.run("sync").out == "nothing to do\n"


def test_a_damaged_object_is_healed_from_another_store(world: World) -> None:
    world.configure("[{name: local, kind: directory, path: store}, {name: second, kind: directory, path: second}]")
    assert world.run("sync").code == 0
    world.object(SMALL).write_bytes(b"truncated")
    world.object(SMALL, "second").with_name("other_9_20260101.simg").write_bytes(b"stray")
    done = world.outcomes("sync")
    assert [(o["action"], o["store"], o["outcome"]) for o in done["outcomes"]] == [("copy", "local", "done")]
    assert sha256(world.object(SMALL)) == world.lock["small_1.0_20260101"]["sha256"]
    assert world.object(SMALL, "second").with_name("other_9_20260101.simg").exists()


def test_an_object_of_an_earlier_lock_is_adopted_not_rebuilt(synced: World) -> None:
    before = sha256(synced.object(SMALL))
    (synced.path / "apps.lock.json").unlink()
    done = synced.outcomes("sync")
    assert [o["action"] for o in done["outcomes"]] == ["adopt"]
    assert done["code"] == 0
    assert synced.lock["small_1.0_20260101"] == {
        "sha256": before,
        "size": synced.object(SMALL).stat().st_size,
        "source_digest": None,
    }
    assert synced.run("sync").out == "nothing to do\n"


def test_a_lost_release_is_a_problem_and_nothing_is_rebuilt(synced: World) -> None:
    synced.object(SMALL).unlink()
    done = synced.outcomes("sync")
    assert done["code"] == 1
    assert done["actions"] == []
    assert [(problem["kind"], problem["subject"]) for problem in done["problems"]] == [("lost", "small_1.0_20260101")]


def test_a_store_that_cannot_be_asked_is_unknown_and_nothing_is_rebuilt(synced: World) -> None:
    shutil.rmtree(synced.store)
    synced.store.write_text("not a directory")
    (synced.path / "apps.lock.json").unlink()
    done = synced.outcomes("sync")
    assert done["code"] == 1
    assert done["actions"] == []
    assert {problem["kind"] for problem in done["problems"]} == {"unknown"}
    assert not (synced.path / "apps.lock.json").exists()


def test_a_sif_that_differs_from_the_lock_is_refused_on_upload(world: World) -> None:
    assert world.run("convert").code == 0
    sif = world.spool / "small_1.0_20260101.simg"
    sif.write_bytes(bytes(sif.stat().st_size))
    done = world.run("upload")
    assert done.code == 4
    assert not world.object(SMALL).exists()
    sif.write_bytes(b"short")
    assert world.run("sync").code == 4
    assert not world.object(SMALL).exists()


def test_a_sif_that_differs_from_the_lock_is_refused_on_deploy(synced: World) -> None:
    shutil.rmtree(synced.root)
    found = synced.object(SMALL)
    found.write_bytes(bytes(found.stat().st_size))
    shutil.rmtree(synced.store / ".sha256", ignore_errors=True)
    done = synced.run("publish")
    assert done.code == 4, done.err
    assert "small_1.0_20260101" in done.err
    assert not synced.deployed(SMALL).exists()


def test_a_release_that_vanishes_is_a_problem_and_one_that_is_retired_goes(synced: World) -> None:
    synced.declare("other 2.0")
    done = synced.run("sync")
    assert done.code == 1
    assert "unlisted" in done.err
    assert synced.deployed(SMALL).is_dir()
    synced.declare("other 2.0", retired=[Release("small", "1.0", "20260101")])
    assert synced.run("sync").code == 0
    assert sorted(os.listdir(synced.deployed(SMALL))) == ["README.md", "bin", "record.json", "wrapper.sh"]
    assert synced.object(SMALL).exists()
    assert synced.run("sync").out == "nothing to do\n"


def test_what_others_put_in_the_place_of_a_release_is_not_touched(world: World) -> None:
    foreign = world.deployed(SMALL) / "commands.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("theirs\n")
    done = world.run("sync")
    assert done.code == 1
    assert "foreign" in done.err
    assert listing(world.deployed(SMALL)) == {"commands.txt": sha256(foreign)}


def test_other_bytes_under_a_root_are_replaced_by_the_locked_ones(synced: World) -> None:
    path = synced.deployed(SMALL) / "record.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "sha256": "0" * 64}))
    done = synced.outcomes("sync")
    assert [(o["action"], o["reason"]) for o in done["outcomes"]] == [
        ("deploy", "deployed from other bytes than the locked ones")
    ]
    assert json.loads(path.read_text()) == record


@pytest.mark.parametrize("damage", ["modulefile", "link", "wrapper", "record", "image"])
def test_what_is_missing_under_a_root_comes_back(synced: World, damage: str) -> None:
    before = listing(synced.root)
    victim = {
        "modulefile": synced.root / "modules/small/1.0.lua",
        "link": synced.root / "neurodesk-modules/body/small/1.0.lua",
        "wrapper": synced.deployed(SMALL) / "bin/smallhello",
        "record": synced.deployed(SMALL) / "record.json",
        "image": synced.deployed(SMALL) / "small_1.0_20260101.simg",
    }[damage]
    if damage == "image":
        shutil.rmtree(victim)
    elif damage == "record":
        victim.write_text("{")
    else:
        victim.unlink()
    assert synced.run("sync").code == 0
    after = listing(synced.root)
    lock = ".neurocommand/lock"
    assert {k: v for k, v in after.items() if k != lock} == {k: v for k, v in before.items() if k != lock}


def test_a_second_run_at_the_same_time_is_told_who_holds_the_lock(synced: World) -> None:
    import fcntl

    with open(synced.path / "state/lock", "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = synced.run("sync")
        assert done.code == 75
        assert "another run" in done.err
        assert synced.run("plan").code == 0
    assert synced.run("sync").code == 0


def test_stopped_by_a_signal_it_says_so_and_the_next_run_finishes(world: World) -> None:
    for number, expected in ((signal.SIGTERM, 130), (signal.SIGINT, 130)):
        shutil.rmtree(world.spool, ignore_errors=True)
        process = subprocess.Popen(world.command("sync"), stderr=subprocess.PIPE, text=True, cwd=world.path)
        deadline = time.monotonic() + 60
        while not (world.spool / ".neurocommand-scratch").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode == expected, err
        assert "Traceback" not in err
        assert (
            not world.object(SMALL).exists()
            or sha256(world.object(SMALL)) == world.lock["small_1.0_20260101"]["sha256"]
        )
    assert world.run("sync").code == 0
    assert world.run("sync").out == "nothing to do\n"


def test_an_s3_store_as_primary(world: World, moto_url: str, s3_credentials: None) -> None:
    import boto3

    bucket = f"b{abs(hash(str(world.path))) % 10**9}"
    client = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
    client.create_bucket(Bucket=bucket)
    world.configure(
        f"[{{name: us, kind: s3, bucket: {bucket}, endpoint: '{moto_url}', region: us-east-1}}, "
        "{name: local, kind: directory, path: store}]"
    )
    done = world.run("sync")
    assert done.code == 0, done.err
    head = client.head_object(Bucket=bucket, Key="small_1.0_20260101.simg")
    client.close()
    assert head["Metadata"]["sha256"] == world.lock["small_1.0_20260101"]["sha256"] == sha256(world.object(SMALL))
    assert world.run("sync").out == "nothing to do\n"


def test_withdrawing_many_at_once_needs_force(world: World) -> None:
    for number in range(5):
        record = {
            "release": f"gone_{number}_20260101",
            "sha256": "a" * 64,
            "size": 1,
            "format": "tree",
            "commands": [],
            "categories": [],
            "wrapper_revision": "x",
        }
        place = world.root / "containers" / f"gone_{number}_20260101"
        (place / f"{place.name}.simg").mkdir(parents=True)
        (place / "record.json").write_text(json.dumps(record))
    world.declare(retired=[Release("gone", str(number), "20260101") for number in range(5)])
    refused = world.run("sync")
    assert refused.code == 3
    assert "withdraws 5 of 5" in refused.err
    assert len(os.listdir(world.root / "containers")) >= 5
    assert world.run("sync", "--force").code == 0
    assert os.listdir(world.root / "containers") == ["modules"]


def test_what_others_put_under_a_root_makes_no_retirement_small(synced: World) -> None:
    synced.declare("small 1.0", "small 1.1")
    assert synced.run("sync").code == 0
    for number in range(30):
        (synced.root / "containers" / f"foreign{number}_1.0_20200101").mkdir()
    synced.declare(retired=[synced.release("small 1.0"), synced.release("small 1.1")])
    refused = synced.run("sync")
    assert refused.code == 3
    assert "withdraws 2 of 2" in refused.err
    assert synced.deployed(SMALL).is_dir()


def test_nothing_is_converted_whose_digest_could_not_be_locked(world: World) -> None:
    (world.path / "locks").mkdir()
    world.configure(more="lock: locks/apps.lock.json\n")
    script = 'mount --bind locks locks && mount -o remount,bind,ro locks && exec "$@"'
    done = subprocess.run(
        ["unshare", "-Urm", "sh", "-c", script, "sh", *world.command("-v", "convert")],
        cwd=world.path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert "locks/apps.lock.json: cannot be written\n  next: choose another place" in done.stderr
    assert "INFO:" not in done.stderr  # Apptainer was not asked
    assert not list(world.spool.glob("*.simg"))


def test_a_followed_manifest_is_cached_and_the_last_good_copy_is_kept(world: World, tmp_path: Path) -> None:
    text = (world.path / "apps.json").read_text()
    state = {"text": text, "up": True}

    def respond(request: servers.Request) -> servers.Answer:
        return servers.Answer(200 if state["up"] else 503, str(state["text"]).encode())

    with servers.WebServer(respond) as server:
        world.config.write_text(
            world.config.read_text().replace("manifest: apps.json", f"manifest: {server.url}/apps.json")
        )
        assert "small_1.0" in world.run("list", "--format", "log").out
        for broken, up in (('{"small": 5}', True), (text, False)):
            state.update(text=broken, up=up)
            kept = world.run("list", "--format", "log")
            assert "small_1.0" in kept.out
            assert kept.err


def test_an_image_of_another_architecture_is_published_without_running_it(world: World) -> None:
    arm64 = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, 183) + bytes(44)
    rootfs = images.base().directory("opt/small").directory("opt/small/bin")
    rootfs.file("opt/small/bin/armtool", arm64).file("README.md", "# arm\n", 0o644)
    environment = [f"{name}={value}" for name, value in images.SMALL_ENVIRONMENT.items()]
    plain = images.packed_sif(rootfs, world.path / "plain.sif")
    partition = header.locate(plain)
    with open(plain, "rb") as stream:
        stream.seek(partition.offset)
        squashfs = stream.read(partition.size)
    world.store.mkdir()
    config = json.dumps({"Env": environment}).encode()
    images.sif_file(world.object(SMALL), squashfs, config, architecture=b"04\0")
    done = world.outcomes("sync")
    assert [(outcome["action"], outcome["outcome"]) for outcome in done["outcomes"]] == [
        ("adopt", "done"),
        ("deploy", "done"),
    ]
    assert os.listdir(world.deployed(SMALL) / "bin") == ["armtool"]


def test_the_spool_is_swept_of_our_own_files_only(world: World) -> None:
    theirs = world.spool / "thesis/a.doc"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("mine")
    (world.spool / "scratch").write_text("mine")
    leftover = world.spool / ".small_1.0_20260101.simg.partial"
    leftover.write_text("half")
    assert world.run("sync").code == 0
    assert theirs.read_text() == (world.spool / "scratch").read_text() == "mine"
    assert not leftover.exists()


def test_a_sif_is_dropped_only_when_a_store_has_its_digest(world: World) -> None:
    assert world.run("convert").code == 0
    size = (world.spool / "small_1.0_20260101.simg").stat().st_size
    world.store.mkdir()
    world.object(SMALL).write_bytes(bytes(size))
    done = world.outcomes("upload")
    assert [(o["action"], o["reason"], o["outcome"]) for o in done["outcomes"]] == [
        ("upload", "states no digest", "done")
    ]
    assert sha256(world.object(SMALL)) == world.lock["small_1.0_20260101"]["sha256"]


def test_a_deployed_release_is_never_built_again_whatever_the_verb(synced: World) -> None:
    shutil.rmtree(synced.store)
    (synced.path / "apps.lock.json").unlink()
    for verb in ("convert", "sync"):
        done = synced.outcomes(verb)
        assert done["code"] == 1
        assert done["actions"] == []
        assert {problem["kind"] for problem in done["problems"]} == {"lost"}


def test_other_bytes_than_the_deployed_ones_are_not_adopted(synced: World) -> None:
    record = (synced.deployed(SMALL) / "record.json").read_bytes()
    (synced.path / "apps.lock.json").unlink()
    content = bytearray(synced.object(SMALL).read_bytes())
    content[-1] ^= 1
    synced.object(SMALL).write_bytes(content)
    done = synced.outcomes("sync")
    assert done["code"] == 4
    assert not (synced.path / "apps.lock.json").exists()
    assert (synced.deployed(SMALL) / "record.json").read_bytes() == record


def test_what_others_lock_during_a_run_is_kept(world: World) -> None:
    from neurocommand.lock import LockFile
    from neurocommand.model import Artifact

    first, second = LockFile(world.path / "apps.lock.json"), LockFile(world.path / "apps.lock.json")
    first.record(Release("a", "1", "20260101"), Artifact("a" * 64, 1))
    second.record(Release("b", "1", "20260101"), Artifact("b" * 64, 1))
    assert set(world.lock) == {"a_1_20260101", "b_1_20260101"}


@pytest.mark.parametrize(
    "place", ["containers/small_1.0_20260101", "modules/small", "neurodesk-modules/body", "modules"]
)
def test_nothing_is_written_through_a_link_of_somebody_else(world: World, place: str) -> None:
    victim = world.path / "victim"
    (victim / "bin").mkdir(parents=True)
    (victim / "bin/precious").write_text("theirs")
    (victim / "1.0.lua").write_text("theirs")
    link = world.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(victim)
    before = listing(victim)
    done = world.run("sync")
    assert done.code == 1
    assert str(link.name) in done.err
    assert listing(victim) == before


def test_a_modulefile_of_somebody_else_is_not_touched(world: World) -> None:
    foreign = world.root / "modules/small/1.0.lua"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("-- by hand\n")
    done = world.run("sync")
    assert done.code == 1
    assert "not made by neurocommand" in done.err
    assert foreign.read_text() == "-- by hand\n"


def test_a_record_of_a_newer_program_is_left_alone(synced: World) -> None:
    path = synced.deployed(SMALL) / "record.json"
    newer = json.dumps({**json.loads(path.read_text()), "record": 3, "more": 1})
    path.write_text(newer)
    done = synced.outcomes("sync")
    assert (done["code"], done["actions"]) == (1, [])
    assert [problem["kind"] for problem in done["problems"]] == ["unknown"]
    assert path.read_text() == newer


def test_a_deployment_that_was_only_moved_aside_comes_back(synced: World) -> None:
    before = listing(synced.deployed(SMALL))
    staging = synced.root / ".neurocommand/staging"
    synced.deployed(SMALL).rename(staging / "small_1.0_20260101.old")
    shutil.rmtree(synced.store)
    done = synced.outcomes("sync")
    assert [problem["kind"] for problem in done["problems"]] == ["lost"]
    assert listing(synced.deployed(SMALL)) == before


def test_a_root_whose_disk_is_not_mounted_is_not_made(world: World) -> None:
    done = world.run("publish", "--root", str(world.path / "not/mounted/here"))
    assert done.code == 2
    assert "mount" in done.err
    assert not (world.path / "not").exists()


def test_a_release_goes_live_with_its_quorum_and_not_without(world: World) -> None:
    stores = "[{name: local, kind: directory, path: store}, {name: second, kind: directory, path: second}]"
    (world.path / "second" / f"{world.release(SMALL)}.simg").mkdir(parents=True)
    world.configure(stores, "quorum: 2\n")
    refused = world.outcomes("sync")
    assert [(o["action"], o["outcome"]) for o in refused["outcomes"]] == [
        ("convert", "done"),
        ("upload", "done"),
        ("upload", "failed"),
        ("deploy", "skipped"),
    ]
    assert refused["code"] == 1
    world.configure(stores, "quorum: 1\n")
    live = world.outcomes("sync")
    assert [(o["action"], o["outcome"]) for o in live["outcomes"]] == [("copy", "failed"), ("deploy", "done")]
    assert (live["outcomes"][0]["fatal"], live["code"]) == (False, 0)
    # what the store lacks is made up for once it can take it
    (world.path / "second" / f"{world.release(SMALL)}.simg").rmdir()
    assert world.run("sync").code == 0
    assert sha256(world.object(SMALL, "second")) == sha256(world.object(SMALL))


@pytest.mark.parametrize("verb", ["convert", "sync"])
def test_a_disk_with_less_than_was_asked_for_is_refused_before_anything_is_written(verb: str, tmp_path: Path) -> None:
    """Nobody listens at the registry's address: what is let in fails there."""
    bare = World(tmp_path / "world", "127.0.0.1:9")
    bare.path.mkdir()
    bare.declare(SMALL)
    bare.configure()
    before = listing(bare.path)
    refused = bare.run(verb, "small", "--min-free", "99T")
    assert refused.code == 3
    assert re.search(r"state/spool: needs 99T, has [0-9.]+[KMGT]?\n", refused.err)
    assert listing(bare.path) == before
    assert bare.run(verb, "small", "--min-free", "99 TB").code == 2
    assert bare.run(verb, "small", "--min-free", "1").code == 1
