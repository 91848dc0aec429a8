"""Stores of the kinds oci and rclone from end to end: what `sync` put there, others read."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path

import requests

from neurocommand.files import digest_of
from tests import images, oci_images
from tests.images import run
from tests.proxy import Proxy
from tests.servers import Answer, Request, WebServer, forward_to, oci_registry
from tests.swift import Swift
from tests.world import DATE, World

# The line of `htpasswd -Bbn ci s3cret`; the registry takes bcrypt only.
HTPASSWD = "ci:$2y$05$/9aeHZKlVfVHAVw6ZLM5bOqiXYCJf6e5lq1aBc7BMsX9dcFYC1xvO"


def test_sync_fills_a_registry_and_a_remote_and_apptainer_pulls_the_locked_sif(world: World, tmp_path: Path) -> None:
    configuration = tmp_path / "rclone.conf"
    configuration.write_text("[near]\ntype = local\n")
    (tmp_path / "remote").mkdir()
    world.configure(
        "[{name: local, kind: directory, path: store},"
        f" {{name: sifs, kind: oci, url: '{world.registry}/neurodesk/sif', insecure: true, images: demo}},"
        f" {{name: remote, kind: rclone, remote: 'near:{tmp_path / 'remote'}'}}]"
    )
    env = {"RCLONE_CONFIG": str(configuration)}
    done = world.run("sync", env=env)
    assert done.code == 0, done.err
    release = world.release("small 1.0")
    (locked,) = world.lock.values()
    assert digest_of(tmp_path / "remote" / f"{release}.simg") == (locked["sha256"], locked["size"])
    pulled, place = tmp_path / "pulled.sif", f"oras://{world.registry}/neurodesk/sif:{release}"
    run(["apptainer", "pull", "--no-https", pulled, place], env={**os.environ, "APPTAINER_USERNS": "1"})
    assert digest_of(pulled) == (locked["sha256"], locked["size"])
    installed = world.run("install", "small", "--from", "sifs", "--prefix", str(tmp_path / "prefix"), env=env)
    assert installed.code == 0, installed.err
    assert digest_of(tmp_path / "prefix/containers" / release.id / f"{release}.simg") == (
        locked["sha256"],
        locked["size"],
    )
    plan = json.loads(world.run("plan", "--json", env=env).out)
    assert (plan["actions"], plan["problems"]) == ([], [])


def test_apptainer_is_logged_in_with_what_the_environment_says(world: World, tmp_path: Path) -> None:
    """It has to be where the work is left to it."""
    (tmp_path / "htpasswd").write_text(HTPASSWD + "\n")
    with oci_registry(tmp_path, f"{{htpasswd: {{realm: tests, path: {tmp_path / 'htpasswd'}}}}}") as locked:
        left = oci_images.image(images.small().file("environment", "x"))
        left.push(locked.host, "neurodesk/small_1.0", DATE, ("ci", "s3cret"))
        world.registry = locked.host
        world.configure()
        none = {"HOME": str(tmp_path), "NEUROCOMMAND_DEMO_USERNAME": "ci"}
        done = world.run("--verbose", "convert", env={**none, "NEUROCOMMAND_DEMO_PASSWORD": "s3cret"})
    assert done.code == 0, done.err
    assert "left to apptainer build" in done.err
    assert set(world.lock) == {"small_1.0_20260101"}


def test_a_registry_that_has_an_image_but_does_not_give_it_is_passed_over_and_named(world: World) -> None:
    has = forward_to(world.registry)

    def respond(request: Request) -> Answer:
        limited = Answer(429, headers={"Retry-After": "600"})
        return has(request) if request.method == "HEAD" else limited

    with WebServer(respond) as busy:
        text = world.config.read_text().replace(
            "registries: [", f"registries: [{{name: ghcr, url: '{busy.host}/neurodesk', insecure: true}}, "
        )
        world.config.write_text(text)
        world.declare("small 1.0", "small 1.1")
        done = world.run("--verbose", "convert")
    assert done.code == 0, done.err
    assert "small_1.0_20260101: ghcr: rate limited" in done.err
    assert (busy.count("HEAD"), busy.count("GET")) in ((1, 1), (2, 1), (2, 2)), done.err
    assert set(world.lock) == {"small_1.0_20260101", "small_1.1_20260101"}


def test_a_registry_that_limits_the_rate_is_passed_over_and_named(world: World) -> None:
    with WebServer(lambda request: Answer(429, headers={"Retry-After": "600"})) as busy:
        world.configure()
        text = world.config.read_text().replace(
            "registries: [", f"registries: [{{name: ghcr, url: '{busy.host}/x', insecure: true}}, "
        )
        world.config.write_text(text)
        world.declare("small 1.0", "small 1.1")
        done = world.run("--verbose", "convert")
        assert done.code == 0, done.err
        assert "ghcr: rate limited" in done.err
        # the second release did not ask it again
        assert len(busy.requests) == 1


def test_a_private_bucket_gives_nothing_but_through_signed_addresses(world: World, swift: Swift) -> None:
    env = {"AWS_ACCESS_KEY_ID": swift.user, "AWS_SECRET_ACCESS_KEY": swift.key, "AWS_EC2_METADATA_DISABLED": "true"}
    with contextlib.closing(swift.s3()) as client:
        client.create_bucket(Bucket="private-bucket")
    world.configure(
        f"[{{name: private, kind: s3, bucket: private-bucket, endpoint: '{swift.url}', region: us-east-1}}]"
    )
    for verb in ("convert", "upload"):
        done = world.run(verb, env=env)
        assert done.code == 0, done.err
    release = world.release("small 1.0")
    (locked,) = world.lock.values()
    nobody = requests.get(f"{swift.url}/private-bucket/{release}.simg", timeout=30)
    assert nobody.status_code in (400, 401, 403)  # Swift says 400 to what is not signed at all
    with Proxy(swift.url) as proxy:
        world.config.write_text(world.config.read_text().replace(swift.url, proxy.url))
        installed = world.run("install", "small", "--from", "private", env=env)
    assert installed.code == 0, installed.err
    sif = world.path / "prefix/containers" / release.id / f"{release}.simg"
    assert digest_of(sif) == (locked["sha256"], locked["size"])
    asked = [line for line in proxy.requests if line.startswith("GET ") and ".simg" in line]
    assert asked
    assert all(re.search(r"[?&]X-Amz-Signature=[0-9a-f]{64}", line) for line in asked)
