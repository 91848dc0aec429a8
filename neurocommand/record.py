"""record.json: what was deployed; read back as carefully as anything that others can write."""

from __future__ import annotations

import json
import re
from typing import Any

from neurocommand import jsontext
from neurocommand.errors import Fault, FaultsError, NeurocommandError
from neurocommand.model import Artifact, DeployRecord, Notice, Release

_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.+@ -]{0,199}", re.ASCII)
VERSION = 1
# of a release that is withdrawn: a program that does not know such records must not take it for a damaged one
WITHDRAWN_VERSION = 2

_TYPES: dict[str, type] = {
    "record": int,
    "release": str,
    "sha256": str,
    "size": int,
    "format": str,
    "commands": list,
    "categories": list,
    "wrapper_revision": str,
}


class UnknownRecordError(NeurocommandError):
    """A record that another version of the program wrote; nothing is known of what it says."""


def render(record: DeployRecord) -> str:
    """Return a record as JSON text."""
    value: dict[str, Any] = {
        "record": WITHDRAWN_VERSION if record.withdrawn else VERSION,
        "release": record.release.id,
        "sha256": record.sha256,
        "size": record.size,
        "format": record.format,
        "commands": list(record.commands),
        "categories": list(record.categories),
        "wrapper_revision": record.wrapper_revision,
    }
    if record.withdrawn:
        value["withdrawn"] = _notice_value(record.withdrawn)
    return json.dumps(value, indent=2) + "\n"


def parse(text: str, filename: str) -> DeployRecord:
    """Read a record.

    Raises:
        UnknownRecordError: another version of the program wrote it.
        FaultsError: the text is no record.
    """
    document = jsontext.read(text, filename)
    version = document.value.get("record") if isinstance(document.value, dict) else None
    if isinstance(version, int) and version not in (VERSION, WITHDRAWN_VERSION):
        known = f"{VERSION} and {WITHDRAWN_VERSION}"
        raise UnknownRecordError(f"its record has version {version}; this program knows {known}", "use a newer one")
    try:
        return _record(document.value)
    except ValueError as error:
        raise FaultsError(filename, (*document.faults, Fault(1, "", str(error)))) from error


def _record(value: Any) -> DeployRecord:
    types = _TYPES
    if isinstance(value, dict) and value.get("record") == WITHDRAWN_VERSION:
        types = {**_TYPES, "withdrawn": dict}
    if not isinstance(value, dict) or set(value) != set(types):
        raise ValueError(f"a record has the members {', '.join(types)}")
    for name, expected in types.items():
        if type(value[name]) is not expected:
            raise ValueError(f"{name} has the wrong type")
    for text in (*value["commands"], *value["categories"]):
        # both become parts of paths when the release is removed
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise ValueError("commands and categories are lists of names")
    if value["format"] not in ("tree", "sif"):
        raise ValueError("format is tree or sif")
    artifact = Artifact(value["sha256"], value["size"])
    return DeployRecord(
        Release.parse(value["release"]),
        artifact.sha256,
        artifact.size,
        value["format"],
        tuple(value["commands"]),
        tuple(value["categories"]),
        value["wrapper_revision"],
        _notice(value["withdrawn"]) if "withdrawn" in value else None,
    )


def _notice_value(notice: Notice) -> dict[str, str]:
    successor = notice.successor.id if notice.successor else ""
    return {"reason": notice.reason, "successor": successor, "since": notice.since}


def _notice(value: dict[str, Any]) -> Notice:
    fields = ("reason", "successor", "since")
    if set(value) != set(fields) or not all(isinstance(value[name], str) for name in fields):
        raise ValueError(f"withdrawn has the members {', '.join(fields)}, all texts")
    return Notice(value["reason"], Release.parse(value["successor"]) if value["successor"] else None, value["since"])
