"""Conversion by the real Apptainer; unpacking as root and as an ordinary user."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurocommand.errors import ImageError, RefusedError
from neurocommand.image import sif
from neurocommand.image.tree import normalise
from neurocommand.settings import Credentials
from tests import images
from tests.servers import Registry
from tests.users import User

ROOT = Path(__file__).parents[2]


def names_below(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture
def lines() -> list[str]:
    return []


def convert(reference: str, path: Path, lines: list[str], scratch: Path) -> None:
    sif.convert(reference, path, insecure=False, scratch=scratch, report=lines.append)


def test_an_archive_becomes_a_sif(small_archive: Path, tmp_path: Path, lines: list[str]) -> None:
    convert(f"oci-archive:{small_archive}", tmp_path / "a.sif", lines, tmp_path / "scratch")
    assert sif.locate(tmp_path / "a.sif").size > 100_000
    assert dict(sif.recorded_environment(tmp_path / "a.sif") or ()) == images.SMALL_ENVIRONMENT
    assert any("Creating SIF" in line for line in lines)
    assert all(line.isprintable() for line in lines)
    assert not (tmp_path / "scratch/tmp").exists()


def test_a_docker_archive_becomes_a_sif(small_archive: Path, tmp_path: Path, lines: list[str]) -> None:
    images.run(["skopeo", "copy", f"oci-archive:{small_archive}", f"docker-archive:{tmp_path}/d.tar:small:1"])
    convert(f"docker-archive:{tmp_path}/d.tar", tmp_path / "a.sif", lines, tmp_path / "scratch")
    assert dict(sif.recorded_environment(tmp_path / "a.sif") or ())["DEPLOY_PATH"] == "/opt/small/bin/"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("docker-archive:/nowhere.tar", "nowhere.tar"),
        ("docker://127.0.0.1:1/no/such@sha256:" + "0" * 64, "connection refused"),
        ("nonsense", "nonsense"),
    ],
)
def test_a_failure_leaves_nothing_and_says_why(reference: str, said: str, tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(ImageError, match="could not convert") as caught:
        convert(reference, tmp_path / "a.sif", lines, tmp_path / "scratch")
    assert said in caught.value.message
    assert caught.value.hint
    assert {path.name for path in tmp_path.iterdir()} <= {"scratch"}
    assert not (tmp_path / "scratch/tmp").exists()


def test_a_file_is_never_replaced(small_archive: Path, tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "a.sif").write_text("precious")
    with pytest.raises(ImageError, match="exists already"):
        convert(f"oci-archive:{small_archive}", tmp_path / "a.sif", lines, tmp_path / "scratch")
    assert (tmp_path / "a.sif").read_text() == "precious"


def test_a_success_without_a_sif_is_a_failure(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runtime that ends well and writes something else; its 200 KB of warnings must not stop it."""
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\ni=0\n"
        "while [ $i -lt 4000 ]; do i=$((i+1)); echo 'WARN: xattr: a line of some fifty characters' >&2; done\n"
        'for last; do case $last in */a.sif) echo "no sif" >"$last" ;; esac; done\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(ImageError, match="no SIF"):
        convert("docker://x/y", tmp_path / "a.sif", lines, tmp_path / "scratch")
    assert len(lines) == 4000
    assert not (tmp_path / "a.sif").exists()


def test_a_missing_runtime_is_named(tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="neither apptainer nor singularity"):
        convert("docker://x/y", tmp_path / "a.sif", lines, tmp_path / "scratch")


def test_a_consumer_that_stops_leaves_nothing(small_archive: Path, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sif.convert(
            f"oci-archive:{small_archive}", tmp_path / "a.sif", insecure=False, scratch=tmp_path / "s", report=stop
        )
    assert not (tmp_path / "a.sif").exists()


def test_unpack_gives_the_image(small_sif: Path, tmp_path: Path) -> None:
    sif.unpack(small_sif, tmp_path / "tree")
    assert (tmp_path / "tree/opt/small/bin/smallhello").read_bytes() == images.HELLO
    assert os.readlink(tmp_path / "tree/bin/sh") == "busybox"
    assert (tmp_path / "tree/.singularity.d/env").is_dir()


def test_a_tree_is_closed_until_it_is_harmless(
    small_sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacked by root, a setuid program would be there for everybody, if only for seconds."""
    real = shutil.which("unsquashfs")
    (tmp_path / "bin").mkdir()
    script = f'while [ "$1" != -dest ]; do shift; done; stat -c %a "${{2%/*}}" >{tmp_path}/mode'
    (tmp_path / "bin/unsquashfs").write_text(f'#!/bin/sh\n{real} "$@" && {script}\n')
    (tmp_path / "bin/unsquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    sif.unpack(small_sif, tmp_path / "tree")
    assert (tmp_path / "mode").read_text() == "700\n"
    assert oct((tmp_path / "tree").stat().st_mode & 0o7777) == "0o700"
    normalise(tmp_path / "tree", ())
    assert oct((tmp_path / "tree").stat().st_mode & 0o7777) == "0o755"
    assert {path.name for path in tmp_path.iterdir()} == {"bin", "mode", "tree"}


def test_unpack_never_writes_over_something(small_sif: Path, tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("tree", "link"):
        with pytest.raises(ImageError, match="exists already"):
            sif.unpack(small_sif, tmp_path / name)
    assert names_below(tmp_path) == {"tree", "link"}


@pytest.mark.parametrize("keep", [0.2, 0.6, 0.95])
def test_a_truncated_sif_is_refused(keep: float, small_sif: Path, tmp_path: Path) -> None:
    data = small_sif.read_bytes()
    (tmp_path / "cut.sif").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ImageError):
        sif.unpack(tmp_path / "cut.sif", tmp_path / "tree")
    assert names_below(tmp_path) == {"cut.sif"}


def test_damaged_contents_are_refused(small_sif: Path, tmp_path: Path) -> None:
    data = bytearray(small_sif.read_bytes())
    part = sif.locate(small_sif)
    middle = part.offset + part.size // 3
    data[middle : middle + 4096] = bytes(4096)
    (tmp_path / "bad.sif").write_bytes(data)
    with pytest.raises(ImageError, match="cannot be unpacked"):
        sif.unpack(tmp_path / "bad.sif", tmp_path / "tree")
    assert names_below(tmp_path) == {"bad.sif"}


def test_a_missing_unsquashfs_is_named(small_sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImageError, match="unsquashfs is missing"):
        sif.unpack(small_sif, tmp_path / "tree")


def test_an_old_unsquashfs_is_named(small_sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says to an option that it does not know is what the real one says to a nonsense option."""
    real = shutil.which("unsquashfs")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/unsquashfs").write_text(f"#!/bin/sh\nexec {real} -no-such-option x\n")
    (tmp_path / "bin/unsquashfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    with pytest.raises(ImageError, match="too old") as caught:
        sif.unpack(small_sif, tmp_path / "tree")
    assert "4.5" in caught.value.hint


def test_extract_without_setpriv(small_sif: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = shutil.which("unsquashfs")
    assert program
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/unsquashfs").symlink_to(program)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    sif.unpack(small_sif, tmp_path / "tree")
    assert (tmp_path / "tree/README.md").is_file()


# Without spython, which the system's Python lacks.
UNPACK = """
import sys
from pathlib import Path
from neurocommand.image import header, squashfs
path, directory = map(Path, sys.argv[1:])
squashfs.extract(path, header.locate(path).offset, directory)
"""


def test_a_user_gets_all_but_the_devices(ordinary_user: User, tmp_path_factory: pytest.TempPathFactory) -> None:
    rootfs = (
        images.small().add("dev/null", b"3", devmajor=1, devminor=3, mode=0o666).file("root/secret", "x", mode=0o600)
    )
    rootfs.add("dev/sda", b"4", devmajor=8, devminor=0).add("run", b"5").add("run/pipe", b"6")
    place = ordinary_user.home / "unpack"
    place.mkdir()
    path = images.packed_sif(rootfs, place / "a.sif")
    ordinary_user.give(place)
    done = ordinary_user.python(UNPACK, path, place / "tree")
    assert done.returncode == 0, done.stderr.decode()
    assert (place / "tree/root/secret").read_bytes() == b"x"
    found = names_below(place / "tree")
    assert {"run/pipe", "bin/busybox"} <= found
    assert not {"dev/null", "dev/sda"} & found


def test_a_full_disk_is_no_success(ordinary_user: User, tmp_path: Path) -> None:
    """unsquashfs ends with 2 for it, as it does for devices."""
    if not ordinary_user.root:
        pytest.skip("mounting a small file system needs root")
    small = tmp_path / "full"
    small.mkdir()
    path = images.packed_sif(images.small(), tmp_path / "a.sif")
    images.run(["mount", "-t", "tmpfs", "-o", "size=300k", "none", small])
    try:
        with pytest.raises(RefusedError, match="No space left") as caught:
            sif.unpack(path, small / "tree")
        assert caught.value.hint
        assert not (small / "tree").exists()
    finally:
        images.run(["umount", small])


def test_a_registry_without_tls_by_digest(
    registry: Registry, small_archive: Path, tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "auth.json").write_text("{}")  # skopeo's usual place may be root's alone
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    target = f"docker://{registry.host}/neuro/small:1"
    images.run(["skopeo", "copy", "--dest-tls-verify=false", f"oci-archive:{small_archive}", target])
    digest = images.run(["skopeo", "inspect", "--tls-verify=false", "--format={{.Digest}}", target]).strip()
    reference = f"docker://{registry.host}/neuro/small@{digest}"
    sif.convert(reference, tmp_path / "a.sif", insecure=True, scratch=tmp_path / "scratch", report=lines.append)
    assert dict(sif.recorded_environment(tmp_path / "a.sif") or ()) == images.SMALL_ENVIRONMENT


ODD = "p'w $(id) \"\\ ü\n#"


def test_credentials_stand_in_the_environment_and_nowhere_else(
    tmp_path: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text(
        "#!/bin/sh\n"
        f"cat /proc/[0-9]*/cmdline >{tmp_path}/words 2>/dev/null\n"
        f"env -0 >{tmp_path}/environment\n"
        f"find {tmp_path}/scratch -type f >{tmp_path}/files\n"
        "exit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    with pytest.raises(ImageError):
        sif.convert(
            "docker://127.0.0.1:1/x",
            tmp_path / "a.sif",
            insecure=False,
            scratch=tmp_path / "scratch",
            report=lines.append,
            credentials=Credentials("someone", ODD),
        )
    environment = (tmp_path / "environment").read_bytes().decode().split("\0")
    for name in ("APPTAINER", "SINGULARITY"):
        assert f"{name}_DOCKER_USERNAME=someone" in environment
        assert f"{name}_DOCKER_PASSWORD={ODD}" in environment
    words = (tmp_path / "words").read_bytes()
    assert b"docker://127.0.0.1:1/x" in words
    assert b"p'w" not in words
    assert (tmp_path / "files").read_text() == ""
    assert "APPTAINER_DOCKER_PASSWORD" not in os.environ


CONVERT = """
import sys
from pathlib import Path
from neurocommand.image import sif
place = Path(sys.argv[1])
report = lambda line: print(line, flush=True)
sif.convert("docker://x/y", place / "a.sif", insecure=False, scratch=place, report=report)
"""


def test_a_killed_run_leaves_no_runtime_behind(tmp_path: Path) -> None:
    """It would go on writing into what the next run has removed."""
    program = tmp_path / "bin/apptainer"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "pid $$"\nexec sleep 60\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    argv = [sys.executable, "-c", CONVERT, str(tmp_path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=environment, text=True) as process:
        assert process.stdout is not None
        runtime = int(process.stdout.readline().removeprefix("pid "))
        assert is_running(runtime)
        process.kill()
    deadline = time.monotonic() + 60  # the kernel tells it; a busy machine lets it act later
    while is_running(runtime):
        assert time.monotonic() < deadline, "the runtime outlived the run"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
