"""JSON with positions: equal to the standard library where that is right, stricter where it is not."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import jsontext
from neurocommand.errors import FaultsError

texts = st.text(st.characters(exclude_categories=("Cs",)))
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.sampled_from([None, 1, 4]), st.booleans())
def test_what_the_standard_library_writes_reads_back(value: Any, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert jsontext.read(text, "x").value == value


@given(st.text(alphabet='{}[]",:\\u0a1 \n.eE+-tfn/', max_size=30))
def test_any_text_gives_a_value_or_a_located_fault(text: str) -> None:
    try:
        expected = json.loads(text, parse_constant=pytest.fail)
    except (ValueError, pytest.fail.Exception):
        with pytest.raises(FaultsError) as caught:
            jsontext.read(text, "x")
        assert 1 <= caught.value.faults[-1].line <= text.count("\n") + 1
    else:
        found = jsontext.read(text, "x")
        assert found.faults or found.value == expected or (isinstance(expected, float) and math.isinf(expected))


def test_every_value_has_its_line() -> None:
    found = jsontext.read('{\n "a": [\n  1,\n  {"b":\n 2}],\n "c": {}}', "x")
    assert found.lines == {(): 1, ("a",): 2, ("a", 0): 3, ("a", 1): 4, ("a", 1, "b"): 4, ("c",): 6}
    assert found.line(("a", 1, "nowhere", 3)) == 4
    assert jsontext.Document(None, {}, ()).line(("a",)) == 0


def test_duplicate_keys_are_faults_but_reading_goes_on() -> None:
    found = jsontext.read('{"a": 1,\n"a": 2,\n"a": 3}', "x")
    assert found.value == {"a": 3}
    assert [(fault.line, fault.message) for fault in found.faults] == [
        (2, "duplicate key (first on line 1)"),
        (3, "duplicate key (first on line 1)"),
    ]


def test_duplicates_found_before_a_syntax_fault_are_reported_too() -> None:
    with pytest.raises(FaultsError) as caught:
        jsontext.read('{"a": 1,\n"a": 2,\n?', "x")
    assert [fault.line for fault in caught.value.faults] == [2, 3]


def test_nesting_has_a_limit() -> None:
    deep = jsontext.DEPTH_LIMIT
    assert jsontext.read("[" * deep + "]" * deep, "x").value
    with pytest.raises(FaultsError, match="nested deeper"):
        jsontext.read("[" * (deep + 2) + "]" * (deep + 2), "x")


def test_a_file_is_read_as_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + '"é"'.encode())
    assert jsontext.read_bytes(path, "x") == '"é"'


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with open(path, "wb") as stream:
        stream.truncate(100 << 20)
    with pytest.raises(FaultsError, match="larger than 16 MiB"):
        jsontext.read_bytes(path, "x")


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match="cannot be read: Is a directory"):
        jsontext.read_bytes(tmp_path, "x")
    with pytest.raises(FaultsError, match="cannot be read: No such file"):
        jsontext.read_bytes(tmp_path / "none", "x")
