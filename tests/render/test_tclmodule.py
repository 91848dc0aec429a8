"""Modulefiles for Environment Modules: words read back by Tcl, values that try to get out of their quotes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocommand.manifest import Declaration
from neurocommand.model import Format, Inspection, Notice
from neurocommand.render.module import live, tombstone
from neurocommand.render.tclmodule import quoted, tcl
from tests.modulesystems import run_with_modules, tcl_init
from tests.render.test_modulefile import GOLDEN, README, RELEASE, VALUES, inspection, program
from tests.users import User


def read_back(words: Sequence[str], place: Path) -> list[str]:
    """Return what Tcl reads from a script with these words, bare and in the body of a procedure."""
    script = place / "words.tcl"
    lines = [f"lappend found {word}" for word in words]
    body = "\n".join(f"    lappend ::found {word}" for word in words)
    text = "\n".join([*lines, f"proc inside {{}} {{\n{body}\n}}", "inside"])
    script.write_text(f'{text}\nfconfigure stdout -encoding utf-8 -translation lf\nputs -nonewline [join $found "\\0"]')
    argv = [program("tclsh"), "-encoding", "utf-8", str(script)]
    done = subprocess.run(argv, capture_output=True, check=True)
    return done.stdout.decode("utf-8", "surrogateescape").split("\0")


HOSTILE = st.text('\\"$[]{}\n\r\x1a\x00;# abc', max_size=20)
# Tcl 8.6 knows no characters beyond the first plane by number, but hands their bytes on
ANY = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF, exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=40)
@given(texts=st.lists(HOSTILE | ANY, min_size=1, max_size=20))
def test_a_word_is_read_back(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    texts = [text.replace("\0", "") for text in texts]
    words = [quoted(text) for text in texts]
    assert not any(set(word) & {"\n", "\r", "\0", "\x1a"} for word in words)
    assert read_back(words, tmp_path_factory.mktemp("words")) == texts * 2


def test_a_nul_is_a_number() -> None:
    assert quoted("a\0b") == '"a\\u0000b"'


def declaration(**told: object) -> Declaration:
    return Declaration(RELEASE, "tool 1.0", 1, ("functional imaging", "EEG"), True, True, (), **told)  # type: ignore[arg-type]


@pytest.mark.parametrize("image_format", ["tree", "sif"])
def test_golden(image_format: Format) -> None:
    """To renew after a change that is meant: write the text that is shown to the file."""
    environment = [("DIR", "BASEPATH/opt/tool:BASEPATH"), ("MODE", 'a "b" \\'), ("BREAK", "a\nid")]
    text = tcl(live(declaration(deprecation=Notice("old")), inspection(environment=environment), image_format))
    assert text == (GOLDEN / f"module.{image_format}.tcl").read_text()


def test_golden_tombstone() -> None:
    text = tcl(tombstone(RELEASE, ("EEG",), Notice("wrong results", None, "2026-01-31")))
    assert text == (GOLDEN / "module.withdrawn.tcl").read_text()


def deployed(root: Path, found: Inspection) -> Path:
    """Put a modulefile where it belongs; returns its tree."""
    (root / "containers" / RELEASE.id / "bin").mkdir(parents=True)
    (root / "modules-tcl/tool").mkdir(parents=True)
    (root / "modules-tcl/tool/1.0").write_text(tcl(live(declaration(), found, "tree")))
    return root / "modules-tcl"


def loaded(tree: Path, home: Path, **env: str) -> dict[str, str]:
    """Return the environment of a shell that loaded the module without a word."""
    user = User("whoever runs the tests", home, root=False)
    done = run_with_modules(tcl_init("bash"), tree, "module load tool && exec env -0", user, **env)
    assert (done.returncode, done.stderr) == (0, "")
    return dict(pair.split("=", 1) for pair in done.stdout.split("\0") if "=" in pair)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_values_arrive_as_they_are(tmp_path: Path, locale: str) -> None:
    environment = [(f"V{number}", value) for number, value in enumerate(VALUES)]
    found = loaded(deployed(tmp_path / "root", inspection(environment=environment)), tmp_path, LC_ALL=locale)
    assert {name: found[name] for name, _ in environment} == dict(environment)


@settings(max_examples=5)
@given(
    values=st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=30), max_size=40),
    readme=st.text("]}{=[ \n-'\"\\ab$", max_size=60),
)
def test_any_values_arrive_as_they_are(
    values: list[str], readme: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("any")
    environment = [(f"V{number}", value) for number, value in enumerate(values)]
    tree = deployed(place / "root", inspection(environment=environment, readme=readme))
    found = loaded(tree, place, LC_ALL="C.UTF-8")
    image = f"{place}/root/containers/{RELEASE.id}/{RELEASE.id}.simg"
    assert {name: found[name] for name, _ in environment} == {
        name: value.replace("BASEPATH", image) for name, value in environment
    }


@pytest.mark.parametrize("character", ["\n", "\r", "\0", "\x1b", "\x7f"], ids=repr)
def test_a_line_break_never_reaches_the_shell(character: str, tmp_path: Path) -> None:
    value = f"x{character}touch {tmp_path}/PWNED #"
    found = loaded(deployed(tmp_path / "root", inspection(environment=[("BAD", value), ("GOOD", "1")])), tmp_path)
    assert "BAD" not in found
    assert found["GOOD"] == "1"
    assert not (tmp_path / "PWNED").exists()


def test_a_readme_is_shown_as_it_is(tmp_path: Path) -> None:
    tree = deployed(tmp_path / "root", inspection(readme=f"{README}\n}} [exit] $x \\"))
    user = User("whoever runs the tests", tmp_path, root=False)
    done = run_with_modules(tcl_init("bash"), tree, "module help tool", user)
    assert f"{README}\n}} [exit] $x \\" in done.stderr
