"""From store to store: the bytes that arrive, what is said of sources that fail, and whose fault it is."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest
import tenacity

from neurocommand.download.relay import relay
from neurocommand.download.verdicts import Fetched
from neurocommand.errors import DownloadError, ImmutableError, NeurocommandError, StoreError, TransientStoreError
from neurocommand.events import Advanced, Event, Finished, Started
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Advance, Content, Store
from neurocommand.stores.retry import RetryingStore
from neurocommand.stores.s3 import S3Store
from tests.servers import Answer, Request, Respond, WebServer, refused_url
from tests.test_download import Ear

KEY = "niimath_1.0.20240114_20250101.simg"
RELEASE = "niimath_1.0.20240114_20250101"
GOOD = bytes(range(256)) * 12_000  # 3 MB
OTHER = b"x" + GOOD[1:]
ARTIFACT = Artifact(hashlib.sha256(GOOD).hexdigest(), len(GOOD))

Serve = Callable[[Respond], WebServer]

# What a source may do instead of sending the object, and what is said of it.
BROKEN: dict[str, tuple[Answer, str]] = {
    "absent": (Answer(404), f"holds no {KEY}"),
    "forbidden": (Answer(403), "answers 403"),
    "server error": (Answer(500), "answers 500"),
    "no answer": (Answer(drop=True), "cannot be asked"),
    "web page": (Answer(body=b"<html>", headers={"Content-Type": "text/html"}), "answers with a web page"),
    "no length": (Answer(body=GOOD, headers={"Content-Length": None}), "does not state the size"),
    "truncated": (Answer(body=GOOD, sent=1_000_000), "broke off"),
    "reset": (Answer(body=GOOD, sent=2_999_999, reset=True), "broke off"),
    "nothing after the headers": (Answer(body=GOOD, sent=0), "broke off"),
    "wrong bytes, and broken": (Answer(body=OTHER, sent=1_000_000), "broke off"),
}
DIFFERENT: dict[str, tuple[Answer, str]] = {
    "other bytes": (Answer(body=OTHER), f"has {len(GOOD)} bytes, sha256 {hashlib.sha256(OTHER).hexdigest()}"),
    "shorter": (Answer(body=GOOD[:-1]), f"has {len(GOOD) - 1} bytes"),
    "longer": (Answer(body=GOOD + b"x"), f"has {len(GOOD) + 1} bytes"),
    "empty": (Answer(), "has 0 bytes"),
    "another digest stated": (
        Answer(body=GOOD, headers={"x-amz-meta-sha256": "0" * 64}),
        f"has {len(GOOD)} bytes, sha256 {'0' * 64}",
    ),
}


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def target(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore("target", tmp_path / "target")


def local(tmp_path: Path, data: bytes = GOOD, name: str = "good") -> DirectoryStore:
    (tmp_path / name).mkdir()
    (tmp_path / name / KEY).write_bytes(data)
    return DirectoryStore(name, tmp_path / name)


def web(web_server: Serve, answer: Answer, name: str) -> HttpStore:
    return HttpStore(name, web_server(lambda request: answer).url)


def copy(sources: list[Store], target: Store, ear: Ear) -> Fetched:
    return relay(KEY, sources, target, ARTIFACT, ear, RELEASE)


def test_the_bytes_arrive_and_progress_is_told(tmp_path: Path, target: DirectoryStore, ear: Ear) -> None:
    assert copy([local(tmp_path)], target, ear) == Fetched(ARTIFACT.sha256, ARTIFACT.size, "good")
    assert (target.path / KEY).read_bytes() == GOOD
    assert target.stat(KEY) == StoredObject(KEY, ARTIFACT.size, ARTIFACT.sha256)
    assert ear.events[0] == Started(RELEASE, "copy to target", ARTIFACT.size)
    steps = [event.done for event in ear.events if isinstance(event, Advanced)]
    assert steps == sorted(steps)
    assert len(steps) > 1
    assert steps[-1] == ARTIFACT.size
    last = ear.events[-1]
    assert isinstance(last, Finished)
    assert (last.release, last.stage, last.size) == (RELEASE, "copy to target", ARTIFACT.size)
    assert len(ear.events) == len(steps) + 2


def test_a_directory_of_this_machine_is_read_before_the_others(
    tmp_path: Path, target: DirectoryStore, ear: Ear, web_server: Serve
) -> None:
    server = web_server(lambda request: Answer(body=GOOD))
    assert copy([HttpStore("web", server.url), local(tmp_path)], target, ear).source == "good"
    assert server.requests == []


@pytest.mark.parametrize("fault", [*BROKEN, *DIFFERENT])
def test_a_source_that_fails_is_named_and_the_next_one_read(
    target: DirectoryStore, ear: Ear, web_server: Serve, fault: str
) -> None:
    answer, said = {**BROKEN, **DIFFERENT}[fault]
    good = web(web_server, Answer(body=GOOD), "good")
    assert copy([web(web_server, answer, "bad"), good], target, ear).source == "good"
    assert (target.path / KEY).read_bytes() == GOOD
    assert [*ear.notes()] == ["bad"]
    assert ear.notes()["bad"].startswith(f"dropped for {RELEASE}: ")
    assert said in ear.notes()["bad"]
    assert sum(isinstance(event, Started) for event in ear.events) == 1


@pytest.mark.parametrize("before", [None, b"12345"], ids=["absent", "damaged"])
@pytest.mark.parametrize("fault", [*BROKEN, *DIFFERENT])
def test_without_a_good_source_the_target_stays_as_it_was(
    target: DirectoryStore, ear: Ear, web_server: Serve, fault: str, before: bytes | None
) -> None:
    if before is not None:
        target.path.mkdir()
        (target.path / KEY).write_bytes(before)
    answer, said = {**BROKEN, **DIFFERENT}[fault]
    gone = HttpStore("gone", refused_url())
    kind: type[NeurocommandError] = ImmutableError if fault in DIFFERENT else DownloadError
    with pytest.raises(kind) as caught:
        copy([gone, web(web_server, answer, "bad")], target, ear)
    assert caught.value.exit_code == (4 if fault in DIFFERENT else 1)
    assert "gone: " in caught.value.message
    assert "bad" in caught.value.message
    assert said in caught.value.message
    left = [path.name for path in target.path.rglob("*") if path.is_file()] if target.path.is_dir() else []
    assert left == ([KEY] if before is not None else [])
    assert before is None or (target.path / KEY).read_bytes() == before
    assert not any(isinstance(event, Finished) for event in ear.events)


def test_a_source_that_breaks_off_once_is_gone_on_with(target: DirectoryStore, ear: Ear, web_server: Serve) -> None:
    answers = [Answer(body=GOOD, sent=1_000_000), Answer(503), Answer(body=GOOD)]
    server = web_server(lambda request: answers.pop(0))
    source = RetryingStore(HttpStore("web", server.url), wait=tenacity.wait_none())
    assert copy([source], target, ear).source == "web"
    assert (target.path / KEY).read_bytes() == GOOD
    assert server.count("GET") == 3
    assert ear.notes() == {}


class FullStore(DirectoryStore):
    """A store that fails so often after it has read everything."""

    def __init__(self, path: Path, *errors: StoreError) -> None:
        super().__init__("target", path)
        self.errors = list(errors)

    def put(self, key: str, source: Path | Content, artifact: Artifact, advance: Advance) -> None:
        if self.errors:
            assert not isinstance(source, Path)
            with source.opened() as stream:
                assert stream.read(artifact.size + 1) == GOOD
            raise self.errors.pop(0)
        super().put(key, source, artifact, advance)


def test_a_fault_of_the_target_is_blamed_on_no_source(tmp_path: Path, ear: Ear, web_server: Serve) -> None:
    error = StoreError("store target: has no space left")
    server = web_server(lambda request: Answer(body=GOOD))
    with pytest.raises(StoreError) as caught:
        copy([local(tmp_path), HttpStore("web", server.url)], FullStore(tmp_path / "target", error), ear)
    assert caught.value is error
    assert ear.notes() == {}
    assert server.requests == []


def test_a_target_that_is_asked_again_gets_the_bytes_from_the_first_one_on(
    tmp_path: Path, ear: Ear, web_server: Serve
) -> None:
    server = web_server(lambda request: Answer(body=GOOD))
    target = FullStore(tmp_path / "target", TransientStoreError("busy"), TransientStoreError("busy"))
    asked_again = RetryingStore(target, wait=tenacity.wait_none())
    assert copy([HttpStore("web", server.url)], asked_again, ear).source == "web"
    assert (target.path / KEY).read_bytes() == GOOD
    assert server.count("GET") == 3


def test_an_interrupt_leaves_nothing_and_closes_the_connection(
    tmp_path: Path, target: DirectoryStore, web_server: Serve
) -> None:
    server = web_server(lambda request: Answer(body=GOOD, rate=2_000_000))

    def interrupt(event: Event) -> None:
        if isinstance(event, Advanced):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relay(KEY, [HttpStore("web", server.url)], target, ARTIFACT, interrupt, RELEASE)
    assert [*target.path.iterdir()] == []
    assert server.sent < len(GOOD)


@pytest.mark.usefixtures("s3_credentials")
def test_memory_is_bounded_by_the_parts_and_no_file_is_made(tmp_path: Path, moto_url: str, ear: Ear) -> None:
    server = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
    part, data = 5 << 20, b"0123456789abcdef" * (6 << 20)  # 96 MiB
    for bucket in ("relay-from", "relay-to"):
        server.create_bucket(Bucket=bucket)
    server.put_object(Bucket="relay-from", Key=KEY, Body=data)
    artifact = Artifact(hashlib.sha256(data).hexdigest(), len(data))
    source = S3Store("from", "relay-from", endpoint=moto_url)
    target = S3Store("to", "relay-to", endpoint=moto_url, part_size=part, concurrency=2)
    source.stat(KEY), target.stat(KEY)  # boto3 is loaded by the first question
    tracemalloc.start()
    try:
        assert relay(KEY, [source], target, artifact, ear, RELEASE).source == "from"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        source.close()
        target.close()
    # two parts, each twice while boto3 sends it, one that is read, and its pieces while they are put together
    assert most < 6 * part + (8 << 20)
    assert server.get_object(Bucket="relay-to", Key=KEY)["Body"].read() == data
    assert [*tmp_path.iterdir()] == []
    server.close()


def test_one_get_is_all_that_is_asked_of_a_source(target: DirectoryStore, ear: Ear, web_server: Serve) -> None:
    def respond(request: Request) -> Answer:
        return Answer(body=GOOD)

    server = web_server(respond)
    copy([HttpStore("web", server.url)], target, ear)
    assert [request.method for request in server.requests] == ["GET"]
