"""``neurocommand check``: every fault of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from neurocommand import jsontext, manifesttext
from neurocommand.commands import journal
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_json
from neurocommand.commands.session import Session
from neurocommand.errors import Fault, FaultsError, printable_lines
from neurocommand.manifest import Manifest


@click.command("check")
@click.argument("path", required=False, metavar="[APPS.JSON]", type=click.Path(path_type=Path))
@takes_json
@click.pass_obj
def command(session: Session, path: Path | None, as_json: bool) -> int:
    """Check a manifest: every fault, each at its line.

    Without a file, the configured manifest is checked. Exits with 1 when there is an error; warnings do not count.

    \b
    Examples:
      neurocommand check apps.json
      neurocommand check apps.json --json
    """
    try:
        checked = _read(path) if path is not None else session.manifest
    except FaultsError as error:
        return _report(error.filename, None, error.faults, as_json=as_json)
    return _report(str(path) if path else session.manifest_name, checked, checked.warnings, as_json=as_json)


def _read(path: Path) -> Manifest:
    return manifesttext.parse(jsontext.read_bytes(path, str(path)), str(path))


def _report(filename: str, checked: Manifest | None, faults: tuple[Fault, ...], *, as_json: bool) -> int:
    errors = [fault for fault in faults if not fault.warning]
    counts: dict[str, Any] = {}
    if checked is not None:
        counts = {
            "groups": len(checked.groups),
            "releases": len(checked.declarations),
            "launchers": len(checked.launchers),
        }
    if as_json:
        echo_json({"file": filename, **counts, "faults": [_values(fault) for fault in faults]})
        return 1 if errors else 0
    for fault in faults:
        journal.echo(printable_lines(fault.text(filename)), err=True)
    summary = [f"{number} {noun}" for noun, number in counts.items()]
    journal.echo(", ".join([*summary, "1 error" if len(errors) == 1 else f"{len(errors)} errors"]))
    return 1 if errors else 0


def _values(fault: Fault) -> dict[str, Any]:
    level = "warning" if fault.warning else "error"
    return {"level": level, "line": fault.line, "where": fault.where, "message": fault.message}
