"""unlisted.json in the state directory: since when releases are unlisted, and all that was ever listed or had a DOI.

Format: ``{"version": 2, "before": "YYYY-MM-DD", "latest": "YYYY-MM-DD", "unlisted": {"<release id>": "YYYY-MM-DD"},
"dois": {"<release id>": "10.…"}, "listed": ["<release id>"]}``, sorted; the two days of runs may be null.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from neurocommand import jsontext
from neurocommand.errors import Fault, FaultsError
from neurocommand.model import Release
from neurocommand.retention import Memory

VERSION = 2
_MEMBERS = ("version", "before", "latest", "unlisted", "dois", "listed")
NAME = "unlisted.json"


def parse(text: str, filename: str) -> Memory:
    """Read what earlier runs saw.

    Raises:
        FaultsError: any fault at all; a history that cannot be read is not taken for an empty one.
    """
    document = jsontext.read(text, filename)
    faults = list(document.faults)
    value: Any = document.value
    memory = Memory()
    try:
        if set(value) != set(_MEMBERS) or value["version"] != VERSION:
            raise ValueError(f"is of version {VERSION} and has the members {', '.join(_MEMBERS)}")
        memory = Memory(
            {Release.parse(name): datetime.date.fromisoformat(day) for name, day in value["unlisted"].items()},
            {Release.parse(name): str(doi) for name, doi in value["dois"].items()},
            frozenset(Release.parse(name) for name in value["listed"]),
            _day(value["latest"]),
            _day(value["before"]),
        )
    except (ValueError, TypeError, AttributeError) as error:
        faults.append(Fault(document.line(()), "", str(error)))
    if faults:
        raise FaultsError(filename, tuple(faults))
    return memory


def _day(value: str | None) -> datetime.date | None:
    return None if value is None else datetime.date.fromisoformat(value)


def render(memory: Memory) -> str:
    """Return it as text, one release per line, sorted by id."""
    members = {
        "version": VERSION,
        "before": memory.before and memory.before.isoformat(),
        "latest": memory.latest and memory.latest.isoformat(),
        "unlisted": {release.id: day.isoformat() for release, day in sorted(memory.unlisted.items())},
        "dois": {release.id: doi for release, doi in sorted(memory.dois.items())},
        "listed": [release.id for release in sorted(memory.listed)],
    }
    return json.dumps(members, indent=2) + "\n"


def load(path: Path) -> Memory:
    """Read the file; one that does not exist is an empty history, by which nothing may go (``Memory.listed``).

    Raises:
        FaultsError: the file has a fault.
    """
    return parse(jsontext.read_bytes(path, str(path)), str(path)) if path.exists() else Memory()
