"""Repositories: made, joined to a gateway, removed, listed."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from . import revisions, signing, union
from .host import SPOOL, Host, existing, known
from .trees import Entry
from .words import RefusedError, say

WELCOME = b"Congratulations! You have created a new CVMFS repository.\n"


@dataclass(frozen=True)
class NewRepository:
    """How a repository is made; options as those of mkfs."""

    name: str
    owner: str
    url: str
    collectable: bool
    auto_tags: bool


def mkfs(host: Host, wanted: NewRepository) -> None:
    """Make a repository of one revision, which holds one file."""
    repository = host.repository(wanted.name)
    if repository.exists:
        raise RefusedError(1, f"The repository {wanted.name} already exists")
    _configure(host, wanted)
    for name in SPOOL:
        (repository.spool / name).mkdir(parents=True)
    for name in ("txn", *(f"{number:02x}" for number in range(256))):
        (repository.storage / "data" / name).mkdir(parents=True)
    for name in ("pool", "revisions", "faults"):
        (repository.state / name).mkdir(parents=True, exist_ok=True)
    host.keys.mkdir(parents=True, exist_ok=True)
    say("Creating Configuration Files... done", "Creating CernVM-FS Master Key and Self-Signed Certificate...")
    repository.signing.make()
    (repository.storage / ".cvmfswhitelist").write_bytes(signing.whitelist(repository.signing, 30))
    (repository.storage / ".cvmfs_master_replica").touch()
    owner, now = repository.owner, int(time.time())
    raw, stored = repository.objects.put_file(WELCOME)
    common = (owner.pw_uid, owner.pw_gid, now)
    tree = {"": Entry("directory", 0o755, *common)}
    tree["new_repository"] = Entry("file", 0o644, *common, size=len(WELCOME), raw=raw, stored=stored)
    revisions.first(repository, tree, collectable=wanted.collectable)
    repository.union.mkdir(parents=True)
    union.show(repository, {}, tree, mode="ro", revision=1)
    say("Initial commit... New CernVM-FS repository for " + wanted.name)


def _configure(host: Host, wanted: NewRepository, upstream: str = "") -> None:
    directory = host.configuration / wanted.name
    directory.mkdir(parents=True)
    storage, spool = host.root / "srv/cvmfs" / wanted.name, host.root / "var/spool/cvmfs" / wanted.name
    settings = {
        "CVMFS_REPOSITORY_NAME": wanted.name,
        "CVMFS_REPOSITORY_TYPE": "stratum0",
        "CVMFS_USER": wanted.owner,
        "CVMFS_UNION_DIR": host.root / "cvmfs" / wanted.name,
        "CVMFS_SPOOL_DIR": spool,
        "CVMFS_STRATUM0": wanted.url,
        "CVMFS_UPSTREAM_STORAGE": upstream or f"local,{storage}/data/txn,{storage}",
        "CVMFS_USED_HASH": "sha1",
        "CVMFS_UNION_FS_TYPE": "overlayfs",
        "CVMFS_HASH_ALGORITHM": "sha1",
        "CVMFS_COMPRESSION_ALGORITHM": "default",
        "CVMFS_AUTO_TAG": "true" if wanted.auto_tags else "false",
        "CVMFS_GARBAGE_COLLECTION": "true" if wanted.collectable else "false",
        "CVMFS_CATALOG_ALT_PATHS": "false",
    }
    (directory / "server.conf").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    public = f"{host.keys}/{wanted.name}.pub"
    (directory / "client.conf").write_text(f"CVMFS_PUBLIC_KEY={public}\nCVMFS_SERVER_URL={wanted.url}\n")


def join_gateway(host: Host, wanted: NewRepository, keys: Path, upstream: str) -> None:
    """Let this host publish to the repository of a gateway, which ``keys`` are of."""
    repository = host.repository(wanted.name)
    _configure(host, wanted, upstream)
    for name in SPOOL:
        (repository.spool / name).mkdir(parents=True)
    repository.state.mkdir(parents=True)
    (repository.state / "gateway").write_text(str(keys.parents[2]))
    host.keys.mkdir(parents=True, exist_ok=True)
    for kind in ("crt", "pub", "gw"):
        shutil.copy(keys / f"{wanted.name}.{kind}", host.keys)
    public = revisions.read(repository, revisions.current(repository))
    repository.union.mkdir(parents=True)
    union.show(repository, {}, public.tree, mode="ro", revision=public.number)


def rmfs(host: Host, name: str) -> None:
    """Remove a repository and its keys."""
    repository = existing(host, name)
    own = [] if repository.has_gateway else [repository.storage]
    for directory in (*own, repository.spool, repository.union, repository.state):
        shutil.rmtree(directory)
    shutil.rmtree(host.configuration / name)
    for key in host.keys.glob(f"{name}.*"):
        key.unlink()
    say(f"CernVM-FS repository {name} wiped out!")


def list_repositories(host: Host) -> None:
    """List repositories and what is the matter with them."""
    for name in host.names():
        repository = known(host, name)
        state = " - in transaction" if repository.flag.exists() else ""
        state += " - whitelist expired" if repository.whitelist_is_expired else ""
        say(f"{name} (stratum0 / local{state})  ")
