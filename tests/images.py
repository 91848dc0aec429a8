"""Test images, made without a network: a root file system in Python becomes an OCI layout, an archive or a SIF."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HELLO = b'#!/bin/sh\necho hello "$@"\n'
BUSYBOX_LINKS = ("sh", "cat", "env", "ls", "pwd", "id", "sleep", "od", "echo", "kill", "stty", "wc", "printf", "true")
PATH = "/opt/small/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Rootfs:
    """A root file system as the members of a tar file, so that any name, kind, owner and mode can be in it."""

    members: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)

    def add(self, name: str | bytes, kind: bytes, content: bytes = b"", **fields: object) -> Rootfs:
        """Add a member; fields are those of tarfile.TarInfo."""
        member = tarfile.TarInfo(os.fsdecode(name))
        member.type, member.size, member.mode = kind, len(content), 0o755
        for key, value in fields.items():
            setattr(member, key, value)
        self.members.append((member, content))
        return self

    def file(self, name: str | bytes, content: bytes | str = HELLO, mode: int = 0o755, **fields: object) -> Rootfs:
        """Add a regular file."""
        return self.add(
            name, tarfile.REGTYPE, content.encode() if isinstance(content, str) else content, mode=mode, **fields
        )

    def link(self, name: str, target: str) -> Rootfs:
        """Add a symbolic link."""
        return self.add(name, tarfile.SYMTYPE, linkname=target)

    def directory(self, name: str, mode: int = 0o755) -> Rootfs:
        """Add a directory."""
        return self.add(name, tarfile.DIRTYPE, mode=mode)

    def tar(self, path: Path) -> Path:
        """Write the root file system as a tar file."""
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for member, content in self.members:
                archive.addfile(member, io.BytesIO(content))
        return path

    def unpacked(self, directory: Path) -> Path:
        """Write the root file system as a tree, as far as the caller may: what needs root is left out for others."""
        directory.mkdir(parents=True)
        for member, content in self.members:
            place = directory / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            if member.isdir():
                place.mkdir(exist_ok=True)
            elif member.issym():
                place.symlink_to(member.linkname)
            elif member.isfifo():
                os.mkfifo(place)
            elif member.isreg():
                place.write_bytes(content)
            elif os.geteuid() == 0:
                kind = stat.S_IFCHR if member.ischr() else stat.S_IFBLK
                os.mknod(place, kind | member.mode, os.makedev(member.devmajor, member.devminor))
            if not member.issym() and place.exists():
                place.chmod(member.mode)
        return directory


def base() -> Rootfs:
    """Return busybox and a few of its names in /bin, and the usual empty directories."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox is missing: run setup/packages.sh test (./test does)"
    rootfs = Rootfs()
    for name in (
        "bin",
        "dev",
        "etc",
        "home",
        "mnt",
        "opt",
        "proc",
        "root",
        "srv",
        "sys",
        "tmp",
        "usr",
        "usr/bin",
        "var",
    ):
        rootfs.directory(name)
    rootfs.file("bin/busybox", Path(busybox).read_bytes())
    for name in BUSYBOX_LINKS:
        rootfs.link(f"bin/{name}", "busybox")
    return rootfs


def small() -> Rootfs:
    """Return a small healthy image: commands ``smallhello`` and ``smallexit`` in DEPLOY_PATH, busybox's beside."""
    rootfs = base().directory("opt/small").directory("opt/small/bin")
    rootfs.file("opt/small/bin/smallhello").file("opt/small/bin/smallexit", '#!/bin/sh\nexit "$1"\n')
    rootfs.file("opt/small/bin/smallargs", '#!/bin/sh\nfor a in "$@"; do printf "<%s>\\n" "$a"; done\n')
    rootfs.file("opt/small/bin/smallsh", '#!/bin/sh\nexec /bin/sh "$@"\n')
    return rootfs.file("README.md", "# small\n\nA small tool that says hello.\n", mode=0o644)


SMALL_ENVIRONMENT = {
    "PATH": PATH,
    "DEPLOY_PATH": "/opt/small/bin/",
    "DEPLOY_ENV_SMALLDIR": "BASEPATH/opt/small",
    "DEPLOY_ENV_SMALLMODE": "quiet",
}


def run(argv: Sequence[str | Path], **options: object) -> str:
    """Run a tool that the tests need; it fails with what the tool said."""
    assert shutil.which(str(argv[0])), f"{argv[0]} is missing: run setup/packages.sh test (./test does)"
    done = subprocess.run([str(word) for word in argv], capture_output=True, check=False, **options)  # type: ignore[call-overload]
    said = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0, f"{argv}: exit {done.returncode}: {said}"
    return said


def oci_layout(rootfs: Rootfs, environment: Mapping[str, str], directory: Path) -> Path:
    """Write an OCI layout with one image of one layer, tag ``1``; returns the layout."""
    directory.mkdir(parents=True)
    layout, layer = directory / "layout", rootfs.tar(directory / "layer.tar")
    run(["umoci", "init", "--layout", layout])
    run(["umoci", "new", "--image", f"{layout}:1"])
    run(["umoci", "raw", "add-layer", "--image", f"{layout}:1", layer])
    settings = [word for name, value in environment.items() for word in ("--config.env", f"{name}={value}")]
    run(["umoci", "config", "--image", f"{layout}:1", *settings, "--config.cmd", "/bin/sh"])
    layer.unlink()
    return layout


def oci_archive(rootfs: Rootfs, environment: Mapping[str, str], path: Path) -> Path:
    """Write an OCI archive; Apptainer reads it as ``oci-archive:<path>``."""
    work = path.parent / f"{path.name}.work"
    layout = oci_layout(rootfs, environment, work)
    with tarfile.open(path, "w") as archive:
        for name in ("oci-layout", "index.json", "blobs"):  # Apptainer refuses a member "."
            archive.add(layout / name, name)
    shutil.rmtree(work)
    return path


def built_sif(rootfs: Rootfs, environment: Mapping[str, str], path: Path) -> Path:
    """Write a SIF with Apptainer itself."""
    archive = oci_archive(rootfs, environment, path.with_suffix(".oci.tar"))
    scratch = path.parent / f"{path.name}.scratch"
    settings = {"APPTAINER_CACHEDIR": str(scratch), "APPTAINER_USERNS": "1", "APPTAINER_DISABLE_CACHE": "true"}
    run(["apptainer", "--quiet", "build", path, f"oci-archive:{archive}"], env={**os.environ, **settings})
    archive.unlink()
    shutil.rmtree(scratch, ignore_errors=True)
    return path


# --- SIF files of our own making: any header ---------------------------------------------------------------------

DESCRIPTOR = struct.Struct("<i?IIIqqqqqqq128s384s")  # descriptor.go of apptainer/sif


def sif_file(path: Path, squashfs: bytes, json: bytes | None = None, architecture: bytes = b"02\0") -> Path:
    """Write a SIF around a squashfs, with an ``oci-config.json`` when one is given; after SIF specification v1."""
    table, data, where = b"", b"", 32768
    for kind, name, content, extra in (
        *(((0x4006, b"oci-config.json", json, b""),) if json is not None else ()),
        (0x4004, b"", squashfs, struct.pack("<ii3s", 1, 2, architecture)),
    ):
        number = len(table) // DESCRIPTOR.size + 1
        place = (where, len(content), len(content), 0, 0, 0, 0)
        table += DESCRIPTOR.pack(kind, True, number, 0xF0000001, 0, *place, name, extra)
        data += content
        where += len(content)
    used = len(table) // DESCRIPTOR.size
    numbers = (0, 0, 48 - used, 48, 4096, 48 * DESCRIPTOR.size, 32768, len(data))
    start = struct.pack("<32s10s3s3s16s8q", b"", b"SIF_MAGIC\0", b"01\0", architecture, bytes(16), *numbers)
    path.write_bytes((start.ljust(4096, b"\0") + table).ljust(32768, b"\0") + data)
    return path


def packed_sif(rootfs: Rootfs, path: Path, json: bytes | None = None) -> Path:
    """Write a SIF of exactly this root file system, without Apptainer and what it adds; any kind and name goes."""
    tar, squashfs = rootfs.tar(path.with_suffix(".tar")), path.with_suffix(".sqfs")
    with open(tar, "rb") as stream:
        argv = [
            "mksquashfs",
            "-",
            squashfs,
            "-tar",
            "-noappend",
            "-quiet",
            "-no-progress",
            "-comp",
            "gzip",
            "-no-xattrs",
        ]
        run(argv, stdin=stream)
    sif_file(path, squashfs.read_bytes(), json)
    tar.unlink()
    squashfs.unlink()
    return path


@pytest.fixture(scope="session")
def small_sif(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the small image as a SIF that Apptainer built; not to be changed."""
    return built_sif(small(), SMALL_ENVIRONMENT, tmp_path_factory.mktemp("images") / "small.sif")


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the small image as an OCI archive; not to be changed."""
    return oci_archive(small(), SMALL_ENVIRONMENT, tmp_path_factory.mktemp("images") / "small.oci.tar")
