"""``neurocommand rollback``: an earlier revision of a CVMFS repository again."""

from __future__ import annotations

import time

import click

from neurocommand import tags
from neurocommand.commands import journal, repository
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_dry_run, takes_json
from neurocommand.commands.session import Session
from neurocommand.errors import UsageError, printable, printable_lines
from neurocommand.publisher import Publisher
from neurocommand.tags import Tag

_SHOWN = 40  # lines of a difference


@click.command("rollback")
@click.argument("tag", required=False)
@takes_dry_run
@takes_json
@click.pass_obj
def command(session: Session, *, tag: str | None, dry_run: bool, as_json: bool) -> int:
    """Publish again what a CVMFS repository held at an earlier tag.

    Every publication has a tag. Without TAG the last publication is undone. Shows what changes, then does it: the new
    revision has the old content, and later tags are gone. The next sync publishes what the manifest wants, so change
    the manifest first.

    \b
    Examples:
      neurocommand rollback --dry-run
      neurocommand rollback neurocommand-2026-11-28T01.30.00Z
    """
    with repository.opened(session) as publisher:
        chosen = _chosen(publisher, tag)
        changes = publisher.server.difference(chosen.name).splitlines()
        revision = None if dry_run else publisher.rollback(chosen.name)
    if as_json:
        echo_json({"tag": chosen.name, "from": chosen.revision, "changes": changes, "revision": revision})
        return 0
    for line in changes[:_SHOWN]:
        journal.echo(printable(line))
    if len(changes) > _SHOWN:
        journal.echo(f"and {len(changes) - _SHOWN} lines more: --json shows all")
    what = f"the content of revision {chosen.revision} ({chosen.name})"
    journal.echo(f"would publish {what} again" if revision is None else f"published {what} again, as {revision}")
    return 0


def _chosen(publisher: Publisher, name: str | None) -> Tag:
    known = tags.parse(publisher.server.tags())
    found = next((tag for tag in known if tag.name == name), None) if name else tags.before_last(known)
    if found is None:
        listed = "\n".join(
            f"  {one.name}  {time.strftime('%F %T', time.gmtime(one.time))}  {one.text}" for one in known
        )
        what = f"there is no tag {printable(name)}" if name else "there is no earlier publication"
        raise UsageError(f"{publisher.repository.name}: {what}", f"the tags are\n{printable_lines(listed) or '  none'}")
    return found
