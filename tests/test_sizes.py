"""Sizes: read as the schema of the configuration lets them be written, shown as they are written."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import schema, sizes
from neurocommand.config import SCHEMA


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("1000", 1000), ("1K", 1024), ("10g", 10 * 1024**3), ("99T", 99 * 1024**4), ("50M", 50 * 1024**2)],
)
def test_units_are_powers_of_1024(text: str, size: int) -> None:
    assert sizes.bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "0", "00", "01", "-1", "1.5G", "1 G", "G", "1P", "1MB", "1MiB", "٣", "1\n"])
def test_what_is_no_size_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no size: write bytes, or a number with K, M, G or T"):
        sizes.bytes_of(text)


@given(st.one_of(st.text(max_size=6), st.from_regex(r"[0-9]{1,4}[A-Za-z]?", fullmatch=True)))
def test_the_schema_allows_just_what_can_be_read(text: str) -> None:
    rule = schema.published(SCHEMA)["$defs"]["size"]["anyOf"][1]["pattern"]
    try:
        allowed = sizes.bytes_of(text) > 0
    except ValueError:
        allowed = False
    # control characters, a line break at the end too, are refused for all texts
    assert allowed == bool(re.search(rule, text) and text.isprintable())


@given(st.integers(0, 1023), st.sampled_from("KMGT"))
def test_what_is_shown_reads_as_what_was_written(number: int, unit: str) -> None:
    if number:
        assert sizes.shown(sizes.bytes_of(f"{number}{unit}")) == f"{number}{unit}"


@pytest.mark.parametrize(("size", "text"), [(0, "0"), (1023, "1023"), (1025, "1K"), (1536, "1.5K"), (10**9, "953.6M")])
def test_what_is_between_is_rounded_down(size: int, text: str) -> None:
    assert sizes.shown(size) == text
