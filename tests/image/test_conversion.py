"""Our conversion against Apptainer's own, part by part and file by file."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from neurocommand.errors import ImageError, RefusedError
from neurocommand.image import conversion
from neurocommand.image.sif import recorded_environment
from neurocommand.settings import Compression
from tests import images, oci_images, sifs
from tests.image.test_sif import is_running
from tests.images import Rootfs
from tests.oci_images import OciImage
from tests.servers import Registry
from tests.users import User

ROOT = Path(__file__).parents[2]
LEFT = "left to apptainer build"
ENVIRONMENT = ["PATH=/opt/small/bin:/bin", "DEPLOY_PATH=/opt/small/bin/"]
NEXT_TO_NOTHING = Rootfs().directory("etc").file("etc/motd", "hello\n", mode=0o644)


def convert(made: OciImage, reference: str, path: Path, compression: Compression = "zstd") -> list[str]:
    """Convert as we do it, and return what was said."""
    said: list[str] = []
    image = conversion.Image(reference, made.sha256, True, made)
    conversion.convert(image, path, compression=compression, scratch=path.parent / "scratch", report=said.append)
    return said


def apptainer(reference: str, path: Path) -> None:
    """Convert as Apptainer does it."""
    scratch = path.parent / "theirs"
    scratch.mkdir()
    settings = {"APPTAINER_CACHEDIR": f"{scratch}/cache", "APPTAINER_TMPDIR": str(scratch), "APPTAINER_USERNS": "1"}
    argv = ["apptainer", "--quiet", "build", "--no-https", path, f"docker://{reference}"]
    images.run(argv, env={**os.environ, **settings})


@pytest.fixture
def same(registry: Registry, tmp_path: Path) -> Callable[[OciImage], list[str]]:
    """Give what converts an image both ways, and returns how the SIFs differ, after what we said on the way."""

    def compare(made: OciImage) -> list[str]:
        since = time.time() - 5
        reference = made.push(registry.host, f"neuro/{made.sha256[:12]}")
        said = convert(made, reference, tmp_path / "ours.sif")
        assert {path.name for path in (tmp_path / "scratch").iterdir()} <= {"cache"}
        apptainer(reference, tmp_path / "theirs.sif")
        return said + sifs.differences(tmp_path / "ours.sif", tmp_path / "theirs.sif", tmp_path, since)

    return compare


CONFIGURATIONS: dict[str, dict[str, object]] = {
    "nothing": {},
    "command": {"Cmd": ["/bin/sh"], "Env": ENVIRONMENT},
    "entry point": {"Entrypoint": ["/opt/small/bin/smallhello"], "WorkingDir": "/opt/small", "User": "1000:1000"},
    "both": {"Entrypoint": ["/bin/sh", "-c"], "Cmd": ["echo $HOME", 'it\'s "x"\\ `id`'], "Env": ENVIRONMENT},
    "odd words": {"Cmd": ["", "a\nb", "'", "$(id)", "*", "ü\t", "\\", "--"], "Entrypoint": ["ä b"]},
    "environment": {
        "Env": [
            *ENVIRONMENT,
            "QUOTES=a \"b\" 'c' `d` $e \\f",
            "LINES=one\ntwo\n",
            "EMPTY=",
            "NOVALUE",
            "1ODD=x",
            "WITH-DASH=x",
            "UNICODE=æ…\u2028<>&",
            "LD_LIBRARY_PATH=/opt/lib:$LD_LIBRARY_PATH",
            "TWICE=1",
            "TWICE=2",
        ]
    },
    "labels": {
        "Labels": {
            "a": "x <y> & 'z' \"q\"",
            "org.label-schema.build-arch": "mine",
            "org.label-schema.usage.singularity.deffile.bootstrap": "mine",
            "bootstrap": "oci",
            "ü": "line\nbreak\u2028",
        }
    },
    "all else": {
        "Labels": None,
        "Env": None,
        "Cmd": None,
        "ExposedPorts": {"80/tcp": {}},
        "Volumes": {"/data": {}},
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 30000000000},
        "OnBuild": ["RUN x"],
        "Shell": ["/bin/bash", "-c"],
        "ArgsEscaped": True,
        "Unknown": [1, 2.5, {"x": None}],
    },
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_configuration(name: str, same: Callable[[OciImage], list[str]]) -> None:
    assert same(oci_images.image(NEXT_TO_NOTHING, config=CONFIGURATIONS[name])) == []


def test_the_small_image(same: Callable[[OciImage], list[str]], tmp_path: Path) -> None:
    config = {"Env": [f"{name}={value}" for name, value in images.SMALL_ENVIRONMENT.items()], "Cmd": ["/bin/sh"]}
    assert same(oci_images.image(images.small(), config=config)) == []
    assert dict(recorded_environment(tmp_path / "ours.sif") or ()) == images.SMALL_ENVIRONMENT


def odd_files() -> Rootfs:
    """Return every kind of file that a layer can hold, with names of every kind."""
    rootfs = Rootfs().directory("./", mode=0o711).directory("d").directory("d/e")
    rootfs.file("d/empty", b"").file("d/large", os.urandom(300_000), uid=1000, gid=1001, mtime=1_600_000_000)
    rootfs.file("d/setuid", mode=0o4755).file("d/setgid", mode=0o2755).directory("d/sticky", mode=0o1777)
    rootfs.file("d/secret", "x", mode=0o600, uid=65534, gid=65534).file("d/old", "x", mtime=0)
    rootfs.file("d/fraction", "x", pax_headers={"mtime": "1600000000.987654"})
    rootfs.file("d/big owner", "x", uid=3_000_000_000, gid=4_000_000_000)
    rootfs.add("d/fifo", tarfile.FIFOTYPE, mode=0o640)
    rootfs.link("d/absolute", "/etc/motd").link("d/broken", "../nowhere/x").link("d/long", "x/" * 150 + "x")
    rootfs.add("d/hard", tarfile.LNKTYPE, linkname="d/large").add("d/e/hard", tarfile.LNKTYPE, linkname="./d/large")
    rootfs.add("d/second fifo", tarfile.LNKTYPE, linkname="d/fifo")
    rootfs.add("d/hardlink to a link", tarfile.LNKTYPE, linkname="d/broken")
    rootfs.file("d/" + "n" * 250, "x").file("d/" + "/".join("m" * 90 for _ in range(4)), "implicit directories")
    rootfs.file(b"d/\xff\xfe bytes", "x").file("d/line\nbreak", "x").file("d/ü ☃ '\"$`\\*", "x").file("d/-x", "x")
    rootfs.file("/d/from the root", "x").file("../../d/e/above", "x").file("d//e/./double", "x")
    rootfs.file("etc/hosts", "1.2.3.4 x\n", mode=0o400, uid=5).directory("home", mode=0o700)
    rootfs.file("var/tmp/x", "x").directory("tmp", mode=0o1777)
    rootfs.link("sbin", "usr/sbin").directory("usr/sbin").file("sbin/through a link", "x")
    return rootfs.file("d/twice", "first").file("d/twice", "second, longer", mode=0o640)


def test_files_of_every_kind(same: Callable[[OciImage], list[str]]) -> None:
    assert same(oci_images.image(odd_files(), config={"Env": ENVIRONMENT})) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices and keep capabilities")
def test_what_only_root_can_keep(same: Callable[[OciImage], list[str]]) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".decode()
    rootfs = Rootfs().directory("dev").add("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    rootfs.add("dev/sda", tarfile.BLKTYPE, devmajor=8, devminor=300, mode=0o660, gid=6)
    rootfs.file("ping", pax_headers={"SCHILY.xattr.security.capability": capability})
    rootfs.file("note", pax_headers={"SCHILY.xattr.user.note": "a=b\nc", "SCHILY.xattr.user.other": ""})
    rootfs.directory("noted")
    rootfs.members[-1][0].pax_headers = {"SCHILY.xattr.user.d": "x" * 300, "SCHILY.xattr.trusted.t": "y"}
    rootfs.file("ignored", pax_headers={"SCHILY.xattr.security.selinux": "system_u:object_r:x:s0"})
    assert same(oci_images.image(rootfs)) == []


def test_layers_over_one_another(same: Callable[[OciImage], list[str]]) -> None:
    lower = Rootfs().directory("a").file("a/gone", "1").file("a/kept", "1").directory("a/emptied")
    for name in ("x", "y", "z"):
        lower.file(f"a/emptied/{name}", name)
    lower.directory("b").file("b/file", "1").file("c", "1").directory("usr").directory("usr/lib").link("lib", "usr/lib")
    lower.file("usr/lib/one", "1").file("linked", "bytes").add("linked too", tarfile.LNKTYPE, linkname="linked")
    lower.directory("mode", mode=0o700).file("mode/x", "x").link("link", "a")
    middle = Rootfs().file("a/.wh.gone", b"").file("a/emptied/new", "2").file("a/emptied/.wh..wh..opq", b"")
    middle.file("b", "a file where a directory was").directory("c").file("c/inside", "a directory where a file was")
    middle.file("lib/two", "2").file("linked", "other bytes").directory("mode", mode=0o755)
    middle.add("third", tarfile.LNKTYPE, linkname="linked too").file(".wh.nothing", b"").file("a/.wh.kept", b"")
    middle.file("a/kept", "again").directory("link")
    upper = Rootfs().file("a/.wh.emptied", b"").file("c/.wh.inside", b"").file(".wh.third", b"").file("late/x", "3")
    assert same(oci_images.image(lower, middle, upper, lower)) == []
    assert same_again(same, oci_images.image(lower, middle, upper))


def same_again(same: Callable[[OciImage], list[str]], made: OciImage) -> bool:
    """Compare another image, in the place of the first one."""
    place = Path(same.__closure__[1].cell_contents)  # type: ignore[attr-defined]
    for name in ("ours.sif", "theirs.sif"):
        (place / name).unlink()
    images.run(["rm", "-r", place / "theirs"])
    return same(made) == []


def test_another_architecture(same: Callable[[OciImage], list[str]]) -> None:
    elf = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00\x01\x00\x00\x00" + bytes(40)
    program = elf[:52] + b"\x40\x00" + bytes(10)
    rootfs = Rootfs().directory("bin").file("bin/tool", program).link("bin/sh", "tool")
    assert same(oci_images.image(rootfs, architecture="arm64")) == []


@pytest.mark.parametrize(
    ("rootfs", "reason"),
    [
        (Rootfs().directory(".singularity.d").file(".singularity.d/labels.json", "{}"), "it has /.singularity.d"),
        (Rootfs().file("environment", "x"), "it has /environment"),
        (Rootfs().directory("etc").link("etc/resolv.conf", "../run/resolv.conf").directory("run"), "is a symlink"),
        (Rootfs().directory("data").link("home", "data"), "its /home is a symlink"),
    ],
)
def test_what_is_left_to_apptainer(rootfs: Rootfs, reason: str, registry: Registry, tmp_path: Path) -> None:
    made = oci_images.image(rootfs, config={"Env": ENVIRONMENT})
    said = convert(made, made.push(registry.host, "neuro/left"), tmp_path / "a.sif")
    assert LEFT in said[0]
    assert reason in said[0]
    assert dict(recorded_environment(tmp_path / "a.sif") or ())["DEPLOY_PATH"] == "/opt/small/bin/"


@pytest.mark.parametrize(("compression", "number"), [("gzip", 1), ("zstd", 6)])
def test_compression(compression: Compression, number: int, tmp_path: Path) -> None:
    convert(oci_images.image(images.small()), "127.0.0.1:1/x@sha256:" + "0" * 64, tmp_path / "a.sif", compression)
    start = tmp_path.joinpath("a.sif").read_bytes()[(offset := conversion.locate(tmp_path / "a.sif").offset) :]
    assert offset % 4096 == 0
    assert int.from_bytes(start[20:22], "little") == number  # squashfs superblock: compression id


HOSTILE = [
    ("broken gzip", lambda: OciImage([gzip.compress(bytes(5000))[:20]]), "gzip data is cut short"),
    ("no gzip", lambda: OciImage([b"\x1f\x8b" + b"x" * 100]), "is no sound gzip file"),
    ("no tar", lambda: OciImage([gzip.compress(b"x" * 2000)]), "is no sound tar file"),
    ("cut tar", lambda: OciImage([gzip.compress(oci_images.tar(images.small())[:20_000])]), "is no sound tar file"),
    ("parent of a whiteout", lambda: oci_images.image(Rootfs().file("a/.wh...", b"")), "would remove the directory"),
    ("itself", lambda: oci_images.image(Rootfs().file("a/.wh.", b"")), "would remove the directory"),
    ("root", lambda: oci_images.image(Rootfs().link("..", "/tmp")), "would make the root something other"),
    ("circle", lambda: oci_images.image(Rootfs().link("a", "b").link("b", "a").file("a/x")), "round in circles"),
    ("no parent", lambda: oci_images.image(Rootfs().file("a").file("a/b")), "its parent is no directory"),
    ("no target", lambda: oci_images.image(Rootfs().add("a", tarfile.LNKTYPE, linkname="../etc/passwd")), "hard link"),
    ("long name", lambda: oci_images.image(Rootfs().file("x/" * 3000 + "y")), "name of more than 4095"),
]


@pytest.mark.parametrize(("name", "made", "message"), HOSTILE)
def test_a_hostile_image(name: str, made: Callable[[], OciImage], message: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=message) as caught:
        convert(made(), "registry.example/x@sha256:" + "0" * 64, tmp_path / "a.sif")
    assert caught.value.message.startswith("registry.example/x@sha256:")
    assert "layer 1 (sha256:" in caught.value.message
    assert caught.value.hint
    # not even while the exception keeps everything alive that it came through
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("digest", "layer"))]
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_damaged_header_in_the_midst(tmp_path: Path) -> None:
    """tarfile takes it for the end of the archive."""
    layer = bytearray(oci_images.tar(Rootfs().file("a", b"x" * 512).file("b", b"y" * 512)))
    layer[1024 + 148 : 1024 + 156] = b"0000000\0"
    with pytest.raises(ImageError, match="damaged at byte 1024"):
        convert(OciImage([gzip.compress(bytes(layer))]), "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")


def test_other_bytes_than_the_digest_says(tmp_path: Path) -> None:
    made = oci_images.image(NEXT_TO_NOTHING)
    layer = json.loads(made.manifest_text)["layers"][0]["digest"].removeprefix("sha256:")
    good = made.blobs[layer]
    for changed, message in (
        (good[:4] + b"\1" + good[5:], "other bytes"),
        (good + good, "more than"),
        (b"", "instead of"),
    ):
        made.blobs[layer] = changed
        with pytest.raises(ImageError, match=message):
            convert(made, "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")
        assert not (tmp_path / "a.sif").exists()


def test_space_is_asked_for_first(tmp_path: Path) -> None:
    made = oci_images.image(NEXT_TO_NOTHING)
    manifest = json.loads(made.manifest_text)
    manifest["layers"][0]["size"] = 1 << 50
    made.manifest_text = json.dumps(manifest).encode()
    with pytest.raises(RefusedError, match=r"needs .* MiB in .*which has") as caught:
        convert(made, "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")
    assert caught.value.exit_code == 3


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.sif").write_text("precious")
    with pytest.raises(ImageError, match="exists already"):
        convert(oci_images.image(NEXT_TO_NOTHING), "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")
    assert (tmp_path / "a.sif").read_text() == "precious"


def test_equal_layers_are_other_inodes(tmp_path: Path) -> None:
    layer = Rootfs().directory("d").file("d/x", "x").add("d/y", tarfile.LNKTYPE, linkname="d/x")
    other = dataclasses.replace(Rootfs(), members=[]).file("d/.wh.x", b"")
    made = oci_images.image(layer, other, layer)
    assert len({hashlib.sha256(blob).hexdigest() for blob in made.raw}) == 2
    convert(made, "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")


FOR_A_USER = """
import json, sys
from contextlib import contextmanager
from pathlib import Path
from neurocommand.image import conversion
layout, reference, path = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
class Layout:
    def manifest(self, sha256):
        return (layout / "blobs/sha256" / sha256).read_bytes()
    @contextmanager
    def blob(self, sha256):
        yield [self.manifest(sha256)]
image = conversion.Image(reference, reference.partition("@sha256:")[2], True, Layout())
conversion.convert(image, path, compression="zstd", scratch=path.parent / "scratch", report=print)
"""


def test_an_ordinary_user_gets_what_apptainer_gives_it(ordinary_user: User, registry: Registry, tmp_path: Path) -> None:
    """All files are root's in the SIF, devices are empty files, and attributes only as far as a user may set them."""
    rootfs = odd_files().directory("dev").add("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    rootfs.file("note", pax_headers={"SCHILY.xattr.user.note": "kept", "SCHILY.xattr.security.x": "dropped"}, uid=7)
    made = oci_images.image(rootfs, config={"Env": ENVIRONMENT})
    reference, since = made.push(registry.host, "neuro/user"), time.time() - 5
    place = ordinary_user.home / "conversion"
    place.mkdir()
    oci_images.written(made, place / "layout")
    ordinary_user.give(place)
    done = ordinary_user.python(FOR_A_USER, place / "layout", reference, place / "ours.sif")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    settings = {"APPTAINER_CACHEDIR": str(place / "cache"), "APPTAINER_TMPDIR": str(place)}
    argv = ["apptainer", "--quiet", "build", "--no-https", str(place / "theirs.sif"), f"docker://{reference}"]
    done = ordinary_user.run(argv, env=settings)
    assert done.returncode == 0, done.stderr
    assert sifs.differences(place / "ours.sif", place / "theirs.sif", tmp_path, since) == []


KILLED = """
import sys
from pathlib import Path
from neurocommand.image import conversion
from tests import images, oci_images
made, path = oci_images.image(images.small()), Path(sys.argv[1])
image = conversion.Image("r/x@sha256:" + "0" * 64, made.sha256, True, made)
conversion.convert(image, path, compression="zstd", scratch=path.parent / "scratch", report=print)
"""


@pytest.mark.parametrize(("program", "told"), [("apptainer", "oci:"), ("mksquashfs", "-tar")])
def test_a_killed_run_leaves_no_program_behind(program: str, told: str, tmp_path: Path) -> None:
    tool, real = tmp_path / "bin" / program, shutil.which(program)
    tool.parent.mkdir()
    note = f"echo $$ >{tmp_path}/pid.part && mv {tmp_path}/pid.part {tmp_path}/pid"
    # Apptainer calls mksquashfs, too
    tool.write_text(f'#!/bin/sh\ncase "$*" in *{told}*) {note}; exec sleep 60 ;; esac\nexec {real} "$@"\n')
    tool.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", KILLED, tmp_path / "a.sif"], env=environment, cwd=ROOT) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.kill()
    while is_running(int((tmp_path / "pid").read_text())):
        assert time.monotonic() < deadline, f"{program} outlived the run"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("echo 'FATAL ERROR: No space left on device' >&2; exit 1", "No space left"),
        ("exit 3", "ended with exit 3"),
        ("cat >/dev/null; exit 0", "No such file|cannot be read|no SIF"),
    ],
)
def test_a_failure_of_mksquashfs_leaves_nothing(
    said: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "bin/mksquashfs"
    tool.parent.mkdir()
    real = shutil.which("mksquashfs")
    # Apptainer needs the real one
    tool.write_text(f'#!/bin/sh\ncase "$*" in *-tar*) {said} ;; *) exec {real} "$@" ;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    with pytest.raises((ImageError, OSError), match=message):
        convert(oci_images.image(images.small()), "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")
    assert not (tmp_path / "a.sif").exists()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    made = oci_images.image(images.small())

    def interrupted(sha256: str) -> bytes:
        raise KeyboardInterrupt

    made.manifest = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        convert(made, "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_image_of_this_machine_is_chosen_from_an_index(tmp_path: Path) -> None:
    made = oci_images.image(images.small(), config={"Env": ENVIRONMENT})
    native = conversion.MACHINES[os.uname().machine]
    entries = [
        {"digest": f"sha256:{digest * 64}", "size": 5, "platform": {"os": "linux", "architecture": architecture}}
        for digest, architecture in (("1", "mips"), ("2", native), ("3", "unknown"))
    ]
    index = json.dumps({"schemaVersion": 2, "manifests": entries}).encode()
    asked: list[str] = []

    def manifest(sha256: str) -> bytes:
        asked.append(sha256)
        return index if sha256 == made.sha256 else made.manifest_text

    made.manifest = manifest  # type: ignore[method-assign]
    convert(made, "r/x@sha256:" + "0" * 64, tmp_path / "a.sif")
    assert asked == [made.sha256, "2" * 64]
