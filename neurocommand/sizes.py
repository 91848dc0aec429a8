"""Sizes as people write them: a number of bytes, or one with K, M, G or T for powers of 1024."""

from __future__ import annotations

import re

_SIZE = re.compile(r"([1-9][0-9]{0,17})([KMGTkmgt]?)", re.ASCII)  # the same rule as in the schema
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def bytes_of(text: str) -> int:
    """Return a size in bytes.

    >>> bytes_of("512"), bytes_of("50M"), bytes_of("2t")
    (512, 52428800, 2199023255552)

    Args:
        text: a whole number from 1 on, alone or followed by K, M, G or T.

    Raises:
        ValueError: it is no size.
    """
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no size: write bytes, or a number with K, M, G or T, such as 50M")
    return int(found[1]) << _UNITS[found[2].upper()]


def shown(size: int) -> str:
    """Return a size as it would be written, rounded down: with the largest unit of which there is at least one.

    >>> shown(99 << 40), shown(3 << 29), shown(1023), shown(0)
    ('99T', '1.5G', '1023', '0')
    """
    for unit in "TGMK":
        tenths = size * 10 >> _UNITS[unit]
        if tenths >= 10:
            return f"{tenths // 10}.{tenths % 10}{unit}".replace(".0", "")
    return str(size)
