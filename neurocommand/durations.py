"""Durations as people write them: a number of seconds, minutes, hours or days."""

from __future__ import annotations

import re

_DURATION = re.compile(r"([1-9][0-9]{0,5})([smhd])", re.ASCII)
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds_of(text: str) -> int:
    """Return a duration in seconds.

    >>> seconds_of("300s"), seconds_of("5m"), seconds_of("1h"), seconds_of("2d")
    (300, 300, 3600, 172800)

    Args:
        text: a whole number from 1 on, followed by s, m, h or d.

    Raises:
        ValueError: it is no duration.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no duration: write a number with s, m, h or d, such as 5m")
    return int(found[1]) * _UNITS[found[2]]
