"""``neurocommand install``: stores -> a prefix of this host."""

from __future__ import annotations

import dataclasses
import shlex
from pathlib import Path

import click

from neurocommand import config, observe
from neurocommand import plan as planning
from neurocommand.actions import Plan
from neurocommand.commands import journal, pipeline
from neurocommand.commands.options import takes_dry_run, takes_json, takes_manifest, takes_releases, takes_sources
from neurocommand.commands.session import Session
from neurocommand.deploy import Deployer
from neurocommand.errors import PolicyError, UsageError
from neurocommand.layout import Root
from neurocommand.lock import Lock, LockFile
from neurocommand.manifest import Manifest
from neurocommand.model import Format
from neurocommand.render import templates
from neurocommand.spool import Spool


@click.command("install")
@takes_releases
@takes_manifest
@click.option("--prefix", type=click.Path(path_type=Path, file_okay=False), help="Where to install.")
@click.option("--format", "form", type=click.Choice(["sif", "tree"]), help="One file, or the unpacked tree.")
@takes_sources
@click.option("--require-lock", is_flag=True, help="Refuse releases whose digest the lock does not know.")
@click.option("--rewrap", is_flag=True, help="Renew wrappers and modulefiles even where they are up to date.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session,
    *,
    releases: tuple[str, ...],
    prefix: Path | None,
    form: Format | None,
    sources: tuple[str, ...],
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
      neurocommand install fsl/6.0.7.22 --prefix /opt/neuro
      neurocommand install niimath --from nectar
    """
    if not releases:
        raise UsageError("name at least one release", "see: neurocommand list")
    wanted = session.manifest.only(releases)
    root = Root(config.checked_root(prefix) if prefix is not None else session.settings.prefix)
    config.check_apart(dataclasses.replace(session.settings, prefix=root.path), "--prefix")
    names = [store.name for store in session.chosen_stores(sources)] if sources else []
    if require_lock:
        _refuse_unlocked(wanted, session.lock.lock)
    if dry_run:
        return pipeline.show(_plan(session, wanted, root, form, rewrap=rewrap), as_json=as_json)
    settings, sets = session.settings, session.sets
    deployer = Deployer(
        root,
        form or settings.install_format,
        settings.mount_points,
        session.console,
        wrappers=settings.wrappers,
        defaults=session.manifest.defaults,
    )
    with session.closing_stores(), deployer.locked():
        deployer.prepare()
        plan = _plan(session, wanted, root, form, rewrap=rewrap)
        spool = Spool(root.spool)
        spool.prepare()
        # what a killed run fetched for nothing that is wanted now; a store has it
        spool.discard(spool.sizes().keys() - {action.release for action in plan.actions})
        own_lock = LockFile(root.lock)
        own_lock.tidy()
        made = pipeline.workshop(session, wanted, deployer, spool, own_lock=own_lock, sources=names)
        code = pipeline.apply_and_show(session, plan, made, as_json=as_json)
        pipeline.finish(session, deployer, sets)
    if code == 0 and not as_json:
        journal.echo(f"module use {shlex.quote(str(root.modules))}")
    return code


def _lock(session: Session, root: Root, wanted: Manifest) -> Lock:
    """Return what is known of the wanted releases: by the project's lock, and by the prefix's own.

    Raises:
        ImmutableError: the two know different bytes.
    """
    merged, own = session.lock.lock, LockFile(root.lock).lock
    for declaration in wanted.declarations:
        artifact = own.get(declaration.release)
        merged = merged.including(declaration.release, artifact) if artifact is not None else merged
    return merged


def _plan(session: Session, wanted: Manifest, root: Root, image_format: Format | None, *, rewrap: bool) -> Plan:
    revision = "renewed" if rewrap else templates.revision(session.settings.wrappers)
    view = observe.root(root, image_format, revision, session.manifest.defaults)
    return planning.for_prefix(wanted, _lock(session, root, wanted), view)


def _refuse_unlocked(wanted: Manifest, lock: Lock) -> None:
    unlocked = [d.release.id for d in wanted.declarations if lock.get(d.release) is None]
    if unlocked:
        raise PolicyError(
            f"the lock does not know {', '.join(unlocked)}",
            "without --require-lock, the stores that hold it are compared instead",
        )
