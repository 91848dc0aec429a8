"""The index of commands: reads back, is the same for the same releases, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import index
from neurocommand.errors import FaultsError
from neurocommand.index import Entry
from neurocommand.model import Release

GOLDEN = Path(__file__).parent / "golden/commands.tsv"
ENTRIES = (
    Entry(Release("afni", "26.0.07", "20260101"), ("3dcalc", "@auto_tlrc")),
    Entry(Release("fsl", "6.0.4", "20210105"), ("bet", "flirt"), withdrawn=True),
    Entry(Release("fsl", "6.0.7.22", "20260102"), ("bet", "bet2", "flirt")),
    Entry(Release("modelsonly", "1.0", "20260101"), ()),
)

releases = st.builds(
    Release,
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,9}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.]{0,9}", fullmatch=True),
    st.from_regex(r"[0-9]{8}", fullmatch=True),
)
commands = st.sets(st.from_regex(r"[A-Za-z0-9_@][A-Za-z0-9_.+@-]{0,20}", fullmatch=True), max_size=5)
entries = st.builds(Entry, releases, commands.map(lambda names: tuple(sorted(names))), st.booleans())


def test_golden() -> None:
    """To renew after a change that is meant: write the text that is shown to the file."""
    assert index.render(ENTRIES) == GOLDEN.read_text()


def test_the_order_of_what_is_given_does_not_count() -> None:
    turned = [Entry(entry.release, entry.commands[::-1] * 2, entry.withdrawn) for entry in reversed(ENTRIES)]
    assert index.render(turned) == GOLDEN.read_text()


@given(st.lists(entries, unique_by=lambda entry: entry.release, max_size=4))
def test_an_index_reads_back(made: list[Entry]) -> None:
    text = index.render(made)
    assert index.parse(text, "commands.tsv") == tuple(sorted(made, key=lambda entry: entry.release))
    assert text.count("\n") == len(made) + 1


def test_a_name_that_is_no_command_never_gets_in() -> None:
    """A record of somebody else's may hold one, and the index must stay readable."""
    text = index.render(
        [Entry(ENTRIES[0].release, ("a b", "-rf", "../x", "new\nline", "tab\t", "", "good", "x" * 201))]
    )
    assert index.parse(text, "commands.tsv") == (Entry(ENTRIES[0].release, ("good",)),)


@given(st.binary(max_size=60), st.integers(0, 300), st.integers(0, 60))
def test_damage_is_a_fault_or_still_an_index(junk: bytes, place: int, lost: int) -> None:
    damaged = (GOLDEN.read_bytes()[:place] + junk + GOLDEN.read_bytes()[place + lost :]).decode("latin-1")
    try:
        found = index.parse(damaged, "commands.tsv")
    except FaultsError:
        return
    text = index.render(found)
    assert index.render(index.parse(text, "commands.tsv")) == text


HEAD, *LINES = GOLDEN.read_text().splitlines(keepends=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1: no index"),
        ("bet\nflirt\n", "1: no index"),
        (HEAD.replace(", 1;", ", 2;"), "1: another version"),
        (HEAD + LINES[0] + LINES[1][:-1], "ends within a line"),
        (HEAD + LINES[0] + LINES[0], "3: afni_26.0.07_20260101 stands twice"),
        (HEAD + "../x_1_20260101\tlive\n", "2: .*application"),
        (HEAD + "fsl_6_20260101\tgone\n", "2: "),
        (HEAD + "fsl_6_20260101\tlive\t../../bin/sh\n", "2: "),
        (HEAD + "fsl_6_20260101\tlive\t-rf\n", "2: "),
        (HEAD + "fsl_6_20260101\tlive\ta\t\n", "2: "),
        (HEAD + "fsl_6_20260101\n", "2: "),
        (HEAD + "fsl_6_20260101\tlive\t\x1b[31m\n", r"2: fsl_6_20260101\\tlive\\t\\x1b"),
        (HEAD + "\n", "2: "),
    ],
)
def test_what_is_no_index(text: str, message: str) -> None:
    with pytest.raises(FaultsError, match=message if ":" not in message else f"^commands.tsv:{message}"):
        index.parse(text, "commands.tsv")


def test_an_index_of_no_release() -> None:
    assert index.parse(HEAD, "commands.tsv") == ()
