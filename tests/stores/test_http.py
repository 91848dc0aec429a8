"""What is particular to a plain web server: what its answers mean."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.errors import StoreError, TransientStoreError, UsageError
from neurocommand.model import StoredObject
from neurocommand.stores.http import HttpStore
from tests.servers import Answer, Request, Respond, WebServer, own_certificate, refused_url, silent_server

KEY = "niimath_1.0.20240114_20250101.simg"
DATA = b"12345"
SHA256 = hashlib.sha256(DATA).hexdigest()

Serve = Callable[[Respond], WebServer]


def nothing(done: int) -> None:
    pass


def says(answer: Answer) -> Respond:
    return lambda request: answer


def ask(server: WebServer, absent: tuple[int, ...] = (404, 410)) -> StoredObject | None:
    return HttpStore("web", server.url + "/data/", absent).stat(KEY)


def test_stat_is_one_head_request_below_the_address(web_server: Serve) -> None:
    server = web_server(says(Answer(body=DATA)))
    assert ask(server) == StoredObject(KEY, 5)
    (request,) = server.requests
    assert (request.method, request.path) == ("HEAD", f"/data/{KEY}")
    assert request.headers["Accept-Encoding"] == "identity"


def test_many_questions_take_one_connection(web_server: Serve) -> None:
    server = web_server(lambda request: Answer(404) if "absent" in request.path else Answer(body=DATA))
    store = HttpStore("web", server.url)
    for key in (KEY, "absent.simg", KEY):
        store.stat(key)
    assert len({request.connection for request in server.requests}) == 1
    store.close()


def test_what_a_redirect_says_beside_its_address_is_not_read(web_server: Serve, tmp_path: Path) -> None:
    size = 32 << 20

    def respond(request: Request) -> Answer:
        if request.path == "/there":
            return Answer(body=DATA)
        return Answer(302, b"x" * size, {"Location": "/there"}, rate=50 << 20)

    server = web_server(respond)
    assert HttpStore("web", server.url).get(KEY, tmp_path / "sif", nothing) == (SHA256, 5)
    assert server.sent < size // 2


@pytest.mark.parametrize("field", ["x-amz-meta-sha256", "X-Amz-Meta-Sha256", "X-Object-Meta-Sha256"])
@pytest.mark.parametrize(
    ("stated", "expected"),
    [(SHA256, SHA256), (SHA256.upper(), SHA256), ("junk", None), ("", None), (SHA256 + "0", None)],
)
def test_a_stated_digest_is_taken_when_it_is_one(
    field: str, stated: str, expected: str | None, web_server: Serve
) -> None:
    assert ask(web_server(says(Answer(body=DATA, headers={field: stated})))) == StoredObject(KEY, 5, expected)


@pytest.mark.parametrize("status", [404, 410])
def test_some_statuses_mean_absent(status: int, web_server: Serve) -> None:
    assert ask(web_server(says(Answer(status)))) is None


def test_403_means_absent_only_where_the_configuration_says_so(web_server: Serve, tmp_path: Path) -> None:
    server = web_server(says(Answer(403)))
    assert ask(server, absent=(404, 403)) is None
    with pytest.raises(StoreError, match="holds no"):
        HttpStore("web", server.url, (403,)).get(KEY, tmp_path / "got", nothing)
    with pytest.raises(StoreError, match=f"^store web: answers 403 for {KEY}$") as caught:
        ask(server)
    assert "absent:" in caught.value.hint
    with pytest.raises(StoreError, match="answers 404"):
        ask(web_server(says(Answer(404))), absent=(403,))


@pytest.mark.parametrize("status", [201, 204, 400, 401, 405, 501])
def test_any_other_answer_cannot_tell(status: int, web_server: Serve) -> None:
    with pytest.raises(StoreError, match=f"answers {status} for {KEY}") as caught:
        ask(web_server(says(Answer(status))))
    assert not isinstance(caught.value, TransientStoreError)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_may_be_asked_again(status: int, web_server: Serve) -> None:
    with pytest.raises(TransientStoreError, match=f"answers {status}") as caught:
        ask(web_server(says(Answer(status, headers={"Retry-After": "7"}))))
    assert caught.value.retry_after == 7


@pytest.mark.parametrize(
    "length",
    [
        None,
        "",
        "-1",
        "5 5",
        "five",
        "\N{ARABIC-INDIC DIGIT FIVE}",
        "\N{SUPERSCRIPT TWO}",
        "0x5",
        str(1 << 63),
        "9" * 20,
        "9" * 5000,
    ],
)
def test_a_size_that_is_not_stated_cannot_tell(length: str | None, web_server: Serve) -> None:
    # http.server writes latin-1 only.
    shown = None if length is None else length.encode().decode("latin-1")
    with pytest.raises(StoreError, match=r"does not state the size|cannot be asked"):
        ask(web_server(says(Answer(body=DATA, headers={"Content-Length": shown}))))


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "TEXT/HTML"])
def test_a_web_page_is_no_object(kind: str, web_server: Serve, tmp_path: Path) -> None:
    server = web_server(says(Answer(body=DATA, headers={"Content-Type": kind})))
    with pytest.raises(StoreError, match="answers with a web page"):
        ask(server)
    with pytest.raises(StoreError, match="answers with a web page"):
        HttpStore("web", server.url).get(KEY, tmp_path / "got", nothing)
    assert not (tmp_path / "got").exists()


def test_an_encoded_answer_has_no_size(web_server: Serve) -> None:
    with pytest.raises(StoreError, match="encoded"):
        ask(web_server(says(Answer(body=DATA, headers={"Content-Encoding": "gzip"}))))
    assert ask(web_server(says(Answer(body=DATA, headers={"Content-Encoding": "identity"})))) == StoredObject(KEY, 5)


def test_redirects_are_followed_but_not_for_ever(web_server: Serve, tmp_path: Path) -> None:
    end = web_server(says(Answer(body=DATA)))
    start = web_server(lambda request: Answer(302, headers={"Location": f"{end.url}/elsewhere{request.path}"}))
    assert ask(start) == StoredObject(KEY, 5)
    assert end.requests[0].method == "HEAD"
    assert HttpStore("web", start.url).get(KEY, tmp_path / "got", nothing) == (SHA256, 5)
    loop = web_server(lambda request: Answer(301, headers={"Location": request.path}))
    with pytest.raises(StoreError, match="redirects in a loop") as caught:
        ask(loop)
    assert not isinstance(caught.value, TransientStoreError)


def test_https_is_not_left(web_server: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate = own_certificate(tmp_path / "site.pem")
    plain = web_server(says(Answer(body=DATA)))
    with WebServer(says(Answer(302, headers={"Location": plain.url})), certificate) as server:
        with pytest.raises(StoreError, match="certificate verify failed") as caught:
            ask(server)
        assert not isinstance(caught.value, TransientStoreError)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        with pytest.raises(StoreError, match="redirects from https to http") as caught:
            ask(server)
    assert not isinstance(caught.value, TransientStoreError)
    assert plain.requests == []


@pytest.mark.parametrize("sent", [0, 3])
def test_a_body_that_ends_early_may_be_asked_for_again(sent: int, web_server: Serve, tmp_path: Path) -> None:
    server = web_server(says(Answer(body=DATA, sent=sent)))
    with pytest.raises(TransientStoreError, match=f"store web: {KEY} broke off"):
        HttpStore("web", server.url).get(KEY, tmp_path / "got", nothing)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever(web_server: Serve, tmp_path: Path) -> None:
    with silent_server() as url, pytest.raises(TransientStoreError, match="no answer in time"):
        HttpStore("web", url, timeout=0.2).stat(KEY)
    slow = web_server(says(Answer(body=DATA, pause=30)))
    with pytest.raises(TransientStoreError, match="broke off: no answer in time"):
        HttpStore("web", slow.url, timeout=0.2).get(KEY, tmp_path / "got", nothing)


def test_a_refused_connection_may_be_tried_again() -> None:
    with pytest.raises(TransientStoreError, match="Connection refused"):
        HttpStore("web", refused_url()).stat(KEY)


@pytest.mark.parametrize("url", ["", "ftp://host/x", "file:///etc", "host/path", "https://", "/data"])
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="store web: its url"):
        HttpStore("web", url)


def test_a_password_in_the_address_is_sent_but_not_shown(web_server: Serve) -> None:
    server = web_server(says(Answer(401)))
    for url in (server.url, refused_url()):
        with pytest.raises(StoreError) as caught:
            HttpStore("web", url.replace("http://", "http://me:s3cret@")).stat(KEY)
        assert "s3cret" not in caught.value.message + caught.value.hint
    assert server.requests[0].headers["Authorization"].startswith("Basic ")
