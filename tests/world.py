"""A whole small world for end-to-end tests: a registry with real images, a manifest, stores, a shared root."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurocommand.model import Release
from tests import images, servers
from tests.users import User

DATE = "20260101"


@dataclass(frozen=True)
class Completed:
    """How a command ended."""

    code: int
    out: str
    err: str


@dataclass
class World:
    """Files below one directory, and the command that works on them."""

    path: Path
    registry: str

    @property
    def config(self) -> Path:
        return self.path / "neurocommand.yaml"

    @property
    def store(self) -> Path:
        return self.path / "store"

    @property
    def root(self) -> Path:
        return self.path / "root"

    @property
    def spool(self) -> Path:
        return self.path / "state/spool"

    @property
    def lock(self) -> dict[str, Any]:
        releases: dict[str, Any] = json.loads((self.path / "apps.lock.json").read_text())["releases"]
        return releases

    def declare(self, *labels: str, retired: Sequence[Release] = (), categories: Sequence[str] = ("body",)) -> None:
        """Write the manifest: one group per application."""
        groups: dict[str, Any] = {}
        for label in labels:
            group = groups.setdefault(label.split()[0], {"apps": {}, "categories": list(categories)})
            group["apps"][label] = {"version": DATE, "exec": ""}
        for release in retired:
            group = groups.setdefault(release.application, {"apps": {}, "categories": list(categories)})
            group.setdefault("x-neurocommand", {"retired": {}})["retired"][release.id] = {"reason": "faulty"}
        (self.path / "apps.json").write_text(json.dumps(groups, indent=4))

    def configure(self, stores: str = "[{name: local, kind: directory, path: store}]", more: str = "") -> None:
        """Write the configuration."""
        self.config.write_text(
            "manifest: apps.json\nstate: state\n"
            f"registries: [{{name: demo, url: '{self.registry}/neurodesk', insecure: true}}]\n"
            f"stores: {stores}\npublish: {{root: root}}\ninstall: {{prefix: prefix}}\n{more}"
        )

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "neurocommand", "--config", str(self.config), *words]

    def run(self, *words: str, env: Mapping[str, str] | None = None) -> Completed:
        """Run neurocommand as its own process."""
        done = subprocess.run(
            self.command(*words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.path,
            env={**os.environ, **(env or {})},
            check=False,
            timeout=240,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "a bug in neurocommand" not in done.stderr, done.stderr
        return Completed(done.returncode, done.stdout, done.stderr)

    def outcomes(self, *words: str) -> dict[str, Any]:
        """Run a verb with ``--json`` and return what it says."""
        done = self.run(*words, "--json")
        result: dict[str, Any] = json.loads(done.out)
        return {**result, "code": done.code, "err": done.err}

    def release(self, label: str) -> Release:
        application, version = label.split()
        return Release(application, version, DATE)

    def object(self, label: str, store: str = "store") -> Path:
        return self.path / store / f"{self.release(label)}.simg"

    def deployed(self, label: str) -> Path:
        return self.root / "containers" / self.release(label).id


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def listing(directory: Path) -> dict[str, str]:
    """Return every path below a directory with what it is: a digest, a link's target, or ``directory``."""
    found = {}
    for path in sorted(directory.rglob("*")):
        name = str(path.relative_to(directory))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        else:
            found[name] = "directory" if path.is_dir() else sha256(path)
    return found


def push(layout: Path, registry: str, label: str) -> None:
    """Push an OCI layout as the image of a release, in Neurodesk's legacy form."""
    application, version = label.split()
    target = f"docker://{registry}/neurodesk/{application}_{version}:{DATE}"
    images.run(["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:1", target])


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Registry]:
    """A registry that holds the small image as small 1.0, small 1.1 and other 2.0."""
    directory = tmp_path_factory.mktemp("registry")
    with servers.oci_registry(directory) as registry:
        for label in ("small 1.0", "small 1.1", "other 2.0"):
            rootfs = images.small()
            rootfs.file("opt/small/version", label, 0o644)
            layout = images.oci_layout(rootfs, images.SMALL_ENVIRONMENT, directory / label.replace(" ", "_"))
            push(layout, registry.host, label)
            shutil.rmtree(layout.parent)
        yield registry


@pytest.fixture(scope="session")
def big_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Registry]:
    """A registry with an image of 96 MiB that does not compress, as small 1.0 and 1.1: every stage takes a while."""
    directory = tmp_path_factory.mktemp("big")
    rootfs = images.small()
    for number in range(24):
        rootfs.file(f"opt/small/data{number}", random.Random(number).randbytes(4 << 20), 0o644)
    layout = images.oci_layout(rootfs, images.SMALL_ENVIRONMENT, directory / "image")
    with servers.oci_registry(directory) as registry:
        for label in ("small 1.0", "small 1.1"):
            push(layout, registry.host, label)
        shutil.rmtree(layout.parent)
        yield registry


@pytest.fixture
def world(tmp_path: Path, image_registry: servers.Registry) -> World:
    """One directory store, a shared root, and small 1.0 wanted."""
    made = World(tmp_path / "world", image_registry.host)
    made.path.mkdir()
    made.declare("small 1.0")
    made.configure()
    return made


@pytest.fixture
def open_world(ordinary_user: User, image_registry: servers.Registry) -> Iterator[World]:
    """A world that an ordinary user may read; pytest's own directories are closed to others."""
    made = World(Path(tempfile.mkdtemp(dir=ordinary_user.home)), image_registry.host)
    made.path.chmod(0o755)
    made.declare("small 1.0")
    made.configure()
    yield made
    shutil.rmtree(made.path)


@pytest.fixture
def synced(world: World) -> World:
    """A world after its first sync."""
    done = world.run("sync")
    assert done.code == 0, done.err
    return world
