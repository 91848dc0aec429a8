"""``neurocommand bundle``: chosen releases as a directory that a site without internet installs from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from neurocommand import jsontext, lock, manifesttext
from neurocommand.commands import identity, report
from neurocommand.commands.options import takes_manifest, takes_releases
from neurocommand.commands.session import Session
from neurocommand.download import fetch as download
from neurocommand.errors import DownloadError, ImmutableError, NeurocommandError, UsageError
from neurocommand.events import Advanced, Finished, Started
from neurocommand.files import digest_of, write_atomically
from neurocommand.layout import object_key
from neurocommand.manifest import Manifest
from neurocommand.model import Artifact, Release
from neurocommand.render.excerpt import excerpt
from neurocommand.runlock import RunLock
from neurocommand.stores.interface import Store

MANIFEST, LOCK, CONFIG, SUMS = "apps.json", "apps.lock.json", "neurocommand.yaml", "SHA256SUMS"
# a bundle is a store that needs nothing else: neurocommand --config DIR/neurocommand.yaml install …
SETTINGS = (
    f"manifest: {MANIFEST}\nlock: {LOCK}\nregistries: []\n"
    "stores:\n  - {name: bundle, kind: directory, path: ., writable: false}\n"
)


@click.group("bundle")
def command() -> None:
    """Carry releases to a site without internet.

    \b
    Examples:
      neurocommand bundle export /media/stick fsl/6.0.7.22 niimath
      neurocommand --config /media/stick/neurocommand.yaml install niimath
      neurocommand bundle import /media/stick
    """


@command.command("export")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@takes_releases
@takes_manifest
@click.pass_obj
def export(session: Session, directory: Path, releases: tuple[str, ...]) -> int:
    """Write releases to a directory, with their manifest, lock entries and checksums.

    What is there already with the locked bytes is not fetched again. A bundle that is there gets the releases beside
    its own, whose files are held against its lock first.

    \b
    Examples:
      neurocommand bundle export /media/stick fsl/6.0.7.22 niimath
    """
    if not releases:
        raise UsageError("name at least one release", "see: neurocommand list")
    wanted = session.manifest.only(releases)
    artifacts = _locked(session, wanted)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        united, before = _united(session, directory, artifacts), _manifest_of(directory)
        with session.closing_stores(), session.console:
            for release, artifact in artifacts.items():
                _fetch(session, directory, release, artifact)
        others = before.reduced(lambda release: release in united.artifacts and release not in artifacts)
        _write_texts(directory, _beside(others, wanted), united)
    except OSError as error:
        raise UsageError(f"{error.filename or directory}: {error.strerror}", "choose another directory") from error
    click.echo(f"{report.count(len(artifacts), 'release')} in {directory}")
    return 0


@command.command("import")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
@click.pass_obj
def import_(session: Session, directory: Path) -> int:
    """Put the releases of a bundle into the primary store, and lock them.

    Every file is held against the bundle's lock while it is read; a release that is locked here with other bytes, or
    not locked but deployed or in a store with other bytes, is refused (exit 4), and then nothing of the bundle is
    taken.

    \b
    Examples:
      neurocommand bundle import /media/stick
    """
    bundled = lock.load(directory / LOCK)
    if not bundled.artifacts:
        raise UsageError(f"{directory}: no bundle, or an empty one", "make one with: neurocommand bundle export")
    united = session.lock.lock
    for release, artifact in bundled.artifacts.items():
        united = united.including(release, artifact)
    primary = next((store for store in session.stores if store.writable), None)
    if primary is None:
        raise UsageError("no writable store to import to", "add one to neurocommand.yaml")
    failed = 0
    with session.closing_stores(), RunLock(session.settings.state / "lock"), session.console:
        identity.refuse_other_bytes(session, bundled.artifacts, primary)
        for release, artifact in bundled.artifacts.items():
            try:
                _put(session, primary, directory, release, artifact)
            except NeurocommandError as error:
                failed = max(failed, error.exit_code)
                session.console.complain(f"{release}: {error.message}")
    how = "some failed" if failed else f"all in store {primary.name}"
    click.echo(f"{report.count(len(bundled.artifacts), 'release')} in {directory}, {how}")
    return failed


def _locked(session: Session, wanted: Manifest) -> dict[Release, Artifact]:
    known = session.lock.lock
    found = {d.release: artifact for d in wanted.declarations if (artifact := known.get(d.release)) is not None}
    unlocked = [d.release.id for d in wanted.declarations if d.release not in found]
    if unlocked:
        raise UsageError(
            f"the lock does not know {', '.join(unlocked)}",
            "lock them first: neurocommand sync adopts or converts them",
        )
    return found


def _united(session: Session, directory: Path, artifacts: Mapping[Release, Artifact]) -> lock.Lock:
    """Return the lock of a bundle that is there, its files verified, with what is added.

    Raises:
        ImmutableError: the bundle holds other bytes of a release than this lock knows.
        DownloadError: a file of the bundle is missing or damaged.
    """
    there = lock.load(directory / LOCK)
    for release, artifact in there.artifacts.items():
        session.lock.lock.including(release, artifact)
        path = directory / object_key(release)
        if release not in artifacts and not (path.is_file() and digest_of(path) == (artifact.sha256, artifact.size)):
            raise DownloadError(
                f"{path}: is missing, or is not what the bundle's lock says", f"name {release}, too, to export it again"
            )
    for release, artifact in artifacts.items():
        there = there.including(release, artifact)
    return there


def _manifest_of(directory: Path) -> Manifest:
    path = directory / MANIFEST
    return manifesttext.parse(jsontext.read_bytes(path, str(path)), str(path)) if path.exists() else Manifest(())


def _beside(others: Manifest, wanted: Manifest) -> Manifest:
    """Return two manifests as one; what both have, as the second has it."""
    groups = {group.name: group for group in others.groups}
    for group in wanted.groups:
        old = groups.get(group.name, group)
        groups[group.name] = replace(
            group,
            declarations=tuple({d.label: d for d in (*old.declarations, *group.declarations)}.values()),
            launchers=tuple({x.label: x for x in (*old.launchers, *group.launchers)}.values()),
        )
    return Manifest(tuple(groups.values()))


def _fetch(session: Session, directory: Path, release: Release, artifact: Artifact) -> None:
    path = directory / object_key(release)
    if path.is_file() and digest_of(path) == (artifact.sha256, artifact.size):
        session.console.say(f"{release}: there already")
        return
    download.fetch(
        object_key(release),
        path,
        session.stores,
        artifact,
        session.console,
        release.id,
        settings=session.settings.downloads,
        bandwidth=session.bandwidth,
    )


def _write_texts(directory: Path, wanted: Manifest, locked: lock.Lock) -> None:
    write_atomically(directory / MANIFEST, excerpt(wanted))
    write_atomically(directory / LOCK, lock.render(locked))
    sums = [f"{artifact.sha256}  {object_key(release)}\n" for release, artifact in sorted(locked.artifacts.items())]
    write_atomically(directory / SUMS, "".join(sums))
    write_atomically(directory / CONFIG, SETTINGS)


def _put(session: Session, primary: Store, directory: Path, release: Release, artifact: Artifact) -> None:
    path, stage, started = directory / object_key(release), f"import to {primary.name}", time.monotonic()
    if not path.is_file():
        raise DownloadError(f"{path}: is missing", "export the bundle again")
    session.console(Started(release.id, stage, artifact.size))
    try:
        primary.put(
            object_key(release), path, artifact, lambda done: session.console(Advanced(release.id, stage, done))
        )
    except ImmutableError as error:
        raise ImmutableError(error.message, "the bundle is damaged: export it again") from error
    session.lock.record(release, artifact)
    session.console(Finished(release.id, stage, time.monotonic() - started, artifact.size))
