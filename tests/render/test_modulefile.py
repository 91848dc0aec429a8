"""Modulefiles: parsed by Lua, loaded by Lmod in a real shell, with values that try to get out of their quotes."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocommand.manifest import Declaration
from neurocommand.model import Format, Inspection, Release
from neurocommand.render.module import live
from neurocommand.render.modulefile import long_bracketed, lua, quoted

GOLDEN = Path(__file__).parents[1] / "golden"
LMOD = Path(os.environ.get("LMOD_PKG", "/usr/share/lmod/lmod"))
RELEASE = Release("tool", "1.0", "20260102")
README = "# tool\n\n----\n\n[badge](x)\n\n  A tool,   for  brains. It ends ]] or ]===] so.\n\nMore: `tool --help`]"

VALUES = (
    "plain",
    "two words",
    'say "hi"',
    "it's",
    "a=b=c",
    "$(id) `id` $HOME ${HOME}",
    "back\\slash \\n \\",
    "]] ]=] ]===]",
    "]",
    "-- comment",
    "tab\tend",
    "é 脳 \U0001f9e0",
    "*?[a]~!;&|<>(){}#%s%1%%",
    " leading and trailing ",
    "@HELP@",
    ":::",
    "",
)


def inspection(
    commands: Sequence[str] = ("bet", "3dcalc"), environment: Sequence[tuple[str, str]] = (), readme: str = README
) -> Inspection:
    return Inspection(tuple(commands), (), tuple(environment), readme, "amd64")


def written(release: Release, found: Inspection, categories: Sequence[str], image_format: Format, **told: Any) -> str:
    """Return the text of the modulefile of a release that the manifest tells some things of."""
    declaration = Declaration(release, "tool 1.0", 1, tuple(categories), True, True, (), **told)
    return lua(live(declaration, found, image_format))


def program(*names: str) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"{names[0]} is missing: run setup/packages.sh test (./test does)"
    return found


def read_back(literal: str) -> bytes:
    """Return the bytes that Lua reads from a literal."""
    argv = [program("lua5.3", "lua"), "-"]
    return subprocess.run(argv, input=f"io.write({literal})".encode(), capture_output=True, check=True).stdout


@given(st.text(st.characters(codec="utf-8"), max_size=60) | st.text('\\"\n\r\0]=[0123456789', max_size=20))
def test_a_quoted_literal_is_read_back(text: str) -> None:
    literal = quoted(text)
    assert read_back(literal) == text.encode()
    assert not set(literal) & {"\n", "\r", "\0"}


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=60) | st.text("]=[\n", max_size=20))
def test_a_long_bracket_is_read_back(text: str) -> None:
    assert read_back(long_bracketed(text)) == text.encode()


# --- a root with one release --------------------------------------------------------------------------------------


def deployed(root: Path, text: str, categories: Sequence[str] = ()) -> Path:
    """Put a modulefile where it belongs, with the links to it; returns the root."""
    (root / "containers" / RELEASE.id / "bin").mkdir(parents=True)
    command = root / "containers" / RELEASE.id / "bin" / "bet"
    command.write_text("#!/bin/sh\necho bet of the module\n")
    command.chmod(0o755)
    (root / "modules/tool").mkdir(parents=True)
    (root / "modules/tool/1.0.lua").write_text(text)
    (root / "containers/modules").symlink_to("../modules")
    for category in categories:
        (root / "neurodesk-modules" / category / "tool").mkdir(parents=True)
        (root / "neurodesk-modules" / category / "tool/1.0.lua").symlink_to("../../../modules/tool/1.0.lua")
    return root


def shell(modulepath: Path, script: str, home: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a script in a fresh bash with Lmod."""
    assert (LMOD / "init/bash").exists(), "Lmod is missing: run setup/packages.sh test (./test does)"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home), "MODULEPATH": str(modulepath), "LMOD_PAGER": "none"}
    argv = ["bash", "--norc", "-c", f". {LMOD}/init/bash; {script}"]
    return subprocess.run(argv, capture_output=True, check=False, env=environment, cwd=home)


def loaded(modulepath: Path, home: Path, module: str = "tool") -> dict[str, str]:
    """Return the environment of a shell that loaded the module without a word."""
    done = shell(modulepath, f"module load {module} && exec env -0", home)
    assert (done.returncode, done.stderr) == (0, b"")
    pairs = done.stdout.decode(errors="surrogateescape").split("\0")[:-1]
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


@pytest.mark.parametrize("image_format", ["tree", "sif"])
def test_golden(image_format: Format) -> None:
    """To renew after a change that is meant: write the text that is shown to the file."""
    environment = [("DIR", "BASEPATH/opt/tool:BASEPATH"), ("MODE", 'a "b" \\'), ("BREAK", "a\nid")]
    text = written(RELEASE, inspection(environment=environment), ["functional imaging", "EEG"], image_format)
    assert text == (GOLDEN / f"module.{image_format}.lua").read_text()


def test_the_three_ways_to_it(tmp_path: Path) -> None:
    text = written(RELEASE, inspection(environment=[("DIR", "BASEPATH/x")]), ["a b"], "tree")
    root = deployed(tmp_path / "a root, (moved)", text, ["a_b"])
    directory = root / "containers" / RELEASE.id
    (tmp_path / "link").symlink_to(root)
    (tmp_path / "elsewhere").symlink_to(root / "modules")
    (tmp_path / "category").symlink_to(root / "neurodesk-modules/a_b")
    for way in ("modules", "containers/modules", "neurodesk-modules/a_b", "modules/"):
        found = loaded(Path(f"{root}/{way}"), tmp_path)
        assert found["PATH"] == f"{directory}/bin:/usr/bin:/bin"
        assert found["DIR"] == f"{directory}/{RELEASE.id}.simg/x"
    for way in ("link/modules", "link/containers/modules", "elsewhere", "category"):
        found = loaded(tmp_path / way, tmp_path)
        assert os.path.samefile(found["PATH"].split(":")[0], directory / "bin"), way
    done = shell(root / "modules", "module load tool && bet", tmp_path)
    assert done.stdout == b"bet of the module\n"


def test_a_root_called_containers(tmp_path: Path) -> None:
    root = deployed(tmp_path / "containers", written(RELEASE, inspection(), [], "tree"))
    assert loaded(root / "modules", tmp_path)["PATH"].startswith(f"{root}/containers/{RELEASE.id}/bin:")


def test_values_arrive_as_they_are(tmp_path: Path) -> None:
    environment = [(f"V{number}", value) for number, value in enumerate(VALUES)]
    text = written(RELEASE, inspection(environment=environment), ["]]", '"'], "tree")
    found = loaded(deployed(tmp_path / "root", text) / "modules", tmp_path)
    assert {name: found[name] for name, _ in environment} == dict(environment)


@settings(max_examples=10)
@given(
    values=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30), max_size=40),
    readme=st.text("]=[ \n-'\"\\ab", max_size=60),
)
def test_any_values_arrive_as_they_are(
    values: list[str], readme: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    environment = [(f"V{number}", value) for number, value in enumerate(values)]
    text = written(RELEASE, inspection(environment=environment, readme=readme), [readme], "tree")
    found = loaded(deployed(place / "root", text) / "modules", place)
    image = f"{place}/root/containers/{RELEASE.id}/{RELEASE.id}.simg"
    assert {name: found[name] for name, _ in environment} == {
        name: value.replace("BASEPATH", image) for name, value in environment
    }


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1b", "\x7f"], ids=repr)
def test_a_line_break_never_reaches_the_shell(character: str, tmp_path: Path) -> None:
    """Lmod writes it bare: what follows would be run. An inspection holds none; this is the second lock."""
    value = f"x{character}touch {tmp_path}/PWNED #"
    text = written(RELEASE, inspection(environment=[("BAD", value), ("GOOD", "1")]), [], "tree")
    found = loaded(deployed(tmp_path / "root", text) / "modules", tmp_path)
    assert "BAD" not in found
    assert found["GOOD"] == "1"
    assert not (tmp_path / "PWNED").exists()


def test_a_sif_has_no_directory_to_name(tmp_path: Path) -> None:
    text = written(RELEASE, inspection(environment=[("DIR", "BASEPATH/x"), ("MODE", "1")]), [], "sif")
    found = loaded(deployed(tmp_path / "root", text) / "modules", tmp_path)
    assert "DIR" not in found
    assert found["MODE"] == "1"
    assert "-- DIR is not set" in text


def test_what_people_see(tmp_path: Path) -> None:
    text = written(RELEASE, inspection(), ["functional imaging", "EEG"], "tree")
    root = deployed(tmp_path / "root", text)
    modules = root / "modules"
    assert README in shell(modules, "module help tool", tmp_path).stderr.decode()
    whatis = shell(modules, "module whatis tool", tmp_path).stderr.decode()
    assert [line.split(": ", 1)[1] for line in whatis.strip().splitlines()] == [
        "Name: tool",
        "Version: 1.0",
        "Build date: 20260102",
        "Category: functional imaging, EEG",
        "Description: A tool, for brains. It ends ]] or ]===] so.",
        "Keywords: bet, 3dcalc",
    ]
    for word in ("3dcalc", "brains", "functional"):
        assert b"tool/1.0" in shell(modules, f"module keyword {word}", tmp_path).stderr
    assert b"tool/1.0" not in shell(modules, "module keyword nothing", tmp_path).stderr
    listed = shell(modules, "module -t avail", tmp_path).stderr.decode().splitlines()
    assert [line for line in listed if not line.startswith("/")] == ["tool/", "tool/1.0"]


def test_it_unloads_and_excludes_its_other_versions(tmp_path: Path) -> None:
    root = deployed(tmp_path / "root", written(RELEASE, inspection(environment=[("MODE", "1")]), [], "tree"))
    other = Release("tool", "2.0", "20260202")
    (root / "containers" / other.id / "bin").mkdir(parents=True)
    (root / "modules/tool/2.0.lua").write_text(written(other, inspection(), [], "tree"))
    show = 'echo "$PATH $MODE"'
    script = f"module load tool/1.0; {show}; module load tool/2.0; {show}; module unload tool; {show}"
    done = shell(root / "modules", script, tmp_path)
    first, second, third = done.stdout.decode().splitlines()
    assert first == f"{root}/containers/{RELEASE.id}/bin:/usr/bin:/bin 1"
    assert second == f"{root}/containers/{other.id}/bin:/usr/bin:/bin "
    assert third == "/usr/bin:/bin "
    gone = f"module load tool/1.0; mv {root}/containers/{RELEASE.id} {tmp_path}/gone; module unload tool; echo $PATH"
    assert shell(root / "modules", gone, tmp_path).stdout == b"/usr/bin:/bin\n"


def test_a_release_that_is_gone_is_said(tmp_path: Path) -> None:
    root = deployed(tmp_path / "root", written(RELEASE, inspection(), [], "tree"))
    shutil.rmtree(root / "containers" / RELEASE.id)
    done = shell(root / "modules", "module load tool", tmp_path)
    assert done.returncode != 0
    assert f"{RELEASE.id} is not deployed where this modulefile is" in " ".join(done.stderr.decode().split())
    assert shell(root / "modules", "module -t avail", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("readme", "expected"),
    [
        ("", None),
        ("# Title\n===\n- list\n```\n![badge](x)\n<!-- x -->\n12\n", None),
        ("# Title\n\n  Prose   here. \nmore", "Prose here."),
        ("x" * 300, " …"),
        ("word " * 100, "word …"),
    ],
)
def test_description(readme: str, expected: str | None, tmp_path: Path) -> None:
    text = written(RELEASE, inspection(readme=readme), [], "tree")
    described = [line for line in text.splitlines() if "Description: " in line]
    assert len(described) == (expected is not None)
    assert all(line.endswith(f'{expected}")') and len(line) < 280 for line in described)


def test_without_commands_and_with_very_many() -> None:
    assert "Keywords" not in written(RELEASE, inspection(commands=()), [], "tree")
    many = [f"command{number:04}" for number in range(2000)]
    (line,) = [
        line for line in written(RELEASE, inspection(commands=many), [], "tree").splitlines() if "Keywords" in line
    ]
    assert line.startswith('whatis("Keywords: command0000, command0001, ')
    assert line.endswith(' …")')
    assert len(line) < 8100


def test_luac_takes_it(tmp_path: Path) -> None:
    path = tmp_path / "m.lua"
    environment = [(f"V{number}", f"{value}BASEPATH{value}") for number, value in enumerate(VALUES)]
    path.write_text(
        written(RELEASE, inspection(environment=environment, readme="]" * 9 + "]=="), [*VALUES, "\n"], "tree")
    )
    subprocess.run([program("luac5.3", "luac"), "-p", path], check=True, capture_output=True)
