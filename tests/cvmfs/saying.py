"""What a command said, compared."""

from __future__ import annotations


def in_order(said: str, *lines: str) -> bool:
    """Tell whether words stand in a text one after the other."""
    place = 0
    for line in lines:
        place = said.find(line, place)
        if place < 0:
            return False
    return True
