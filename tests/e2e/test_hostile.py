"""Hostile manifests and images from outside: a message, the right exit code, nothing written, nothing run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hostile, images
from tests.world import World, listing, push, sha256


@pytest.mark.parametrize("name", [*hostile.CASES, "100 MB"])
def test_a_hostile_manifest_is_refused_where_it_stands(world: World, name: str) -> None:
    path = world.path / "apps.json"
    if name == "100 MB":
        with open(path, "wb") as stream:
            stream.write(b'{"fsl": {"apps": {')
            stream.truncate(100 << 20)
        line, message = 0, "larger than 16 MiB"
    else:
        source, line, message = hostile.CASES[name]
        path.write_bytes(source.encode() if isinstance(source, str) else source)
    before = listing(world.path)
    done = world.run("check", "apps.json")
    assert done.code == 1
    located = f"apps.json:{line}: " if line else "apps.json: "
    assert [text for text in done.err.splitlines() if text.startswith(located) and message in text], done.err
    assert done.err.isascii() or done.err.replace("\n", "").isprintable()
    assert done.out.splitlines()[-1].endswith(("error", "errors"))
    assert listing(world.path) == before


def test_no_verb_acts_on_a_hostile_manifest(world: World) -> None:
    (world.path / "apps.json").write_text(str(hostile.CASES["path escape in a label"][0]))
    before = listing(world.path)
    for words in (
        ("sync",),
        ("plan",),
        ("convert",),
        ("upload",),
        ("publish",),
        ("install", "fsl"),
        ("list",),
        ("status",),
    ):
        done = world.run(*words)
        assert done.code == 1, words
        assert "apps.json:4" in done.err
    assert listing(world.path) == before


def hostile_image() -> images.Rootfs:
    rootfs = images.small()
    for name in ("-rf", "my tool", "a;b", "commands.txt", "x$(id)", "new\nline", ".hidden", "ls"):
        rootfs.file(f"opt/small/bin/{name}")
    rootfs.file(b"opt/small/bin/\xff\xfe")
    rootfs.link("opt/small/bin/escape", "../../../../../../../../etc/passwd")
    rootfs.link("opt/small/bin/absolute", "/etc/shadow")
    rootfs.link("opt/small/bin/loop", "loop")
    rootfs.link("opt/small/bin/good", "/bin/busybox")
    rootfs.file("opt/small/bin/data", b"\0\1\2\3")
    rootfs.file("usr/bin/su", mode=0o6755)
    rootfs.link("data", "../../../../../../../../../../../tmp/stolen")
    return rootfs.file("README.md", "# small\n]===] ]] ]=] os.exit() \0 \x1b[31m\n", mode=0o644)


ENVIRONMENT = {
    **images.SMALL_ENVIRONMENT,
    "DEPLOY_BINS": "smallhello:missing:../../bin/sh:good",
    "DEPLOY_ENV_QUOTES": "a\"b'c",
    "DEPLOY_ENV_EQUALS": "a=b=c",
    "DEPLOY_ENV_TWOLINES": "one\ntwo",
    "DEPLOY_ENV_BRACKETS": "]] ]===] [[",
    "DEPLOY_ENV_SUBSTITUTION": "$(touch /tmp/pwned) `id` \\ %s",
    "DEPLOY_ENV_PATH": "/evil",
    "DEPLOY_ENV_LD_PRELOAD": "/evil.so",
    "DEPLOY_ENV_BAD NAME": "x",
}


def lmod(modules: Path, *words: str) -> dict[str, str]:
    """Load a module with the real Lmod and return what it sets, as Python sees it."""
    program = Path("/usr/share/lmod/lmod/libexec/lmod")
    assert program.exists(), "lmod is missing: run setup/packages.sh test (./test does)"
    environment = {
        "MODULEPATH": str(modules),
        "PATH": "/usr/bin:/bin",
        "HOME": str(modules.parent),
        "LMOD_PAGER": "none",
    }
    done = subprocess.run([program, "python", *words], capture_output=True, text=True, check=True, env=environment)
    assert "rror" not in done.stderr, done.stderr
    script = f"{done.stdout}\nimport json, os\nprint(json.dumps(dict(os.environ)))"
    after = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    loaded: dict[str, str] = json.loads(after.stdout)
    return loaded


def test_a_hostile_image_deploys_safely(tmp_path: Path, world: World) -> None:
    layout = images.oci_layout(hostile_image(), ENVIRONMENT, tmp_path / "image")
    push(layout, world.registry, "hostile 1.0")
    world.declare("hostile 1.0")
    done = world.run("sync")
    assert done.code == 0, done.err
    directory = world.deployed("hostile 1.0")
    commands = json.loads((directory / "record.json").read_text())["commands"]
    assert {"smallhello", "smallargs", "commands.txt", "good"} <= set(commands)
    assert not {"-rf", "my tool", "a;b", "x$(id)", "escape", "absolute", "loop", "data", "ls", ".hidden", "sh"} & set(
        commands
    )
    for name in ("'-rf'", "'my tool'", "'a;b'", "'x$(id)'", "new\\\\nline", "DEPLOY_ENV_PATH", "DEPLOY_ENV_TWOLINES"):
        assert name in done.err, f"{name} is skipped without a word"
    modulefile = world.root / "modules/hostile/1.0.lua"
    luac = shutil.which("luac") or shutil.which("luac5.3")
    assert luac, "luac is missing: run setup/packages.sh test (./test does)"
    subprocess.run([luac, "-p", str(modulefile)], check=True)
    loaded = lmod(world.root / "modules", "load", "hostile")
    for name in ("QUOTES", "EQUALS", "BRACKETS", "SUBSTITUTION"):
        assert loaded[name] == ENVIRONMENT[f"DEPLOY_ENV_{name}"]
    assert loaded["PATH"].split(":")[0] == str(directory / "bin")
    assert not {"LD_PRELOAD", "TWOLINES"} & set(loaded)
    assert not Path("/tmp/pwned").exists()
    assert not Path("/tmp/stolen").exists()
    tree = directory / "hostile_1.0_20260101.simg"
    assert not [path for path in tree.rglob("*") if not path.is_symlink() and path.stat().st_mode & 0o6000]
    assert world.run("sync").out == "nothing to do\n"


def test_the_same_image_as_a_sif_gives_the_same_commands(tmp_path: Path, world: World) -> None:
    push(images.oci_layout(hostile_image(), ENVIRONMENT, tmp_path / "image"), world.registry, "hostile 1.1")
    world.declare("hostile 1.1")
    assert world.run("sync").code == 0
    assert world.run("install", "hostile", "--format", "sif").code == 0
    installed = world.path / "prefix/containers/hostile_1.1_20260101"
    for name in ("commands.txt", "env.txt", "README.md"):
        assert sha256(installed / name) == sha256(world.deployed("hostile 1.1") / name)
