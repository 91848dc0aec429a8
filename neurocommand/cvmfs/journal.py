"""The journal of a repository: what is being published, so that a run that was killed can be finished by the next.

Format: ``{"version": 1, "tag": …, "reason": …, "revision": …, "releases": […], "proofs": {path: sha256 or null},
"began": …, "transaction": …}``; the file is there as long as a publication is under way.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from neurocommand import jsontext
from neurocommand.errors import Fault, FaultsError
from neurocommand.files import make_durable, write_atomically
from neurocommand.recovery import Publication

VERSION = 1


def parse(text: str, filename: str) -> Publication:
    """Read a journal.

    Raises:
        FaultsError: any fault; then nobody knows what was under way.
    """
    document = jsontext.read(text, filename)
    faults = list(document.faults)
    value: Any = document.value
    try:
        if value.pop("version") != VERSION:
            raise ValueError(f"not of version {VERSION}")
        value["releases"] = tuple(str(one) for one in value["releases"])
        value["proofs"] = tuple((str(path), one if one is None else str(one)) for path, one in value["proofs"].items())
        publication = Publication(**value)
        if not isinstance(publication.revision, int) or not isinstance(publication.began, int):
            raise ValueError("revision and began are numbers")
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        faults.append(Fault(document.line(()), "", f"no journal of a publication: {error}"))
    if faults:
        raise FaultsError(filename, tuple(faults))
    return publication


def render(publication: Publication) -> str:
    """Return it as text."""
    members = {**vars(publication), "proofs": dict(publication.proofs)}
    return json.dumps({"version": VERSION, **members}, indent=2) + "\n"


class Journal:
    """The journal on disk; used under the repository's run lock only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> Publication | None:
        """Return what is under way; None: nothing.

        Raises:
            FaultsError: it cannot be understood.
            OSError: it cannot be read.
        """
        if not self.path.exists():
            return None
        return parse(jsontext.read_bytes(self.path, str(self.path)), str(self.path))

    def begin(self, publication: Publication) -> None:
        """Write down what is about to be published.

        Raises:
            OSError: it cannot be written.
        """
        write_atomically(self.path, render(publication))

    def claim(self, identity: str) -> None:
        """Write down which transaction it goes in by.

        Raises:
            OSError: it cannot be written.
        """
        if (publication := self.load()) is not None:
            self.begin(replace(publication, transaction=identity))

    def close(self) -> None:
        """Forget it.

        Raises:
            OSError: it cannot be removed.
        """
        self.path.unlink(missing_ok=True)
        make_durable(self.path.parent)
