"""The SIF header: real files read as Apptainer reads them, damaged ones refused."""

from __future__ import annotations

import contextlib
import json
import os
import re
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand.errors import ImageError
from neurocommand.image.header import ARCHITECTURES, Partition, locate, recorded_environment
from tests import images

SQUASHFS = b"hsqs" + bytes(36) + struct.pack("<q", 96) + bytes(48)


def test_locate_agrees_with_apptainer(small_sif: Path) -> None:
    listing = subprocess.run(["apptainer", "sif", "list", small_sif], check=True, capture_output=True, text=True).stdout
    found = re.search(r"\|(\d+)-(\d+) *\|FS \(Squashfs/\*System/(\w+)\)", listing)
    assert found, listing
    start, end, architecture = found.groups()
    assert locate(small_sif) == Partition(int(start), int(end) - int(start), architecture)


def test_environment_is_what_the_image_was_given(small_sif: Path) -> None:
    recorded = recorded_environment(small_sif)
    assert recorded is not None
    assert dict(recorded) == images.SMALL_ENVIRONMENT


def test_a_sif_made_by_the_sif_tool_is_located(tmp_path: Path) -> None:
    sif, squashfs = tmp_path / "new.sif", tmp_path / "root.sqfs"
    squashfs.write_bytes(SQUASHFS)
    images.run(["apptainer", "sif", "new", sif])
    options = ["--datatype", "4", "--parttype", "2", "--partfs", "1", "--partarch", "4", "--groupid", "1"]
    images.run(["apptainer", "sif", "add", *options, sif, squashfs])
    located = locate(sif)
    assert located.architecture == "arm64"
    assert sif.read_bytes()[located.offset :][: located.size] == SQUASHFS
    assert recorded_environment(sif) is None


@pytest.mark.parametrize("code", [*ARCHITECTURES, b"99\0"])
def test_architectures(code: bytes, tmp_path: Path) -> None:
    assert locate(images.sif_file(tmp_path / "a.sif", SQUASHFS, None, code)).architecture == ARCHITECTURES.get(code, "")


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({"Env": ["A=1", "B=x=y", "C=", "no equals", 7]}, (("A", "1"), ("B", "x=y"), ("C", ""))),
        ({"Env": None}, ()),
        ({}, ()),
        ([], ()),
    ],
)
def test_recorded_environment(configuration: object, expected: object, tmp_path: Path) -> None:
    sif = images.sif_file(tmp_path / "a.sif", SQUASHFS, json.dumps(configuration).encode())
    assert recorded_environment(sif) == expected


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe\xff", b"[" * 200_000])
def test_a_damaged_configuration_is_refused(text: bytes, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no JSON"):
        recorded_environment(images.sif_file(tmp_path / "a.sif", SQUASHFS, text))


def changed(path: Path, offset: int, form: str, *values: object) -> Path:
    data = bytearray(path.read_bytes())
    struct.pack_into(form, data, offset, *values)
    path.write_bytes(data)
    return path


PARTITION = 4096 + images.DESCRIPTOR.size  # the second descriptor; the first is the configuration


@pytest.mark.parametrize(
    ("offset", "form", "value", "message"),
    [
        (32, "<10s", b"SIF_MAGIX\0", "no SIF"),
        (42, "<3s", b"02\0", "version"),
        (72 + 16, "<q", 1 << 62, "list of contents"),
        (72 + 16, "<q", -1, "list of contents"),
        (72 + 24, "<q", 1 << 40, "list of contents"),
        (72 + 24, "<q", 64, "list of contents"),
        (PARTITION + 4, "<?", False, "0 primary"),
        (PARTITION + 17, "<q", 1 << 50, "beyond its end"),
        (PARTITION + 17, "<q", -5, "beyond its end"),
        (PARTITION + 17, "<q", 32760, "no squashfs"),
        (PARTITION + 25, "<q", -1, "beyond its end"),
        (PARTITION + 25, "<q", 1 << 62, "beyond its end"),
        (PARTITION + 25, "<q", 20, "no squashfs"),
        (PARTITION + 25, "<q", 90, "larger than its partition"),
        (PARTITION + 201, "<i", 2, "stored as ext3"),
        (PARTITION + 201, "<i", 77, "stored as file system 77"),
        (4096 + 25, "<q", (16 << 20) + 1, "beyond its end"),
    ],
)
def test_a_damaged_header_is_refused(offset: int, form: str, value: object, message: str, tmp_path: Path) -> None:
    sif = images.sif_file(tmp_path / "a.sif", SQUASHFS, b"{}")
    locate(sif)
    with pytest.raises(ImageError, match=message):
        locate(changed(sif, offset, form, value))


def test_two_primary_partitions_are_refused(tmp_path: Path) -> None:
    sif = images.sif_file(tmp_path / "a.sif", SQUASHFS, b"{}")
    data = bytearray(sif.read_bytes())
    data[4096:PARTITION] = data[PARTITION : PARTITION + images.DESCRIPTOR.size]
    sif.write_bytes(data)
    with pytest.raises(ImageError, match="2 primary"):
        locate(sif)


def test_a_huge_configuration_is_refused(tmp_path: Path) -> None:
    sif = images.sif_file(tmp_path / "a.sif", SQUASHFS, b" " * ((16 << 20) + 1))
    with pytest.raises(ImageError, match="16777217 bytes"):
        recorded_environment(sif)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "empty").touch()
    (tmp_path / "socket-like").symlink_to("/dev/null")
    for name in ("fifo", "empty", "missing", ".", "socket-like", "name\ttab"):
        with pytest.raises(ImageError):
            locate(tmp_path / name)


@given(data=st.data())
def test_no_change_of_a_header_is_a_traceback(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    sif = tmp_path_factory.getbasetemp() / "mutated.sif"
    content = bytearray(images.sif_file(sif, SQUASHFS, b'{"Env": ["A=b"]}').read_bytes())
    interesting = st.integers(0, 127) | st.integers(4096, 4096 + 2 * images.DESCRIPTOR.size)
    for _ in range(data.draw(st.integers(1, 4))):
        piece = data.draw(st.binary(min_size=1, max_size=8))
        place = data.draw(interesting)
        content[place : place + len(piece)] = piece
    sif.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    for read in (locate, recorded_environment):
        with contextlib.suppress(ImageError):
            read(sif)


@given(content=st.binary(max_size=200))
def test_no_random_file_is_a_traceback(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "random.sif"
    path.write_bytes(content)
    with pytest.raises(ImageError):
        locate(path)
