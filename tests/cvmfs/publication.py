"""Publication: what was changed in the union becomes the next revision."""

from __future__ import annotations

from dataclasses import replace

from . import leases, revisions, union
from .host import Host, Repository, existing
from .revisions import Revision
from .transactions import refuse_inside, refuse_torn
from .trees import MARKER, Tree, below, join, parent
from .words import RefusedError, WorkerError, answer, complain, say


def publish(host: Host, name: str, *, force: bool = False, tag: str = "", text: str = "") -> None:
    """Publish what was changed; on any failure the transaction stays open."""
    repository = existing(host, name)
    if not repository.is_ours:
        raise RefusedError(2, f"cannot create {repository.lock}: Permission denied")
    if not repository.flag.exists():
        raise RefusedError(1, f"Repository {name} is not in a transaction")
    with repository.publishing(RefusedError(1, f"Another publish process is active for {name}")) as lock:
        _may_publish(repository, tag, force=force)
        tag = tag or revisions.auto_tag(repository)
        base = revisions.read(repository, repository.mounted[1])
        union.set_mode(repository, "ro", base.tree)
        try:
            seen, tree = _sync(repository, base, lock)
            revision = commit(repository, base, tree, (tag, text), worker="Sync")
        except WorkerError as fault:
            union.set_mode(repository, "rw", base.tree)
            revisions.work_failed(fault, f"sync -u {repository.union} -s {repository.spool}/scratch/current")
            raise RefusedError(1) from None
        finish(repository, revision, seen)


def _may_publish(repository: Repository, tag: str, *, force: bool) -> None:
    name = repository.name
    if " " in tag:
        raise RefusedError(1, "Spaces are not allowed in tag names")
    if tag and tag in revisions.tags(repository):
        raise RefusedError(1, f"Tag name '{tag}' is already in use.")
    refuse_torn(repository)
    if repository.whitelist_is_expired:
        raise RefusedError(1, f"Repository whitelist for {name} is expired!")
    refuse_inside(repository)
    holders = list(union.holders(repository))
    if any(writes for _, _, writes in holders):
        raise RefusedError(1, f"Open writable file descriptors on {name}")
    if not holders:
        return
    listed = [f"{process} {path}" for process, path, _ in holders]
    if force:
        complain(f"WARNING: Open file descriptors on {repository.union} (possible race!)", *listed)
        return
    say(f"WARNING! There are open read-only file descriptors in {repository.union}", *listed)
    if answer("Do you want to proceed anyway? (y/N) ") not in ("y", "Y"):
        raise RefusedError(1, "aborted.")


def _sync(repository: Repository, base: Revision, lock: int) -> tuple[Tree, Tree]:
    """Store the files that are new in the union; returns what is laid out there, and the tree that is published."""
    say("Swissknife Sync: Processing changes...")
    repository.faults.reach("processing")
    repository.faults.leave_orphan(lock)
    revisions.check_reflog(repository)
    if repository.faults.has("spool-full"):
        raise WorkerError("No space left on device")
    if repository.faults.take("kill-worker") is not None:
        raise WorkerError("watchdog disappeared, aborting", "Aborted")
    found = union.read(repository, base.tree)
    seen = dict(found)
    _apply_whiteouts(base.tree, found)
    if MARKER in found:
        raise WorkerError("Error: nested catalog marker in root directory")
    for path, entry in found.items():
        if entry.kind == "file" and not entry.stored:
            place = repository.union / path
            if place.lstat().st_nlink > 1:
                say(f"Warning: Found file with linkcount > 1 ({place}). We will break up these hardlinks.")
                del seen[path]  # to be laid out again, as a file of its own
            _, stored = repository.objects.put_file(place.read_bytes())
            found[path] = replace(entry, stored=stored)
    repository.faults.reach("uploaded")
    return seen, found


def _apply_whiteouts(base: Tree, found: Tree) -> None:
    """Take new files named .wh.X for whiteouts, which delete X; one of a published whiteout kills the worker."""
    for path in [path for path in found if path.rpartition("/")[2].startswith(".wh.") and path not in base]:
        del found[path]
        victim = join(parent(path), path.rpartition("/")[2].removeprefix(".wh."))
        if victim not in found:
            say(f"[WARNING] '{victim}' should be deleted, but was not found in repository.")
        for inner in below(found, victim):
            del found[inner]
    for path in base:
        name = path.rpartition("/")[2]
        if name.startswith(".wh.") and path not in found:
            victim = join(parent(path), name.removeprefix(".wh."))
            say(f"[WARNING] '{victim}' should be deleted, but was not found in repository.")
            raise WorkerError("Killed")


def commit(repository: Repository, base: Revision, tree: Tree, tag: tuple[str, str], *, worker: str) -> Revision:
    """Make a tree whose files are stored the next revision, in the words of a worker."""
    say("Waiting for upload of files before committing...", "Committing file catalogs...")
    if repository.has_gateway:
        return leases.submit(repository, base, tree)
    number = max(base.number, revisions.current(repository)) + 1
    revision = revisions.make(repository, number, tree, base)
    repository.faults.reach("committed")
    say(f"Swissknife {worker}: Wait for all uploads to finish", f"Swissknife {worker}: Exporting repository manifest")
    say(f"Statistics stored at: {repository.spool}/stats.db")
    names = revisions.new_tags(repository, revision, *tag)
    revisions.publish(repository, revision, names)
    return revision


def finish(repository: Repository, revision: Revision, found: Tree) -> None:
    """Let the union, which holds ``found``, show a revision that is public, and close the transaction."""
    say("Remounting newly created repository revision")
    union.show(repository, found, revision.tree, mode="ro", revision=revision.number)
    repository.faults.reach("remounted")
    repository.flag.unlink(missing_ok=True)
