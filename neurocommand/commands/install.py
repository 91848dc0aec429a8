"""``neurocommand install``: stores -> a prefix of this host."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from neurocommand import observe, registry
from neurocommand import plan as planning
from neurocommand.apply import Workshop
from neurocommand.commands import pipeline
from neurocommand.commands.session import Session, takes_dry_run, takes_json, takes_manifest, takes_releases
from neurocommand.deploy import Deployer
from neurocommand.errors import PolicyError, UsageError
from neurocommand.layout import Root
from neurocommand.lock import Lock, LockFile
from neurocommand.manifest import Manifest
from neurocommand.model import Format
from neurocommand.plan import Plan
from neurocommand.render import templates
from neurocommand.runlock import RunLock
from neurocommand.spool import Spool


@click.command("install")
@takes_releases
@takes_manifest
@click.option("--prefix", type=click.Path(path_type=Path, file_okay=False), help="Where to install.")
@click.option("--format", "form", type=click.Choice(["sif", "tree"]), help="One file, or the unpacked tree.")
@click.option("--require-lock", is_flag=True, help="Refuse releases whose digest the lock does not know.")
@click.option("--rewrap", is_flag=True, help="Renew wrappers and modulefiles even where they are up to date.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session,
    releases: tuple[str, ...],
    prefix: Path | None,
    form: Format | None,
    require_lock: bool,
    rewrap: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Install releases under a prefix of this host.

    RELEASE is application (its default version), application/version or the full id. Needs neither root nor a daemon.
    The last line is what makes the commands available.

    \b
    Examples:
      neurocommand install niimath
      neurocommand install fsl/6.0.7.16 --prefix /opt/neuro
    """
    if not releases:
        raise UsageError("name at least one release", "see: neurocommand list")
    wanted = session.manifest.only(releases)
    root = Root((prefix or session.settings.prefix).absolute())
    image_format: Format = form or session.settings.install_format
    own = LockFile(root.lock)
    lock = Lock({**own.lock.artifacts, **session.lock.lock.artifacts})
    if require_lock:
        _refuse_unlocked(wanted, lock)
    if dry_run:
        return pipeline.show(_plan(wanted, lock, root, image_format, rewrap=rewrap), as_json=as_json)
    with session.closing_stores() as stores, RunLock(root.run_lock):
        spool = Spool(root.state / "spool")
        spool.prepare()
        deployer = Deployer(root, image_format, session.settings.mount_points, session.console)
        deployer.prepare()
        workshop = Workshop(
            declarations={declaration.release: declaration for declaration in wanted.declarations},
            lock=session.lock,
            spool=spool,
            stores={store.name: store for store in stores},
            registries=session.settings.registries,
            resolve=registry.resolve,
            deployer=deployer,
            listener=session.console,
            own_lock=own,
        )
        code = pipeline.apply_and_show(
            session, _plan(wanted, lock, root, image_format, rewrap=rewrap), workshop, as_json=as_json
        )
    if code == 0 and not as_json:
        click.echo(f"module use {shlex.quote(str(root.modules))}")
    return code


def _plan(wanted: Manifest, lock: Lock, root: Root, image_format: Format, *, rewrap: bool) -> Plan:
    revision = "renewed" if rewrap else templates.REVISION
    return planning.for_prefix(wanted, lock, observe.root(root, image_format, revision))


def _refuse_unlocked(wanted: Manifest, lock: Lock) -> None:
    unlocked = [d.release.id for d in wanted.declarations if lock.get(d.release) is None]
    if unlocked:
        raise PolicyError(
            f"the lock does not know {', '.join(unlocked)}", "without --require-lock, its mirrors are compared instead"
        )
