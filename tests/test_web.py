"""The door to HTTP: limits, no step down from https, and what is said of a failure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from neurocommand import web
from neurocommand.errors import plain_reason
from tests.servers import Answer, Respond, WebServer, in_parts, own_certificate, silent_server

Serve = Callable[[Respond], WebServer]


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A certificate that this site trusts, as sites say it."""
    path = own_certificate(tmp_path / "site.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    return path


def test_a_request_ends_without_an_answer() -> None:
    with silent_server() as url, web.Session(read=0.2) as session:
        with pytest.raises(requests.Timeout) as caught:
            session.get(url)
        assert web.reason(caught.value) == "no answer in time"
        with pytest.raises(requests.Timeout):
            session.get(url, timeout=0.1)


def test_bodies_are_asked_for_unencoded_and_cookies_are_not_kept(web_server: Serve) -> None:
    server = web_server(lambda request: Answer(headers={"Set-Cookie": "a=b"}))
    with web.Session() as session:
        for _ in range(2):
            session.get(server.url)
    assert [request.headers["Accept-Encoding"] for request in server.requests] == ["identity"] * 2
    assert [request.headers.get("Cookie") for request in server.requests] == [None] * 2


def test_the_sites_own_certificates_are_used(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer(lambda request: Answer(body=b"x"), certificate) as server:
        with web.Session() as session:
            assert session.get(server.url).content == b"x"
        monkeypatch.delenv("REQUESTS_CA_BUNDLE")
        monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
        with web.Session() as session, pytest.raises(requests.exceptions.SSLError) as caught:
            session.get(server.url)
        assert "certificate verify failed" in web.reason(caught.value)
        assert not web.is_transient(caught.value)


def test_https_may_redirect_to_https_only(certificate: Path, web_server: Serve) -> None:
    plain = web_server(lambda request: Answer(body=b"x"))
    targets = {"/plain": plain.url + "/x", "/here": "/end"}
    with (
        WebServer(
            lambda request: (
                Answer(302, headers={"Location": targets[request.path]})
                if request.path in targets
                else Answer(body=b"end")
            ),
            certificate,
        ) as server,
        web.Session() as session,
    ):
        with pytest.raises(web.DowngradeError, match="redirects from https to http") as caught:
            session.get(server.url + "/plain")
        assert not web.is_transient(caught.value)
        assert plain.requests == []
        assert session.get(server.url + "/here").content == b"end"


def test_http_may_redirect_anywhere_but_not_for_ever(web_server: Serve) -> None:
    end = web_server(lambda request: Answer(body=b"end"))
    loop = web_server(lambda request: Answer(302, headers={"Location": "/again"}))
    start = web_server(lambda request: Answer(302, headers={"Location": end.url}))
    with web.Session() as session:
        assert session.get(start.url).content == b"end"
        with pytest.raises(requests.TooManyRedirects) as caught:
            session.get(loop.url)
    assert web.reason(caught.value) == "redirects in a loop"
    assert not web.is_transient(caught.value)
    assert len(loop.requests) == 11


def test_a_connection_that_breaks_may_be_tried_again(web_server: Serve) -> None:
    server = web_server(lambda request: Answer(drop=True))
    with web.Session() as session, pytest.raises(requests.ConnectionError) as caught:
        session.get(server.url)
    assert web.is_transient(caught.value)


@pytest.mark.parametrize("stated", [True, False], ids=["of stated length", "without end"])
@pytest.mark.parametrize("how", ["get", "streamed", "not followed", "span"])
def test_the_body_of_a_redirect_is_not_read(how: str, stated: bool, web_server: Serve) -> None:
    headers: dict[str, str | None] = {"Location": "/end"} | ({} if stated else {"Content-Length": None})
    size = 32 << 20
    server = web_server(
        lambda request: (
            Answer(302, b"x" * size, headers, rate=50 << 20) if request.path == "/start" else in_parts(b"end", request)
        )
    )
    with web.Session() as session:
        if how == "span":
            answer = session.open_span(server.url + "/start", (), 0)
        else:
            answer = session.get(server.url + "/start", stream=how != "get", allow_redirects=how != "not followed")
        assert answer.content == (b"" if how == "not followed" else b"end")
        assert answer.status_code in (200, 206, 302)
    assert server.sent < size // 2


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_redirect_does_not_cost_the_connection(method: str, web_server: Serve) -> None:
    server = web_server(
        lambda request: (
            Answer(302, b"look there", {"Location": "/end"}) if request.path == "/start" else Answer(body=b"end")
        )
    )
    with web.Session() as session:
        session.request(method, server.url + "/start", stream=True).close()
    assert len(server.requests) == 2
    assert len({request.connection for request in server.requests}) == 1


DATE = "Fri, 20 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": ""}, None),
        ({"Retry-After": " 7 "}, 7.0),
        ({"Retry-After": "0"}, 0.0),
        ({"Retry-After": "-1"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT", "Date": DATE}, 30.0),
        ({"Retry-After": "Fri, 20 Nov 2026 11:00:00 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30 GMT"}, None),
        ({"Retry-After": "Fri, 20 Nov 2026 12:00:30", "Date": DATE}, None),
    ],
)
def test_how_long_a_server_asks_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert web.retry_after(headers) == seconds


# --- reasons ----------------------------------------------------------------------------------------------------------


def test_the_innermost_reason_is_the_one_to_read() -> None:
    inner = ConnectionRefusedError(111, "Connection refused")
    middle = ValueError("wrapped")
    middle.__context__ = inner
    outer = RuntimeError("wrapped twice")
    outer.__cause__ = middle
    assert plain_reason(outer) == "Connection refused"


def test_a_reason_without_a_system_error_is_the_message_or_the_name() -> None:
    assert plain_reason(ValueError("odd \x1b[31m")) == r"odd \x1b[31m"
    assert plain_reason(ValueError()) == "ValueError"
    assert plain_reason(OSError("only text")) == "only text"
    circle = ValueError("round and round")
    circle.__cause__ = circle
    assert plain_reason(circle) == "round and round"


def test_a_reason_holds_no_password() -> None:
    error = requests.exceptions.InvalidURL("Failed to parse: http://user:s3cret@host:x/a@b")
    assert web.reason(error) == "its address, or its proxy's, cannot be understood"


def test_a_reason_holds_no_signature(
    web_server: Callable[[Respond], WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = web_server(lambda request: Answer(403))  # that knows no CONNECT
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("https_proxy", proxy.url)
    with web.Session() as session, pytest.raises(requests.RequestException) as caught:
        session.open_span("https://store.invalid/toy.simg?sig=SECRET", (), 0, 0)
    assert web.reason(caught.value).startswith("Tunnel connection failed: 501")
    assert "SECRET" not in web.reason(caught.value)
    assert "SECRET" not in web.reason(requests.RequestException("told of https://x/toy.simg?sig=SECRET here"))


# --- spans, credentials, ways -----------------------------------------------------------------------------------------


def test_a_span_is_asked_for_and_redirects_are_followed(web_server: Serve) -> None:
    there = web_server(lambda request: in_parts(b"0123456789", request))
    here = web_server(lambda request: Answer(302, headers={"Location": f"{there.url}/x"}))
    with web.Session() as session:
        with session.open_span(here.url + "/y", (("X-Token", "geheim"),), 2, 4) as answer:
            assert (answer.status_code, answer.content, answer.url) == (206, b"234", f"{there.url}/x")
        with session.open_span(there.url + "/x", (), 7) as answer:
            assert answer.content == b"789"
    assert here.requests[0].headers["X-Token"] == "geheim"
    assert there.requests[0].headers["X-Token"] is None


def test_a_loop_of_redirects_ends(web_server: Serve) -> None:
    server = web_server(lambda request: Answer(302, headers={"Location": "/x"}))
    with web.Session() as session, pytest.raises(requests.TooManyRedirects):
        session.open_span(server.url + "/x", (), 0)
    assert len(server.requests) == session.max_redirects + 1


def test_credentials_of_an_address_or_of_netrc_become_a_header(own_home: Path) -> None:
    assert web.basic_authorization("https://example.org/x") == ()
    expected = (("Authorization", "Basic dTpwOnc="),)
    assert web.basic_authorization("https://u:p%3Aw@example.org/x") == expected
    (own_home / ".netrc").write_text("machine example.org login u password p:w\n")
    (own_home / ".netrc").chmod(0o600)
    assert web.basic_authorization("https://example.org/x") == expected
    assert web.basic_authorization("https://example.net/x") == ()


def test_no_other_credentials_go_along_with_a_span(own_home: Path, web_server: Serve) -> None:
    server = web_server(lambda request: Answer(200, b"x"))
    (own_home / ".netrc").write_text("machine 127.0.0.1 login u password geheim\n")
    (own_home / ".netrc").chmod(0o600)
    with web.Session() as session, session.open_span(server.url + "/x", (), 0):
        assert server.requests[0].headers["Authorization"] is None


def test_the_way_is_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    with web.Session() as session:
        assert session.route("https://example.org/") == web.Route(None, requests.utils.DEFAULT_CA_BUNDLE_PATH)
        monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/own.pem")
        assert session.route("https://example.org/") == web.Route("http://proxy:3128", "/etc/own.pem")
        assert session.route("https://127.0.0.1/").proxy is None


def test_an_origin_is_scheme_host_and_port() -> None:
    assert (
        web.origin("https://Example.org/x")
        == web.origin("https://u@example.org:443/y")
        == ("https", "example.org", 443)
    )
    assert web.origin("http://example.org/x") != web.origin("http://example.org:8080/x")
