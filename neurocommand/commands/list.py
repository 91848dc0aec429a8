"""``neurocommand list``: the releases of the manifest."""

from __future__ import annotations

from typing import Any

import click

from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_json, takes_manifest
from neurocommand.commands.session import Session
from neurocommand.errors import UsageError
from neurocommand.manifest import Declaration, Manifest
from neurocommand.render import catalogue


@click.command("list")
@click.argument("pattern", required=False, default="")
@takes_manifest
@click.option(
    "--format", "form", type=click.Choice(["table", "log", "applist"]), default="table", help="What to print."
)
@takes_json
@click.pass_obj
def command(session: Session, pattern: str, form: str, as_json: bool) -> int:
    """List the releases of the manifest.

    PATTERN is a part of an application's name or of a category. The forms log and applist are Neurodesk's log.txt and
    applist.json, byte for byte.

    \b
    Examples:
      neurocommand list diffusion
      neurocommand list fsl --json
      neurocommand list --manifest apps.json --format log > log.txt
    """
    if as_json and form != "table":
        raise UsageError(f"--json and --format {form} are two forms of the same list", "leave one of them out")
    declarations = [d for d in session.manifest.declarations if _matches(d, pattern)]
    if as_json:
        echo_json([_values(declaration, session.manifest) for declaration in declarations])
    elif form == "log":
        click.echo(catalogue.log_txt(declarations), nl=False)
    elif form == "applist":
        click.echo(catalogue.applist_json(declarations), nl=False)
    else:
        for declaration in declarations:
            name = f"{declaration.release.application}/{declaration.release.version}"
            click.echo(f"{name:40} {declaration.release.build_date}  {', '.join(declaration.categories)}")
    return 0


def _matches(declaration: Declaration, pattern: str) -> bool:
    pattern = pattern.lower().replace("_", " ")
    names = (declaration.release.application, *declaration.categories)
    return any(pattern in name.lower().replace("_", " ") for name in names)


def _values(declaration: Declaration, manifest: Manifest) -> dict[str, Any]:
    release = declaration.release
    return {
        "id": release.id,
        "application": release.application,
        "version": release.version,
        "build_date": release.build_date,
        "label": declaration.label,
        "categories": list(declaration.categories),
        "launchers": [launcher.label for launcher in manifest.launchers if launcher.release == release],
    }
