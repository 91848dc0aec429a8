"""Ingestion: a tar and paths to delete become one revision, without the union."""

from __future__ import annotations

import grp
import os
import pwd
import time
from dataclasses import dataclass, replace

from . import publication, revisions, tarballs, transactions, union
from .host import Host, Repository
from .tarballs import Member
from .trees import MARKER, Entry, Tree, below, join, parent
from .words import RefusedError, WorkerError, complain, say


@dataclass(frozen=True)
class Request:
    """What is to be ingested; options as those of the command."""

    tar: str = ""
    base: str = ""
    deleted: tuple[str, ...] = ()
    catalog: bool = False
    user: str = ""
    group: str = ""
    keep: bool = False


def ingest(host: Host, name: str, request: Request) -> None:
    """Open a transaction, publish what is requested, and close it; abort it on any failure."""
    repository = host.repository(name)
    if not repository.exists:
        file = f"/etc/cvmfs/repositories.d/{name}/server.conf"
        raise RefusedError(2, f"/usr/bin/cvmfs_server: 1: .: cannot open {file}: No such file")
    opened = name
    if repository.has_gateway:
        _refuse_several(request)
        opened = "/".join([name, request.base.strip("/"), *request.deleted])
    try:
        transactions.transaction(host, opened)
    except RefusedError as refusal:
        complain(*refusal.lines, "Impossible to start a transaction")
        raise RefusedError(1) from None
    try:
        _publish(repository, request)
    except WorkerError as fault:
        revisions.work_failed(fault, f"ingest -u {repository.union} -T {request.tar}")
        transactions.abort(host, name, force=True)
        raise RefusedError(1) from None


def _refuse_several(request: Request) -> None:
    """Refuse what cannot be one lease."""
    if len(request.deleted) > 1:
        raise RefusedError(1, "Could not delete multiple paths using a gateway in a single transaction.")
    if request.deleted and request.tar:
        raise RefusedError(1, "Could not delete and add a file in the same transaction while using gateway.")


def _publish(repository: Repository, request: Request) -> None:
    busy = RefusedError(1, f"Another publish process is active for {repository.name}")
    with repository.publishing(busy) as lock:
        tag = revisions.auto_tag(repository)
        base = revisions.read(repository, repository.mounted[1])
        union.set_mode(repository, "ro", base.tree)
        say("Swissknife Ingest: Processing changes...")
        repository.faults.reach("processing")
        repository.faults.leave_orphan(lock)
        revisions.check_reflog(repository)
        if repository.faults.take("kill-worker") is not None:
            raise WorkerError("watchdog disappeared, aborting", "Aborted")
        tree = _Ingestion(repository, request, dict(base.tree)).tree()
        repository.faults.reach("uploaded")
        revision = publication.commit(repository, base, tree, (tag, ""), worker="Ingest")
        publication.finish(repository, revision, base.tree)


class _Ingestion:
    """A tree on its way from one revision to the next."""

    def __init__(self, repository: Repository, request: Request, tree: Tree) -> None:
        self.repository = repository
        self.request = request
        self.made = tree
        self.deleted: list[str] = []
        self.now = int(time.time())
        self.owner = _owner(repository, request)

    def tree(self) -> Tree:
        """Return the new tree; raises WorkerError."""
        request = self.request
        for path in request.deleted:
            self._delete(path.strip("/"))
        if request.tar and not (request.user and not request.group):  # the empty group swallows the option of the tar
            base = request.base.strip("/")
            with tarballs.opened(request.tar) as file:
                members = list(tarballs.members(file, base))
            for member in members:
                self._add(member)
            self._link(members)
            if request.catalog and base:
                self._make_directories(base)
                self._put(join(base, MARKER), Entry("file", 0o644, *self.owner, self.now), b"")
        if MARKER in self.made:
            raise WorkerError("Error: nested catalog marker in root directory")
        self.made[""] = replace(self.made[""], mtime=self.now)
        return self.made

    def _delete(self, path: str) -> None:
        found = below(self.made, path) if path in self.made else []
        if not found:
            say(f"[WARNING] '{path}' cannot be deleted. Unrecognized file type.")
        for each in found:
            del self.made[each]
        self.deleted += [path] if found else []

    def _add(self, member: Member) -> None:
        if member.kind == "hard link":
            return
        self._refuse_deleted(member.path)
        self._make_directories(parent(member.path))
        owner = (member.info.uid, member.info.gid) if self.request.keep else self.owner
        entry = Entry(member.kind, member.info.mode & 0o7777, *owner, int(member.info.mtime))
        if member.kind == "link":
            entry = replace(entry, mode=0o777, target=member.target, size=len(os.fsencode(member.target)))
        elif member.kind in ("character", "block"):
            entry = replace(entry, size=os.makedev(member.info.devmajor, member.info.devminor))
        self._put(member.path, entry, member.data if member.kind == "file" else None)

    def _put(self, path: str, entry: Entry, data: bytes | None) -> None:
        """Let an entry stand at a path, in place of what is there; bytes of a file are stored."""
        if data is not None:
            raw, stored = self.repository.objects.put_file(data)
            entry = replace(entry, size=len(data), raw=raw, stored=stored)
        if path in self.made and self.made[path].kind == "directory" != entry.kind:
            for each in below(self.made, path):
                del self.made[each]
        self.made[path] = entry

    def _link(self, members: list[Member]) -> None:
        """Let hard links be files of their own, with the bytes of what they point to."""
        for member in members:
            if member.kind == "hard link":
                self._refuse_deleted(member.path)
                self._make_directories(parent(member.path))
                if member.target not in self.made:
                    raise WorkerError(f"catalog for file '{member.target}' cannot be found, aborting")
                self.made[member.path] = self.made[member.target]

    def _make_directories(self, path: str) -> None:
        """Make directories that are not there; where owners are kept, nobody owns these."""
        if path in self.made:
            return
        self._make_directories(parent(path))
        owner = (-1, -1) if self.request.keep else self.owner
        self.made[path] = Entry("directory", 0o755, *owner, self.now)

    def _refuse_deleted(self, path: str) -> None:
        if any(path == gone or path.startswith(f"{gone}/") for gone in self.deleted):
            raise WorkerError(f"PANIC: catalog for file '/{path}' cannot be found")


def _owner(repository: Repository, request: Request) -> tuple[int, int]:
    """Return who owns what is ingested; the group is the user's own, whatever group was asked for."""
    user = pwd.getpwnam(request.user) if request.user and request.group else repository.owner
    if request.group:
        grp.getgrnam(request.group)
    return user.pw_uid, user.pw_gid
