"""A limit of bandwidth: transfers take at least the time that it demands, whoever moves the bytes."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.bandwidth import CREDIT, Bandwidth
from neurocommand.download.fetch import fetch
from neurocommand.model import Artifact
from neurocommand.settings import DownloadSettings
from neurocommand.stores.http import HttpStore
from tests.servers import Respond, WebServer, serve_directory
from tests.test_download import Ear
from tests.world import World

LABEL = "small 1.0"
KEY = "small_1.0_20260101.simg"
BYTES = random.Random(5).randbytes(4 << 20)
ARTIFACT = Artifact(hashlib.sha256(BYTES).hexdigest(), len(BYTES))
RATE = 2 << 20
LEAST = len(BYTES) / RATE - CREDIT

Serve = Callable[[Respond], WebServer]


@pytest.fixture
def site(tmp_path: Path) -> World:
    """One locked release in a directory; nothing that a registry would have to be asked for."""
    world = World(tmp_path / "site", "127.0.0.1:9")
    (world.path / "there").mkdir(parents=True)
    (world.path / "there" / KEY).write_bytes(BYTES)
    world.declare(LABEL)
    entry = {"sha256": ARTIFACT.sha256, "size": ARTIFACT.size, "source_digest": None}
    (world.path / "apps.lock.json").write_text(json.dumps({"version": 1, "releases": {"small_1.0_20260101": entry}}))
    return world


def test_an_upload_takes_its_time_beside_the_download_that_it_needs(site: World) -> None:
    directories = "[{name: there, kind: directory, path: there}, {name: here, kind: directory, path: here}]"
    site.configure(directories, f"limits: {{bandwidth: {RATE}}}\n")
    began = time.monotonic()
    done = site.run("mirror")
    assert time.monotonic() - began >= 2 * len(BYTES) / RATE - CREDIT
    assert done.code == 0, done.err
    assert (site.path / "here" / KEY).read_bytes() == BYTES


@pytest.mark.parametrize("aria2", ["true", "false"])
def test_a_download_takes_its_time(aria2: str, site: World, web_server: Serve) -> None:
    servers = [web_server(serve_directory(site.path / "there")) for _ in range(2)]
    stores = ", ".join(f"{{name: w{n}, kind: http, url: '{server.url}'}}" for n, server in enumerate(servers))
    site.configure(f"[{stores}]", f"limits: {{bandwidth: 2M}}\ndownloads: {{aria2: {aria2}}}\n")
    began = time.monotonic()
    done = site.run("get", "small")
    assert time.monotonic() - began >= LEAST
    assert done.code == 0, done.err
    assert (site.path / KEY).read_bytes() == BYTES
    assert "dropped" not in done.err


@pytest.mark.parametrize("with_aria2", [True, False], ids=["aria2", "in turn"])
def test_a_download_leaves_others_their_share(with_aria2: bool, tmp_path: Path, web_server: Serve) -> None:
    """What another transfer moves at the same time is moved at the expense of this one."""
    (tmp_path / KEY).write_bytes(BYTES)
    (tmp_path / "place").mkdir()
    server = web_server(serve_directory(tmp_path))
    bandwidth = Bandwidth(RATE)
    settings = DownloadSettings(aria2=with_aria2)
    began = time.monotonic()
    with bandwidth.used():
        bandwidth.take(len(BYTES))
        fetch(
            KEY,
            tmp_path / "place" / KEY,
            [HttpStore("web", server.url)],
            ARTIFACT,
            Ear(),
            "small",
            settings=settings,
            bandwidth=bandwidth,
        )
    assert time.monotonic() - began >= 2 * len(BYTES) / RATE - CREDIT
    assert (tmp_path / "place" / KEY).read_bytes() == BYTES
