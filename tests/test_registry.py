"""Digests from a real registry, and from servers that misbehave: "absent" only where a registry says so."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from neurocommand.bandwidth import CREDIT, Bandwidth
from neurocommand.errors import RegistryBusyError, RegistryError
from neurocommand.model import ImageReference
from neurocommand.registry import Registries, opened, resolve
from neurocommand.registrysession import MANIFEST_TYPES
from neurocommand.settings import Budget, RegistrySettings
from tests.servers import Answer, Registry, Request, Respond, WebServer, oci_registry, refused_url, silent_server

INDEX, OCI, DOCKER_LIST, DOCKER = MANIFEST_TYPES
MANIFEST = b'{"schemaVersion": 2}'
DIGEST = hashlib.sha256(MANIFEST).hexdigest()
# The line of `htpasswd -Bbn ci s3cret`; the registry takes bcrypt only.
HTPASSWD = "ci:$2y$05$/9aeHZKlVfVHAVw6ZLM5bOqiXYCJf6e5lq1aBc7BMsX9dcFYC1xvO"

Serve = Callable[[Respond], WebServer]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep this user's own log-ins out of it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("ORAS_USER", "ORAS_PASS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def log_in(home: Path, registry: str, user: str = "ci", password: str = "s3cret") -> None:
    """Write what ``docker login`` writes."""
    (home / ".docker").mkdir(exist_ok=True)
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    (home / ".docker" / "config.json").write_text(json.dumps({"auths": {registry: {"auth": auth}}}))


def reference(host: str, repository: str = "neurodesk/niimath", tag: str = "1.0_20250101") -> ImageReference:
    return ImageReference(host, repository, tag, insecure=True)


def push(registry: str, kind: str, auth: tuple[str, str] | None = None) -> str:
    """Push an image without layers, as an image manifest or an index of one, and return its digest."""
    base = f"http://{registry}/v2/neurodesk/niimath"
    config = b"{}"
    digest = "sha256:" + hashlib.sha256(config).hexdigest()
    with requests.Session() as session:
        session.auth = auth
        session.headers["Authorization"] = "Bearer anything" if auth is None else ""
        upload = session.post(f"{base}/blobs/uploads/").headers["Location"]
        session.put(upload, params={"digest": digest}, data=config).raise_for_status()
        config_type = (
            OCI.replace("manifest", "config") if kind in (OCI, INDEX) else DOCKER.replace("manifest", "config")
        )
        image_type = OCI if kind in (OCI, INDEX) else DOCKER
        described = {"mediaType": config_type, "size": len(config), "digest": digest}
        body = json.dumps({"schemaVersion": 2, "mediaType": image_type, "config": described, "layers": []}).encode()
        tag = "image" if kind in (INDEX, DOCKER_LIST) else "1.0_20250101"
        put = session.put(f"{base}/manifests/{tag}", data=body, headers={"Content-Type": image_type})
        put.raise_for_status()
        if kind in (INDEX, DOCKER_LIST):
            platform = {"architecture": "amd64", "os": "linux"}
            entry = {
                "mediaType": image_type,
                "size": len(body),
                "digest": "sha256:" + hashlib.sha256(body).hexdigest(),
                "platform": platform,
            }
            body = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry]}).encode()
            put = session.put(f"{base}/manifests/1.0_20250101", data=body, headers={"Content-Type": kind})
            put.raise_for_status()
    return hashlib.sha256(body).hexdigest()


# --- a real registry --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MANIFEST_TYPES)
def test_the_digest_of_an_image_of_each_kind(kind: str, registry: Registry) -> None:
    digest = push(registry.host, kind)
    assert resolve(reference(registry.host)) == digest


def test_a_tag_or_a_repository_that_is_not_there_is_absent(registry: Registry) -> None:
    assert resolve(reference(registry.host)) is None
    push(registry.host, OCI)
    assert resolve(reference(registry.host, tag="2.0_20250101")) is None
    assert resolve(reference(registry.host, repository="neurodesk/other")) is None


def test_a_registry_that_gives_tokens_to_everybody(tmp_path: Path, web_server: Serve) -> None:
    def give_token(request: Request) -> Answer:
        query = parse_qs(urlsplit(request.path).query)
        assert query == {"service": ["tests"], "scope": ["repository:neurodesk/niimath:pull"]}
        assert "Authorization" not in request.headers
        return Answer(body=b'{"token": "letmein"}')

    tokens = web_server(give_token)
    # Docker's registry calls a log-in "silly" that challenges for a token and takes any.
    auth = f"{{silly: {{realm: '{tokens.url}/token', service: tests}}}}"
    with oci_registry(tmp_path, auth) as registry:
        digest = push(registry.host, OCI)
        assert resolve(reference(registry.host)) == digest
        assert resolve(reference(registry.host, tag="absent")) is None
    assert tokens.count("GET") == 2


def test_a_registry_with_passwords(tmp_path: Path, home: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD + "\n")
    with oci_registry(tmp_path, f"{{htpasswd: {{realm: tests, path: {tmp_path / 'htpasswd'}}}}}") as registry:
        digest = push(registry.host, OCI, ("ci", "s3cret"))
        with pytest.raises(RegistryError) as caught:
            resolve(reference(registry.host))
        assert f"docker login {registry.host}" in caught.value.hint
        log_in(home, registry.host, password="wrong")
        with pytest.raises(RegistryError, match="answers 401") as caught:
            resolve(reference(registry.host))
        assert "wrong" not in caught.value.message + caught.value.hint
        log_in(home, registry.host)
        assert resolve(reference(registry.host)) == digest
        assert resolve(reference(registry.host, tag="absent")) is None


# --- servers that misbehave -------------------------------------------------------------------------------------------


def manifest(**headers: str | None) -> Answer:
    given = {"Content-Type": OCI, "Docker-Content-Digest": f"sha256:{DIGEST}", **headers}
    return Answer(body=MANIFEST, headers={name.replace("_", "-"): value for name, value in given.items()})


def error_document(status: int, code: str) -> Answer:
    return Answer(status, json.dumps({"errors": [{"code": code, "message": "x"}]}).encode())


def test_one_head_request_suffices(web_server: Serve) -> None:
    server = web_server(lambda request: manifest())
    assert resolve(reference(server.host)) == DIGEST
    (request,) = server.requests
    assert (request.method, request.path) == ("HEAD", "/v2/neurodesk/niimath/manifests/1.0_20250101")
    assert request.headers["Accept"] == ", ".join(MANIFEST_TYPES)


def test_without_a_stated_digest_it_is_taken_from_the_body(web_server: Serve) -> None:
    server = web_server(lambda request: manifest(Docker_Content_Digest=None))
    assert resolve(reference(server.host)) == DIGEST


def test_a_registry_that_knows_no_head(web_server: Serve) -> None:
    server = web_server(lambda request: manifest() if request.method == "GET" else Answer(405))
    assert resolve(reference(server.host)) == DIGEST


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"])
def test_absent_is_what_a_registry_calls_so(code: str, web_server: Serve) -> None:
    server = web_server(lambda request: error_document(404, code))
    assert resolve(reference(server.host)) is None


UNKNOWN: dict[str, tuple[Answer, str]] = {
    "404 of something else": (Answer(404, b"<html>not found"), "answers 404, but not as a registry does"),
    "404 with another code": (error_document(404, "DENIED"), "answers 404, but not as a registry does"),
    "404 with odd JSON": (Answer(404, b'{"errors": 7}'), "answers 404, but not as a registry does"),
    "401 without a challenge": (Answer(401), "answers 401"),
    "403": (error_document(403, "DENIED"), "answers 403"),
    "MANIFEST_UNKNOWN with 403": (error_document(403, "MANIFEST_UNKNOWN"), "answers 403"),
    "429": (Answer(429), r"rate limited \(429\)$"),
    "429 with a wait": (Answer(429, headers={"Retry-After": "90"}), r"rate limited \(429\); it asks to wait 90 s$"),
    "500": (Answer(500), "answers 500"),
    "503": (Answer(503), "answers 503"),
    "a web page with 200": (
        Answer(200, b"<html>log in", headers={"Content-Type": "text/html; charset=utf-8"}),
        "answers with text/html, which is no image manifest",
    ),
    "200 without a type": (Answer(200, b""), "answers with an unknown type"),
    "junk for a digest": (manifest(Docker_Content_Digest="junk"), "states 'junk', which is no digest"),
    "a short digest": (manifest(Docker_Content_Digest="sha256:abc"), "which is no digest"),
    "an upper-case digest": (manifest(Docker_Content_Digest="sha256:" + "A" * 64), "which is no digest"),
    "another algorithm": (manifest(Docker_Content_Digest="md5:" + "a" * 32), "which is no digest"),
    "an empty digest": (manifest(Docker_Content_Digest=""), "which is no digest"),
    "no answer": (Answer(drop=True), "cannot be asked"),
    "endless redirect": (Answer(302, headers={"Location": "/v2/"}), "redirects in a loop"),
    "a challenge for no token": (
        Answer(401, headers={"Www-Authenticate": 'Bearer realm="http://127.0.0.1:1/token",service="x"'}),
        "cannot be asked: Connection refused",
    ),
    "a challenge without a place": (Answer(401, headers={"Www-Authenticate": "Bearer"}), "log-in failed"),
    "a challenge that is none": (Answer(401, headers={"Www-Authenticate": 'Basic realm="x"'}), "log-in failed"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_everything_else_is_unknown_and_says_why(case: str, web_server: Serve) -> None:
    answer, reason = UNKNOWN[case]
    server = web_server(lambda request: answer)
    asked = reference(server.host)
    with pytest.raises(RegistryError, match=reason) as caught:
        resolve(asked)
    assert caught.value.message.startswith(f"{asked}: {server.host} ")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(200, b"", headers={"Content-Type": OCI}), None),
        (manifest(Docker_Content_Digest=f"sha256:{'0' * 64}"), "not its image manifest's"),
        (Answer(200, MANIFEST, headers={"Content-Type": OCI}, sent=5), "cannot be asked"),
        (Answer(200, b" " * (5 << 20), headers={"Content-Type": OCI}), "more than 4 MiB"),
    ],
    ids=["empty", "other bytes", "truncated", "too big"],
)
def test_a_body_is_held_against_what_is_stated(answer: Answer, reason: str | None, web_server: Serve) -> None:
    def respond(request: Request) -> Answer:
        return answer if request.method == "GET" else manifest(Docker_Content_Digest=None)

    server = web_server(respond)
    if reason is None:
        assert resolve(reference(server.host)) == hashlib.sha256(b"").hexdigest()
    else:
        with pytest.raises(RegistryError, match=reason):
            resolve(reference(server.host))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"token": ""}'])
def test_a_token_server_that_gives_none(body: bytes, web_server: Serve, caplog: pytest.LogCaptureFixture) -> None:
    tokens = web_server(lambda request: Answer(body=body))
    challenge = f'Bearer realm="{tokens.url}/token",service="x",scope="y"'
    server = web_server(lambda request: Answer(401, headers={"Www-Authenticate": challenge}))
    with pytest.raises(RegistryError, match=r"gives no token|log-in failed"):
        resolve(reference(server.host))
    # oras would print what it thinks of it on standard error.
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_token_that_is_not_taken_is_asked_for_once(web_server: Serve) -> None:
    tokens = web_server(lambda request: Answer(body=b'{"access_token": "t"}'))
    challenge = f'Bearer realm="{tokens.url}/token",service="x",scope="y"'
    server = web_server(lambda request: Answer(401, headers={"Www-Authenticate": challenge}))
    with pytest.raises(RegistryError, match="answers 401"):
        resolve(reference(server.host))
    assert [request.headers.get("Authorization") for request in server.requests] == [None, "Bearer t"]


def test_a_log_in_is_used_for_the_token(home: Path, web_server: Serve) -> None:
    tokens = web_server(lambda request: Answer(body=b'{"token": "t"}'))

    def respond(request: Request) -> Answer:
        challenge = f'Bearer realm="{tokens.url}/token",service="x",scope="y"'
        let_in = request.headers.get("Authorization") == "Bearer t"
        return manifest() if let_in else Answer(401, headers={"Www-Authenticate": challenge})

    server = web_server(respond)
    log_in(home, server.host)
    assert resolve(reference(server.host)) == DIGEST
    expected = "Basic " + base64.b64encode(b"ci:s3cret").decode()
    assert [request.headers["Authorization"] for request in tokens.requests] == [expected]


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": 7}', "\xff"])
def test_a_log_in_file_that_cannot_be_read(text: str, home: Path, web_server: Serve) -> None:
    (home / ".docker").mkdir()
    (home / ".docker" / "config.json").write_bytes(text.encode("latin-1"))
    challenge = 'Bearer realm="http://127.0.0.1:1/token"'
    server = web_server(lambda request: Answer(401, headers={"Www-Authenticate": challenge}))
    with pytest.raises(RegistryError, match="log-in failed"):
        resolve(reference(server.host))


def test_nobody_answers() -> None:
    with pytest.raises(RegistryError, match="cannot be asked: Connection refused"):
        resolve(reference(refused_url().removeprefix("http://")))
    with silent_server() as url, pytest.raises(RegistryError, match="cannot be asked: no answer in time"):
        resolve(reference(url.removeprefix("http://")), timeout=0.3)
    with pytest.raises(RegistryError, match="cannot be asked"):
        resolve(reference("nowhere.invalid"))


def test_tls_is_the_rule(web_server: Serve) -> None:
    server = web_server(lambda request: manifest())
    with pytest.raises(RegistryError, match="cannot be asked"):
        resolve(ImageReference(server.host, "neurodesk/niimath", "1.0_20250101"))
    assert server.requests == []


@pytest.mark.parametrize("known", [False, True], ids=["anonymous", "logged in"])
def test_netrc_replaces_no_token(known: bool, home: Path, web_server: Serve) -> None:
    (home / ".netrc").write_text("machine 127.0.0.1 login someone password else\n")
    (home / ".netrc").chmod(0o600)
    tokens = web_server(lambda request: Answer(body=b'{"token": "t"}'))
    elsewhere = web_server(lambda request: manifest())

    def respond(request: Request) -> Answer:
        challenge = f'Bearer realm="{tokens.url}/token",service="x",scope="y"'
        if request.headers.get("Authorization") != "Bearer t":
            return Answer(401, headers={"Www-Authenticate": challenge})
        return Answer(307, headers={"Location": f"{elsewhere.url}/signed"})

    server = web_server(respond)
    if known:
        log_in(home, server.host)
    assert resolve(reference(server.host)) == DIGEST
    own = "Basic " + base64.b64encode(b"ci:s3cret").decode() if known else None
    assert [request.headers.get("Authorization") for request in tokens.requests] == [own]
    assert [request.headers.get("Authorization") for request in server.requests] == [None, "Bearer t"]
    assert [request.headers.get("Authorization") for request in elsewhere.requests] == [None]


# --- references -------------------------------------------------------------------------------------------------------


def test_a_reference_reads_as_people_write_it() -> None:
    assert str(ImageReference("ghcr.io", "neurodesk/fsl_6.0.4", "20210105")) == "ghcr.io/neurodesk/fsl_6.0.4:20210105"


@pytest.mark.parametrize(
    ("registry", "repository", "tag", "fault"),
    [
        ("", "a", "b", "registry ''"),
        ("a b", "a", "b", "registry 'a b'"),
        ("user@host", "a", "b", "registry"),
        ("host:x", "a", "b", "registry"),
        ("host", "A", "b", "repository 'A'"),
        ("host", "../a", "b", "repository"),
        ("host", "a//b", "b", "repository"),
        ("host", "a/", "b", "repository"),
        ("host", "", "b", "repository"),
        ("host", "a", "", "tag ''"),
        ("host", "a", "-b", "tag"),
        ("host", "a", "b/c", "tag"),
        ("host", "a", "b\n", "tag"),
        ("host", "a", "b" * 129, "tag"),
    ],
)
def test_what_is_no_reference_is_refused(registry: str, repository: str, tag: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        ImageReference(registry, repository, tag)


# --- the content of an image ------------------------------------------------------------------------------------------

CONFIGURATION = hashlib.sha256(b"{}").hexdigest()


def test_manifest_and_blobs_by_digest(registry: Registry) -> None:
    digest = push(registry.host, OCI)
    with opened(reference(registry.host)) as image:
        assert hashlib.sha256(image.manifest(digest)).hexdigest() == digest
        with image.blob(CONFIGURATION) as chunks:
            assert b"".join(chunks) == b"{}"


def test_blobs_come_no_faster_than_the_bandwidth_of_the_run(registry: Registry) -> None:
    push(registry.host, OCI)
    now = [0.0]
    bandwidth = Bandwidth(1, lambda: now[0], lambda seconds: now.append(now.pop() + seconds))
    with Registries(bandwidth=bandwidth).opened(reference(registry.host)) as image, image.blob(CONFIGURATION) as chunks:
        assert b"".join(chunks) == b"{}"
    assert now[0] == pytest.approx(2, abs=CREDIT)


def test_blobs_of_a_registry_with_passwords(tmp_path: Path, home: Path) -> None:
    (tmp_path / "htpasswd").write_text(HTPASSWD + "\n")
    with oci_registry(tmp_path, f"{{htpasswd: {{realm: tests, path: {tmp_path / 'htpasswd'}}}}}") as registry:
        digest = push(registry.host, OCI, ("ci", "s3cret"))
        with (
            opened(reference(registry.host)) as image,
            pytest.raises(RegistryError, match=r"answers 401|log-in failed"),
        ):
            image.manifest(digest)
        log_in(home, registry.host)
        with opened(reference(registry.host)) as image, image.blob(CONFIGURATION) as chunks:
            assert b"".join(chunks) == b"{}"


def test_a_token_that_expires_is_asked_for_again(web_server: Serve) -> None:
    tokens = iter(("one", "two"))
    issued = web_server(lambda request: Answer(body=json.dumps({"token": next(tokens)}).encode()))
    challenge = {"Www-Authenticate": f'Bearer realm="{issued.url}/token",service="x",scope="repository:x:pull"'}

    def respond(request: Request) -> Answer:
        wanted = "Bearer one" if request.path.endswith("first") else "Bearer two"
        return Answer(body=b"x") if request.headers["Authorization"] == wanted else Answer(401, headers=dict(challenge))

    server = web_server(respond)
    with opened(reference(server.host)) as image:
        for name in ("first", "second", "second"):
            with image.blob(name) as chunks:
                assert b"".join(chunks) == b"x"
    assert len(issued.requests) == 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(404), "answers 404"),
        (Answer(503), "answers 503"),
        (Answer(429, headers={"Retry-After": "7"}), "asks to wait 7 s"),
        (Answer(body=b"x" * 1000, sent=10), "does not send the image"),
        (Answer(drop=True), "does not send the image"),
        (Answer(body=b"another"), "another image manifest"),
    ],
)
def test_content_that_does_not_come(answer: Answer, said: str, web_server: Serve) -> None:
    server = web_server(lambda request: answer)
    with opened(reference(server.host)) as image, pytest.raises(RegistryError, match=said):
        image.manifest(DIGEST)
    if said != "another image manifest":
        with opened(reference(server.host)) as image, pytest.raises(RegistryError), image.blob(DIGEST) as chunks:
            list(chunks)


def test_a_host_that_asked_to_wait_is_sent_no_more_requests_for_content(web_server: Serve) -> None:
    server = web_server(lambda request: Answer(429, headers={"Retry-After": "600"}))
    registries = Registries()
    for _ in range(3):
        with registries.opened(reference(server.host)) as image, pytest.raises(RegistryBusyError) as caught:
            image.manifest(DIGEST)
        assert 599 < (caught.value.retry_after or 0) <= 600
    assert len(server.requests) == 1
    with pytest.raises(RegistryBusyError, match="not asked again for"):
        registries.resolve(reference(server.host))
    assert len(server.requests) == 1


def test_what_a_redirect_says_beside_its_address_is_not_read(web_server: Serve) -> None:
    size = 32 << 20

    def respond(request: Request) -> Answer:
        there = request.path == "/there"
        return Answer(body=b"x") if there else Answer(307, b"x" * size, {"Location": "/there"}, rate=50 << 20)

    server = web_server(respond)
    with opened(reference(server.host)) as image, image.blob(DIGEST) as chunks:
        assert b"".join(chunks) == b"x"
    assert server.sent < size // 2


def test_content_counts_for_no_budget(web_server: Serve) -> None:
    server = web_server(lambda request: manifest())
    registries = Registries([RegistrySettings("a", server.host, (), True, budget=Budget(1, 60))])
    with registries.opened(reference(server.host)) as image:
        for _ in range(3):
            assert image.manifest(DIGEST) == MANIFEST
    assert registries.resolve(reference(server.host)) == DIGEST


def test_content_without_a_server() -> None:
    with (
        opened(reference(refused_url().removeprefix("http://"))) as image,
        pytest.raises(RegistryError, match="refused"),
    ):
        image.manifest(DIGEST)
