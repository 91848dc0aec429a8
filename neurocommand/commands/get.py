"""``neurocommand get``: stores -> one local file."""

from __future__ import annotations

import os
from pathlib import Path

import click

from neurocommand.commands.completing import complete_release
from neurocommand.commands.console import echo_json, size_text
from neurocommand.commands.options import takes_json, takes_manifest, takes_sources
from neurocommand.commands.session import Session
from neurocommand.download.fetch import fetch
from neurocommand.errors import PolicyError, UsageError, printable_lines
from neurocommand.files import digest_of
from neurocommand.image import sif
from neurocommand.layout import object_key


@click.command("get")
@click.argument("release", shell_complete=complete_release)
@takes_manifest
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to make.")
@takes_sources
@click.option("--require-lock", is_flag=True, help="Refuse a release whose digest the lock does not know.")
@click.option("--force", is_flag=True, help="Replace a file that is there and has other bytes.")
@takes_json
@click.pass_obj
def command(
    session: Session,
    release: str,
    output: Path | None,
    sources: tuple[str, ...],
    require_lock: bool,
    force: bool,
    as_json: bool,
) -> int:
    """Download the SIF of one release to a local file.

    RELEASE is application (its default version), application/version or the full id. The file, <release>.simg in the
    current directory unless said otherwise, is there only once its size and sha256 are right. What breaks off is
    continued by the next call.

    \b
    Examples:
      neurocommand get niimath
      neurocommand get fsl/6.0.7.22 -o /data/fsl.sif --from nectar
    """
    wanted = session.manifest.choose(release).release
    key, artifact = object_key(wanted), session.lock.lock.get(wanted)
    if artifact is None and require_lock:
        raise PolicyError(
            f"the lock does not know {wanted}", "without --require-lock, the stores that hold it are compared instead"
        )
    path = (output or Path(key)).absolute()
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such directory", "make it first, or choose another one")
    values = {"release": wanted.id, "path": str(path)}
    if path.is_file() and artifact is not None and digest_of(path) == (artifact.sha256, artifact.size):
        return _tell(values, "is there already", artifact.sha256, artifact.size, as_json=as_json)
    if path.exists() and not force:
        raise UsageError(f"{path}: exists, and is not the locked image", "choose another name, or say --force")
    with session.closing_stores(), session.console as console:
        stores = session.chosen_stores(sources)
        place = path if artifact is not None else path.with_name(f".{path.name}.new")
        fetched = fetch(
            key,
            place,
            stores,
            artifact,
            console,
            wanted.id,
            settings=session.settings.downloads,
            bandwidth=session.bandwidth,
        )
    if place != path:
        _take_image(place, path)
    return _tell({**values, "source": fetched.source}, "downloaded", fetched.sha256, fetched.size, as_json=as_json)


def _take_image(found: Path, path: Path) -> None:
    """Give what nobody knows the digest of its name, if it is a SIF at least; else what stood there stays."""
    try:
        sif.locate(found)
        os.replace(found, path)
    finally:
        found.unlink(missing_ok=True)


def _tell(values: dict[str, str], what: str, sha256: str, size: int, *, as_json: bool) -> int:
    if as_json:
        echo_json({**values, "outcome": what, "sha256": sha256, "size": size})
    else:
        click.echo(printable_lines(f"{values['path']}: {what}: {size_text(size)}, sha256 {sha256}"))
    return 0
