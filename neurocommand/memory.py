"""unlisted.json in the state directory: when a release was first seen unlisted, and every DOI that was ever stated.

Format: ``{"version": 1, "unlisted": {"<release id>": "YYYY-MM-DD"}, "dois": {"<release id>": "10.…"}}``, sorted.
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

VERSION = 1
NAME = "unlisted.json"


def parse(text: str, filename: str) -> Memory:
    """Read what earlier runs saw.

    Raises:
        FaultsError: any fault at all; a history that cannot be read is not taken for an empty one.
    """
    document = jsontext.read(text, filename)
    faults = list(document.faults)
    value: Any = document.value
    unlisted: dict[Release, datetime.date] = {}
    dois: dict[Release, str] = {}
    try:
        if set(value) != {"version", "unlisted", "dois"} or value["version"] != VERSION:
            raise ValueError(f"has the members version ({VERSION}), unlisted and dois")
        unlisted = {Release.parse(name): datetime.date.fromisoformat(day) for name, day in value["unlisted"].items()}
        dois = {Release.parse(name): str(doi) for name, doi in value["dois"].items()}
    except (ValueError, TypeError, AttributeError) as error:
        faults.append(Fault(document.line(()), "", str(error)))
    if faults:
        raise FaultsError(filename, tuple(faults))
    return Memory(unlisted, dois)


def render(memory: Memory) -> str:
    """Return it as text, one release per line, sorted by id."""
    members = {
        "version": VERSION,
        "unlisted": {release.id: day.isoformat() for release, day in sorted(memory.unlisted.items())},
        "dois": {release.id: doi for release, doi in sorted(memory.dois.items())},
    }
    return json.dumps(members, indent=2) + "\n"


def load(path: Path) -> Memory:
    """Read the file; one that does not exist is an empty history, which starts every grace anew.

    Raises:
        FaultsError: the file has a fault.
    """
    return parse(jsontext.read_bytes(path, str(path)), str(path)) if path.exists() else Memory()
