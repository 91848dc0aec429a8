"""A bundle: what one site exports another one installs from, or takes into its own store, and damage is found."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from neurocommand.model import Artifact
from neurocommand.stores.directory import DirectoryStore
from tests.world import World, listing, sha256

SMALL = "small 1.0"
KEY = "small_1.0_20260101.simg"


@pytest.fixture
def bundle(synced: World) -> Path:
    done = synced.run("bundle", "export", "stick", "small")
    assert (done.code, done.out) == (0, "1 release in stick\n"), done.err
    return synced.path / "stick"


@pytest.fixture
def elsewhere(synced: World, tmp_path: Path) -> World:
    """A site with a store of its own and no way to any other."""
    made = World(tmp_path / "elsewhere", "127.0.0.1:9")
    made.path.mkdir()
    made.declare(SMALL)
    made.configure()
    return made


def test_a_bundle_is_whole_and_says_so_to_others(synced: World, bundle: Path) -> None:
    assert sorted(listing(bundle)) == ["SHA256SUMS", "apps.json", "apps.lock.json", "neurocommand.yaml", KEY]
    subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=bundle, check=True, capture_output=True)
    assert json.loads((bundle / "apps.lock.json").read_text())["releases"] == synced.lock
    assert json.loads((bundle / "apps.json").read_text()) == {
        "small": {"apps": {SMALL: {"version": "20260101", "exec": ""}}, "categories": ["body"]}
    }
    again = synced.run("bundle", "export", "stick", "small")
    assert f"{synced.release(SMALL)}: there already" in again.err


def test_a_second_export_stands_beside_the_first(synced: World, bundle: Path, elsewhere: World) -> None:
    synced.declare("small 1.0", "small 1.1", "other 2.0")
    assert synced.run("sync").code == 0
    ours = synced.path / "apps.json"
    for release, number in (("small/1.1", 1), ("other", 1), ("small", 1)):
        done = synced.run("bundle", "export", "stick", release)
        assert (done.code, done.out) == (0, f"{number} release in stick\n"), done.err
    checked = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=bundle, check=True, capture_output=True)
    assert checked.stdout.count(b": OK") == 3
    assert json.loads((bundle / "apps.lock.json").read_text())["releases"] == synced.lock
    assert json.loads((bundle / "apps.json").read_text()) == json.loads(ours.read_text())
    assert elsewhere.run("bundle", "import", str(bundle)).out.startswith("3 releases")


def test_a_second_export_vouches_for_nothing_that_is_damaged(synced: World, bundle: Path) -> None:
    synced.declare("small 1.0", "other 2.0")
    assert synced.run("sync").code == 0
    whole, before = (bundle / KEY).read_bytes(), listing(bundle)
    (bundle / KEY).write_bytes(whole[:-1])
    done = synced.run("bundle", "export", "stick", "other")
    assert (done.code, "is not what the bundle's lock says" in done.err) == (1, True), done.err
    assert synced.run("bundle", "export", "stick", "other", "small").code == 0
    assert before.items() - listing(bundle).items() == {
        (name, before[name]) for name in ("SHA256SUMS", "apps.json", "apps.lock.json")
    }
    texts = json.loads((bundle / "apps.lock.json").read_text())
    texts["releases"]["small_1.0_20260101"]["sha256"] = "0" * 64
    (bundle / "apps.lock.json").write_text(json.dumps(texts))
    assert synced.run("bundle", "export", "stick", "other").code == 4


def test_a_site_installs_from_the_bundle_itself(bundle: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "neurocommand", "--config", str(bundle / "neurocommand.yaml")]
    before = listing(bundle)
    done = subprocess.run(
        [*command, "install", "small", "--prefix", str(tmp_path / "prefix")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sha256(tmp_path / "prefix/containers/small_1.0_20260101" / KEY) == before[KEY]
    assert listing(bundle) == before


def test_a_site_takes_a_bundle_into_its_own_store(elsewhere: World, bundle: Path) -> None:
    done = elsewhere.run("bundle", "import", str(bundle))
    assert (done.code, done.out) == (0, f"1 release in {bundle}, all in store local\n"), done.err
    assert sha256(elsewhere.object(SMALL)) == elsewhere.lock["small_1.0_20260101"]["sha256"]
    assert elsewhere.run("publish").code == 0
    assert elsewhere.run("verify", "--deep").code == 0


def test_a_damaged_bundle_changes_nothing(elsewhere: World, bundle: Path) -> None:
    data = (bundle / KEY).read_bytes()
    (bundle / KEY).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = elsewhere.run("bundle", "import", str(bundle))
    assert done.code == 4
    assert f"{KEY}: sha256 " in done.err
    assert not elsewhere.object(SMALL).exists()
    assert not (elsewhere.path / "apps.lock.json").exists()
    (bundle / KEY).unlink()
    missing = elsewhere.run("bundle", "import", str(bundle))
    assert missing.code == 1
    assert "is missing" in missing.err


def test_a_bundle_that_contradicts_the_lock_is_refused_whole(elsewhere: World, bundle: Path) -> None:
    lock = json.loads((bundle / "apps.lock.json").read_text())
    lock["releases"]["small_1.0_20260101"]["sha256"] = "0" * 64
    (elsewhere.path / "apps.lock.json").write_text(json.dumps(lock))
    done = elsewhere.run("bundle", "import", str(bundle))
    assert done.code == 4
    assert not elsewhere.object(SMALL).exists()


def forge(state_digest: bool, path: Path, size: int) -> bytes:
    """Put other bytes of a size where an object is, with or without a digest that the store states of them."""
    data = bytes(size)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    if state_digest:
        DirectoryStore("forged", path.parent).put(
            path.name, path, Artifact(hashlib.sha256(data).hexdigest(), size), lambda _: None
        )
    return data


@pytest.mark.parametrize("where", ["store", "second"])
@pytest.mark.parametrize("less", [0, 1])
@pytest.mark.parametrize("state_digest", [False, True])
def test_other_bytes_that_nobody_locked_are_not_replaced(
    elsewhere: World, bundle: Path, where: str, less: int, state_digest: bool
) -> None:
    elsewhere.configure(
        "[{name: local, kind: directory, path: store}, {name: second, kind: directory, path: second},"
        " {name: web, kind: http, url: 'http://127.0.0.1:9'}]"
    )
    path = elsewhere.object(SMALL, where)
    data = forge(state_digest, path, (bundle / KEY).stat().st_size - less)
    done = elsewhere.run("bundle", "import", str(bundle))
    assert done.code == 4
    assert f"is not locked here, and store {'local' if where == 'store' else where} holds " in done.err
    assert path.read_bytes() == data
    assert [p.name for p in elsewhere.path.glob("st*/*.simg")] == ([KEY] if where == "store" else [])
    assert not (elsewhere.path / "apps.lock.json").exists()
    path.write_bytes((bundle / KEY).read_bytes())
    assert elsewhere.run("bundle", "import", str(bundle)).code == 0


def test_other_bytes_that_are_deployed_are_not_replaced(elsewhere: World, bundle: Path, synced: World) -> None:
    shutil.copytree(synced.root, elsewhere.root, symlinks=True)
    record = elsewhere.deployed(SMALL) / "record.json"
    true = record.read_text()
    record.write_text(true.replace(synced.lock["small_1.0_20260101"]["sha256"], "0" * 64))
    done = elsewhere.run("bundle", "import", str(bundle))
    assert (done.code, "the root holds sha256 000" in done.err) == (4, True), done.err
    record.write_text(re.sub(r'"record": *\d+', '"record": 99', true))
    assert elsewhere.run("bundle", "import", str(bundle)).code == 3
    assert not elsewhere.object(SMALL).exists()
    record.write_text(true)
    assert elsewhere.run("bundle", "import", str(bundle)).code == 0


def test_what_is_no_bundle_or_not_locked_is_told(world: World) -> None:
    (world.path / "empty").mkdir()
    assert "no bundle" in world.run("bundle", "import", "empty").err
    unlocked = world.run("bundle", "export", "stick", "small")
    assert unlocked.code == 2
    assert "the lock does not know small_1.0_20260101" in unlocked.err
    assert not (world.path / "stick").exists()
    assert world.run("bundle", "export", "stick").code == 2
