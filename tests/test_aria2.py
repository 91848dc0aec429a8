"""The door to aria2: a daemon of our own that keeps its secret, reads nothing of the user's, and ends with us."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from neurocommand import aria2
from neurocommand.errors import ProcessError
from tests.servers import Answer, Request, Respond, WebServer, in_parts, own_certificate

ROOT = Path(__file__).parents[1]
BYTES = random.Random(2).randbytes((3 << 20) + 5)
AUTHORITIES = requests.utils.DEFAULT_CA_BUNDLE_PATH

Serve = Callable[[Respond], WebServer]


def respond(request: Request):
    return in_parts(BYTES, request)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def finished(job: aria2.Job) -> aria2.State:
    deadline = time.monotonic() + 60
    while (state := job.state()).status == "active":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return state


def children() -> dict[int, str]:
    """Return the command lines of our children, aria2's only."""
    found = {}
    for entry in Path("/proc").iterdir():
        # a process that ends meanwhile is none of ours any more
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and f"\nPPid:\t{os.getpid()}\n" in (entry / "status").read_text():
                argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
                found.update({int(entry.name): argv} if "aria2" in argv else {})
    return found


def test_it_is_here() -> None:
    assert shutil.which(aria2.PROGRAM), "aria2c is missing: ./test installs it (setup/packages.sh test)"
    assert aria2.is_there()


def test_an_object_is_fetched_from_two_addresses(tmp_path: Path, lock: int, web_server: Serve) -> None:
    urls = [web_server(respond).url + "/x", web_server(respond).url + "/x"]
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        state = finished(daemon.job(urls, tmp_path / "got", 4))
        assert (state.status, state.done) == ("complete", len(BYTES))
    assert (tmp_path / "got").read_bytes() == BYTES
    assert children() == {}


def test_a_list_of_processes_shows_no_secret_and_no_address(tmp_path: Path, lock: int, web_server: Serve) -> None:
    url = web_server(lambda request: in_parts(BYTES, request, rate=1e6)).url + "/signed?signature=geheim"
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        daemon.job([url], tmp_path / "got", 4)
        ((pid, argv),) = children().items()
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        for hidden in (daemon._secret, "geheim"):
            assert hidden not in argv
            assert hidden.encode() not in environment
        words = [word for word in argv.split() if word.startswith("--")]
        assert [word.partition("=")[0] for word in words] == ["--conf-path"]
        assert not Path(words[0].partition("=")[2]).exists()


def test_nobody_without_the_secret_is_served(lock: int) -> None:
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "aria2.getVersion", "params": ["token:wrong"]}
        answer = requests.post(daemon._client.server, json=asked, timeout=10)
        assert answer.json()["error"]["message"] == "Unauthorized"


def test_no_configuration_or_environment_of_the_users_counts(
    own_home: Path, tmp_path: Path, lock: int, web_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = "http://127.0.0.1:9"
    for place in (own_home / ".aria2/aria2.conf", own_home / ".config/aria2/aria2.conf"):
        place.parent.mkdir(parents=True)
        place.write_text(f"all-proxy={nowhere}\ndir=/nowhere\nmax-overall-download-limit=1\n")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, nowhere)
    server = web_server(respond)  # on 127.0.0.1, which NO_PROXY names
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        assert finished(daemon.job([server.url + "/x"], tmp_path / "got", 4)).status == "complete"
    assert (tmp_path / "got").read_bytes() == BYTES


def test_the_proxy_of_the_environment_is_asked(
    tmp_path: Path, lock: int, web_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, direct = web_server(respond), web_server(respond)
    monkeypatch.setenv("HTTP_PROXY", proxy.url.replace("http://", "http://user:word@"))
    urls = ["http://mirror.invalid/x", direct.url + "/x"]
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        assert finished(daemon.job(urls, tmp_path / "got", 4)).status == "complete"
    assert (tmp_path / "got").read_bytes() == BYTES
    assert {request.path for request in proxy.requests} == {"http://mirror.invalid/x"}
    assert {request.path for request in direct.requests} == {"/x"}
    assert all(request.headers["Proxy-Authorization"] for request in proxy.requests)
    assert not any(request.headers["Proxy-Authorization"] for request in direct.requests)


def test_certificates_are_those_that_it_is_told_to_trust(tmp_path: Path, lock: int) -> None:
    pem = own_certificate(tmp_path / "own.pem")
    with WebServer(respond, pem) as server:
        with aria2.Daemon(str(pem), lock) as daemon:
            assert finished(daemon.job([server.url + "/x"], tmp_path / "got", 4)).status == "complete"
        with aria2.Daemon(AUTHORITIES, lock) as daemon:
            job = daemon.job([server.url + "/x"], tmp_path / "other", 4)
            assert finished(job).status == "failed"
            assert {fault.url for fault in job.faults()} == {server.url + "/x"}
    assert (tmp_path / "got").read_bytes() == BYTES


def test_a_redirect_from_https_to_http_is_not_followed(tmp_path: Path, lock: int, web_server: Serve) -> None:
    pem, plain = own_certificate(tmp_path / "own.pem"), web_server(respond)
    with WebServer(lambda request: Answer(302, headers={"Location": plain.url + "/x"}), pem) as server:
        url = server.url + "/x"
        with aria2.Daemon(str(pem), lock) as daemon:
            job = daemon.job([url], tmp_path / "got", 4)
            assert finished(job).status == "failed"
            assert {fault.url for fault in job.faults()} == {url}
    assert plain.requests == []


def test_each_address_that_fails_is_named_with_its_reason(tmp_path: Path, lock: int, web_server: Serve) -> None:
    def broken(request: Request):
        return in_parts(BYTES, request, sent=1000)

    good, bad = web_server(lambda r: in_parts(BYTES, r, rate=2e6)).url + "/x", web_server(broken).url + "/x"
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        job = daemon.job([bad, good], tmp_path / "got", 4)
        assert finished(job).status == "complete"
        found = job.faults()
    assert {fault.url for fault in found} == {bad}
    assert {fault.reason for fault in found} == {"Got EOF from the server"}
    assert (tmp_path / "got").read_bytes() == BYTES


def test_all_that_is_said_of_a_job_is_known_once_it_is_over(
    tmp_path: Path, lock: int, web_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    # what aria2 says reaches us half a second after its answers do
    program = tmp_path / "aria2c"
    program.write_text(
        f'#!/bin/bash\nexec {shutil.which("aria2c")} "$@" > >(while IFS= read -r l; do sleep 0.5; echo "$l"; done)\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    server = web_server(respond)
    (tmp_path / "got").write_bytes(BYTES[:1000])
    (tmp_path / "got.aria2").write_bytes(b"\0\1garbage")
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        job = daemon.job([server.url + "/x"], tmp_path / "got", 4)
        assert finished(job).status == "failed"
        assert job.faults() == []  # of the address
        assert job.unreadable
        nowhere = "http://127.0.0.1:9/x"
        job = daemon.job([nowhere], tmp_path / "other", 4)
        assert finished(job).status == "failed"
        assert {fault.url for fault in job.faults()} == {nowhere}


def test_the_end_of_a_job_that_was_read_before_its_state_is_not_waited_for(
    tmp_path: Path, lock: int, web_server: Serve
) -> None:
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        job = daemon.job([web_server(respond).url], tmp_path / "got", 1)
        deadline = time.monotonic() + 60
        while not daemon.call("aria2.tellStopped", 0, 1):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(1)  # its last line has come as well
        assert job.faults() == []
        assert job.state().status == "complete"
        began = time.monotonic()
        assert job.faults() == []
        assert time.monotonic() - began < 5


def test_a_file_that_cannot_be_written_is_no_fault_of_an_address(tmp_path: Path, lock: int, web_server: Serve) -> None:
    (tmp_path / "got").mkdir()
    with aria2.Daemon(AUTHORITIES, lock) as daemon, pytest.raises(OSError, match=r"got"):
        finished(daemon.job([web_server(respond).url + "/x"], tmp_path / "got", 4))


def test_what_is_there_is_continued(tmp_path: Path, lock: int, web_server: Serve) -> None:
    (tmp_path / "got").write_bytes(BYTES[: 2 << 20])
    server = web_server(lambda request: in_parts(BYTES, request, rate=4e6))
    with aria2.Daemon(AUTHORITIES, lock) as daemon:
        assert finished(daemon.job([server.url + "/x"], tmp_path / "got", 4)).status == "complete"
    assert (tmp_path / "got").read_bytes() == BYTES
    assert server.sent < 2 << 20


def test_a_daemon_that_does_not_start_is_named(tmp_path: Path, lock: int, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "aria2c").write_text("#!/bin/sh\necho 'it is broken'\nexit 3\n")
    (tmp_path / "aria2c").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(ProcessError, match="aria2c: does not start: it is broken"), aria2.Daemon(AUTHORITIES, lock):
        pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_us_whatever_happens(how: signal.Signals, tmp_path: Path) -> None:
    program = f"""
import os, signal, time
from neurocommand import aria2
signal.signal(signal.SIGINT, signal.default_int_handler)
with aria2.Daemon({AUTHORITIES!r}, os.open({str(tmp_path / "lock")!r}, os.O_RDWR | os.O_CREAT)) as daemon:
    print(daemon._program._process.pid, flush=True)
    time.sleep(600)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert b"aria2c" in Path(f"/proc/{pid}/cmdline").read_bytes()
        child.send_signal(how)
        child.wait(30)
    deadline = time.monotonic() + 15
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while b"aria2c" in Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < deadline, "aria2c still runs"
            time.sleep(0.05)
