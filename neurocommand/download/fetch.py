"""One release's SIF, verified before it has its name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from neurocommand.bandwidth import Bandwidth
from neurocommand.download.locked import Locked
from neurocommand.download.part import Part
from neurocommand.download.unlocked import Unlocked
from neurocommand.download.verdicts import STAGE, Fetched, Verdicts
from neurocommand.errors import NO_SPACE, DownloadError, NeurocommandError, RefusedError, is_full
from neurocommand.events import Finished, Listener
from neurocommand.files import rename_durably
from neurocommand.model import Artifact
from neurocommand.settings import DownloadSettings
from neurocommand.stores.interface import Store

__all__ = ["Fetched", "fetch"]


def fetch(  # noqa: PLR0913  (what one download is told)
    key: str,
    path: Path,
    sources: Sequence[Store],
    artifact: Artifact | None,
    listener: Listener,
    release_id: str,
    *,
    settings: DownloadSettings | None = None,
    bandwidth: Bandwidth | None = None,
    patience: float = 60.0,
) -> Fetched:
    """Download one object; a source that gives none or other bytes is dropped and named, and the others go on.

    A locked object grows as ``.<name>.part``, which stays when the download breaks off, and is continued by the next.
    Which sources are asked in which order: see ``Locked``. An object that the lock does not know (``artifact`` is
    None) is read from one source, held against its stated length, and against the bytes of a second source where one
    holds it and sends it in good time; nothing of it stays when that breaks off, for nobody knows what it is.

    Args:
        key: the object's key in every source.
        path: the file to make; its directory must exist. Nothing is there until every check is passed, and then it
            is durable.
        sources: in the order of the configuration.
        artifact: the locked size and sha256, or None.
        listener: told about progress (stage ``download``) and dropped sources.
        release_id: the release, in events.
        settings: how to download; None for the defaults.
        bandwidth: kept to where addresses of stores are read; a store's own ``get`` is not counted here.
        patience: seconds that the second source has in any case; it has three times as long as the first one took.

    Raises:
        ImmutableError: every source that answered holds other bytes than the locked ones; or, unlocked, two differ.
        DownloadError: no source gave the object, or ``path`` cannot be written; every reason is named.
        RefusedError: there is no space for it.
        BusyError: another process is downloading it to that place.
    """
    began = time.monotonic()
    verdicts = Verdicts(listener, release_id)
    partial = path.with_name(f".{path.name}.partial")
    try:
        if artifact is None:
            partial.unlink(missing_ok=True)
            fetched = Unlocked(key, partial, verdicts, patience).run(sources)
            rename_durably(partial, path)
        else:
            with Part(path) as part:
                download = Locked(
                    key, part, artifact, verdicts, settings or DownloadSettings(), bandwidth=bandwidth or Bandwidth()
                )
                fetched = download.run(sources)
                part.keep()
    except OSError as error:
        raise _local_failure(path, error) from error
    finally:
        if artifact is None:
            partial.unlink(missing_ok=True)
    listener(Finished(release_id, STAGE, time.monotonic() - began, fetched.size))
    return fetched


def _local_failure(path: Path, error: OSError) -> NeurocommandError:
    if is_full(error):
        return RefusedError(f"{path}: {error.strerror}", NO_SPACE)
    return DownloadError(f"{path}: cannot be written: {error.strerror or error}")
