"""Links of all kinds as sources: tokens that go to nobody else, addresses that expire, speeds that are remembered."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from neurocommand.download import speeds
from neurocommand.download.fetch import fetch
from neurocommand.errors import StoreError
from neurocommand.model import Artifact, StoredObject
from neurocommand.settings import DownloadSettings
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Advance, Link
from neurocommand.stores.s3 import S3Store
from tests.servers import Answer, Request, Respond, WebServer, in_parts, own_certificate, refused_url
from tests.test_download import Ear

KEY = "niimath_1.0.20240114_20250101.simg"
RELEASE = "niimath_1.0.20240114_20250101"
GOOD = random.Random(3).randbytes((7 << 20) + 77)
ARTIFACT = Artifact(hashlib.sha256(GOOD).hexdigest(), len(GOOD))
RATE = 4e6

Serve = Callable[[Respond], WebServer]
both = pytest.mark.parametrize("with_aria2", [True, False], ids=["aria2", "in turn"])


class LinkStore(HttpStore):
    """A store whose links are made by a function, and which is read through them only."""

    def __init__(self, name: str, make: Callable[[], Link]) -> None:
        super().__init__(name, "http://127.0.0.1")
        self.make = make
        self.asked = 0

    def stat(self, key: str) -> StoredObject | None:
        return StoredObject(key, ARTIFACT.size, ARTIFACT.sha256)

    def link(self, key: str) -> Link | None:
        self.asked += 1
        return self.make()

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        raise StoreError(f"store {self.name}: is not read by get")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / KEY


def good(request: Request) -> Answer:
    return in_parts(GOOD, request, rate=RATE)


def checked(place: Path) -> None:
    assert place.read_bytes() == GOOD
    assert os.listdir(place.parent) == [KEY]


# --- headers ----------------------------------------------------------------------------------------------------------

TOKEN = "Bearer geheim"


def told(server: WebServer) -> set[str]:
    return {str(value) for request in server.requests for value in request.headers.values() if "geheim" in str(value)}


@both
@pytest.mark.parametrize("name", ["Authorization", "X-Auth-Token"])
def test_a_token_goes_to_its_own_host_only(name: str, with_aria2: bool, place: Path, web_server: Serve) -> None:
    """It stands beside an open mirror, and its host sends the readers on to another one."""
    elsewhere, mirror = web_server(good), web_server(good)

    def guarded(request: Request) -> Answer:
        if request.headers[name] != TOKEN:
            return Answer(401)
        return Answer(307, headers={"Location": f"{elsewhere.url}/blob"})

    registry = web_server(guarded)
    store = LinkStore("registry", lambda: Link(f"{registry.url}/v2/blob", ((name, TOKEN),), None))
    ear = Ear()
    stores = [store, HttpStore("mirror", mirror.url)]
    fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=DownloadSettings(aria2=with_aria2))
    checked(place)
    assert ear.notes() == {}
    assert told(registry) == {TOKEN}
    assert told(elsewhere) == told(mirror) == set()
    if with_aria2:
        assert elsewhere.sent > len(GOOD) / 8


@both
def test_what_needs_a_token_to_the_end_is_read_when_no_open_mirror_gives_it(
    with_aria2: bool, place: Path, web_server: Serve
) -> None:
    registry = web_server(lambda r: good(r) if r.headers["Authorization"] == TOKEN else Answer(401))
    broken = web_server(lambda r: in_parts(GOOD, r, sent=10 if r.method == "GET" else None))
    guarded = LinkStore("registry", lambda: Link(f"{registry.url}/b", (("Authorization", TOKEN),), None))
    ear = Ear()
    stores = [HttpStore("broken", broken.url), guarded]
    settings = DownloadSettings(aria2=with_aria2)
    assert fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=settings).source == "registry"
    checked(place)
    assert set(ear.notes()) == {"broken"}
    assert told(broken) == set()


@both
def test_a_password_of_an_address_goes_to_its_own_host_only(with_aria2: bool, place: Path, web_server: Serve) -> None:
    elsewhere = web_server(good)

    def guarded(request: Request) -> Answer:
        if request.headers["Authorization"] != "Basic dTpnZWhlaW0=":
            return Answer(401)
        return Answer(302, headers={"Location": f"{elsewhere.url}/{KEY}"})

    server = web_server(guarded)
    store = HttpStore("web", server.url.replace("http://", "http://u:geheim@"))
    fetch(KEY, place, [store], ARTIFACT, Ear(), RELEASE, settings=DownloadSettings(aria2=with_aria2))
    checked(place)
    assert not any(request.headers["Authorization"] for request in elsewhere.requests)


# --- addresses that expire --------------------------------------------------------------------------------------------


class Signing:
    """A server whose addresses are good for so many requests, and the function that makes a new one."""

    def __init__(self, web_server: Serve, good_for: int) -> None:
        self.good_for = good_for
        self.used: dict[str, int] = {}
        self.server = web_server(self.respond)

    def respond(self, request: Request) -> Answer:
        signature = parse_qs(urlsplit(request.path).query).get("signature", [""])[0]
        if signature not in self.used or self.used[signature] >= self.good_for:
            return Answer(403)
        self.used[signature] += 1
        # a part at a time, so that more requests are needed than one signature is good for
        return in_parts(GOOD, request, rate=RATE)

    def link(self) -> Link:
        self.used[f"s{len(self.used)}"] = 0
        return Link(f"{self.server.url}/{KEY}?signature=s{len(self.used) - 1}", (), 2.0)


@pytest.mark.timeout(120)
def test_an_address_that_expires_is_asked_for_again(place: Path, web_server: Serve) -> None:
    signing = Signing(web_server, 4)
    store, ear = LinkStore("signed", signing.link), Ear()
    fetch(KEY, place, [store], ARTIFACT, ear, RELEASE)
    checked(place)
    assert store.asked > 1
    assert ear.notes() == {}


@pytest.mark.timeout(120)
def test_one_that_expires_beside_a_good_mirror_goes_on_too(place: Path, web_server: Serve) -> None:
    signing = Signing(web_server, 3)
    store, ear = LinkStore("signed", signing.link), Ear()
    fetched = fetch(KEY, place, [store, HttpStore("open", web_server(good).url)], ARTIFACT, ear, RELEASE)
    checked(place)
    assert set(fetched.source.split(", ")) == {"signed", "open"}
    assert ear.notes() == {}


def test_one_that_redirects_once_and_gives_it_all_is_not_blamed(place: Path, web_server: Serve) -> None:
    """A small object is there before anybody looks how fast it comes."""
    content, asked = b"x" * 1000, [0]

    def respond(request: Request) -> Answer:
        asked[0] += request.method == "GET"
        # the first is the look at its beginning
        if request.method == "GET" and asked[0] == 2:
            return Answer(302, headers={"Location": f"/{KEY}"})
        return in_parts(content, request)

    artifact, ear = Artifact(hashlib.sha256(content).hexdigest(), len(content)), Ear()
    fetched = fetch(KEY, place, [HttpStore("web", web_server(respond).url)], artifact, ear, RELEASE)
    assert (fetched.source, ear.notes()) == ("web", {})
    assert place.read_bytes() == content
    assert asked[0] >= 3


@pytest.mark.timeout(120)
def test_one_that_is_refused_for_good_is_dropped(place: Path, web_server: Serve) -> None:
    """A new address is no better: nobody asks for ever."""
    signing = Signing(web_server, 2)
    store, ear = LinkStore("signed", lambda: Link(f"{signing.server.url}/{KEY}?signature=only", (), 2.0)), Ear()
    signing.used["only"] = 0
    fetch(KEY, place, [store, HttpStore("open", web_server(good).url)], ARTIFACT, ear, RELEASE)
    checked(place)
    assert "403" in ear.notes()["signed"]
    assert store.asked <= 4


# --- the environment --------------------------------------------------------------------------------------------------


@both
def test_the_certificates_of_the_environment_are_trusted(
    with_aria2: bool, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = own_certificate(tmp_path / "own.pem")
    settings = DownloadSettings(aria2=with_aria2)
    with WebServer(good, pem) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(pem))
        fetch(KEY, place, [HttpStore("web", server.url)], ARTIFACT, Ear(), RELEASE, settings=settings)
    checked(place)


@both
def test_the_proxy_of_the_environment_is_asked(
    with_aria2: bool, place: Path, web_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = web_server(good)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    store = HttpStore("far", "http://far.invalid")
    fetch(KEY, place, [store], ARTIFACT, Ear(), RELEASE, settings=DownloadSettings(aria2=with_aria2))
    checked(place)
    assert {request.path for request in proxy.requests} == {f"http://far.invalid/{KEY}"}


def test_without_aria2c_on_the_path_one_mirror_is_read(
    place: Path, web_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    servers = [web_server(good), web_server(good)]
    stores = [HttpStore(f"m{number}", server.url) for number, server in enumerate(servers)]
    ear = Ear()
    assert fetch(KEY, place, stores, ARTIFACT, ear, RELEASE).source in ("m0", "m1")
    checked(place)
    assert ear.notes() == {}


# --- speeds -----------------------------------------------------------------------------------------------------------


def test_the_fastest_is_first_and_speeds_are_remembered(tmp_path: Path, place: Path, web_server: Serve) -> None:
    slow, fast = web_server(lambda r: in_parts(GOOD, r, rate=2e6)), web_server(lambda r: in_parts(GOOD, r, rate=16e6))
    stores = [HttpStore("slow", slow.url), HttpStore("fast", fast.url)]
    settings = DownloadSettings(aria2=False, speeds=tmp_path / "state/speeds.json")
    ear = Ear()
    assert fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=settings).source == "fast"
    content = json.loads((tmp_path / "state/speeds.json").read_text())
    assert content["version"] == 1
    assert set(content["hosts"]) == {slow.host, fast.host}
    assert content["hosts"][fast.host]["speed"] > 2 * content["hosts"][slow.host]["speed"]
    assert slow.sent <= 2 << 20
    slow.sent = 0
    place.unlink()
    assert fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=settings).source == "fast"
    assert slow.sent <= 1 << 17


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"version": 2, "hosts": {"a": {"speed": 1, "at": 1}}}',
        '{"version": 1}',
        '{"version": 1, "hosts": []}',
        '{"version": 1, "hosts": {"a": {"speed": "x", "at": 1}}}',
        '{"version": 1, "hosts": {"a": 1}}',
        "[" * 100_000,
        "\udcff",
    ],
)
def test_a_file_of_speeds_that_is_none_is_ignored_and_replaced(content: str, tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    path.write_bytes(content.encode(errors="surrogateescape"))
    assert speeds.read(path) == {}
    speeds.remember(path, {"b": 5.0})
    assert speeds.read(path) == {"b": 5.0}


def test_speeds_of_yesterday_and_of_tomorrow_are_forgotten(tmp_path: Path) -> None:
    now = time.time()
    hosts = {"now": now - 3600, "yesterday": now - 90_000, "tomorrow": now + 90_000}
    path = tmp_path / "speeds.json"
    content = {"version": 1, "hosts": {host: {"speed": 7, "at": at} for host, at in hosts.items()}}
    path.write_text(json.dumps(content))
    assert speeds.read(path) == {"now": 7.0}
    assert speeds.read(tmp_path / "nowhere") == speeds.read(None) == {}


def test_speeds_that_cannot_be_kept_are_no_failure(place: Path, web_server: Serve) -> None:
    settings = DownloadSettings(speeds=Path("/proc/nowhere/speeds.json"))
    fetch(KEY, place, [HttpStore("web", web_server(good).url)], ARTIFACT, Ear(), RELEASE, settings=settings)
    checked(place)


def test_a_mirror_that_is_down_is_named_though_its_speed_is_known(
    tmp_path: Path, place: Path, web_server: Serve
) -> None:
    down = refused_url()
    speeds.remember(tmp_path / "speeds.json", {speeds.host_of(down): 1e9})
    ear = Ear()
    stores = [HttpStore("down", down), HttpStore("web", web_server(good).url)]
    settings = DownloadSettings(speeds=tmp_path / "speeds.json")
    assert fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=settings).source == "web"
    checked(place)
    assert "Connection refused" in ear.notes()["down"]


@both
def test_a_signed_address_of_a_bucket_is_a_source(
    with_aria2: bool, tmp_path: Path, place: Path, moto_url: str, s3_credentials: None
) -> None:
    bucket = f"mirrors-{int(with_aria2)}"
    with contextlib.closing(boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")) as client:
        client.create_bucket(Bucket=bucket)
    store = S3Store("bucket", bucket, endpoint=moto_url, region="us-east-1", records=tmp_path / "records")
    (tmp_path / "sif").write_bytes(GOOD)
    store.put(KEY, tmp_path / "sif", ARTIFACT, lambda done: None)
    ear = Ear()
    stores = [store, HttpStore("down", refused_url())]
    settings = DownloadSettings(aria2=with_aria2)
    assert fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=settings).source == "bucket"
    checked(place)
    assert list(ear.notes()) == ["down"]
    store.close()
