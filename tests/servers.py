"""Loopback servers for tests: each picks a free port, is real, and is stopped by what started it."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.server
import ipaddress
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

SIF_TYPE = "application/vnd.sylabs.sif.layer.v1.sif"


def free_port() -> int:
    """Return a port on loopback that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused_url() -> str:
    """Return an address at which connections are refused."""
    return f"http://127.0.0.1:{free_port()}"


@contextlib.contextmanager
def silent_server() -> Iterator[str]:
    """Serve an address that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# --- a web server that does what a function says --------------------------------------------------------------------


@dataclass
class Request:
    """What a client asked."""

    method: str
    path: str
    headers: Message
    body: bytes
    connection: int  # the client's port: the same for requests on one connection


@dataclass
class Answer:
    """What the server says.

    ``headers`` replaces what would be sent otherwise; None leaves a header out. ``sent`` cuts the body after so many
    bytes and drops the connection, with ``reset`` by a TCP reset; ``pause`` waits so many seconds before the body,
    ``rate`` sends so many bytes per second, ``drop`` says nothing at all.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str | None] = field(default_factory=dict)
    sent: int | None = None
    pause: float = 0.0
    drop: bool = False
    reset: bool = False
    rate: float = 0.0


Respond = Callable[[Request], Answer]


class WebServer:
    """A server on loopback that asks ``respond`` what to say; ``requests`` keeps what it was asked.

    ``sent`` counts the bytes of bodies that it could send.

    With ``certificate`` (a PEM file with certificate and key, see ``own_certificate``) it speaks https.
    """

    def __init__(self, respond: Respond, certificate: Path | None = None) -> None:
        self.respond = respond
        self.requests: list[Request] = []
        self.sent = 0
        self.stopping = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                request = Request(self.command, self.path, self.headers, body, self.client_address[1])
                outer.requests.append(request)
                outer._send(self, outer.respond(request))

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Say nothing: clients that hang up are what many tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.port = int(self._server.server_address[1])
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"{'http' if certificate is None else 'https'}://{self.host}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def _send(self, handler: http.server.BaseHTTPRequestHandler, answer: Answer) -> None:
        if answer.drop:
            handler.close_connection = True
            return
        usual = {"Content-Length": str(len(answer.body)), "Date": handler.date_time_string()}
        headers: dict[str, str | None] = {**usual, **answer.headers}
        handler.send_response_only(answer.status)
        for name, value in headers.items():
            if value is not None:
                handler.send_header(name, value)
        if headers["Content-Length"] is None:
            handler.send_header("Connection", "close")
        handler.end_headers()
        if answer.pause:
            handler.wfile.flush()
            self.stopping.wait(answer.pause)
        if handler.command != "HEAD":
            self._send_body(handler, answer)
        if answer.sent is not None:
            handler.close_connection = True

    def _send_body(self, handler: http.server.BaseHTTPRequestHandler, answer: Answer) -> None:
        body = memoryview(answer.body)[: answer.sent]
        step = max(1, min(len(body), int(answer.rate / 50))) if answer.rate else max(1, len(body))
        began = time.monotonic()
        for start in range(0, len(body), step):
            handler.wfile.write(body[start : start + step])
            self.sent += len(body[start : start + step])
            due = began + (start + step) / answer.rate - time.monotonic() if answer.rate else 0.0
            if due > 0 and self.stopping.wait(due):
                break
        if answer.reset:
            handler.wfile.flush()
            linger = struct.pack("ii", 1, 0)  # closing sends RST, and forgets what was not sent yet
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            handler.connection.close()

    def count(self, method: str) -> int:
        """Return how often a method was asked."""
        return sum(request.method == method for request in self.requests)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def first_byte(request: Request) -> int:
    """Return the first byte that a request asks for."""
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    return int(asked[1]) if asked else 0


def in_parts(body: bytes, request: Request, **more: Any) -> Answer:
    """Answer as a server that has an object and honours Range; ``more`` is of the Answer."""
    headers: dict[str, str | None] = {"Content-Type": "application/octet-stream", **more.pop("headers", {})}
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if asked is None:
        return Answer(200, body, headers, **more)
    first, last = int(asked[1]), min(int(asked[2] or len(body)), len(body) - 1)
    if first > last:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
    stated = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
    return Answer(206, body[first : last + 1], {**stated, **headers}, **more)


def serve_directory(directory: Path, metadata: bool = False) -> Respond:
    """Answer HEAD and GET with the files of a directory, or one range of them, 404 else.

    With ``metadata`` state the sha256 as S3 does.
    """

    def respond(request: Request) -> Answer:
        path = directory / request.path.lstrip("/")
        if not path.is_file():
            return Answer(404)
        body = path.read_bytes()
        stated = {"x-amz-meta-sha256": hashlib.sha256(body).hexdigest()} if metadata else {}
        return in_parts(body, request, headers=stated)

    return respond


def forward_to(host: str) -> Respond:
    """Answer with what another server on loopback says to the same request, which it takes for its own address."""

    def respond(request: Request) -> Answer:
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        with requests.request(
            request.method, f"http://{host}{request.path}", headers=headers, data=request.body, allow_redirects=False
        ) as said:
            own = {name: value for name, value in said.headers.items() if name != "Transfer-Encoding"}
            return Answer(said.status_code, said.content, {**own})

    return respond


def own_certificate(path: Path) -> Path:
    """Write a certificate of our own for 127.0.0.1, with its key, into one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    return path


# --- servers of others, as processes ----------------------------------------------------------------------------------


def _until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"{process.args} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        try:
            with direct.open(url, timeout=5):
                return
        except urllib.error.HTTPError as error:
            error.close()
            return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"{process.args} does not answer at {url}")


@contextlib.contextmanager
def _running(argv: list[str], url: str, log: Path) -> Iterator[None]:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with (
        open(log, "wb") as output,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=clean) as process,
    ):
        try:
            _until_it_answers(url, process, log)
            yield
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def moto_server(directory: Path) -> Iterator[str]:
    """Run moto's S3 as a process of its own and yield its address."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(argv, url + "/moto-api/", directory / "moto.log"):
        yield url


@dataclass(frozen=True)
class Registry:
    """An OCI registry: ``host:port``, and where it keeps its files."""

    host: str
    storage: Path


@contextlib.contextmanager
def oci_registry(directory: Path, auth: str = "") -> Iterator[Registry]:
    """Run docker-registry with its storage below a directory.

    Args:
        directory: where its configuration, storage and log go.
        auth: the YAML text of its ``auth`` section; empty: open to everybody.
    """
    program = shutil.which("docker-registry")
    if program is None:
        pytest.fail("docker-registry is missing: ./test installs it (setup/packages.sh test)")
    host = f"127.0.0.1:{free_port()}"
    storage = directory / "registry"
    configuration = directory / "registry.yml"
    configuration.write_text(
        "version: 0.1\n"
        "log: {level: error, accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {storage}}}, delete: {{enabled: true}}}}\n"
        f"http: {{addr: '{host}', secret: tests}}\n"
        f"{f'auth: {auth}' if auth else ''}\n"
    )
    with _running([program, "serve", str(configuration)], f"http://{host}/v2/", directory / "registry.log"):
        yield Registry(host, storage)


_PUSHING = threading.Lock()


def push_sif(host: str, repository: str, tag: str, data: bytes, *, layer_type: str = SIF_TYPE) -> str:
    """Push bytes as a SIF without the help of our own code, and return the digest of the image manifest."""
    base = f"http://{host}/v2/{repository}"
    described = []
    with requests.Session() as session:
        for blob, kind in ((b"{}", "application/vnd.sylabs.sif.config.v1+json"), (data, layer_type)):
            digest = "sha256:" + hashlib.sha256(blob).hexdigest()
            described.append({"mediaType": kind, "digest": digest, "size": len(blob)})
            with _PUSHING:  # the registry takes two uploads of one blob at once badly
                if session.head(f"{base}/blobs/{digest}").status_code != 200:
                    place = session.post(f"{base}/blobs/uploads/").headers["Location"]
                    session.put(place, params={"digest": digest}, data=blob).raise_for_status()
        manifest_type = "application/vnd.oci.image.manifest.v1+json"
        fields = {"schemaVersion": 2, "mediaType": manifest_type, "config": described[0], "layers": described[1:]}
        put = session.put(f"{base}/manifests/{tag}", json=fields, headers={"Content-Type": manifest_type})
        put.raise_for_status()
        return put.headers["Docker-Content-Digest"]


def run_on_a_small_disk(directory: Path, program: str, size: str = "2m") -> str:
    """Run Python text with a file system of a few MiB mounted at ``directory``; return what it prints.

    The mount is seen by that process alone, and made in a user namespace of its own, so that it needs no rights.
    """
    mount = 'mount -t tmpfs -o size="$1" tmpfs "$2" && exec "$3" -c "$4"'
    argv = ["unshare", "-Urm", "sh", "-c", mount, "sh", size, str(directory), sys.executable, program]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(argv, cwd=root, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def moto_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an S3 server; tests keep apart by the names of their buckets."""
    with moto_server(tmp_path_factory.mktemp("moto")) as url:
        yield url


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """An empty OCI registry, open to everybody."""
    with oci_registry(tmp_path) as running:
        yield running


@pytest.fixture
def web_server() -> Iterator[Callable[[Respond], WebServer]]:
    """Start web servers that answer as a function says; they stop with the test."""
    with contextlib.ExitStack() as servers:
        yield lambda respond: servers.enter_context(WebServer(respond))


@pytest.fixture
def s3_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 credentials of its own kind, and keep it from looking for others on this machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
