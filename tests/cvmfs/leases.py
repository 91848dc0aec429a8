"""The gateway: subtrees that publishers have leased, and what it takes from them."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import revisions, union
from .host import Host, Repository
from .revisions import Revision
from .trees import Tree, parent
from .words import RefusedError, WorkerError, say

ERROR = "CernVM-FS transaction error:"
SETTINGS = "etc/cvmfs/gateway/user.json"


@dataclass(frozen=True)
class Lease:
    """A subtree of a repository that one publisher may change until a time."""

    path: str
    holder: str
    expires: float

    def overlaps(self, path: str) -> bool:
        """Tell whether a path is in this subtree, or this subtree below the path."""
        return not self.path or not path or f"{self.path}/".startswith(f"{path}/") or self.holds(path)

    def holds(self, path: str) -> bool:
        """Tell whether a path is in this subtree."""
        return not self.path or f"{path}/".startswith(f"{self.path}/")


@contextlib.contextmanager
def _locked(gateway: Repository) -> Iterator[list[Lease]]:
    """Give the leases that have not expired; what is done to the list is kept."""
    file = gateway.state / "leases.json"
    with open(gateway.state / "leases.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = [Lease(*fields) for fields in json.loads(file.read_text())] if file.exists() else []
        leases = [lease for lease in found if lease.expires > time.time()]
        yield leases
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps([[lease.path, lease.holder, lease.expires] for lease in leases]))
        temporary.replace(file)


def _holder(repository: Repository) -> str:
    return str(repository.host.root)


def acquire(repository: Repository, path: str) -> None:
    """Lease a subtree for a publisher; raises RefusedError where another has one that overlaps."""
    longest = json.loads((repository.upstream.host.root / SETTINGS).read_text())["max_lease_time"]
    with _locked(repository.upstream) as leases:
        for lease in leases:
            if lease.overlaps(path):
                left = lease.expires - time.time()
                busy = f"Path busy. Time remaining = {int(left // 60)}m{left % 60:.9f}s"
                raise RefusedError(16, busy, f"{ERROR} lease path busy")
        leases.append(Lease(path, _holder(repository), time.time() + longest))
    say("Gateway reply: ok")


def refuse_path(repository: Repository, path: str, tree: Tree) -> None:
    """Give a lease back, and refuse, where what holds its path is not a directory."""
    above = parent(path)
    if path and (above not in tree or tree[above].kind != "directory"):
        release(repository)
        if above in tree:
            raise RefusedError(20, f"{ERROR} cannot open transaction on /{above}, which is not a directory")
        raise RefusedError(2, f"{ERROR} cannot open transaction on non-existing path /{above}")


def held(repository: Repository) -> Lease:
    """Return a publisher's lease; raises WorkerError where it has expired."""
    with _locked(repository.upstream) as leases:
        for lease in leases:
            if lease.holder == _holder(repository):
                return lease
    reply = '{"reason":"invalid lease","status":"error"}'
    raise WorkerError(f"error reply: {reply}", "SessionContext: could not submit payload. Aborting.")


def release(repository: Repository) -> None:
    """Give a publisher's lease back, if it has one."""
    with _locked(repository.upstream) as leases:
        leases[:] = [lease for lease in leases if lease.holder != _holder(repository)]


def submit(repository: Repository, base: Revision, tree: Tree) -> Revision:
    """Let the gateway publish what a publisher changed below its lease; the rest is dropped without a word."""
    lease = held(repository)
    gateway = repository.upstream
    changed, gone = union.changes(base.tree, tree)
    with open(gateway.state / "receiver.lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        public = revisions.read(gateway, revisions.current(gateway))
        merged = dict(public.tree)
        for path in (path for path in gone if lease.holds(path)):
            merged.pop(path, None)
        merged |= {path: tree[path] for path in changed if lease.holds(path)}
        revision = revisions.make(gateway, public.number + 1, merged, public)
        revisions.publish(gateway, revision, revisions.new_tags(gateway, revision, "", ""), quiet=True)
        union.show(gateway, public.tree, merged, mode="ro", revision=revision.number)
    release(repository)
    say("Changes submitted to repository gateway")
    return revision


def api(directory: Path, path: str) -> bytes | None:
    """Return what a gateway on a host answers to a GET of /api/v1/leases or /repos; None to anything else."""
    host = Host(directory)
    names = host.names()
    data: dict[str, object] = {}
    if path == "/api/v1/repos":
        data = {name: {"enabled": True} for name in names}
    elif path == "/api/v1/leases":
        for name in names:
            with _locked(host.repository(name)) as leases:
                data |= {f"{name}/{lease.path}": _described(name, lease) for lease in leases}
    else:
        return None
    return json.dumps({"data": data, "status": "ok"}).encode()


def _described(name: str, lease: Lease) -> dict[str, str]:
    expires = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(lease.expires))}.{int(lease.expires % 1 * 1000):03}"
    path = f"{name}/{lease.path}"
    return {"key_id": "key1", "path": path, "expires": f"{expires} +0000 UTC", "hostname": Path(lease.holder).name}
