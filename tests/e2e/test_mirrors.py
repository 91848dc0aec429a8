"""mirror, verify, repair and --prune over three real stores: two directories and a bucket."""

from __future__ import annotations

import datetime
import hashlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from neurocommand.lock import Lock, render
from neurocommand.model import Artifact, Release
from tests.world import DATE, World

BUCKET = "mirrors-of-the-test"
STORES = (
    "[{name: first, kind: directory, path: first},"
    " {name: second, kind: directory, path: second, mode: sync},"
    f" {{name: bucket, kind: s3, bucket: {BUCKET}, endpoint: '%s'}}]"
)
FEW = "retention: {floor: 1, grace_days: 30}\n"


class Mirrors:
    """A world with three stores, and hands that reach into each of them."""

    def __init__(self, world: World, moto_url: str) -> None:
        self.world = world
        self.s3 = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
        self.s3.create_bucket(Bucket=BUCKET)
        self.data: dict[Release, bytes] = {}
        world.configure(STORES % moto_url, FEW)
        (world.root / ".neurocommand").mkdir(parents=True)

    def fill(self, number: int, seed: int, most: int = 4000) -> list[Release]:
        """Lock so many releases, of at most so many bytes, and upload each to all stores with the real command."""
        chance = random.Random(seed)
        labels = [f"tool{index} 1.0" for index in range(number)]
        self.world.declare(*labels)
        releases = [self.world.release(label) for label in labels]
        self.data = {release: chance.randbytes(chance.randint(2, most)) for release in releases}
        artifacts = {
            release: Artifact(hashlib.sha256(data).hexdigest(), len(data)) for release, data in self.data.items()
        }
        (self.world.path / "apps.lock.json").write_text(render(Lock(artifacts)))
        self.world.spool.mkdir(parents=True)
        for release, data in self.data.items():
            (self.world.spool / f"{release}.simg").write_bytes(data)
        done = self.world.run("upload")
        assert done.code == 0, done.err
        return releases

    def write(self, store: str, release: Release, data: bytes) -> None:
        """Put other bytes under a key; the bucket goes on to state the digest that it stated before."""
        if store == "bucket":
            key = f"{release}.simg"
            metadata = self.s3.head_object(Bucket=BUCKET, Key=key)["Metadata"] if release in self.data else {}
            self.s3.put_object(Bucket=BUCKET, Key=key, Body=data, Metadata=metadata)
        else:
            (self.world.path / store / f"{release}.simg").write_bytes(data)

    def remove(self, store: str, release: Release) -> None:
        if store == "bucket":
            self.s3.delete_object(Bucket=BUCKET, Key=f"{release}.simg")
        else:
            (self.world.path / store / f"{release}.simg").unlink()

    def read(self, store: str) -> dict[str, bytes]:
        """Return every object of a store by key."""
        if store != "bucket":
            return {path.name: path.read_bytes() for path in (self.world.path / store).glob("*.simg")}
        listed = self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {entry["Key"]: self.s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed}


@pytest.fixture
def mirrors(world: World, moto_url: str, s3_credentials: None) -> Iterator[Mirrors]:
    made = Mirrors(world, moto_url)
    yield made
    for key in made.read("bucket"):
        made.s3.delete_object(Bucket=BUCKET, Key=key)
    made.s3.delete_bucket(Bucket=BUCKET)


def plant(mirrors: Mirrors, releases: list[Release], number: int, seed: int) -> dict[tuple[str, str], str]:
    """Plant faults in so many places, each by chance, and return what each is."""
    chance = random.Random(seed)
    places = [(store, release) for store in ("first", "second", "bucket") for release in releases]
    planted: dict[tuple[str, str], str] = {}
    strays = number // 10
    for store, release in chance.sample(places, number - strays):
        data, kind = mirrors.data[release], chance.choice(["missing", "truncated", "corrupt", "grown"])
        if kind == "missing":
            mirrors.remove(store, release)
        elif kind == "truncated":
            mirrors.write(store, release, data[: chance.randrange(len(data))])
        elif kind == "corrupt":
            at = chance.randrange(len(data))
            mirrors.write(store, release, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        else:
            mirrors.write(store, release, data + b"x")
        planted[store, release.id] = "corrupt" if kind == "grown" else kind
    for index in range(strays):
        stray, store = Release(f"stray{index}", "1.0", DATE), chance.choice(["first", "second", "bucket"])
        mirrors.write(store, stray, b"nobody's")
        planted[store, stray.id] = "stray"
    return planted


def test_150_faults_are_found_and_no_other_and_all_are_healed_of_which_a_good_copy_is_left(mirrors: Mirrors) -> None:
    releases = mirrors.fill(100, seed=1)
    assert mirrors.world.run("verify", "--deep").code == 0
    planted = plant(mirrors, releases, 150, seed=2)
    assert len(planted) == 150

    found = mirrors.world.outcomes("verify", "--deep")
    assert {(f["store"], f["release"]): f["kind"] for f in found["findings"]} == planted
    assert (len(found["findings"]), found["code"]) == (150, 1)

    damaged = {place for place, kind in planted.items() if kind != "stray"}
    lost = {release for release in releases if all((s, release.id) in damaged for s in ("first", "second", "bucket"))}
    assert lost  # else the test does not show what happens then
    before = {store: mirrors.read(store) for store in ("first", "second", "bucket")}
    healed = mirrors.world.outcomes("repair", "--deep")
    assert {problem["subject"] for problem in healed["problems"]} == {release.id for release in lost}
    assert {problem["kind"] for problem in healed["problems"]} == {"lost"}
    assert healed["code"] == 1
    assert {(o["store"], o["release"]) for o in healed["outcomes"] if o["outcome"] == "done"} == {
        (store, release) for store, release in damaged if release not in {r.id for r in lost}
    }
    for store in ("first", "second", "bucket"):
        after = mirrors.read(store)
        for release in releases:
            key = f"{release}.simg"
            assert after.get(key) == (before[store].get(key) if release in lost else mirrors.data[release]), key
        assert {key for key in after if key.startswith("stray")} == {
            f"{release}.simg" for where, release in planted if where == store and release.startswith("stray")
        }
    again = mirrors.world.outcomes("verify", "--deep")
    assert {(f["store"], f["release"]): f["kind"] for f in again["findings"]} == {
        place: kind for place, kind in planted.items() if kind == "stray" or place[1] in {r.id for r in lost}
    }
    assert mirrors.world.outcomes("repair", "--deep")["actions"] == []


def test_without_deep_what_is_stated_counts_and_what_is_not_stated_is_unknown(mirrors: Mirrors) -> None:
    one, two, three = mirrors.fill(3, seed=3)
    flipped = bytes([mirrors.data[one][0] ^ 1]) + mirrors.data[one][1:]
    mirrors.write("first", one, flipped)  # a file that changed states no digest any more
    mirrors.write("bucket", two, bytes(len(mirrors.data[two])))  # the bucket still states the old one
    mirrors.write("second", three, b"")
    assert [(f["store"], f["release"], f["kind"]) for f in mirrors.world.outcomes("verify")["findings"]] == [
        ("first", one.id, "unknown"),
        ("second", three.id, "truncated"),
    ]
    healed = mirrors.world.run("repair")
    assert healed.code == 0, healed.err
    assert mirrors.read("first")[f"{one}.simg"] == mirrors.data[one]
    assert mirrors.read("second")[f"{three}.simg"] == mirrors.data[three]
    done = mirrors.world.run("verify", "tool1", "--deep")
    assert (done.code, "corrupt" in done.out) == (1, True)
    assert mirrors.world.run("verify", "tool0", "tool2", "--deep").code == 0


def test_what_is_locked_but_no_longer_in_the_manifest_is_mended_and_not_missed(mirrors: Mirrors) -> None:
    _, two, three, four = mirrors.fill(4, seed=5)
    mirrors.world.declare("tool0 1.0")
    mirrors.write("first", two, b"x")
    mirrors.remove("second", two)
    for store in ("first", "second", "bucket"):
        mirrors.write(store, three, b"x")
    mirrors.remove("bucket", four)
    found = mirrors.world.outcomes("verify", "--deep")["findings"]
    assert {(f["store"], f["release"]) for f in found} == {
        ("first", two.id),
        ("first", three.id),
        ("second", three.id),
        ("bucket", three.id),
    }
    healed = mirrors.world.outcomes("repair", "--deep")
    assert [(o["store"], o["release"], o["outcome"]) for o in healed["outcomes"]] == [("first", two.id, "done")]
    assert [(problem["kind"], problem["subject"]) for problem in healed["problems"]] == [("lost", three.id)]
    assert healed["code"] == 1
    assert mirrors.read("first")[f"{two}.simg"] == mirrors.data[two]
    assert f"{two}.simg" not in mirrors.read("second")
    assert f"{four}.simg" not in mirrors.read("bucket")
    assert mirrors.read("bucket")[f"{three}.simg"] == b"x"
    assert mirrors.world.outcomes("repair", "--deep", "tool0")["problems"] == []


@pytest.mark.parametrize("verb", ["verify", "repair"])
def test_only_what_is_asked_for_is_read(mirrors: Mirrors, verb: str) -> None:
    _, two = mirrors.fill(2, seed=21)
    damaged = bytes(len(mirrors.data[two]))
    mirrors.write("second", two, damaged)
    done = mirrors.world.run("-v", verb, "tool0", "--deep")
    assert done.code == 0, done.err
    assert "tool0" in done.err
    assert "tool1" not in done.err + done.out
    assert mirrors.read("second")[f"{two}.simg"] == damaged


def test_an_empty_primary_is_filled_from_its_mirrors_and_a_mirror_too(mirrors: Mirrors) -> None:
    releases = mirrors.fill(3, seed=4)
    for release in releases:
        mirrors.remove("first", release)
    mirrors.remove("bucket", releases[0])
    done = mirrors.world.run("mirror")
    assert done.code == 0, done.err
    whole = {f"{release}.simg": mirrors.data[release] for release in releases}
    assert mirrors.read("first") == mirrors.read("bucket") == mirrors.read("second") == whole
    assert mirrors.world.run("mirror").out == "nothing to do\n"


def test_a_store_that_is_down_is_shown_and_with_a_quorum_not_fatal(mirrors: Mirrors, moto_url: str) -> None:
    (release,) = mirrors.fill(1, seed=5)
    mirrors.remove("second", release)
    down = STORES % "http://127.0.0.1:9"
    mirrors.world.configure(down, FEW)
    without = mirrors.world.outcomes("mirror")
    assert [(p["kind"], p["subject"]) for p in without["problems"]] == [("unknown", "bucket")]
    assert without["code"] == 1
    assert mirrors.read("second")[f"{release}.simg"] == mirrors.data[release]
    mirrors.remove("second", release)
    mirrors.world.configure(down, FEW + "quorum: 2\n")
    with_quorum = mirrors.world.outcomes("mirror")
    assert [(p["kind"], p["subject"], p["fatal"]) for p in with_quorum["problems"]] == [("unknown", "bucket", False)]
    assert with_quorum["code"] == 0
    mirrors.world.configure(down, FEW + "quorum: 3\n")
    below = mirrors.world.outcomes("mirror")
    assert {p["kind"] for p in below["problems"]} == {"unknown", "below"}
    assert below["code"] == 1


def unlist(mirrors: Mirrors, *labels: str, days: int) -> None:
    """Declare only some, and let the others have been unlisted so many days ago, and the last run yesterday."""
    mirrors.world.declare(*labels)
    live = {mirrors.world.release(label) for label in labels}
    remember(mirrors, dict.fromkeys((release.id for release in mirrors.data if release not in live), days))


def remember(mirrors: Mirrors, gone: dict[str, int], **more: object) -> None:
    """Let releases have been unlisted so many days ago, the last run yesterday, and all have been in the manifest."""

    def day(days: int) -> str:
        return (datetime.datetime.now(datetime.timezone.utc).date() - datetime.timedelta(days=days)).isoformat()

    memory = {
        "version": 2,
        "before": day(2),
        "latest": day(1),
        "unlisted": {release: day(days) for release, days in gone.items()},
        "dois": {},
        "listed": [release.id for release in mirrors.data],
    }
    (mirrors.world.path / "state/unlisted.json").write_text(json.dumps({**memory, **more}))


def unlisted(mirrors: Mirrors) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((mirrors.world.path / "state/unlisted.json").read_text())
    return found


def test_an_unlisted_release_stays_for_its_grace_and_goes_with_prune_only(mirrors: Mirrors) -> None:
    one, two = mirrors.fill(2, seed=6)
    assert mirrors.world.run("mirror").code == 0
    mirrors.world.declare("tool0 1.0")
    first = mirrors.world.run("-v", "mirror", "--prune")
    assert (first.code, first.out) == (0, "nothing to do\n")
    assert f"{two}: stays: unlisted since " in first.err
    assert list(unlisted(mirrors)["unlisted"]) == [two.id]
    unlist(mirrors, "tool0 1.0", days=33)
    listed = mirrors.world.run("mirror")
    assert (listed.code, listed.out) == (0, "nothing to do\n")
    assert f"{two}: may be deleted from first: unlisted since " in listed.err
    planned = mirrors.world.outcomes("plan", "--prune")
    deletions = [(a["action"], a["store"]) for a in planned["actions"] if a["release"] == two.id]
    # the bucket is a mirror that only copies
    assert deletions == [("delete", "first"), ("delete", "second")]
    assert f"{two}.simg" in mirrors.read("first")
    done = mirrors.world.run("mirror", "--prune")
    assert done.code == 0, done.err
    assert [f"{two}.simg" in mirrors.read(store) for store in ("first", "second", "bucket")] == [False, False, True]
    assert all(f"{one}.simg" in mirrors.read(store) for store in ("first", "second", "bucket"))
    assert mirrors.world.run("mirror", "--prune").out == "nothing to do\n"


def test_a_release_that_comes_back_starts_a_new_grace(mirrors: Mirrors) -> None:
    _, two = mirrors.fill(2, seed=7)
    unlist(mirrors, "tool0 1.0", days=33)
    mirrors.world.declare("tool0 1.0", "tool1 1.0")
    assert mirrors.world.run("mirror", "--prune").out == "nothing to do\n"
    assert unlisted(mirrors)["unlisted"] == {}
    mirrors.world.declare("tool0 1.0")
    assert mirrors.world.run("mirror", "--prune").out == "nothing to do\n"
    assert f"{two}.simg" in mirrors.read("first")


def test_more_than_the_cap_is_refused_whole_without_force(mirrors: Mirrors) -> None:
    releases = mirrors.fill(8, seed=8)
    unlist(mirrors, "tool0 1.0", days=33)
    refused = mirrors.world.run("mirror", "--prune")
    assert refused.code == 3
    assert "deletes the objects of 7 releases, the cap is 5" in refused.err
    assert len(mirrors.read("first")) == 8
    assert mirrors.world.run("mirror", "--prune", "--force").code == 0
    assert list(mirrors.read("first")) == [f"{releases[0]}.simg"]


def test_an_empty_manifest_deletes_nothing_however_it_is_forced(mirrors: Mirrors) -> None:
    mirrors.fill(3, seed=9)
    unlist(mirrors, days=999)
    done = mirrors.world.run("-v", "mirror", "--prune", "--force")
    assert done.code == 0, done.err
    assert "the manifest declares 0 releases, fewer than the floor of 1" in done.err
    assert len(mirrors.read("first")) == 3


def test_a_memory_that_cannot_be_read_deletes_nothing(mirrors: Mirrors) -> None:
    mirrors.fill(2, seed=10)
    unlist(mirrors, "tool0 1.0", days=33)
    path = mirrors.world.path / "state/unlisted.json"
    path.write_text(path.read_text()[:-5])
    done = mirrors.world.run("mirror", "--prune")
    assert done.code == 1
    assert f"{path}:1: " in done.err
    assert len(mirrors.read("first")) == 2


def test_a_doi_protects_for_good_even_when_its_group_is_gone(mirrors: Mirrors) -> None:
    _, two = mirrors.fill(2, seed=11)
    manifest: dict[str, Any] = json.loads((mirrors.world.path / "apps.json").read_text())
    manifest["tool1"]["x-neurocommand"] = {"doi": {two.id: "10.5281/zenodo.1"}}
    (mirrors.world.path / "apps.json").write_text(json.dumps(manifest))
    assert mirrors.world.run("mirror").code == 0
    mirrors.world.declare("tool0 1.0")
    assert mirrors.world.run("mirror").code == 0
    remembered = unlisted(mirrors)
    assert remembered["dois"] == {two.id: "10.5281/zenodo.1"}
    remember(mirrors, {two.id: 999}, dois=remembered["dois"])
    done = mirrors.world.run("-v", "mirror", "--prune")
    assert "stays: published under DOI 10.5281/zenodo.1" in done.err
    assert f"{two}.simg" in mirrors.read("first")


def test_one_store_that_fails_keeps_no_other_from_being_filled(mirrors: Mirrors) -> None:
    (release,) = mirrors.fill(1, seed=12)
    for store in ("first", "second"):
        mirrors.remove(store, release)
    # something in the way that the store can list, but not replace
    (mirrors.world.path / "first" / f"{release}.simg").mkdir()
    done = mirrors.world.outcomes("mirror")
    assert [(o["store"], o["outcome"]) for o in done["outcomes"]] == [("first", "failed"), ("second", "done")]
    assert done["code"] == 1
    assert mirrors.read("bucket")[f"{release}.simg"] == mirrors.data[release]
    assert (mirrors.world.path / "second" / f"{release}.simg").read_bytes() == mirrors.data[release]


def test_a_damaged_file_in_the_spool_keeps_no_good_copy_from_being_mirrored(mirrors: Mirrors) -> None:
    (release,) = mirrors.fill(1, seed=11)
    mirrors.remove("second", release)
    damaged = bytes(len(mirrors.data[release]))
    (mirrors.world.spool / f"{release}.simg").write_bytes(damaged)
    done = mirrors.world.run("mirror")
    assert done.code == 0, done.err
    assert mirrors.read("second") == {f"{release}.simg": mirrors.data[release]}
    assert not [*mirrors.world.spool.glob("*.simg")]


def test_what_a_killed_run_had_brought_to_every_store_leaves_the_spool(mirrors: Mirrors) -> None:
    releases = mirrors.fill(2, seed=12)
    for release in releases:
        (mirrors.world.spool / f"{release}.simg").write_bytes(mirrors.data[release])
    mirrors.remove("second", releases[1])
    assert "3 actions" in mirrors.world.run("sync", "--dry-run").err  # both releases are still to be deployed
    assert mirrors.world.run("convert").code == 0  # the second is still to be uploaded
    assert [path.name for path in mirrors.world.spool.glob("*.simg")] == [f"{releases[1]}.simg"]
    assert mirrors.world.run("mirror").code == 0
    assert not [*mirrors.world.spool.glob("*.simg")]


@pytest.mark.parametrize("lacking", [("second", "bucket"), ("second",), ("bucket",)], ids=["spool", "file", "bucket"])
def test_a_mirror_that_is_killed_shows_nothing_half_done_and_the_next_one_finishes(
    mirrors: Mirrors, request: pytest.FixtureRequest, lacking: tuple[str, ...]
) -> None:
    """One store that lacks everything is filled from store to store, two are through the spool."""
    releases = mirrors.fill(12, seed=13, most=1 << 20)
    whole = {f"{release}.simg": mirrors.data[release] for release in releases}
    chance = random.Random(14)
    begun = time.monotonic()
    assert mirrors.world.run("mirror").out == "nothing to do\n"
    idle = time.monotonic() - begun
    for _ in range(20 if request.config.getoption("--full") else 1):
        for store in lacking:
            for release in releases:
                mirrors.remove(store, release)
        running = subprocess.Popen(
            mirrors.world.command("mirror"),
            cwd=mirrors.world.path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(idle * chance.uniform(0.5, 1.5))
        running.kill()
        running.wait()
        for store in ("first", "second", "bucket"):
            assert mirrors.read(store).items() <= whole.items()
        done = mirrors.world.run("mirror")
        assert done.code == 0, done.err
        assert mirrors.read("first") == mirrors.read("second") == mirrors.read("bucket") == whole
        left = [path.name for path in mirrors.world.path.rglob("*.partial")] + [*mirrors.world.spool.glob("*.simg")]
        assert left == []


@pytest.mark.parametrize("quorum", ["", "quorum: 1\n"], ids=["no quorum", "quorum"])
def test_when_everything_fails_nothing_is_claimed_and_nothing_deleted(quorum: str, mirrors: Mirrors) -> None:
    releases = mirrors.fill(4, seed=15)
    for release in releases:
        mirrors.remove("second", release)
    unlist(mirrors, "tool0 1.0", "tool1 1.0", "tool2 1.0", days=999)
    bytes_before = mirrors.read("bucket")
    for store in ("first", "second"):
        (mirrors.world.path / store).rename(mirrors.world.path / f"{store} aside")
        (mirrors.world.path / store).write_text("no directory")
    mirrors.world.configure(STORES % "http://127.0.0.1:9", FEW + quorum)
    for verb in ("mirror", "repair", "upload"):
        done = mirrors.world.outcomes(verb, *(["--prune"] if verb == "mirror" else []))
        assert done["code"] == 1
        assert not [outcome for outcome in done.get("outcomes", []) if outcome["outcome"] == "done"]
        assert {p["subject"] for p in done["problems"]} >= {"first", "second", "bucket"}
    assert mirrors.world.run("verify").code == 1
    assert mirrors.read("bucket") == bytes_before
    assert len(list((mirrors.world.path / "first aside").glob("*.simg"))) == 4


def test_another_manifest_neither_prunes_nor_dates_what_the_configured_one_names(mirrors: Mirrors) -> None:
    mirrors.fill(2, seed=20)
    assert mirrors.world.run("mirror").code == 0
    whole = mirrors.world.path / "whole.json"
    (mirrors.world.path / "apps.json").rename(whole)
    mirrors.world.declare("tool0 1.0")
    part = (mirrors.world.path / "apps.json").rename(mirrors.world.path / "part.json")
    whole.rename(mirrors.world.path / "apps.json")
    for verb in ("mirror", "sync", "plan"):
        refused = mirrors.world.run(verb, "--prune", "--manifest", str(part))
        assert refused.code == 2
        assert "--prune does not go with --manifest" in refused.err
    assert mirrors.world.run("mirror", "--manifest", str(part)).code in (0, 1)
    assert unlisted(mirrors)["unlisted"] == {}
    assert mirrors.world.run("mirror", "--prune", "--manifest", "apps.json").code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("sync", "tool0"), "goes neither with a RELEASE nor with --shard"),
        (("mirror", "tool0"), "goes neither with a RELEASE nor with --shard"),
        (("plan", "tool0"), "goes neither with a RELEASE nor with --shard"),
        (("sync", "--shard", "1/2"), "goes neither with a RELEASE nor with --shard"),
        (("sync", "--root", "other"), "does not go with another --root"),
    ],
)
def test_prune_is_refused_where_less_than_all_is_looked_at(mirrors: Mirrors, words: tuple[str, ...], why: str) -> None:
    mirrors.world.declare("tool0 1.0")
    refused = mirrors.world.run(*words, "--prune")
    assert refused.code == 2
    assert why in refused.err
    assert mirrors.world.run("sync", "--prune", "--root", "root", "--dry-run").code == 0


def at(mirrors: Mirrors, shift: str) -> str:
    """Prune with a clock that is off, and return the day by that clock."""
    done = subprocess.run(
        ["faketime", "-f", shift, *mirrors.world.command("mirror", "--prune")],
        cwd=mirrors.world.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return str(unlisted(mirrors)["latest"])


@pytest.mark.parametrize(
    "shifts", [["-1d"], ["+1d"], ["+3d"], ["+400d"], ["+400d", "+0d"], ["-20000d", "+0d"], ["+20d", "+0d"]]
)
def test_a_clock_that_is_wrong_deletes_nothing_that_is_in_its_grace(mirrors: Mirrors, shifts: list[str]) -> None:
    _, two = mirrors.fill(2, seed=16)
    unlist(mirrors, "tool0 1.0", days=29)
    latest = unlisted(mirrors)["latest"]
    # a clock that is a day late shows the day of the run before
    assert (at(mirrors, shifts[0]) == latest) == (shifts[0] == "-1d")
    for shift in shifts[1:]:
        at(mirrors, shift)
    assert [f"{two}.simg" in mirrors.read(store) for store in ("first", "second")] == [True] * 2


def test_a_first_look_without_a_clock_dates_nothing_in_1970(mirrors: Mirrors) -> None:
    _, two = mirrors.fill(2, seed=17)
    assert mirrors.world.run("mirror").code == 0
    (mirrors.world.path / "state/unlisted.json").unlink()
    at(mirrors, "-20000d")
    mirrors.world.declare("tool0 1.0")
    for shift in ("-20000d", "+0d", "+1d"):
        at(mirrors, shift)
    assert f"{two}.simg" in mirrors.read("first")


def test_a_memory_that_is_lost_deletes_nothing_that_may_have_had_a_doi(mirrors: Mirrors) -> None:
    _, two = mirrors.fill(2, seed=18)
    unlist(mirrors, "tool0 1.0", days=999)
    (mirrors.world.path / "state/unlisted.json").unlink()
    for shift in ("+0d", "+35d", "+70d"):
        at(mirrors, shift)
    done = mirrors.world.run("-v", "mirror", "--prune", "--force")
    assert f"{two}: stays: no run that is remembered saw it in the manifest: it may have had a DOI" in done.err
    assert f"{two}.simg" in mirrors.read("first")


def test_a_root_that_is_not_there_deletes_nothing_and_what_was_deployed_has_its_grace_then(mirrors: Mirrors) -> None:
    _, two = mirrors.fill(2, seed=19)
    root, aside = mirrors.world.root, mirrors.world.path / "disk"
    (root / "containers" / two.id).mkdir(parents=True)
    unlist(mirrors, "tool0 1.0", days=33)
    root.rename(aside)
    for _ in range(2):
        done = mirrors.world.run("-v", "mirror", "--prune")
        assert f"stays: what is deployed cannot be told: {root} is no root, or its disk is not mounted" in done.err
        root.mkdir(exist_ok=True)  # the empty directory below a mount
    # sync takes an empty directory for a new root: from now on it looks like one
    assert "is no root, or its disk is not mounted" in mirrors.world.run("-v", "sync", "--prune").err
    assert f"{two}.simg" in mirrors.read("first")
    unlist(mirrors, "tool0 1.0", days=33)
    shutil.rmtree(root)
    aside.rename(root)
    assert f"{two}: stays: still deployed under the root" in mirrors.world.run("-v", "mirror", "--prune").err
    shutil.rmtree(root / "containers")
    assert f"{two}: stays: unlisted since " in mirrors.world.run("-v", "mirror", "--prune").err
    assert f"{two}.simg" in mirrors.read("first")
