"""``neurocommand show``: one release."""

from __future__ import annotations

from typing import Any

import click

from neurocommand import observe
from neurocommand.commands import completing, installed
from neurocommand.commands.console import echo_json, size_text
from neurocommand.commands.options import takes_json, takes_manifest
from neurocommand.commands.session import Session
from neurocommand.commands.status import place_state, store_state
from neurocommand.errors import UsageError, printable_lines
from neurocommand.manifest import Declaration
from neurocommand.model import Release
from neurocommand.observation import Deployed


@click.command("show")
@click.argument("release", shell_complete=completing.complete_release)
@takes_manifest
@takes_json
@click.pass_obj
def command(session: Session, release: str, as_json: bool) -> int:
    """Show what is known about one release.

    RELEASE is application, application/version or the full id: its digest and size, which stores hold it, where it is
    deployed, and the commands it gives.

    \b
    Examples:
      neurocommand show niimath
      neurocommand show fsl/6.0.7.22 --json
    """
    try:
        found: Declaration | Release = session.manifest.choose(release)
    except UsageError:
        # what the manifest no longer lists may still be deployed here
        deployed = installed.choose(release, installed.places(session.settings))
        if deployed is None:
            raise
        found = deployed[0]
    values = _values(session, found)
    if as_json:
        echo_json(values)
        return 0
    for name, value in values.items():
        click.echo(printable_lines(f"{name:14} {_text(name, value)}"))
    return 0


def _values(session: Session, found: Declaration | Release) -> dict[str, Any]:
    declaration = found if isinstance(found, Declaration) else None
    release = found.release if isinstance(found, Declaration) else found
    artifact = session.lock.lock.get(release)
    with session.closing_stores() as stores:
        views = observe.stores(stores, [release])
    roots: dict[str, Any] = {}
    withdrawn: str | None = None
    commands: set[str] = set()
    categories: set[str] = set()
    for root in installed.places(session.settings):
        seen = observe.root(root, session.settings.publish_format, "").deployments.get(release)
        roots[str(root.path)] = place_state(seen)
        if not isinstance(seen, Deployed):
            continue
        categories |= set(seen.record.categories)
        if seen.record.withdrawn:
            withdrawn = seen.record.withdrawn.text.removeprefix(": ")
        else:
            commands |= set(seen.record.commands)
    return {
        "id": release.id,
        "label": declaration.label if declaration else None,
        "categories": list(declaration.categories) if declaration else sorted(categories),
        "launchers": [entry.label for entry in session.manifest.launchers if entry.release == release],
        "sha256": artifact.sha256 if artifact else None,
        "size": artifact.size if artifact else None,
        "source_digest": artifact.source_digest if artifact else None,
        "stores": {view.name: store_state(view.ask(release), artifact) for view in views},
        "roots": roots,
        "withdrawn": withdrawn,
        "commands": sorted(commands),
    }


def _text(name: str, value: Any) -> str:
    if name == "size" and value is not None:
        return f"{value} ({size_text(value)})"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {state}" for key, state in value.items())
    if isinstance(value, list):
        return ", ".join(value) or "none"
    if value is None:
        unknown = {"label": "not in the manifest", "source_digest": "not known", "withdrawn": "no"}
        return unknown.get(name, "not locked")
    return str(value)
