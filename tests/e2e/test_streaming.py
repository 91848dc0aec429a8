"""mirror from store to store: the spool is not used, a source that fails is named, a killed run is finished."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from neurocommand.lock import Lock, render
from neurocommand.model import Artifact
from tests.servers import Answer, Request, Respond, WebServer
from tests.world import Completed, World

BUCKETS = ("streams-from", "streams-to", "streams-third")
DATA = random.Random(1).randbytes((17 << 20) + 1)
SHA256 = hashlib.sha256(DATA).hexdigest()
TOOL = "tool 1.0"

Serve = Callable[[Respond], WebServer]


class Buckets:
    """Buckets of a real server, and hands that reach into them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
        for bucket in BUCKETS:
            self.client.create_bucket(Bucket=bucket)

    def plant(self, bucket: str, key: str, data: bytes) -> None:
        """Put an object that states the locked digest, be it right or wrong."""
        self.client.put_object(Bucket=bucket, Key=key, Body=data, Metadata={"sha256": SHA256})

    def read(self, bucket: str) -> dict[str, bytes]:
        listed = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return {e["Key"]: self.client.get_object(Bucket=bucket, Key=e["Key"])["Body"].read() for e in listed}

    def uploads(self, bucket: str) -> list[Any]:
        found: list[Any] = self.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return found

    def close(self) -> None:
        for bucket in BUCKETS:
            for key in self.read(bucket):
                self.client.delete_object(Bucket=bucket, Key=key)
            self.client.delete_bucket(Bucket=bucket)
        self.client.close()


@pytest.fixture
def buckets(moto_url: str, s3_credentials: None) -> Iterator[Buckets]:
    made = Buckets(moto_url)
    yield made
    made.close()


@pytest.fixture
def locked(world: World) -> World:
    """A world with one release, which is locked and in no store yet."""
    world.declare(TOOL)
    lock = Lock({world.release(TOOL): Artifact(SHA256, len(DATA))})
    (world.path / "apps.lock.json").write_text(render(lock))
    return world


def bucket(name: str, url: str) -> str:
    return f"{{name: {name}, kind: s3, bucket: streams-{name}, endpoint: '{url}', part_size: 5}}"


def key_of(world: World) -> str:
    return f"{world.release(TOOL)}.simg"


def limited(world: World, *words: str) -> Completed:
    """Run neurocommand where no file can become larger than a MiB."""
    argv = ["sh", "-c", 'ulimit -f 1024; exec "$@"', "sh", *world.command(*words)]
    done = subprocess.run(argv, cwd=world.path, capture_output=True, text=True, check=False, timeout=240)
    return Completed(done.returncode, done.stdout, done.stderr)


def spooled(world: World) -> list[str]:
    return [path.name for path in world.spool.rglob("*") if path.is_file()] if world.spool.is_dir() else []


def object_server(world: World, data: bytes = DATA, **broken: Any) -> Respond:
    """Answer as a server whose object states the locked digest; ``broken`` is of the answers to GET."""

    def respond(request: Request) -> Answer:
        if not request.path.endswith(key_of(world)):
            return Answer(404)
        return Answer(body=data, headers={"x-amz-meta-sha256": SHA256}, **(broken if request.method == "GET" else {}))

    return respond


def test_from_bucket_to_bucket_no_file_is_made_on_the_way(locked: World, buckets: Buckets) -> None:
    buckets.plant("streams-from", key_of(locked), DATA)
    stores = [bucket(name, buckets.url) for name in ("from", "to", "third")]
    locked.configure(f"[{', '.join(stores[:2])}]")
    (action,) = json.loads(locked.run("mirror", "--dry-run", "--json").out)["actions"]
    assert (action["action"], action["store"], action["sources"], action["streamed"]) == ("copy", "to", ["from"], True)
    assert f"copy     {locked.release(TOOL)} -> to (streamed): absent" in locked.run("mirror", "--dry-run").out
    done = limited(locked, "mirror")
    assert done.code == 0, done.err
    assert f"copy to to: {len(DATA) / 1e6:.1f} MB" in done.err
    assert buckets.read("streams-to") == {key_of(locked): DATA}
    assert buckets.uploads("streams-to") == []
    assert spooled(locked) == []
    assert locked.run("mirror").out == "nothing to do\n"


def test_what_several_stores_lack_is_read_once_into_the_spool(locked: World, buckets: Buckets) -> None:
    buckets.plant("streams-from", key_of(locked), DATA)
    locked.configure(f"[{', '.join(bucket(name, buckets.url) for name in ('from', 'to', 'third'))}]")
    actions = json.loads(locked.run("mirror", "--dry-run", "--json").out)["actions"]
    assert [(action["store"], action["streamed"]) for action in actions] == [("to", False), ("third", False)]
    refused = limited(locked, "mirror")  # and this shows that the limit of the other tests is one
    assert refused.code != 0
    assert buckets.read("streams-to") == {}
    done = locked.run("mirror")
    assert done.code == 0, done.err
    assert buckets.read("streams-to") == buckets.read("streams-third") == {key_of(locked): DATA}


def test_wrong_bytes_at_the_first_source_are_named_and_the_next_source_is_read(
    locked: World, buckets: Buckets, web_server: Serve
) -> None:
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])
    buckets.plant("streams-from", key_of(locked), wrong)
    server = web_server(object_server(locked))
    web = f"{{name: web, kind: http, url: '{server.url}'}}"
    locked.configure(f"[{bucket('from', buckets.url)}, {bucket('to', buckets.url)}, {web}]")
    done = limited(locked, "--verbose", "mirror")
    assert done.code == 0, done.err
    assert f"from: dropped for {locked.release(TOOL)}: has {len(DATA)} bytes, sha256 " in done.err
    assert hashlib.sha256(wrong).hexdigest() in done.err
    assert buckets.read("streams-to") == {key_of(locked): DATA}


def test_wrong_bytes_everywhere_are_exit_code_4_and_nothing_changes(
    locked: World, buckets: Buckets, web_server: Serve
) -> None:
    wrong = bytes(len(DATA))
    buckets.plant("streams-from", key_of(locked), wrong)
    server = web_server(object_server(locked, wrong))
    web = f"{{name: web, kind: http, url: '{server.url}'}}"
    locked.configure(f"[{bucket('from', buckets.url)}, {bucket('to', buckets.url)}, {web}]")
    done = locked.run("mirror")
    assert done.code == 4, done.err
    assert "no source has the locked bytes" in done.err
    assert f"from has {len(DATA)} bytes, sha256 {hashlib.sha256(wrong).hexdigest()}" in done.err
    assert f"web has {len(DATA)} bytes, sha256 {hashlib.sha256(wrong).hexdigest()}" in done.err
    assert buckets.read("streams-to") == {}
    assert buckets.uploads("streams-to") == []
    assert spooled(locked) == []


def test_a_source_that_breaks_off_is_asked_again_and_then_the_next_one(
    locked: World, buckets: Buckets, web_server: Serve
) -> None:
    broken = web_server(object_server(locked, sent=6_000_000))
    good = web_server(object_server(locked))
    webs = [f"{{name: {name}, kind: http, url: '{s.url}'}}" for name, s in (("broken", broken), ("good", good))]
    locked.configure(f"[{bucket('to', buckets.url)}, {webs[0]}]")
    done = locked.run("mirror")
    assert done.code == 1, done.err
    assert "no source gave it: broken: " in done.err
    assert buckets.read("streams-to") == {}
    assert buckets.uploads("streams-to") == []
    assert broken.count("GET") == 4
    locked.configure(f"[{bucket('to', buckets.url)}, {', '.join(webs)}]")
    done = limited(locked, "--verbose", "mirror")
    assert done.code == 0, done.err
    assert f"broken: dropped for {locked.release(TOOL)}: " in done.err
    assert buckets.read("streams-to") == {key_of(locked): DATA}
    assert good.count("GET") == 1
    assert spooled(locked) == []


@pytest.mark.parametrize("kind", ["directory", "s3", "oci"])
def test_killed_amid_the_stream_nothing_is_visible_and_the_next_run_finishes(
    locked: World, buckets: Buckets, web_server: Serve, tmp_path: Path, kind: str
) -> None:
    slow = web_server(object_server(locked, rate=4_000_000))
    place = {
        "directory": "{name: to, kind: directory, path: to}",
        "s3": bucket("to", buckets.url),
        "oci": f"{{name: to, kind: oci, url: '{locked.registry}/streams-{os.getpid()}/sif', insecure: true}}",
    }[kind]
    locked.configure(f"[{place}, {{name: web, kind: http, url: '{slow.url}'}}]")
    running = subprocess.Popen(locked.command("mirror"), cwd=locked.path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while slow.sent < 12_000_000:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    running.kill()
    running.wait()
    plan = json.loads(locked.run("mirror", "--dry-run", "--json").out)
    assert [(action["action"], action["reason"]) for action in plan["actions"]] == [("copy", "absent")]
    slow.respond = object_server(locked)
    done = locked.run("mirror")
    assert done.code == 0, done.err
    assert locked.run("mirror").out == "nothing to do\n"
    assert locked.run("verify", "--deep").code == 0
    assert spooled(locked) == []
    assert [path.name for path in locked.path.rglob("*") if "partial" in path.name] == []
    assert buckets.uploads("streams-to") == []
    assert [path.name for path in (locked.path / "state").glob("uploads/**/*") if path.is_file()] == []


@pytest.mark.parametrize("kind", ["directory", "s3"])
def test_an_interrupt_amid_the_stream_ends_it_soon(
    locked: World, buckets: Buckets, web_server: Serve, kind: str
) -> None:
    slow = web_server(object_server(locked, rate=1_000_000))
    place = "{name: to, kind: directory, path: to}" if kind == "directory" else bucket("to", buckets.url)
    locked.configure(f"[{place}, {{name: web, kind: http, url: '{slow.url}'}}]")
    running = subprocess.Popen(locked.command("mirror"), cwd=locked.path, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while slow.sent < 6_000_000:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert time.monotonic() - began < 6
    assert "error: interrupted\n" in err
    assert "Traceback" not in err
    assert [path.name for path in (locked.path / "to").glob("*.simg")] == []
    assert [path.name for path in (locked.path / "to").glob(".*.partial")] == []
    assert buckets.read("streams-to") == {}
    assert spooled(locked) == []
    slow.respond = object_server(locked)
    done = locked.run("mirror")
    assert done.code == 0, done.err
    assert buckets.uploads("streams-to") == []


def test_repair_streams_as_well(locked: World, buckets: Buckets) -> None:
    buckets.plant("streams-from", key_of(locked), DATA)
    buckets.plant("streams-to", key_of(locked), DATA[:-1])
    locked.configure(f"[{bucket('from', buckets.url)}, {bucket('to', buckets.url)}]")
    done = limited(locked, "repair")
    assert done.code == 0, done.err
    assert buckets.read("streams-to") == {key_of(locked): DATA}
    assert spooled(locked) == []
