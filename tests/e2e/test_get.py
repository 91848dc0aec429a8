"""get, and install --from, as processes of their own."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import servers
from tests.servers import Answer, Respond, WebServer, in_parts, serve_directory
from tests.world import World, sha256

SMALL = "small 1.0"
KEY = "small_1.0_20260101.simg"
BYTES = random.Random(4).randbytes((5 << 20) + 3)

Serve = Callable[[Respond], WebServer]


class Site:
    """A manifest with one release, its lock, and two web stores."""

    def __init__(self, path: Path, web_server: Serve) -> None:
        self.content = {"one": BYTES, "two": BYTES}
        self.servers = {
            name: web_server(lambda request, name=name: self.answer(name, request)) for name in self.content
        }
        self.world = World(path, "127.0.0.1:9")
        path.mkdir()
        self.world.declare(SMALL)
        stores = ", ".join(f"{{name: {n}, kind: http, url: '{s.url}'}}" for n, s in self.servers.items())
        self.world.configure(f"[{stores}]")
        self.lock({"sha256": hashlib.sha256(BYTES).hexdigest(), "size": len(BYTES), "source_digest": None})

    def answer(self, name: str, request: servers.Request) -> Answer:
        content = self.content[name]
        return in_parts(content, request, rate=8e6) if content else Answer(500)

    def lock(self, entry: object) -> None:
        releases = {} if entry is None else {"small_1.0_20260101": entry}
        (self.world.path / "apps.lock.json").write_text(json.dumps({"version": 1, "releases": releases}))

    @property
    def got(self) -> Path:
        return self.world.path / KEY

    def files(self) -> set[str]:
        return {name for name in os.listdir(self.world.path) if "small" in name}


@pytest.fixture
def site(tmp_path: Path, web_server: Serve) -> Site:
    return Site(tmp_path / "site", web_server)


def test_a_release_becomes_a_file_of_its_name(site: Site) -> None:
    done = site.world.run("get", "small")
    assert done.code == 0, done.err
    assert site.got.read_bytes() == BYTES
    assert done.out == f"{site.got}: downloaded: 5.2 MB, sha256 {sha256(site.got)}\n"
    assert site.files() == {KEY}
    assert site.servers["one"].sent
    assert site.servers["two"].sent
    before = site.servers["one"].count("GET")
    done = site.world.run("get", "small/1.0", "--json")
    assert json.loads(done.out) == {
        "release": "small_1.0_20260101",
        "path": str(site.got),
        "outcome": "is there already",
        "sha256": sha256(site.got),
        "size": len(BYTES),
    }
    assert site.servers["one"].count("GET") == before


def test_the_file_and_the_store_can_be_chosen(site: Site) -> None:
    done = site.world.run("get", "small", "-o", "mine.sif", "--from", "two", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert (told["source"], told["outcome"]) == ("two", "downloaded")
    assert (site.world.path / "mine.sif").read_bytes() == BYTES
    assert site.servers["one"].requests == []


def test_what_cannot_be_meant_is_refused(site: Site) -> None:
    done = site.world.run("get", "small", "--from", "three")
    assert (done.code, done.out) == (2, "")
    assert "there is no store three" in done.err
    assert "the stores are one, two" in done.err
    assert site.world.run("get", "small", "-o", "no/such/directory/x").code == 2
    site.got.write_bytes(b"mine")
    done = site.world.run("get", "small")
    assert done.code == 2
    assert site.got.read_bytes() == b"mine"
    assert site.world.run("get", "small", "--force").code == 0
    assert site.got.read_bytes() == BYTES


def test_nothing_is_claimed_when_all_fail(site: Site) -> None:
    site.content = {"one": b"", "two": b""}
    done = site.world.run("get", "small", "--json")
    assert done.code == 1
    assert json.loads(done.out)["exit_code"] == 1
    assert "one: " in done.err
    assert "two: " in done.err
    assert site.files() == set()


def test_other_bytes_everywhere_are_exit_code_4(site: Site) -> None:
    site.content = dict.fromkeys(site.content, BYTES[:-1] + b"x")
    assert site.world.run("get", "small").code == 4
    assert site.files() == set()


def test_what_the_lock_does_not_know_is_compared_and_must_be_an_image(site: Site) -> None:
    site.lock(None)
    assert site.world.run("get", "small", "--require-lock").code == 5
    done = site.world.run("get", "small")
    assert done.code == 1
    assert "unlocked: taken from one; two holds the same bytes" in done.err
    assert "SIF" in done.err
    assert site.files() == set()
    site.content["two"] = BYTES[:-1] + b"x"
    assert site.world.run("get", "small").code == 4


def test_a_file_that_is_there_outlives_what_is_no_image(site: Site) -> None:
    site.lock(None)
    site.got.write_bytes(b"mine")
    done = site.world.run("get", "small", "--force")
    assert (done.code, "SIF" in done.err) == (1, True), done.err
    assert site.got.read_bytes() == b"mine"
    assert site.files() == {KEY}


def test_a_download_that_was_killed_is_continued(site: Site) -> None:
    command = site.world.command("get", "small")
    with subprocess.Popen(command, cwd=site.world.path, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        deadline = time.monotonic() + 60
        part = site.world.path / f".{KEY}.part"
        while not part.exists() or part.stat().st_blocks * 512 < len(BYTES) // 2:
            assert time.monotonic() < deadline
            assert child.poll() is None
            time.sleep(0.01)
        child.kill()
    assert f".{KEY}.part" in site.files()
    assert site.world.run("get", "small").code == 0
    assert site.got.read_bytes() == BYTES
    assert site.files() == {KEY}


def test_old_parts_leave_the_spool(site: Site) -> None:
    spool = site.world.spool
    spool.mkdir(parents=True)
    names = {"new": f".{KEY}.part", "old": ".other_1.0_20260101.simg.part", "theirs": ".thesis.part"}
    for name in (*names.values(), names["old"] + ".aria2"):
        (spool / name).write_text("half")
        if name != names["new"]:
            os.utime(spool / name, (1e9, 1e9))
    site.world.run("upload")
    assert {name for name in os.listdir(spool) if name.endswith((".part", ".aria2"))} == {names["new"], names["theirs"]}


def test_install_from_one_store(synced: World, web_server: Serve) -> None:
    stores = {name: web_server(serve_directory(synced.store)) for name in ("one", "two")}
    listed = ", ".join(f"{{name: {n}, kind: http, url: '{s.url}'}}" for n, s in stores.items())
    synced.configure(f"[{{name: local, kind: directory, path: store}}, {listed}]")
    assert synced.run("install", "small", "--from", "nowhere").code == 2
    done = synced.run("install", "small", "--from", "two", "--format", "sif")
    assert done.code == 0, done.err
    assert stores["one"].requests == []
    assert stores["two"].count("GET")
    (sif,) = (synced.path / "prefix/containers").glob("*/*.simg")
    assert sha256(sif) == sha256(synced.object(SMALL))
