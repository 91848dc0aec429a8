"""``neurocommand export``: one release -> a file that Docker, skopeo and udocker load."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO, cast

import click

from neurocommand import observe
from neurocommand.commands import completing, installed
from neurocommand.commands.console import echo_json, size_text
from neurocommand.commands.options import takes_dry_run, takes_json, takes_manifest, takes_sources
from neurocommand.commands.session import Session
from neurocommand.download import fetch as download
from neurocommand.errors import ImageError, RefusedError, UsageError, printable_lines, system_error
from neurocommand.events import Advanced, Finished, Noted, Started
from neurocommand.files import (
    current_umask,
    digest_of,
    free_space,
    make_durable,
    partial,
    remove_leftovers,
    remove_tree,
)
from neurocommand.image import dockerarchive, filetree, header, inspection, sif, treelayer
from neurocommand.layout import object_key
from neurocommand.model import Artifact, DeployRecord, Release
from neurocommand.runlock import RunLock

STAGE = "export"
COMPRESSED = (".gz", ".tgz")
# more saves little, and takes several times as long
LEVEL = 4
# an unpacked tree is seldom more than this many times its SIF, and a compressed layer no more than half of it
UNPACKED, SHRUNK = 4, 2


@dataclass(frozen=True)
class Source:
    """Where a release's image is: a tree or a SIF on this host, or, without a place, in the stores.

    ``artifact`` is what is known of its SIF's bytes; None for one that the lock does not know.
    """

    release: Release
    place: Path | None
    artifact: Artifact | None

    @property
    def is_tree(self) -> bool:
        """Whether it is a tree on this host."""
        return self.place is not None and self.place.is_dir()

    @property
    def text(self) -> str:
        """Where it is, for people."""
        return "the stores" if self.place is None else str(self.place)


@click.command("export")
@click.argument("release", shell_complete=completing.complete_any)
@takes_manifest
@click.option(
    "--format", "image_format", type=click.Choice(["docker-archive"]), default="docker-archive", show_default=True
)
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The file to make.")
@takes_sources
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session,
    *,
    release: str,
    image_format: str,
    output: Path | None,
    sources: tuple[str, ...],
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Write the image of one release to a file that udocker, Docker and skopeo take.

    RELEASE is application, application/version or the full id. What is deployed on this host is taken, as for `run`;
    else its SIF is fetched, as for `get`, and with --from always. The file, <release>.docker.tar.gz in the current
    directory unless said otherwise, is compressed where its name ends in .gz or .tgz, and is there only once it is
    whole. Its image is called <application>_<version>:<build date>. `udocker load -i` and `docker load -i` take both
    kinds, skopeo 1.9 and Apptainer the uncompressed one alone.

    \b
    Examples:
      neurocommand export niimath
      neurocommand export fsl/6.0.7.22 --format docker-archive -o /data/fsl.tar
      udocker load -i niimath_1.0.20260703_20260706.docker.tar.gz
    """
    source = _source(session, release, sources)
    path = (output or Path(f"{source.release}.docker.tar.gz")).absolute()
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such directory", "make it first, or choose another one")
    if os.path.lexists(path) and not force:
        raise RefusedError(f"{path}: exists", "choose another name, or say --force")
    values: dict[str, object] = {"release": source.release.id, "format": image_format, "source": source.text}
    values |= {"path": str(path), "compressed": path.name.endswith(COMPRESSED)}
    if dry_run:
        return _tell({**values, "outcome": "would be written"}, as_json=as_json)
    try:
        values |= _export(session, source, sources, path)
    except OSError as error:
        raise system_error(path, error) from error
    return _tell({**values, "outcome": "written"}, as_json=as_json)


def _tell(values: dict[str, object], *, as_json: bool) -> int:
    if as_json:
        echo_json(values)
        return 0
    more = f"{size_text(cast(int, values['size']))}, image {values['image']}, " if "image" in values else ""
    click.echo(printable_lines(f"{values['path']}: {values['outcome']}: {more}from {values['source']}"))
    return 0


def _source(session: Session, argument: str, sources: tuple[str, ...]) -> Source:
    """Find a release: on this host, unless the stores to fetch it from are named, else by the manifest."""
    roots = installed.places(session.settings)
    try:
        chosen = installed.choose(argument, roots) if not sources else None
    except OSError as error:
        raise ImageError(installed.reason(error), "may this user read there?") from error
    for root in chosen[1] if chosen else ():
        directory = root.release(chosen[0]) if chosen else None
        found = observe.read_record(directory) if directory else None
        if directory and isinstance(found, DeployRecord):
            return Source(found.release, directory.image, Artifact(found.sha256, found.size))
    wanted = session.manifest.choose(chosen[0].id if chosen else argument).release
    return Source(wanted, None, session.lock.lock.get(wanted))


def _export(session: Session, source: Source, sources: tuple[str, ...], path: Path) -> dict[str, object]:
    """Make the file; what it takes on the way lies beside it, in a directory of its own."""
    scratch = path.with_name(f".{path.name}.export")
    with session.closing_stores(), session.console, _kept_apart(scratch):
        if source.place is not None and source.is_tree:
            return _write(session, source, source.place, path)
        image = source.place
        if image is None:
            image = scratch / object_key(source.release)
            source = replace(source, artifact=_fetch(session, source, sources, image))
        elif source.artifact is not None and digest_of(image) != (source.artifact.sha256, source.artifact.size):
            raise ImageError(f"{image}: is not what its record says", f"run: neurocommand install {source.release}")
        _require(scratch, image.stat().st_size * UNPACKED)
        sif.unpack(image, scratch / "tree")
        filetree.make_readable(scratch / "tree")
        return _write(session, source, scratch / "tree", path, image)


def _fetch(session: Session, source: Source, sources: tuple[str, ...], image: Path) -> Artifact:
    """Download the SIF, verified as far as the lock knows it, and say what it is."""
    fetched = download.fetch(
        object_key(source.release),
        image,
        session.chosen_stores(sources),
        source.artifact,
        session.console,
        source.release.id,
        settings=session.settings.downloads,
        bandwidth=session.bandwidth,
    )
    return Artifact(fetched.sha256, fetched.size)


@contextmanager
def _kept_apart(scratch: Path) -> Iterator[None]:
    """Give a block a directory that no other run has, and remove it; a download that broke off stays for the next."""
    with RunLock(scratch / "lock", "export"):
        remove_tree(scratch / "tree")
        try:
            yield
        finally:
            remove_tree(scratch / "tree")
            if not list(scratch.glob(".*.part*")):
                remove_tree(scratch)


def _require(place: Path, need: int) -> None:
    if (has := free_space(place)) < need:
        raise RefusedError(
            f"{place}: has {size_text(has)} free, the export needs about {size_text(need)}", "choose another place"
        )


def _write(session: Session, source: Source, tree: Path, path: Path, image: Path | None = None) -> dict[str, object]:
    listener, release, started = session.console, source.release.id, time.monotonic()
    layer = treelayer.TreeLayer(tree)
    for reason, count in sorted(layer.left_out.items()):
        if reason != treelayer.RUNTIME:
            listener(Noted(release, f"left out of the layer: {reason}: {count}"))
    compressed = path.name.endswith(COMPRESSED)
    _require(path.parent, layer.size // SHRUNK if compressed else layer.size)
    description = _description(source, tree, image)
    listener(Started(release, STAGE, layer.size))
    remove_leftovers(path.parent, path.name.__eq__)
    with partial(path) as (name, stream):
        with _compressing(stream, compressed=compressed) as target:
            dockerarchive.write(layer, description, target, lambda done: listener(Advanced(release, STAGE, done)))
        stream.flush()
        os.fchmod(stream.fileno(), 0o644 & ~current_umask())
        os.fsync(stream.fileno())
        os.replace(name, path)
    make_durable(path.parent)
    size = path.stat().st_size
    listener(Finished(release, STAGE, time.monotonic() - started, size))
    return {"image": ":".join(description.name), "architecture": description.architecture, "size": size}


@contextmanager
def _compressing(stream: BinaryIO, *, compressed: bool) -> Iterator[BinaryIO]:
    if not compressed:
        yield stream
        return
    # neither name nor time of the file: the same image gives the same bytes
    with GzipFile("", "wb", LEVEL, stream, mtime=0) as packed:
        yield cast(BinaryIO, packed)


def _description(source: Source, tree: Path, image: Path | None) -> dockerarchive.Description:
    recorded = header.recorded_environment(image) if image is not None else None
    environment = inspection.environment_of(filetree.Tree(tree), recorded)
    environment.setdefault("PATH", inspection.DEFAULT_PATH)
    found = inspection.inspect_tree(tree, source.release.application, tuple(environment.items()))
    architecture = found.architecture or (header.locate(image).architecture if image is not None else "")
    if not architecture:
        raise ImageError(f"{tree}: no program tells for which processor the image is", "is it whole?")
    origin = f"{source.artifact.sha256 if source.artifact else ''} {'sif' if image else 'tree'}"
    return dockerarchive.Description(source.release, tuple(environment.items()), architecture, origin)
