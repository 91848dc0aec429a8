"""``neurocommand verify``: every object of every store against the lock."""

from __future__ import annotations

import click

from neurocommand.commands import examination
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_json, takes_manifest, takes_releases
from neurocommand.commands.session import Session


@click.command("verify")
@takes_releases
@takes_manifest
@click.option("--deep", is_flag=True, help="Read every byte instead of trusting what stores state.")
@takes_json
@click.pass_obj
def command(session: Session, releases: tuple[str, ...], deep: bool, as_json: bool) -> int:
    """Hold every object of every store against the lock.

    Finds what is missing, truncated, corrupt, unknown (a store cannot tell, or states no digest) and stray; exits with
    1 when it finds any but strays. Nothing is changed: `neurocommand repair` heals.

    \b
    Examples:
      neurocommand verify
      neurocommand verify fsl --deep --json
    """
    wanted = session.manifest.only(releases)
    with session.closing_stores():
        seen = examination.views(session, wanted, deep=deep, whole=not releases)
    found = examination.findings(session, wanted, seen, whole=not releases)
    if as_json:
        echo_json({"findings": [examination.values(finding) for finding in found]})
    else:
        examination.echo(found, seen)
    return examination.exit_code(found)
