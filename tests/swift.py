"""A real OpenStack Swift on loopback, all in one, with its S3 API: as a process per server, stopped by what began it.

``setup/swift.sh`` makes its environment, apart from ours; ``setup/packages.sh test`` brings memcached, where Swift's
tempauth keeps its tokens. One replica, one device (a temporary directory), no replicators, updaters or auditors: what
is written through the proxy is complete when it answers, but listings may come after objects, as everywhere in Swift.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.servers import free_port

TOOLS = Path(__file__).parents[1] / ".tools" / "swift" / "bin"

ACCOUNT, USER, KEY = "AUTH_test", "test:tester", "testing"
READER, READER_KEY = "test:reader", "reading"  # may log in, but read and write only what a container's ACL allows


@dataclass(frozen=True)
class Swift:
    """A running Swift; ``directory`` holds its configuration, data and logs.

    Its own API: log in at ``auth_url`` (v1) as ``user`` with ``key``, which gives a token for ``storage_url``. Its S3
    API: at ``url``, path style, with the same pair as credentials. A bucket is a container of the account.
    """

    url: str
    directory: Path
    user: str = USER
    key: str = KEY

    @property
    def auth_url(self) -> str:
        """Where clients of the Swift API log in."""
        return f"{self.url}/auth/v1.0"

    @property
    def storage_url(self) -> str:
        """The account: containers are below it."""
        return f"{self.url}/v1/{ACCOUNT}"

    def s3(self, user: str = USER, key: str = KEY) -> Any:
        """Return a boto3 client of the S3 API; the caller closes it."""
        config = Config(
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"total_max_attempts": 1},
        )
        names = {"aws_access_key_id": user, "aws_secret_access_key": key, "region_name": "us-east-1"}
        return boto3.client("s3", endpoint_url=self.url, config=config, **names)

    def ask(
        self, method: str, path: str = "", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Ask the Swift API as the user; the path is below the account (``container/object?query``).

        Returns:
            Status, headers with their names in lower case, and body of the answer; errors raise HTTPError.
        """
        login = urllib.request.Request(self.auth_url, headers={"X-Auth-User": self.user, "X-Auth-Key": self.key})
        with _DIRECT.open(login, timeout=60) as answer:
            token = answer.headers["X-Auth-Token"]
        request = urllib.request.Request(f"{self.storage_url}/{path}", body, {"X-Auth-Token": token, **(headers or {})})
        request.method = method
        with _DIRECT.open(request, timeout=60) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

_PIPELINE = (
    "catch_errors gatekeeper healthcheck cache listing_formats bulk tempurl s3api tempauth copy container_quotas "
    "slo dlo versioned_writes symlink"
)
_OPTIONS = {
    "cache": ("memcache", "memcache_servers = 127.0.0.1:{memcached}"),
    "s3api": ("s3api", "s3_acl = false\ncheck_bucket_owner = false\nlocation = us-east-1"),
    "slo": ("slo", "min_segment_size = 1"),
    "tempauth": (
        "tempauth",
        f"user_test_tester = {KEY} .admin {{url}}/v1/{ACCOUNT}\nuser_test_reader = {READER_KEY} {{url}}/v1/{ACCOUNT}",
    ),
    "versioned_writes": ("versioned_writes", "allow_versioned_writes = true\nallow_object_versioning = true"),
}
# Run by Swift's own Python: its ring builder as a command takes a second for each of nine steps.
_RINGS = """
import sys
from swift.common.ring import RingBuilder
for name, port in zip(("account", "container", "object"), map(int, sys.argv[1:])):
    builder = RingBuilder(4, 1, 0)
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": "d1", "weight": 1.0, "meta": ""}
    builder.add_dev({**device, "replication_ip": "127.0.0.1", "replication_port": port})
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{name}.ring.gz")
"""


@contextlib.contextmanager
def swift_server(directory: Path) -> Iterator[Swift]:
    """Run Swift with everything below a directory; skips where that directory's file system cannot hold its data."""
    _check(directory)
    names = ("proxy", "account", "container", "object", "memcached")
    ports = {name: free_port() for name in names}
    url = f"http://127.0.0.1:{ports['proxy']}"
    _configure(directory, ports, url)
    memcached = ["memcached", "-l", "127.0.0.1", "-p", str(ports["memcached"]), "-U", "0", "-m", "64"]
    if os.geteuid() == 0:
        memcached += ["-u", "nobody"]  # it refuses to run as root
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(_running(memcached, directory, "memcached"))]
        for name in ("account", "container", "object", "proxy"):
            argv = [str(TOOLS / f"swift-{name}-server"), str(directory / "etc" / f"{name}-server.conf")]
            running.append(stack.enter_context(_running(argv, directory, name)))
        _until_it_serves(url, ports, running, directory)
        yield Swift(url, directory)


def _check(directory: Path) -> None:
    if not (TOOLS / "swift-proxy-server").exists():
        pytest.fail(f"Swift is missing in {TOOLS.parent}: ./test puts it there (setup/swift.sh)")
    if shutil.which("memcached") is None:
        pytest.fail("memcached is missing: ./test installs it (setup/packages.sh test)")
    try:
        os.setxattr(directory, "user.neurocommand.test", b"1" * 1000)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.ENOSPC, errno.E2BIG):
            raise
        pytest.skip(f"Swift keeps metadata in extended attributes, which {directory} has not: {error.strerror}")
    os.removexattr(directory, "user.neurocommand.test")


def _configure(directory: Path, ports: dict[str, int], url: str) -> None:
    etc = directory / "etc"
    etc.mkdir()
    (directory / "node" / "d1").mkdir(parents=True)
    user = pwd.getpwuid(os.geteuid()).pw_name
    common = (
        f"[DEFAULT]\nbind_ip = 127.0.0.1\nswift_dir = {etc}\nuser = {user}\n"
        # one process each; what they log goes to standard error, not to a system log that may not be there
        f"workers = 0\nlog_address = {directory / 'nowhere'}\nlog_level = WARNING\n"
    )
    (etc / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n"
        "[storage-policy:0]\nname = Policy-0\ndefault = yes\n"
    )
    filters = ""
    for name in _PIPELINE.split():
        egg, options = _OPTIONS.get(name, (name, ""))
        filters += f"[filter:{name}]\nuse = egg:swift#{egg}\n{options.format(url=url, **ports)}\n"
    (etc / "proxy-server.conf").write_text(
        f"{common}bind_port = {ports['proxy']}\n[pipeline:main]\npipeline = {_PIPELINE} proxy-server\n"
        f"[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\n{filters}"
    )
    for name in ("account", "container", "object"):
        (etc / f"{name}-server.conf").write_text(
            f"{common}bind_port = {ports[name]}\ndevices = {directory / 'node'}\nmount_check = false\n"
            f"disable_fallocate = true\n[pipeline:main]\npipeline = {name}-server\n"
            f"[app:{name}-server]\nuse = egg:swift#{name}\n[{name}-replicator]\n[{name}-updater]\n[{name}-auditor]\n"
        )
    rings = [str(TOOLS / "python"), "-c", _RINGS, *(str(ports[name]) for name in ("account", "container", "object"))]
    done = subprocess.run(rings, cwd=etc, env=_environment(directory), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _environment(directory: Path) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    clean.pop("PYTHONPATH", None)
    return {**clean, "SWIFT_CONF_FILE": str(directory / "etc" / "swift.conf")}


@contextlib.contextmanager
def _running(argv: list[str], directory: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    with (
        open(directory / f"{name}.log", "wb") as output,
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(directory), cwd=directory
        ) as process,
    ):
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def _until_it_serves(url: str, ports: dict[str, int], running: list[subprocess.Popen[bytes]], directory: Path) -> None:
    """Wait for every port, then for the proxy's own word."""
    deadline = time.monotonic() + 120
    pending = list(ports.values())
    while time.monotonic() < deadline:
        for process in running:
            if process.poll() is not None:
                pytest.fail(f"{process.args} ended with {process.returncode}: {_last_words(directory)}")
        try:
            while pending:
                socket.create_connection(("127.0.0.1", pending[0]), timeout=5).close()
                pending.pop(0)
            with _DIRECT.open(f"{url}/healthcheck", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    pytest.fail(f"Swift does not answer at {url}: {_last_words(directory)}")


def _last_words(directory: Path) -> str:
    logs = sorted(directory.glob("*.log"))
    return "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in logs)


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """A Swift for the whole session; tests keep apart by the names of their containers."""
    with swift_server(tmp_path_factory.mktemp("swift")) as running:
        yield running
