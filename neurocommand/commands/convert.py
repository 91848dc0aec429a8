"""``neurocommand convert``: image -> SIF in the spool, locked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurocommand.actions import Convert
from neurocommand.commands import pipeline
from neurocommand.commands.options import (
    takes_dry_run,
    takes_json,
    takes_manifest,
    takes_min_free,
    takes_releases,
    takes_shard,
)
from neurocommand.commands.session import Session
from neurocommand.errors import UsageError, printable

if TYPE_CHECKING:
    from neurocommand.image.conversion import Image

ARCHIVES = ("docker-archive:", "oci-archive:")
STAGE = pipeline.Stage((Convert,), deploys=False)


@click.command("convert")
@takes_releases
@takes_manifest
@takes_shard
@takes_min_free
@click.option("--from", "source", metavar="docker-archive:FILE", help="Convert one release from an image in a file.")
@takes_dry_run
@takes_json
@click.pass_obj
def command(
    session: Session,
    *,
    releases: tuple[str, ...],
    shard: tuple[int, int] | None,
    min_free: int | None,
    source: str | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Convert images to SIF, and lock them.

    Only releases that are neither locked nor in any store are converted: a release id never changes its bytes. The
    SIF waits in the spool for `neurocommand upload`.

    With --from, the image of a single release comes from a file that `docker save` or skopeo wrote, not from a
    registry: docker-archive:FILE or oci-archive:FILE.

    \b
    Examples:
      neurocommand convert niimath
      neurocommand convert --dry-run --json
      neurocommand convert fsl --min-free 60G
      neurocommand convert toy --from docker-archive:toy.tar
    """
    image = _image(session, releases, source) if source is not None else None
    asked = pipeline.Asked(releases, None, dry_run, as_json, shard=shard, min_free=min_free, image=image)
    return pipeline.run(session, STAGE, asked)


def _image(session: Session, releases: tuple[str, ...], source: str) -> Image:
    """Return the image of a file, for the only release that is named.

    Raises:
        UsageError: not just one release is named, or the file in another way.
        ImageError: the file is no sound image.
    """
    from neurocommand.image import imagefile

    if not source.startswith(ARCHIVES):
        raise UsageError(f"--from {printable(source)}: unknown", "write docker-archive:FILE or oci-archive:FILE")
    if len(releases) != 1:
        raise UsageError("--from converts a single release", "name just one: neurocommand convert toy --from …")
    return imagefile.image_of(Path(source.partition(":")[2]))
