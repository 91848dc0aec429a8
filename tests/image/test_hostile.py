"""A hostile image all the way: converted by Apptainer, unpacked, normalised, inspected, rendered, loaded, run."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from neurocommand.image import sif
from neurocommand.image.inspection import inspect_sif, inspect_tree
from neurocommand.image.tree import normalise
from neurocommand.model import Inspection, Release
from neurocommand.render import plain
from neurocommand.render.runtimeoptions import Options
from neurocommand.render.wrapper import bodies, wrapper
from neurocommand.settings import WrapperSettings
from tests import images
from tests.image.test_inspection import HOSTILE_COMMANDS, HOSTILE_ENVIRONMENT, hostile
from tests.render.test_modulefile import LMOD, loaded, program, written
from tests.users import User

RELEASE = Release("t", "1.0", "20260102")
README = b"# t\n\nIt ends ]] and ]=] and ]===] \x00\x1b[31m and \xff\xfe ]"


def environment() -> dict[str, str]:
    """Return the hostile environment without what stops every start of a 1.4.5 container (its issue 3328)."""
    values = dict(HOSTILE_ENVIRONMENT)
    values["DEPLOY_ENV_QUOTES"] = values["DEPLOY_ENV_QUOTES"].replace("`", "")
    return values


@pytest.fixture(scope="module")
def root(ordinary_user: User, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Deploy the image by hand under a root in the user's home."""
    work = tmp_path_factory.mktemp("hostile")
    rootfs = hostile()
    rootfs.members = [member for member in rootfs.members if member[0].name != "README.md"]
    rootfs.file("README.md", README, mode=0o644).file("opt/t/bin/good", "#!/bin/sh\nprintf '<%s>' \"$@\"\n")
    images.oci_archive(rootfs, environment(), work / "image.tar")
    lines: list[str] = []
    sif.convert(
        f"oci-archive:{work}/image.tar", work / "a.sif", insecure=False, scratch=work / "scratch", report=lines.append
    )
    place = ordinary_user.home / "hostile root"
    release = place / "containers" / RELEASE.id
    (release / "bin").mkdir(parents=True)
    sif.unpack(work / "a.sif", release / f"{RELEASE.id}.simg")
    normalise(release / f"{RELEASE.id}.simg", ("/data", "/linked/mnt"))
    found = inspected(place, work / "a.sif", work / "scratch2")
    for command in found.commands:
        (release / "bin" / command).write_text(wrapper(RELEASE, command))
        (release / "bin" / command).chmod(0o755)
    for name, text in bodies(RELEASE, "tree", WrapperSettings(), Options(), found.glibc).items():
        (release / name).write_text(text)
    (place / "modules/t").mkdir(parents=True)
    (place / "modules/t/1.0.lua").write_text(written(RELEASE, found, ["x"], "tree"))
    shutil.copy(work / "a.sif", place / "a.sif")
    ordinary_user.give(place)
    return place


def inspected(place: Path, path: Path, scratch: Path) -> Inspection:
    """Inspect the tree and the SIF, which must agree."""
    tree = place / "containers" / RELEASE.id / f"{RELEASE.id}.simg"
    found = inspect_tree(tree, "t", sif.recorded_environment(path))
    assert inspect_sif(path, "t", scratch) == found
    return found


def test_what_is_deployed(root: Path, tmp_path: Path) -> None:
    found = inspected(root, root / "a.sif", tmp_path / "scratch")
    assert found.commands == HOSTILE_COMMANDS
    assert found.readme == "# t\n\nIt ends ]] and ]=] and ]===] [31m and \ufffd\ufffd ]"
    bin_directory = root / "containers" / RELEASE.id / "bin"
    assert tuple(sorted(path.name for path in bin_directory.iterdir())) == HOSTILE_COMMANDS
    tree = root / "containers" / RELEASE.id / f"{RELEASE.id}.simg"
    modes = [path.lstat().st_mode for path in tree.rglob("*") if not path.is_symlink()]
    assert {stat.S_IFMT(mode) for mode in modes} == {stat.S_IFREG, stat.S_IFDIR}
    assert not any(mode & (stat.S_ISUID | stat.S_ISGID | 0o022) for mode in modes)
    assert (tree / "data").is_dir()
    assert not (tree / "deep/mnt").exists()
    assert plain.commands_txt(found).splitlines() == list(HOSTILE_COMMANDS)
    assert plain.env_txt(found).count("\n") == len(found.environment)


def test_the_module_gives_the_exact_values(root: Path, tmp_path: Path) -> None:
    path = root / "modules/t/1.0.lua"
    subprocess.run([program("luac5.3", "luac"), "-p", path], check=True, capture_output=True)
    given = loaded(root / "modules", tmp_path, "t")
    assert given["QUOTES"] == environment()["DEPLOY_ENV_QUOTES"]
    image = f"{root}/containers/{RELEASE.id}/{RELEASE.id}.simg"
    assert given["BASE"] == f"{image}/opt/t:{image}"
    assert not {"BREAK", "LD_PRELOAD", "EQ"} & set(given)
    assert given["PATH"] == f"{root}/containers/{RELEASE.id}/bin:/usr/bin:/bin"


def test_zsh_gets_the_same_values(root: Path, tmp_path: Path) -> None:
    given = loaded(root / "modules", tmp_path, "t")
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "MODULEPATH": str(root / "modules")}
    argv = [program("zsh"), "-f", "-c", f". {LMOD}/init/zsh && module load t && exec env -0"]
    done = subprocess.run(argv, capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    lines = done.stdout.decode().split("\0")
    assert {f"{name}={given[name]}" for name in ("QUOTES", "BASE", "PATH")} <= set(lines)
    assert not any(line.startswith("EQ=") for line in lines)


def test_its_good_command_runs(root: Path, ordinary_user: User) -> None:
    command = root / "containers" / RELEASE.id / "bin" / "good"
    done = ordinary_user.run([str(command), "a b", "*", ""])
    assert (done.returncode, done.stdout) == (0, b"<a b><*><>")
