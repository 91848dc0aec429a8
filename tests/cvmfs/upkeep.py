"""Upkeep: repositories are checked, collected, resigned; their catalogs are listed."""

from __future__ import annotations

import hashlib
import time
import zlib

from . import catalogs, revisions, signing, tags, transactions
from .host import Host, Repository, existing, owned
from .revisions import Revision
from .words import RefusedError, answer, complain, say


def check(host: Host, name: str, *, only_catalogs: bool, contents: bool, repair: bool) -> None:
    """Check catalogs, that objects are there, and their contents; ``repair`` mends the reflog before."""
    repository = existing(host, name)
    transactions.refuse_publishing(repository)
    if repository.faults.has("spool-full"):
        raise RefusedError(1, f"cannot write to {repository.spool}: No space left on device")
    transactions.refuse_torn(repository)
    if repair and not revisions.reflog_is_sound(repository):
        found = hashlib.sha1((repository.storage / ".cvmfsreflog").read_bytes()).hexdigest()
        was = (repository.spool / "reflog.chksum").read_text()
        (repository.spool / "reflog.chksum").write_text(found)
        complain(f"Warning: restored reflog checksum as {found} (was: {was})")
    if repository.whitelist_is_expired:
        raise RefusedError(1, tags.FETCH, "failed to load repository manifest")
    say(f"Verifying integrity of {name}...", "Inspecting log of references", "Inspecting tag database")
    problems = list(_problems(repository, only_catalogs=only_catalogs)) + (_broken(repository) if contents else [])
    if problems:
        raise RefusedError(1, *problems, "FAIL!" if contents else "CATALOG PROBLEMS OR OTHER ERRORS FOUND")
    say("no problems found")


def _problems(repository: Repository, *, only_catalogs: bool) -> list[str]:
    problems = []
    root = revisions.manifest(repository)["C"]
    try:
        for path, name, _, files in catalogs.read(repository.objects, repository.temporary, root):
            say(f"[inspecting catalog] {name} at {path}")
            for file, stored, _ in files:
                if stored and not only_catalogs and not repository.objects.path(stored).exists():
                    problems.append(f"data chunk {stored} ({path.rstrip('/')}/{file}) missing")
    except (OSError, zlib.error) as error:
        problems.append(f"failed to load catalog: {error}")
    tree = revisions.read(repository, revisions.current(repository)).tree
    return [*problems, *(f"found abandoned nested catalog marker at /{at}" for at in catalogs.marker_problems(tree))]


def _broken(repository: Repository) -> list[str]:
    """Return objects whose names are not their hashes."""
    broken = []
    for path in sorted((repository.storage / "data").glob("[0-9a-f][0-9a-f]/*")):
        if hashlib.sha1(path.read_bytes()).hexdigest() != (path.parent.name + path.name)[:40]:
            broken.append(f"mismatch of file name and content hash | at: data/{path.parent.name}/{path.name}")
    return broken


def gc(host: Host, name: str, *, keep: int | None, before: float, dry: bool) -> None:
    """Remove what only revisions without a tag hold: older than a time, or all but so many before the newest."""
    repository = existing(host, name)
    owned(repository)
    if repository.settings["CVMFS_GARBAGE_COLLECTION"] != "true":
        raise RefusedError(1, f"Garbage Collection is not enabled for {name}")
    if repository.flag.exists():
        raise RefusedError(1, "Cannot run garbage collection while in a transaction")
    tags.readable(repository)
    if not revisions.reflog_is_sound(repository):
        raise RefusedError(1, revisions.CORRUPT.format(name=name))
    say(f"Affected Repositories:          {name}", f"Dry Run (no actual deletion):   {'yes' if dry else 'no'}")
    say("Needs Reflog reconstruction:    no")
    stamp = time.strftime("%Y/%m/%d %H:%M:%S", time.localtime(before))
    say(f"Preserve Revisions newer than:  {stamp}" if keep is None else f"Preserved Legacy Revisions:     {keep}")
    say("Running Garbage Collection")
    if repository.faults.has("storage-full"):
        (repository.spool / "reflog.chksum").write_text("0" * 40)
        raise RefusedError(1, "failed to upload updated Reflog", "Fail (6)!")
    if not dry:
        _collect(repository, keep, before)
    say(f"  --> done garbage collecting [{time.ctime()}]")


def _collect(repository: Repository, keep: int | None, before: float) -> None:
    newest = revisions.current(repository)
    tagged = {tag.revision for tag in revisions.tags(repository).values()}
    kept: set[str] = set()
    gone: set[str] = set()
    for file in sorted((repository.state / "revisions").glob("*.json")):
        revision = revisions.read(repository, int(file.stem))
        stays = revision.number >= newest - keep if keep is not None else revision.time >= before
        (kept if stays or revision.number in tagged or revision.number == newest else gone).update(_objects(revision))
    for name in sorted(gone - kept):
        repository.objects.path(name).unlink(missing_ok=True)
        repository.faults.reach("collecting")
    status = f'{{ "last_gc": "{time.strftime("%a %b %d %H:%M:%S UTC %Y", time.gmtime())}" }}\n'
    repository.objects.replace(".cvmfs_status.json", status.encode())


def _objects(revision: Revision) -> set[str]:
    files = {entry.stored for entry in revision.tree.values() if entry.stored}
    return files | {f"{catalog.hash}C" for catalog in revision.catalogs.values()}


def resign(host: Host, name: str, *, days: int, force: bool) -> None:
    """Sign a new whitelist; none for no days, which has expired."""
    repository = existing(host, name)
    if days > 30 and not force:
        say("Warning: whitelist expiration is more than 30 days.")
        say("Long expirations increase risk from repository key compromises!")
        if answer("Are you sure (y/N)? ") not in ("y", "Y"):
            raise RefusedError(1)
    repository.objects.replace(".cvmfswhitelist", signing.whitelist(repository.signing, days))
    say(f"Signing {days} day whitelist with master key... done")


def list_catalogs(host: Host, name: str, *, sizes: bool, entries: bool) -> None:
    """List catalogs with their sizes in bytes and their entries."""
    repository = existing(host, name)
    tags.readable(repository)
    root = revisions.manifest(repository)["C"]
    for path, _, size, files in catalogs.read(repository.objects, repository.temporary, root):
        say(f"{f'{size}B ' if sizes else ''}{f'{len(files)} ' if entries else ''}{path}")
