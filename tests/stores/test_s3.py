"""What is particular to S3: what is sent, and what a server may answer instead of doing what was asked."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.errors import StoreError, StoreFullError, TransientStoreError
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.s3 import S3Store
from neurocommand.stores.s3faults import normalised
from tests.servers import Answer, Request, Respond, WebServer

pytestmark = pytest.mark.usefixtures("s3_credentials")

KEY = "niimath_1.0.20240114_20250101.simg"
DATA = b"12345"
SHA256 = hashlib.sha256(DATA).hexdigest()
ARTIFACT = Artifact(SHA256, len(DATA))
STATED = {"x-amz-meta-sha256": SHA256, "Content-Length": "5", "ETag": '"x"'}

Serve = Callable[[Respond], WebServer]


def nothing(done: int) -> None:
    pass


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    (tmp_path / "sent").write_bytes(DATA)
    return tmp_path / "sent"


def error_document(status: int, code: str, message: str = "because", **headers: str) -> Answer:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    shown = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, body, {"Content-Type": "application/xml", **shown})


def by_method(**answers: Answer) -> Respond:
    return lambda request: answers.get(request.method, Answer(200, headers={"ETag": '"x"'}))


def store_of(server: WebServer, **options: object) -> S3Store:
    return S3Store("bucket", "neurocontainers", endpoint=server.url, **options)  # type: ignore[arg-type]


# --- what is sent -----------------------------------------------------------------------------------------------------


def test_a_small_object_is_sent_once_with_its_digest(web_server: Serve, sent: Path) -> None:
    server = web_server(by_method(HEAD=Answer(headers=STATED)))
    store_of(server, prefix="/a/b/").put(KEY, sent, ARTIFACT, nothing)
    before, put, head = server.requests
    assert (before.method, before.path) == ("HEAD", f"/neurocontainers/a/b/{KEY}")
    assert (put.method, put.path, put.body) == ("PUT", f"/neurocontainers/a/b/{KEY}", DATA)
    assert put.headers["x-amz-meta-sha256"] == SHA256
    assert put.headers["x-amz-checksum-sha256"] == base64.b64encode(bytes.fromhex(SHA256)).decode()
    assert put.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
    assert (head.method, head.path) == ("HEAD", f"/neurocontainers/a/b/{KEY}")


def test_an_anonymous_store_sends_no_credentials(web_server: Serve) -> None:
    server = web_server(by_method(HEAD=Answer(headers=STATED)))
    assert store_of(server, anonymous=True).stat(KEY) == StoredObject(KEY, 5, SHA256)
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize("field", ["x-amz-meta-sha256", "X-Amz-Meta-Sha256", "x-amz-meta-SHA256"])
def test_the_digest_is_found_whatever_its_case(field: str, web_server: Serve) -> None:
    server = web_server(by_method(HEAD=Answer(headers={field: SHA256.upper(), "Content-Length": "5"})))
    assert store_of(server).stat(KEY) == StoredObject(KEY, 5, SHA256)


@pytest.mark.parametrize("stated", ["", "junk", "abc" * 21, SHA256 + "0"])
def test_what_is_no_digest_is_not_taken_for_one(stated: str, web_server: Serve) -> None:
    server = web_server(by_method(HEAD=Answer(headers={"x-amz-meta-sha256": stated, "Content-Length": "5"})))
    assert store_of(server).stat(KEY) == StoredObject(KEY, 5, None)


# --- what is read back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{**STATED, "Content-Length": "4"}, {**STATED, "Content-Length": "0"}, {**STATED, "x-amz-meta-sha256": "0" * 64}],
    ids=["shorter", "empty", "other digest"],
)
def test_an_object_that_reads_back_as_something_else_is_an_error(
    headers: dict[str, str | None], web_server: Serve, sent: Path
) -> None:
    store = store_of(web_server(by_method(HEAD=Answer(headers=headers))))
    with pytest.raises(StoreError, match=rf"store bucket: after writing, {KEY} reads back as \d bytes"):
        store.put(KEY, sent, ARTIFACT, nothing)


def test_an_object_that_is_not_there_after_writing_is_an_error(web_server: Serve, sent: Path) -> None:
    def respond(request: Request) -> Answer:
        return Answer(404 if request.method == "HEAD" and KEY in request.path else 200)

    with pytest.raises(StoreError, match=rf"took {KEY} but does not hold it"):
        store_of(web_server(respond)).put(KEY, sent, ARTIFACT, nothing)


def test_a_server_that_keeps_no_metadata_can_be_used(web_server: Serve, sent: Path) -> None:
    server = web_server(by_method(HEAD=Answer(headers={"Content-Length": "5", "ETag": '"x"'})))
    store_of(server).put(KEY, sent, ARTIFACT, nothing)
    assert [request.method for request in server.requests] == ["HEAD", "PUT", "HEAD"]


# --- absent, or cannot tell -------------------------------------------------------------------------------------------


def test_404_for_a_bucket_that_is_not_there_is_not_absent(web_server: Serve) -> None:
    store = store_of(web_server(lambda request: Answer(404)))
    with pytest.raises(StoreError, match="there is no bucket neurocontainers"):
        store.stat(KEY)
    with pytest.raises(StoreError, match="there is no bucket neurocontainers"):
        store.stat(KEY)


@pytest.mark.parametrize("status", [200, 403])
def test_404_in_a_bucket_that_is_there_is_absent_and_asked_once(status: int, web_server: Serve) -> None:
    server = web_server(lambda request: Answer(404 if KEY in request.path else status))
    store = store_of(server)
    assert store.stat(KEY) is None
    assert store.stat(KEY) is None
    assert [KEY in request.path for request in server.requests] == [True, False, True]


def test_404_in_a_bucket_that_cannot_tell_is_an_error(web_server: Serve) -> None:
    server = web_server(lambda request: Answer(404 if KEY in request.path else 500))
    with pytest.raises(TransientStoreError, match=f"cannot tell whether it holds {KEY}: 500"):
        store_of(server).stat(KEY)


def test_get_from_a_bucket_that_is_not_there_says_so(web_server: Serve, tmp_path: Path) -> None:
    server = web_server(lambda request: error_document(404, "NoSuchBucket", "The bucket does not exist"))
    with pytest.raises(StoreError, match="404 NoSuchBucket The bucket does not exist"):
        store_of(server).get(KEY, tmp_path / "got", nothing)
    with pytest.raises(StoreError, match="404 NoSuchBucket"):
        list(store_of(server).list())
    with pytest.raises(StoreError, match="404 NoSuchBucket"):
        store_of(server).delete(KEY)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_store_that_does_not_let_us_in_cannot_tell(status: int, web_server: Serve) -> None:
    server = web_server(lambda request: Answer(status))
    with pytest.raises(StoreError, match=f"store bucket: cannot tell whether it holds {KEY}: {status}") as caught:
        store_of(server).stat(KEY)
    assert "AWS_PROFILE" in caught.value.hint
    assert not isinstance(caught.value, TransientStoreError)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_store_that_is_busy_may_be_asked_again(status: int, web_server: Serve) -> None:
    server = web_server(lambda request: Answer(status, headers={"Retry-After": "7"}))
    with pytest.raises(TransientStoreError, match=f": {status}") as caught:
        store_of(server).stat(KEY)
    assert caught.value.retry_after == 7
    assert len(server.requests) == 1  # to ask again is the business of RetryingStore


def test_a_connection_that_breaks_may_be_tried_again(web_server: Serve, sent: Path) -> None:
    store = store_of(web_server(lambda request: Answer(drop=True)))
    for ask in (lambda: store.stat(KEY), lambda: store.put(KEY, sent, ARTIFACT, nothing)):
        with pytest.raises(TransientStoreError, match="store bucket: cannot "):
            ask()


def test_a_body_that_ends_early_may_be_tried_again(web_server: Serve, tmp_path: Path) -> None:
    store = store_of(web_server(by_method(GET=Answer(body=b"x" * 1000, sent=500))))
    with pytest.raises(TransientStoreError, match=f"store bucket: {KEY} broke off"):
        store.get(KEY, tmp_path / "got", nothing)


def test_a_listing_that_fails_on_its_second_page_yields_nothing(web_server: Serve) -> None:
    first = (
        '<?xml version="1.0"?><ListBucketResult><IsTruncated>true</IsTruncated>'
        f"<NextContinuationToken>t</NextContinuationToken><Contents><Key>{KEY}</Key><Size>5</Size></Contents>"
        "</ListBucketResult>"
    ).encode()
    server = web_server(lambda request: Answer(403) if "continuation-token" in request.path else Answer(body=first))
    seen = []
    with pytest.raises(StoreError, match="cannot be listed: 403"):
        seen.extend(store_of(server).list())
    assert seen == []
    assert len(server.requests) == 2


@pytest.mark.parametrize("body", [b"<html>\n<p>log in", b"no\nXML", b""])
def test_a_page_with_status_200_is_no_listing(body: bytes, web_server: Serve) -> None:
    server = web_server(lambda request: Answer(body=body, headers={"Content-Type": "text/html"}))
    with pytest.raises(StoreError, match="store bucket: cannot be listed: ") as caught:
        list(store_of(server).list())
    assert "\n" not in caught.value.message


def test_a_size_that_is_not_stated_cannot_tell(web_server: Serve, tmp_path: Path) -> None:
    store = store_of(web_server(lambda request: Answer(body=DATA, headers={"Content-Length": None})))
    with pytest.raises(StoreError, match=f"store bucket: does not state the size of {KEY}"):
        store.stat(KEY)
    with pytest.raises(StoreError, match=f"store bucket: does not state the size of {KEY}"):
        store.get(KEY, tmp_path / "got", nothing)


# --- full, refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        error_document(403, "QuotaExceeded"),
        error_document(507, "InsufficientStorage"),
        Answer(507),
        error_document(413, "EntityTooLarge", "Upload exceeds quota."),
        error_document(400, "EntityTooLarge", "Upload exceeds quota."),
        error_document(403, "AccessDenied", "Bucket quota is used up"),
    ],
    ids=["Ceph", "507", "507 without a document", "Swift", "Swift's S3 API", "words"],
)
def test_a_full_store_says_so(answer: Answer, web_server: Serve, sent: Path) -> None:
    with pytest.raises(StoreFullError, match=f"store bucket: cannot take {KEY}: ") as caught:
        store_of(web_server(by_method(PUT=answer))).put(KEY, sent, ARTIFACT, nothing)
    assert caught.value.exit_code == 3


def test_a_store_that_refuses_is_not_full(web_server: Serve, sent: Path) -> None:
    server = web_server(by_method(PUT=error_document(403, "AccessDenied", "Access Denied")))
    with pytest.raises(StoreError, match="403 AccessDenied Access Denied") as caught:
        store_of(server).put(KEY, sent, ARTIFACT, nothing)
    assert not isinstance(caught.value, StoreFullError)
    assert caught.value.exit_code == 1


# --- settings ---------------------------------------------------------------------------------------------------------


def test_settings_that_cannot_work_are_named(monkeypatch: pytest.MonkeyPatch, web_server: Serve) -> None:
    with pytest.raises(StoreError, match="store bucket: Invalid endpoint: nonsense"):
        S3Store("bucket", "neurocontainers", endpoint="nonsense").stat(KEY)
    with pytest.raises(StoreError, match=r"profile \(nobody\) could not be found"):
        S3Store("bucket", "neurocontainers", profile="nobody").stat(KEY)
    with pytest.raises(StoreError, match="store bucket: cannot tell"):
        S3Store("bucket", "no bucket name", endpoint="http://127.0.0.1:1").stat(KEY)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    server = web_server(lambda request: Answer(404))
    with pytest.raises(StoreError, match="Unable to locate credentials") as caught:
        store_of(server).stat(KEY)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert server.requests == []


def test_closing_a_store_that_was_never_asked_is_no_error(web_server: Serve) -> None:
    S3Store("bucket", "neurocontainers").close()
    store = store_of(web_server(by_method(HEAD=Answer(headers=STATED))))
    store.stat(KEY)
    store.close()


def test_a_server_that_cannot_be_reached_may_be_back_soon(s3_credentials: None) -> None:
    store = S3Store("away", "bucket", endpoint="http://127.0.0.1:9", region="us-east-1")
    with pytest.raises(TransientStoreError) as caught:
        store.stat(KEY)
    assert caught.value.message == f"store away: cannot tell whether it holds {KEY}: Connection refused"


def test_what_a_server_says_stays_one_short_line() -> None:
    from botocore.exceptions import ClientError

    said = {"Error": {"Code": "Odd", "Message": "x" * 100_000 + "\n2 done, 0 failed\x1b[2J"}}
    with pytest.raises(StoreError) as caught, normalised("store s: cannot take k"):
        raise ClientError(said, "PutObject")
    assert len(caught.value.message) < 300
    assert caught.value.message.isprintable()
