"""A manifest of someone else: what is read, kept, and used when its address gives nothing good."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from neurocommand.errors import NeurocommandError, UsageError
from neurocommand.events import Event, Noted
from neurocommand.follow import LIMIT, read_manifest_source
from tests.servers import Answer, Request, Respond, WebServer, refused_url

Serve = Callable[[Respond], WebServer]
FIRST, SECOND = '{"fsl": 1}', '{"fsl": 2, "é": 3}'


class World:
    """A server whose answer can be changed, the cache, and what was noted."""

    def __init__(self, serve: Serve, cache: Path) -> None:
        self.answer = Answer(body=FIRST.encode(), headers={"ETag": '"1"'})
        self.server = serve(self.respond)
        self.url = self.server.url + "/apps.json"
        self.cache = cache
        self.events: list[Event] = []

    def respond(self, request: Request) -> Answer:
        etag = self.answer.headers.get("ETag")
        if etag and request.headers.get("If-None-Match") == etag:
            return Answer(304)
        return self.answer

    def read(self) -> str:
        self.events.clear()
        return read_manifest_source(self.url, self.cache, validate, self.events.append)

    def notes(self) -> list[Noted]:
        return [event for event in self.events if isinstance(event, Noted)]


def validate(text: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise NeurocommandError(f"apps.json:1: {error}\nand more") from error


@pytest.fixture
def world(web_server: Serve, tmp_path: Path) -> World:
    return World(web_server, tmp_path / "state" / "manifest")


# --- a file -----------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> str:
    return read_manifest_source(str(path), path.parent / "cache", validate, lambda event: pytest.fail(str(event)))


def test_a_file_is_read_and_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "apps.json").write_text(SECOND, encoding="utf-8")
    assert read_file(tmp_path / "apps.json") == SECOND
    assert os.listdir(tmp_path) == ["apps.json"]


def test_a_file_with_faults_shows_them(tmp_path: Path) -> None:
    (tmp_path / "apps.json").write_text("{")
    with pytest.raises(NeurocommandError, match=r"^apps\.json:1: "):
        read_file(tmp_path / "apps.json")


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"\xff{}", r"is not UTF-8 \(byte 0\)"), (b" " * (LIMIT + 1), "is larger than 16 MiB")],
    ids=["binary", "too large"],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, body: bytes, reason: str) -> None:
    (tmp_path / "apps.json").write_bytes(body)
    with pytest.raises(NeurocommandError, match=rf"apps\.json: {reason}"):
        read_file(tmp_path / "apps.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere.json", tmp_path):
        with pytest.raises(NeurocommandError, match=f"^{path}: "):
            read_file(path)


# --- an address -------------------------------------------------------------------------------------------------------


def test_what_an_address_gives_is_used_and_kept(world: World) -> None:
    assert world.read() == FIRST
    world.answer = Answer(body=SECOND.encode(), headers={"ETag": '"2"'})
    assert world.read() == SECOND
    assert world.notes() == []
    assert len(os.listdir(world.cache)) == 1


def test_what_has_not_changed_is_not_sent_again(world: World) -> None:
    world.read()
    assert world.read() == FIRST
    assert [request.headers.get("If-None-Match") for request in world.server.requests] == [None, '"1"']
    assert world.notes() == []


def test_a_server_without_etags_sends_it_again(world: World) -> None:
    world.answer = Answer(body=FIRST.encode())
    world.read()
    assert world.read() == FIRST
    assert [request.headers.get("If-None-Match") for request in world.server.requests] == [None, None]


BAD: dict[str, tuple[Answer, str]] = {
    "404": (Answer(404), "answers 404 Not Found"),
    "500": (Answer(500), "answers 500"),
    "no answer": (Answer(drop=True), "cannot be asked: "),
    "a web page": (Answer(body=b"<html>log in"), "apps.json:1: "),
    "truncated": (Answer(body=SECOND.encode(), sent=5), "cannot be asked: "),
    "cut but stated so": (Answer(body=SECOND.encode()[:5]), "apps.json:1: "),
    "binary": (Answer(body=b"\xff\xfe"), "is not UTF-8"),
    "too large": (Answer(body=b" " * (LIMIT + 1)), "sends more than 16 MiB"),
    "endless redirect": (Answer(302, headers={"Location": "/apps.json"}), "cannot be asked: redirects in a loop"),
    "unasked 304": (Answer(304), "answers 304"),
    "redirect to a file": (Answer(302, headers={"Location": "file:///etc/passwd"}), "cannot be asked: "),
}


@pytest.mark.parametrize("case", BAD)
def test_the_last_good_copy_is_used_and_said(case: str, world: World) -> None:
    world.answer.headers.clear()
    world.read()
    world.answer, reason = BAD[case]
    (kept,) = world.cache.iterdir()
    before, three_hours_ago = kept.read_bytes(), time.time() - 3 * 3600
    os.utime(kept, (three_hours_ago, three_hours_ago))
    assert world.read() == FIRST
    (note,) = world.notes()
    assert note.subject == world.url
    assert note.message.startswith(f"using the copy of 3 hours ago: {reason}")
    assert "\n" not in note.message
    assert kept.read_bytes() == before


@pytest.mark.parametrize("case", BAD)
def test_without_a_good_copy_it_is_an_error(case: str, world: World) -> None:
    world.answer, reason = BAD[case]
    with pytest.raises(NeurocommandError) as caught:
        world.read()
    assert caught.value.message.startswith(f"{world.url}: {reason}")
    assert "there is no earlier copy" in caught.value.message
    assert caught.value.hint
    assert not world.cache.exists()


def test_what_a_server_says_is_not_obeyed_by_a_terminal(web_server: Serve, tmp_path: Path) -> None:
    class Reason(WebServer):
        def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
            handler.wfile.write(b"HTTP/1.1 500 \x1b[2J\r\nContent-Length: 0\r\n\r\n")

    with Reason(lambda request: Answer()) as server, pytest.raises(NeurocommandError, match="answers 500 ") as caught:
        read_manifest_source(server.url, tmp_path, validate, lambda event: None)
    assert caught.value.message.isprintable()


def test_nobody_answers(world: World, tmp_path: Path) -> None:
    with pytest.raises(NeurocommandError, match="cannot be asked: Connection refused; there is no earlier copy"):
        read_manifest_source(refused_url(), tmp_path, validate, world.events.append)


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "0 seconds"), (-86_400, "0 seconds"), (600, "10 minutes"), (7200, "2 hours"), (10 * 86_400, "10 days")],
)
def test_the_age_is_that_of_the_last_time_it_was_confirmed(world: World, seconds: int, age: str) -> None:
    world.read()
    (kept,) = world.cache.iterdir()
    os.utime(kept, (1, 1))
    world.read()  # 304: as good as new
    assert time.time() - kept.stat().st_mtime < 60
    os.utime(kept, (time.time() - seconds, time.time() - seconds))
    world.answer = Answer(500)
    world.read()
    assert world.notes()[0].message.startswith(f"using the copy of {age} ago: ")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"address": "https://other/", "text": "{}", "etag": ""}', '{"address": 1, "text": 2}', "\xff"],
)
def test_a_damaged_copy_counts_as_none(text: str, world: World) -> None:
    world.read()
    (kept,) = world.cache.iterdir()
    kept.write_bytes(text.encode("latin-1"))
    assert world.read() == FIRST
    assert json.loads(kept.read_bytes())["text"] == FIRST
    kept.write_bytes(text.encode("latin-1"))
    world.answer = Answer(500)
    with pytest.raises(NeurocommandError, match="there is no earlier copy"):
        world.read()


def test_a_copy_that_this_version_finds_faulty_counts_as_none(world: World) -> None:
    world.read()

    def refuse(text: str) -> None:
        raise NeurocommandError("a rule of a newer version")

    with pytest.raises(NeurocommandError, match="a rule of a newer version; there is no earlier copy"):
        read_manifest_source(world.url, world.cache, refuse, world.events.append)
    world.answer = Answer(500)
    with pytest.raises(NeurocommandError, match=r"answers 500 .*; there is no earlier copy"):
        read_manifest_source(world.url, world.cache, refuse, world.events.append)


def test_a_cache_that_cannot_be_written_is_no_obstacle(world: World) -> None:
    world.cache.parent.mkdir(parents=True)
    world.cache.write_text("a file stands in the way")
    assert world.read() == FIRST


def test_two_addresses_are_kept_apart(world: World) -> None:
    world.read()
    other = world.url + "?other"
    world.answer = Answer(body=SECOND.encode())
    assert read_manifest_source(other, world.cache, validate, world.events.append) == SECOND
    world.answer = Answer(500)
    assert world.read() == FIRST
    assert read_manifest_source(other, world.cache, validate, world.events.append) == SECOND


@pytest.mark.parametrize(
    "source",
    [
        "http://example.org/apps.json",
        "ftp://example.org/x",
        "file:///etc/passwd",
        "https://",
        "http://[::1",
        "http://127.0.0.1.evil.org/",
    ],
)
def test_only_https_is_followed(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_manifest_source(source, tmp_path, validate, lambda event: None)


def test_a_password_in_the_address_is_not_shown(tmp_path: Path) -> None:
    address = refused_url().replace("http://", "http://user:s3cret@") + "/apps.json"
    with pytest.raises(NeurocommandError) as caught:
        read_manifest_source(address, tmp_path, validate, lambda event: None)
    assert "s3cret" not in caught.value.message + caught.value.hint
    for source in ("http://user:s3cret@example.org/", "https://user:s3cret@[::1/", "https://user:s3cret@"):
        with pytest.raises(UsageError) as refused:
            read_manifest_source(source, tmp_path, validate, lambda event: None)
        assert "s3cret" not in refused.value.message
