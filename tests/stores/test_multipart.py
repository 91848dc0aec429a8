"""Uploads in parts: what is sent, what is sent again, what is gone on with, and what is left behind."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from neurocommand.errors import ImmutableError, StoreError, StoreFullError, TransientStoreError
from neurocommand.model import Artifact
from neurocommand.stores.multipart import part_size_for
from neurocommand.stores.s3 import PART, S3Store
from tests.servers import Answer, Request, WebServer
from tests.stores.test_s3 import KEY, Serve, error_document, nothing, store_of

pytestmark = pytest.mark.usefixtures("s3_credentials")

BIG = bytes(range(256)) * ((2 * PART + PART // 2) // 256)
BIG_ARTIFACT = Artifact(hashlib.sha256(BIG).hexdigest(), len(BIG))


class PartServer:
    """As much of S3 as an upload in parts needs; ``fault`` may answer in its place."""

    def __init__(self, fault: Callable[[Request], Answer | None] = lambda request: None) -> None:
        self.fault = fault
        self.parts: dict[int, bytes] = {}
        self.received: list[int] = []  # numbers of the parts that came, as they came
        self.begun = 0
        self.completed = self.aborted = False
        self.metadata: str | None = None

    def __call__(self, request: Request) -> Answer:
        return self.fault(request) or getattr(self, request.method.lower())(request)

    def head(self, request: Request) -> Answer:
        if KEY in request.path and not self.completed:
            return Answer(404)
        size = str(sum(map(len, self.parts.values())))
        return Answer(headers={"Content-Length": size, "x-amz-meta-sha256": self.metadata, "ETag": '"e"'})

    def get(self, request: Request) -> Answer:
        if "uploadId=" not in request.path:
            return error_document(501, "NotImplemented")
        if f"uploadId=u{self.begun}" not in request.path or self.aborted:
            return error_document(404, "NoSuchUpload")
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{self._tag(data)}</ETag><Size>{len(data)}</Size></Part>"
            for number, data in sorted(self.parts.items())
        )
        return self._document("ListPartsResult", f"{listed}<IsTruncated>false</IsTruncated>")

    def delete(self, request: Request) -> Answer:
        self.aborted = True
        self.parts.clear()
        return Answer(204)

    def put(self, request: Request) -> Answer:
        number = int(request.path.partition("partNumber=")[2].partition("&")[0])
        stated = base64.b64decode(request.headers["x-amz-checksum-sha256"])
        assert stated == hashlib.sha256(request.body).digest()
        assert request.headers["x-amz-sdk-checksum-algorithm"] == "SHA256"
        self.parts[number] = request.body
        self.received.append(number)
        return Answer(headers={"ETag": self._tag(request.body)})

    def post(self, request: Request) -> Answer:
        if "uploads" in request.path:
            self.begun += 1
            self.aborted = False
            self.parts.clear()
            self.metadata = request.headers["x-amz-meta-sha256"]
            return self._document("InitiateMultipartUploadResult", f"<UploadId>u{self.begun}</UploadId>")
        self.completed = True
        return self._document("CompleteMultipartUploadResult", '<ETag>"e"</ETag>')

    def _tag(self, data: bytes) -> str:
        return f'"{hashlib.md5(data).hexdigest()}"'

    def _document(self, kind: str, content: str) -> Answer:
        body = f"<{kind}><Bucket>neurocontainers</Bucket><Key>{KEY}</Key>{content}</{kind}>".encode()
        return Answer(body=body, headers={"Content-Type": "application/xml"})

    @property
    def content(self) -> bytes:
        return b"".join(self.parts[number] for number in sorted(self.parts))


@pytest.fixture
def big(tmp_path: Path) -> Path:
    (tmp_path / "big").write_bytes(BIG)
    return tmp_path / "big"


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_big_object_is_sent_in_parts_each_with_its_digest(web_server: Serve, big: Path) -> None:
    # This server does not know how to list unfinished uploads, which hinders nothing.
    server, steps = PartServer(), list[int]()
    store_of(web_server(server)).put(KEY, big, BIG_ARTIFACT, steps.append)
    assert server.completed
    assert not server.aborted
    assert server.content == BIG
    assert server.metadata == BIG_ARTIFACT.sha256
    assert steps == sorted(steps)
    assert steps[-1] == len(BIG)


def test_the_size_of_the_parts_is_ours_to_choose(web_server: Serve, big: Path) -> None:
    server = PartServer()
    store_of(web_server(server), part_size=5 << 20).put(KEY, big, BIG_ARTIFACT, nothing)
    assert [len(server.parts[number]) for number in sorted(server.parts)] == [5 << 20] * 4
    assert server.content == BIG


@pytest.mark.parametrize("size", [0, 1, PART, 9_000 * PART, 9_000 * PART + 1, 5 << 40])
def test_there_are_never_more_parts_than_s3_takes(size: int) -> None:
    part = part_size_for(size, PART)
    assert part >= PART
    assert -(-size // part) <= 9_000


@pytest.mark.parametrize("concurrency", [1, 3])
def test_so_many_parts_are_sent_at_once_and_no_more(concurrency: int, tmp_path: Path, web_server: Serve) -> None:
    running, seen = set[int](), list[int]()

    def watch(request: Request) -> Answer | None:
        if "partNumber" not in request.path:
            return None
        running.add(request.connection)
        seen.append(len(running))
        listener.stopping.wait(0.2)
        running.discard(request.connection)
        return None

    data = b"x" * (6 * 1024)
    (tmp_path / "sent").write_bytes(data)
    server = PartServer(watch)
    listener = web_server(server)
    store = store_of(listener, part_size=1024, concurrency=concurrency)
    store.put(KEY, tmp_path / "sent", Artifact(hashlib.sha256(data).hexdigest(), len(data)), nothing)
    assert max(seen) == concurrency
    assert server.content == data


# --- what fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(drop=True), TransientStoreError),
        (Answer(500), TransientStoreError),
        (error_document(403, "AccessDenied"), StoreError),
        (error_document(403, "QuotaExceeded"), StoreFullError),
    ],
    ids=["drop", "500", "403", "full"],
)
def test_a_part_that_fails_gives_up_the_whole_upload(
    answer: Answer, expected: type[StoreError], web_server: Serve, big: Path
) -> None:
    server = PartServer(lambda request: answer if "partNumber=2" in request.path else None)
    with pytest.raises(expected):
        store_of(web_server(server)).put(KEY, big, BIG_ARTIFACT, nothing)
    assert not server.completed
    assert server.aborted


def test_a_part_that_fails_once_is_sent_again(web_server: Serve, big: Path) -> None:
    failures = [Answer(drop=True), Answer(503)]

    def fail(request: Request) -> Answer | None:
        return failures.pop() if "partNumber=2" in request.path and failures else None

    server = PartServer(fail)
    store_of(web_server(server)).put(KEY, big, BIG_ARTIFACT, nothing)
    assert server.content == BIG
    assert failures == []


def test_other_bytes_are_never_completed(web_server: Serve, big: Path) -> None:
    server = PartServer()
    other = Artifact("0" * 64, len(BIG))
    with pytest.raises(ImmutableError, match=f"{big}: sha256 {BIG_ARTIFACT.sha256}"):
        store_of(web_server(server)).put(KEY, big, other, nothing)
    assert not server.completed
    assert server.aborted


def test_a_stored_checksum_that_is_not_the_one_sent_is_an_error(web_server: Serve, big: Path) -> None:
    def fault(request: Request) -> Answer | None:
        if request.method == "HEAD" and server.completed:
            return Answer(headers={**server.head(request).headers, "x-amz-checksum-sha256": "A" * 43 + "=-3"})
        return None

    server = PartServer(fault)
    with pytest.raises(StoreError, match=rf"after writing, {KEY} has the checksum A{{43}}="):
        store_of(web_server(server)).put(KEY, big, BIG_ARTIFACT, nothing)


# --- gone on with -----------------------------------------------------------------------------------------------------


class Interrupted:
    """A server that takes no third part until it is healed, and the records of who uploads to it."""

    def __init__(self, serve: Serve, directory: Path) -> None:
        self.server = PartServer(self._fault)
        self.web: WebServer = serve(self.server)
        self.records = directory / "uploads"
        self.healed = False
        self.interrupt = True  # by the user; else the third part fails until it is given up

    def _fault(self, request: Request) -> Answer | None:
        return error_document(503, "SlowDown") if "partNumber=3" in request.path and not self.healed else None

    def store(self, **options: object) -> S3Store:
        # one part after the other, so that it is known which ones came before the fault
        return store_of(self.web, records=self.records, concurrency=1, **options)

    def upload_and_fail(self, path: Path, *, kept: bool = True) -> None:
        def advance(done: int) -> None:
            if self.interrupt and done >= 2 * PART:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt if self.interrupt else TransientStoreError):
            self.store().put(KEY, path, BIG_ARTIFACT, advance)
        assert not self.server.completed
        assert self.server.aborted is not kept
        assert self.server.received == [1, 2]
        self.healed = True
        self.server.received.clear()


@pytest.fixture
def interrupted(web_server: Serve, tmp_path: Path) -> Interrupted:
    return Interrupted(web_server, tmp_path)


@pytest.mark.parametrize("interrupt", [True, False], ids=["interrupt", "fault"])
def test_what_the_server_has_is_not_sent_again(interrupt: bool, interrupted: Interrupted, big: Path) -> None:
    interrupted.interrupt = interrupt
    interrupted.upload_and_fail(big)
    steps: list[int] = []
    interrupted.store().put(KEY, big, BIG_ARTIFACT, steps.append)
    assert interrupted.server.received == [3]
    assert interrupted.server.begun == 1
    assert interrupted.server.content == BIG
    assert steps == [PART, 2 * PART, len(BIG)]
    assert list(interrupted.records.iterdir()) == []


def test_a_part_that_the_server_has_otherwise_is_sent_again(interrupted: Interrupted, big: Path) -> None:
    interrupted.upload_and_fail(big)
    interrupted.server.parts[1] = b"other bytes"
    del interrupted.server.parts[2]
    interrupted.store().put(KEY, big, BIG_ARTIFACT, nothing)
    assert interrupted.server.received == [1, 2, 3]
    assert interrupted.server.begun == 1
    assert interrupted.server.content == BIG


def test_a_file_that_changed_meanwhile_is_never_completed(interrupted: Interrupted, big: Path) -> None:
    interrupted.upload_and_fail(big)
    big.write_bytes(b"y" + BIG[1:])
    with pytest.raises(ImmutableError):
        interrupted.store().put(KEY, big, BIG_ARTIFACT, nothing)
    assert interrupted.server.received[0] == 1
    assert not interrupted.server.completed
    assert interrupted.server.aborted
    assert list(interrupted.records.iterdir()) == []


@pytest.mark.parametrize("change", ["artifact", "part size", "upload gone", "record torn", "no record"])
def test_an_upload_of_something_else_is_begun_anew(change: str, interrupted: Interrupted, big: Path) -> None:
    interrupted.upload_and_fail(big)
    data, options = BIG, dict[str, object]()
    (record,) = interrupted.records.iterdir()
    match change:
        case "artifact":
            data = BIG[:-1] + b"z"
            big.write_bytes(data)
        case "part size":
            options["part_size"] = 6 << 20
        case "upload gone":
            interrupted.server.aborted = True
        case "record torn":
            record.write_bytes(record.read_bytes()[:50])
        case "no record":
            record.unlink()
    interrupted.store(**options).put(KEY, big, Artifact(hashlib.sha256(data).hexdigest(), len(data)), nothing)
    assert interrupted.server.begun == 2
    assert interrupted.server.received == list(range(1, len(interrupted.server.parts) + 1))
    assert interrupted.server.content == data
    assert list(interrupted.records.iterdir()) == []


def test_without_a_place_for_records_an_upload_is_removed(interrupted: Interrupted, big: Path) -> None:
    interrupted.records = big / "below a file"
    interrupted.upload_and_fail(big, kept=False)
    interrupted.store().put(KEY, big, BIG_ARTIFACT, nothing)
    assert interrupted.server.received == [1, 2, 3]
    assert interrupted.server.content == BIG


# --- what others left -------------------------------------------------------------------------------------------------


def test_ages_of_unfinished_uploads_are_by_the_servers_clock(web_server: Serve, big: Path) -> None:
    aborted = []
    initiated = {"old": "2031-05-01T11:59:59Z", "young": "2031-05-01T12:00:01Z", "later": "2031-05-02T12:00:01Z"}
    uploads = "".join(
        f"<Upload><Key>{KEY}</Key><UploadId>{name}</UploadId><Initiated>{time}</Initiated></Upload>"
        for name, time in initiated.items()
    )
    document = f"<ListMultipartUploadsResult>{uploads}</ListMultipartUploadsResult>".encode()

    def watch(request: Request) -> Answer | None:
        if request.method == "GET":
            return Answer(body=document, headers={"Date": "Fri, 02 May 2031 12:00:00 GMT"})
        if request.method == "DELETE":
            aborted.append(request.path.partition("uploadId=")[2])
            return Answer(204)
        return None

    store_of(web_server(PartServer(watch))).put(KEY, big, BIG_ARTIFACT, nothing)
    assert aborted == ["old"]


def test_only_unfinished_uploads_of_the_same_key_are_cleaned_up(moto_url: str, big: Path) -> None:
    bucket = "cleaning"
    server = boto3.client("s3", endpoint_url=moto_url, region_name="us-east-1")
    server.create_bucket(Bucket=bucket)
    for key in (KEY, KEY + ".other", "x" + KEY):
        server.create_multipart_upload(Bucket=bucket, Key=key)

    def unfinished() -> list[str]:
        return sorted(upload["Key"] for upload in server.list_multipart_uploads(Bucket=bucket)["Uploads"])

    assert unfinished() == sorted([KEY, KEY + ".other", "x" + KEY])
    S3Store("bucket", bucket, endpoint=moto_url).put(KEY, big, BIG_ARTIFACT, nothing)
    assert unfinished() == sorted([KEY + ".other", "x" + KEY])
    server.close()
