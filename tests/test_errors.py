"""Messages: located, ordered, safe to show."""

from __future__ import annotations

import errno
import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import config, errors
from neurocommand.errors import Fault, FaultsError, NeurocommandError, printable, printable_lines


def test_a_fault_as_one_line() -> None:
    assert Fault(112, "fsl 6.0.3", "no date").text("apps.json") == "apps.json:112: fsl 6.0.3: no date"
    assert Fault(0, "", "cannot be read", warning=True).text("x") == "x: warning: cannot be read"


def test_faults_are_in_the_order_of_the_file() -> None:
    error = FaultsError("x", (Fault(3, "b", "m"), Fault(1, "a", "m")))
    assert error.message == "x:1: a: m\nx:3: b: m"


@given(st.text())
def test_what_is_shown_is_printable_and_short(text: str) -> None:
    shown = printable(text, 20)
    assert shown.isprintable()
    assert len(shown) <= 21


@given(st.text())
def test_lines_are_shown_whole_and_printable(text: str) -> None:
    shown = printable_lines(text)
    assert shown.count("\n") == text.count("\n")
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("number", "code", "hint"),
    [
        (errno.ENOSPC, 3, "free some space"),
        (errno.EDQUOT, 3, "free some space"),
        (errno.ENOTDIR, 1, "something else stands in its place"),
        (errno.EACCES, 1, "may this user read and write there"),
        (errno.EIO, 1, "else"),
        (None, 1, "else"),
    ],
)
def test_what_the_system_refuses_has_its_exit_code_and_hint(number: int | None, code: int, hint: str) -> None:
    refusal = OSError(number, "refused", "file") if number else OSError("refused")
    error = errors.system_error("place", refusal, errors.DeployError, "else")
    assert error.message == ("file: refused" if number else "place: refused")
    assert (error.exit_code, isinstance(error, errors.DeployError)) == (code, code == 1)
    assert hint in error.hint
    assert errors.is_full(refusal) == (code == 3)


def test_exit_codes_are_those_of_the_design() -> None:
    page = (Path(__file__).parent.parent / "docs/design.md").read_text(encoding="utf-8")
    table = page.split("## 6. Exit codes")[1].split("## 7.")[0]
    documented = {
        int(word)
        for line in table.splitlines()
        for word in line[:12].replace(",", " ").replace("|", " ").split()
        if word.isdigit()
    }
    family = [e for _, e in inspect.getmembers(errors, inspect.isclass) if issubclass(e, NeurocommandError)]
    assert {error.exit_code for error in (*family, config.ConfigurationError)} <= documented
