"""``neurocommand gc``: what no kept revision of a CVMFS repository needs goes."""

from __future__ import annotations

import click

from neurocommand.commands import journal, repository
from neurocommand.commands.options import takes_dry_run
from neurocommand.commands.session import Session


@click.command("gc")
@takes_dry_run
@click.pass_obj
def command(session: Session, *, dry_run: bool) -> int:
    """Remove objects of a CVMFS repository that no kept revision needs.

    Under the run lock of publications, and never while a transaction is open: collecting garbage and publishing at
    once can damage a repository. Which revisions are kept is set where the repository is made; a tagged one always is.

    \b
    Examples:
      neurocommand gc --dry-run
    """
    with repository.opened(session) as publisher:
        said = publisher.collect(dry_run=dry_run)
    journal.echo(said)
    return 0
