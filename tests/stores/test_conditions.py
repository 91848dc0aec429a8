"""Two writers: what is asked of the server, and what its answers mean."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.errors import ImmutableError, StoreError, TransientStoreError
from neurocommand.model import Artifact
from tests.servers import Answer, Request
from tests.stores.test_s3 import ARTIFACT, DATA, KEY, SHA256, Serve, error_document, nothing, store_of

pytestmark = pytest.mark.usefixtures("s3_credentials")

OTHER = hashlib.sha256(b"54321").hexdigest()


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    (tmp_path / "sent").write_bytes(DATA)
    return tmp_path / "sent"


class ObjectServer:
    """As much of S3 as one small object needs, with conditions; ``meanwhile`` happens right before one is decided.

    ``knows`` names the conditions that it knows; others it answers with 501, or ignores where ``polite`` is False.
    """

    def __init__(self, knows: tuple[str, ...] = ("If-Match", "If-None-Match"), polite: bool = True) -> None:
        self.knows = knows
        self.polite = polite
        self.object: tuple[bytes, str] | None = None  # bytes, and the sha256 in its metadata
        self.meanwhile: list[Callable[[], None]] = []
        self.after_writing: Callable[[], None] = lambda: None
        self.puts: list[dict[str, str]] = []

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.object[0]).hexdigest()}"' if self.object else ""

    def __call__(self, request: Request) -> Answer:
        return {"HEAD": self.head, "PUT": self.put}[request.method](request)

    def head(self, request: Request) -> Answer:
        if KEY not in request.path:
            return Answer()
        if self.object is None:
            return Answer(404)
        data, sha256 = self.object
        return Answer(
            headers={"Content-Length": str(len(data)), "ETag": self.etag, "x-amz-meta-sha256": sha256 or None}
        )

    def put(self, request: Request) -> Answer:
        conditions = {name: request.headers[name] for name in ("If-Match", "If-None-Match") if name in request.headers}
        self.puts.append(conditions)
        if self.meanwhile:
            self.meanwhile.pop(0)()
        if self.polite and not set(conditions) <= set(self.knows):
            return error_document(501, "NotImplemented")
        wanted = {name: value for name, value in conditions.items() if name in self.knows}
        if ("If-None-Match" in wanted and self.object) or wanted.get("If-Match", self.etag) != self.etag:
            return error_document(412, "PreconditionFailed")
        self.object = (request.body, request.headers["x-amz-meta-sha256"])
        etag = self.etag
        self.after_writing()
        return Answer(headers={"ETag": etag})


def write(server: ObjectServer, data: bytes, sha256: str | None = None) -> Callable[[], None]:
    def act() -> None:
        server.object = (data, hashlib.sha256(data).hexdigest() if sha256 is None else sha256)

    return act


def test_onto_an_absent_key_only_if_absent(web_server: Serve, sent: Path) -> None:
    server = ObjectServer()
    store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)
    assert server.puts == [{"If-None-Match": "*"}]
    assert server.object == (DATA, SHA256)


def test_onto_a_damaged_object_only_if_still_that_one(web_server: Serve, sent: Path) -> None:
    server = ObjectServer()
    write(server, b"123")()
    seen = server.etag
    store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)
    assert server.puts == [{"If-Match": seen}]
    assert server.object == (DATA, SHA256)


@pytest.mark.parametrize("before", [None, b"123"], ids=["absent", "damaged"])
@pytest.mark.parametrize("knows", [True, False], ids=["knows", "501"])
class TestSomebodyElseIsFirst:
    def server(self, before: bytes | None, knows: bool) -> ObjectServer:
        server = ObjectServer() if knows else ObjectServer(knows=())
        if before is not None:
            write(server, before)()
        return server

    def test_with_the_same_artifact(self, before: bytes | None, knows: bool, web_server: Serve, sent: Path) -> None:
        server = self.server(before, knows)
        server.meanwhile.append(write(server, DATA))
        store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)
        assert server.object == (DATA, SHA256)
        assert len(server.puts) == 1

    def test_with_other_bytes(self, before: bytes | None, knows: bool, web_server: Serve, sent: Path) -> None:
        server = self.server(before, knows)
        server.meanwhile.append(write(server, b"54321"))
        with pytest.raises(ImmutableError, match=f"somebody else put another {KEY} meanwhile: 5 bytes, sha256 {OTHER}"):
            store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)
        assert server.object == (b"54321", OTHER)

    def test_without_a_digest(self, before: bytes | None, knows: bool, web_server: Serve, sent: Path) -> None:
        server = self.server(before, knows)
        server.meanwhile.append(write(server, b"54321", sha256=""))
        with pytest.raises(StoreError, match=f"somebody else put {KEY} meanwhile, and its digest is not stated"):
            store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)
        assert server.object == (b"54321", "")


def test_somebody_else_removed_it(web_server: Serve, sent: Path) -> None:
    server = ObjectServer()
    write(server, b"123")()
    server.meanwhile.append(lambda: setattr(server, "object", None))
    with pytest.raises(TransientStoreError, match="and it holds none now"):
        store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)


@pytest.mark.parametrize("unknown", ["If-Match", "If-None-Match"])
def test_a_server_is_asked_once_for_a_condition_that_it_does_not_know(
    unknown: str, web_server: Serve, sent: Path
) -> None:
    known = {"If-Match", "If-None-Match"} - {unknown}
    server = ObjectServer(knows=tuple(known))
    store = store_of(web_server(server))
    for before in (None, b"123"):
        for _ in range(2):
            server.object = None if before is None else (before, "")
            store.put(KEY, sent, ARTIFACT, nothing)
            assert server.object == (DATA, SHA256)
    assert [unknown in asked for asked in server.puts].count(True) == 1
    assert len(server.puts) == 5
    assert [asked for asked in server.puts if known & asked.keys()] != []


@pytest.mark.parametrize("polite", [True, False], ids=["501", "ignores"])
def test_what_a_server_without_conditions_lets_happen_is_seen_after_the_write(
    polite: bool, web_server: Serve, sent: Path
) -> None:
    server = ObjectServer(knows=(), polite=polite)
    server.after_writing = write(server, b"54321")
    with pytest.raises(ImmutableError, match=f"somebody else put another {KEY} meanwhile"):
        store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)


def test_an_answer_that_was_lost_shows_as_somebody_else(web_server: Serve, sent: Path) -> None:
    """The server took the object, the connection broke, the request is repeated: it is there already."""
    server = ObjectServer()
    server.meanwhile.append(write(server, DATA))
    store_of(web_server(server)).put(KEY, sent, ARTIFACT, nothing)
    assert server.object == (DATA, SHA256)


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (500, "InternalError"), (400, "InvalidArgument")])
def test_another_refusal_is_no_lost_race(status: int, code: str, web_server: Serve, sent: Path) -> None:
    def respond(request: Request) -> Answer:
        if request.method == "HEAD":
            return Answer(404 if KEY in request.path else 200)
        return error_document(status, code)

    with pytest.raises(StoreError, match=f"cannot take {KEY}: {status} {code}"):
        store_of(web_server(respond)).put(KEY, sent, ARTIFACT, nothing)


def test_the_servers_own_checksum_says_more_than_what_somebody_wrote_beside_it(web_server: Serve) -> None:
    checksum = base64.b64encode(bytes.fromhex(SHA256)).decode()
    headers: dict[str, str | None] = {"Content-Length": "5", "ETag": '"x"', "x-amz-meta-sha256": OTHER}
    for more, expected in (
        ({"x-amz-checksum-sha256": checksum}, SHA256),
        ({"x-amz-checksum-sha256": checksum, "x-amz-checksum-type": "FULL_OBJECT"}, SHA256),
        ({"x-amz-checksum-sha256": checksum, "x-amz-checksum-type": "COMPOSITE"}, OTHER),
        ({"x-amz-checksum-sha256": checksum, "ETag": '"x-3"'}, OTHER),
        ({"x-amz-checksum-sha256": f"{checksum}-3", "ETag": '"x-3"'}, OTHER),
        ({"x-amz-checksum-sha256": "junk"}, None),
    ):
        answer = Answer(headers={**headers, **more})
        found = store_of(web_server(lambda request, answer=answer: answer)).stat(KEY)
        assert found is not None
        assert found.sha256 == expected


def test_a_checksum_of_other_bytes_after_a_write_is_an_error(web_server: Serve, sent: Path) -> None:
    def respond(request: Request) -> Answer:
        answer = server(request)
        if request.method == "HEAD" and server.object is not None:
            answer.headers["x-amz-checksum-sha256"] = "A" * 43 + "="
        return answer

    server = ObjectServer()
    with pytest.raises(StoreError, match=r"has the checksum A+=; .* was sent") as caught:
        store_of(web_server(respond)).put(KEY, sent, Artifact(SHA256, 5), nothing)
    assert not isinstance(caught.value, ImmutableError)
