"""A new version of a published tree: what differs from the one before, and whether it is cheaper to start from that."""

from __future__ import annotations

import re

from neurocommand.changes import Difference, Listing, difference

_COMPILED = re.compile(r"(?:(.*)/)?__pycache__/([^/.]+)\.[a-z]+-[0-9]+(?:\.opt-[0-9])?\.pyc")


def inside(was: Listing, now: Listing) -> Difference:
    """Return what makes the new tree of the old one, by content: times do not count, since a rebuild changes them all.

    A Python module goes with its compiled file, which names the time of the module that it was made of.
    """
    found = difference(was, now)
    modules = {_module(path) for path in found.puts} & now.keys()
    return Difference(found.removes, tuple(sorted({*found.puts, *modules})), found.exchanged)


def _module(compiled: str) -> str:
    match = _COMPILED.fullmatch(compiled)
    if match is None:
        return ""
    return f"{match[1]}/{match[2]}.py" if match[1] else f"{match[2]}.py"


def is_worth_it(now: Listing, changed: Difference) -> bool:
    """Tell whether most files of the new tree are those of the old one."""
    files = sum(entry.kind == "file" for entry in now.values())
    new = sum(now[path].kind == "file" for path in changed.puts)
    return new * 2 < files
