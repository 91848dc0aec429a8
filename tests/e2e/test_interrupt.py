"""Ctrl-C and SIGTERM end a run soon, whatever hangs: one signal, exit code 130, nobody left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import Registry
from tests.world import World

SOON = 6.0  # seconds; half of it is what a run may take to tidy up, the rest is for busy machines


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def start(world: World, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.Popen(
        world.command(*words),
        cwd=world.path,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(condition: Callable[[], object]) -> None:
    limit = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.05)


def connected(process: subprocess.Popen[str], address: str) -> bool:
    """Tell whether a connection to the address is open, as /proc/net/tcp has it."""
    port = f":{int(address.rpartition(':')[2]):04X} 01"
    return any(port in line for line in Path(f"/proc/{process.pid}/net/tcp").read_text().splitlines())


def stop(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
    began = time.monotonic()
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert time.monotonic() - began < SOON
    assert "error: interrupted\n" in err
    assert "Traceback" not in err
    return out, err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["http", "s3"])
@pytest.mark.parametrize("words", [("status",), ("sync",), ("install", "small")])
def test_a_store_that_hangs_holds_nobody_up(
    world: World, silent: str, kind: str, words: tuple[str, ...], number: signal.Signals
) -> None:
    place = f"url: '{silent}'" if kind == "http" else f"bucket: bucket, endpoint: '{silent}', region: us-east-1"
    world.configure(f"[{{name: far, kind: {kind}, {place}}}]")
    process = start(world, *words)
    wait_for(lambda: connected(process, silent))
    stop(process, number)


def descendants(world: World) -> list[str]:
    """Return the command lines of processes that name the world, this test's own ones apart."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if str(world.path) in line:
                found.append(line)
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("labels", [("small 1.0",), ("small 1.0", "small 1.1")])
def test_a_conversion_ends_with_the_run(
    tmp_path: Path, big_registry: Registry, labels: tuple[str, ...], number: signal.Signals
) -> None:
    world = World(tmp_path / "world", big_registry.host)
    world.path.mkdir()
    world.declare(*labels)
    world.configure()
    process = start(world, "sync")
    wait_for(lambda: any("mksquashfs" in line for line in descendants(world)) or process.poll() is not None)
    stop(process, number)
    wait_for(lambda: not descendants(world))
    assert world.run("sync").code == 0
    assert not [*world.spool.glob(".*.partial")]
