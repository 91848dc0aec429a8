"""Transactions: opened, published, aborted, mounted again after a crash."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from . import leases, revisions, union
from .host import Host, Repository, known
from .revisions import Revision
from .trees import Tree, below, parent
from .words import RefusedError, answer, complain, say

EXPIRED = "cannot load whitelist [expired whitelist]"
ERROR = "CernVM-FS transaction error:"
TERMINATED = "(unexpected termination)"


def transaction(host: Host, name: str, *, wait: int | None = None, template: tuple[str, str] | None = None) -> None:
    """Open a transaction, after waiting for another; ``template`` clones a directory to a new path."""
    repository = known(host, name.partition("/")[0])
    path = name.partition("/")[2].strip("/")  # means nothing without a gateway
    _may_write(repository)
    deadline = time.monotonic() + wait if wait else float("inf")
    while busy := _open(repository, path):
        if wait is None or time.monotonic() >= deadline:
            raise busy
        say("repository busy, retrying")
        time.sleep(0.2)
    repository.faults.reach("flagged")
    public = revisions.read(repository, revisions.current(repository))
    if repository.has_gateway:
        _refuse_path(repository, path, public.tree)
    union.set_mode(repository, "rw", public.tree)
    if template:
        _clone(repository, public, *template)
    repository.faults.reach("opened")


def _may_write(repository: Repository) -> None:
    if not repository.is_ours:
        raise RefusedError(1, "Permission error: No write permission to repository")
    refuse_publishing(repository)
    if repository.faults.has("spool-full"):
        raise RefusedError(1, f"{TERMINATED} cannot write to {repository.spool}: No space left on device")
    if repository.whitelist_is_expired:
        raise RefusedError(5, EXPIRED)
    mode, number = repository.mounted
    if repository.flag.exists() and mode != "rw":
        torn = _torn(repository, stop="", name="$name")
        raise RefusedError(1, *torn, f"{TERMINATED} cannot establish writable mountpoint")
    if not repository.flag.exists() and (mode != "ro" or number != revisions.current(repository)):
        union.remount(repository, "ro")


def _open(repository: Repository, path: str) -> RefusedError | None:
    """Raise the flag and lease a path; returns why somebody else's transaction is in the way, if one is."""
    try:
        os.close(os.open(repository.flag, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return RefusedError(17, f"{ERROR} another transaction is already open")
    if repository.has_gateway:
        try:
            leases.acquire(repository, path)
        except RefusedError as busy:
            repository.flag.unlink()
            return busy
    return None


def _refuse_path(repository: Repository, path: str, tree: Tree) -> None:
    try:
        leases.refuse_path(repository, path, tree)
    except RefusedError:
        repository.flag.unlink()
        raise


def refuse_publishing(repository: Repository) -> None:
    """Refuse while somebody publishes, as health checks do."""
    if repository.is_publishing:
        raise RefusedError(
            1,
            f"WARNING: The repository {repository.name} is currently publishing and should not",
            "be touched. If you are absolutely sure, that this is _not_ the case,",
            "please run the following command and retry:",
            "",
            f"   rm -fR {repository.lock}",
        )


def _torn(repository: Repository, *, stop: str, name: str) -> list[str]:
    """Return what is said of a transaction whose union is not writable; ``stop`` ends two of the sentences."""
    lines = []
    if repository.mounted[0] == "none":
        lines += [f"{repository.spool}/rdonly is not mounted properly{stop}"]
        lines += [f"{repository.union} is not mounted properly{stop}"]
    else:
        lines += [f"{repository.name} is in a transaction but {repository.union} is not mounted read/write"]
    lines += [f"Repository {repository.name} is in a transaction and cannot be repaired."]
    return [*lines, f"--> Run `cvmfs_server abort {name}` to revert and repair."]


def refuse_torn(repository: Repository) -> None:
    """Refuse a transaction whose union is not writable, as publish and check do."""
    if repository.flag.exists() and repository.mounted[0] != "rw":
        raise RefusedError(1, *_torn(repository, stop=".", name=repository.name))


def _clone(repository: Repository, public: Revision, source: str, target: str) -> None:
    """Copy a directory of the public tree into a revision that is never signed."""
    say(f"CernVM-FS: cloning template {source} --> {target} ...")
    fault = ""
    if target in public.tree:
        fault = f"destination '{target}' exists, aborting"
    elif source not in public.tree:
        fault = f"path '{source}' cannot be found, aborting"
    elif parent(target) not in public.tree:
        fault = f"destination '{target}' not on a known path, aborting"
    if fault:
        repository.flag.unlink()
        union.set_mode(repository, "ro", public.tree)
        line = f"{ERROR} cannot clone directory tree. PANIC: catalog_mgr_rw.cc : 461"
        raise RefusedError(22, f"CernVM-FS: cloning template {source} --> {target} ... {line}", fault)
    tree = dict(public.tree)
    for path in below(public.tree, source):
        tree[target + path.removeprefix(source)] = public.tree[path]
    revision = revisions.make(repository, public.number + 1, tree, public)
    union.show(repository, public.tree, tree, mode="rw", revision=revision.number)
    say(f"New revision: {revision.number}", "[done]")


def refuse_inside(repository: Repository) -> None:
    """Refuse a caller whose working directory is in the union."""
    if union.caller_is_inside(repository):
        text = f"Current working directory is in {repository.union}.  Please release, e.g. by 'cd $HOME'."
        raise RefusedError(1, text)


def abort(host: Host, name: str, *, force: bool = False) -> None:
    """Discard what was changed and close the transaction."""
    repository = known(host, name)
    refuse_inside(repository)
    if not repository.flag.exists():
        raise RefusedError(22, f"Repository {name} is not in a transaction")
    if not force:
        question = f"You are about to DISCARD ALL CHANGES OF THE CURRENT TRANSACTION for {name}!  Are you sure (y/N)? "
        if answer(question) in ("n", "N"):
            raise RefusedError(4)
    with repository.publishing(RefusedError(22, f"Could not acquire lock {repository.lock}")):
        if repository.whitelist_is_expired:
            raise RefusedError(1, f"{TERMINATED} {EXPIRED}", "Stack trace:")
        _may_discard(repository)
        repository.faults.reach("aborting")
        for _ in union.holders(repository):
            complain(f"umount: {repository.union}: target is busy.", f"Trying to unmount {repository.union}... fail")
            break
        if repository.mounted[0] != "rw":
            say(f"Trying to remount {repository.union} read/write... success")
        if repository.mounted[1] != revisions.current(repository):
            say(f"{name} is not based on the newest published revision")
        union.discard(repository)
        if repository.has_gateway:
            leases.release(repository)
        repository.flag.unlink()


def _may_discard(repository: Repository) -> None:
    """Fail as abort does without space in the spool: the space that new files of the transaction take."""
    fails = repository.faults.take("abort-fails") is not None
    if not fails and repository.faults.has("spool-full"):
        base = revisions.read(repository, repository.mounted[1]).tree
        found = union.read(repository, base)
        fails = any(found[path].kind == "file" for path in union.changes(base, found)[0])
    if fails:
        raise RefusedError(134, "Assertion `success' failed.", "Aborted")


def mount(host: Host, names: Sequence[str]) -> None:
    """Bring mounts back; writable where a transaction is open, whose changes are kept."""
    for name in names:
        repository = known(host, name)
        if not repository.is_ours:
            raise RefusedError(1, "Permission error: No write permission to repository")
        refuse_publishing(repository)
        union.remount(repository, "rw" if repository.flag.exists() else "ro")
