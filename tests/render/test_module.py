"""What a module says and does, whichever system it is for."""

from __future__ import annotations

from typing import Any

import pytest

from neurocommand.manifest import Declaration
from neurocommand.model import About, Inspection, Notice, Release
from neurocommand.render.module import Module, Variable, live, tombstone
from neurocommand.render.modulefile import lua
from neurocommand.render.versions import NONE
from neurocommand.render.versions import lua as modulerc
from tests.render.test_modulefile import GOLDEN, RELEASE


def facts(readme: str = "Prose.", commands: tuple[str, ...] = ("bet",), **told: Any) -> list[str]:
    declaration = Declaration(RELEASE, "tool 1.0", 1, told.pop("categories", ()), True, True, (), **told)
    return list(live(declaration, Inspection(commands, (), (), readme), "tree").whatis)[3:]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (facts(), ["Description: Prose.", "Keywords: bet"]),
        (facts("", ()), []),
        (facts(about=About("Mine.")), ["Description: Mine.", "Keywords: bet"]),
        (
            facts("", about=About(url="https://x", licence="MIT", citation="Doe")),
            ["URL: https://x", "Licence: MIT", "Citation: Doe", "Keywords: bet"],
        ),
        (facts("", about=About(keywords=("skull", "mask"))), ["Keywords: skull, mask, bet"]),
        (facts("", doi="10.1/2", categories=("body", "EEG")), ["Category: body, EEG", "DOI: 10.1/2", "Keywords: bet"]),
        (facts("", (), deprecation=Notice("old.")), ["Deprecated: old"]),
        (facts("", (), deprecation=Notice("old", None, "2026-01-31")), ["Deprecated: since 2026-01-31: old"]),
    ],
)
def test_facts(found: list[str], expected: list[str]) -> None:
    assert found == expected


def test_a_variable_is_in_pieces_or_left_out() -> None:
    declaration = Declaration(RELEASE, "tool 1.0", 1, (), True, True, ())
    environment = (("A", "BASEPATH/x:BASEPATH"), ("B", "plain"), ("C", ""), ("D", "x\ny"))
    found = Inspection((), (), environment, "")
    assert live(declaration, found, "tree").variables[:3] == (
        Variable("A", ("", "/x:", "")),
        Variable("B", ("plain",)),
        Variable("C", ("",)),
    )
    omitted = [variable.name for variable in live(declaration, found, "sif").variables if variable.omitted]
    assert omitted == ["A", "D"]


def test_a_notice_is_the_end_of_a_sentence() -> None:
    declaration = Declaration(RELEASE, "tool 1.0", 1, (), True, True, (), deprecation=Notice("old"))
    assert live(declaration, Inspection((), (), (), ""), "tree").deprecation == "tool/1.0 is deprecated: old"
    successor = Release("tool", "2.0", "20260101")
    made = tombstone(RELEASE, (), Notice("wrong", successor, "2026-01-31"))
    assert made.withdrawal == "tool/1.0 is withdrawn since 2026-01-31: wrong; use tool/2.0 instead"
    assert made.help == f"{made.withdrawal}.\n"
    assert made.whatis[3:] == ("Withdrawn: since 2026-01-31: wrong; use tool/2.0 instead",)


def test_golden_tombstone() -> None:
    text = lua(tombstone(RELEASE, ("EEG",), Notice("wrong results", None, "2026-01-31")))
    assert text == (GOLDEN / "module.withdrawn.lua").read_text()


def test_golden_deprecation() -> None:
    text = lua(Module(RELEASE, "", ("Name: tool",), deprecation='tool/1.0 is "old"'))
    assert 'if mode() == "load" then\n    LmodMessage("tool/1.0 is \\"old\\"")\nend\n' in text
    assert 'LmodError("tool/1.0' not in text


def test_without_a_default_none_is_told() -> None:
    assert 'default"' not in modulerc("tool", ["1.0"], NONE)
    assert 'hide_version("tool/1.0-warm")' in modulerc("tool", ["1.0"], NONE)
