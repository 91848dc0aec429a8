"""Durations, as an option takes them."""

from __future__ import annotations

import pytest

from neurocommand import durations


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("300s", 300), ("5m", 300), ("1h", 3600), ("7d", 604_800)])
def test_units(text: str, seconds: int) -> None:
    assert durations.seconds_of(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "5", "05m", "-1m", "1.5h", "1 h", "m", "1w", "5M", "5min", "٣m", "5m\n"]
)
def test_what_is_no_duration_is_refused_with_the_way_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration: write a number with s, m, h or d, such as 5m"):
        durations.seconds_of(text)
