"""Carry single actions out: each with the stores, the spool, the registries and the root that it needs."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from neurocommand import imagesearch
from neurocommand.actions import Action, Adopt, Convert, Copy, Delete, Deploy, Retire, Rewrap, Upload
from neurocommand.bandwidth import Bandwidth
from neurocommand.deploy import Deployer
from neurocommand.download import fetch as download
from neurocommand.download.part import written
from neurocommand.download.relay import relay
from neurocommand.errors import ImageError, ImmutableError, NeurocommandError, StoreError
from neurocommand.events import Advanced, Finished, Listener, Noted, Started
from neurocommand.files import digest_of
from neurocommand.image import conversion, sif
from neurocommand.image.blobs import Source
from neurocommand.layout import object_key
from neurocommand.lock import LockFile
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, DeployRecord, ImageReference, Release
from neurocommand.observe import read_record
from neurocommand.settings import Compression, DownloadSettings, LimitSettings, RegistrySettings
from neurocommand.space import Space
from neurocommand.spool import Spool
from neurocommand.stores.interface import Store

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

Pull = Callable[[ImageReference], AbstractContextManager[Source]]


@dataclass
class Workshop:
    """Everything that actions are carried out with.

    Args:
        declarations: what is wanted, by release.
        lock: the lock on disk.
        spool: where SIFs wait; prepared.
        stores: by name, in the order of the configuration.
        registries: in the order in which images are asked for.
        resolve: image reference -> bare hex digest, None when it is certainly absent; raises RegistryError.
        pull: gives the content of an image, while the block lasts that it opens.
        compression: of the SIFs that are made.
        deployer: of the root, prepared; None when nothing is deployed.
        listener: told about progress.
        own_lock: a prefix's own lock: a release that the lock does not know is recorded there when it is fetched.
        stored: releases that some store is known to have, so that the spool need not keep them.
        kept: releases that the spool keeps all the same, since they are still to be deployed.
        downloads: how objects are fetched.
        sources: names of the stores that a release may be fetched from; empty: of all.
        limits: how much may go on at once.
        bandwidth: kept to by downloads; the stores keep to it themselves.
        image: converted instead of what registries have; then a single release is wanted.
        today: the day of the run, ``YYYY-MM-DD``.
    """

    declarations: Mapping[Release, Declaration]
    lock: LockFile
    spool: Spool
    stores: Mapping[str, Store]
    registries: Sequence[RegistrySettings]
    resolve: imagesearch.Resolve
    pull: Pull
    compression: Compression
    deployer: Deployer | None
    listener: Listener
    own_lock: LockFile | None = None
    stored: set[Release] = field(default_factory=set)
    kept: set[Release] = field(default_factory=set)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    sources: Sequence[str] = ()
    limits: LimitSettings = field(default_factory=LimitSettings)
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    image: conversion.Image | None = None
    today: str = ""

    def __post_init__(self) -> None:
        """Open the lanes in which work goes on; deployments of one root share its staging directory, and take turns."""
        self._converting = threading.Semaphore(self.limits.conversions)
        self._transferring = threading.Semaphore(self.limits.transfers)
        self._deploying = threading.Lock()
        self._space = Space()

    def carry_out(self, action: Action) -> str:
        """Do what an action says, and return what to say of it; may be called by several threads, for one release each.

        Raises:
            NeurocommandError, OSError: it could not be done.
        """
        match action:
            case Convert():
                with self._converting:
                    detail = self._convert(action)
            case Adopt():
                detail = self._adopt(action)
            case Upload():
                detail = self._put(action.release, action.store, self._spooled(action.release))
            case Copy() if action.streamed:
                detail = self._relay(action)
            case Copy():
                detail = self._put(action.release, action.store, self._acquire(action.release, action.sources))
            case Deploy():
                detail = self._deploy(action)
            case Rewrap():
                detail = self._rewrap(action.release)
            case Retire():
                detail = self._retire(action)
            case Delete():
                self.stores[action.store].delete(object_key(action.release))
                detail = f"deleted from {action.store}"
            case _:
                assert_never(action)
        return detail

    def _retire(self, action: Retire) -> str:
        deployer = self._root()
        deployed = read_record(deployer.standing(action.release))
        notice = replace(action.notice, since=action.notice.since or self.today)
        with self._deploying:
            if not isinstance(deployed, DeployRecord):
                # nobody could use it: there is nothing to tell anybody
                deployer.remove(action.release)
                return "removed: it was not deployed to its end"
            deployer.withdraw(deployed, notice)
        return "its tombstone was renewed" if action.renewal else f"withdrawn: {notice.text}"

    def done(self, release: Release, *, sent: bool) -> None:
        """Drop the spool's SIF of a release once a store has it.

        Args:
            release: of which all actions are over.
            sent: its SIF was uploaded everywhere.
        """
        if sent:
            self.stored.add(release)
        if release in self.stored and release not in self.kept:
            self.spool.discard([release])

    def _known(self, release: Release) -> Artifact | None:
        own = self.own_lock.lock.get(release) if self.own_lock is not None else None
        return self.lock.lock.get(release) or own

    def _locked(self, release: Release) -> Artifact:
        artifact = self._known(release)
        if artifact is None:
            raise NeurocommandError(f"{release}: not locked", f"run: neurocommand convert {release}")
        return artifact

    def _root(self) -> Deployer:
        assert self.deployer is not None  # noqa: S101  (a plan without a root has no such action)
        return self.deployer

    def _convert(self, action: Convert) -> str:
        release = action.release
        self.lock.check_writable()
        started = time.monotonic()
        self.listener(Started(release.id, "convert"))
        if self.image is not None:
            self._make(release, self.image)
            digest, name = self.image.sha256, self.image.address
        else:
            found = imagesearch.take(release, self.registries, self.resolve, lambda one: self._pulled(release, one))
            digest, name = found.digest, str(found.reference)
        sha256, size = digest_of(self.spool.partial(release))
        self.spool.keep(release)
        self.lock.record(release, Artifact(sha256, size, digest))
        self.listener(Finished(release.id, "convert", time.monotonic() - started, size))
        return f"{name} sha256:{digest} -> {self.spool.sif(release)}"

    def _pulled(self, release: Release, found: imagesearch.Image) -> imagesearch.Image:
        """Convert the image of one registry; RegistryError when that one does not give it."""
        for passed in found.passed_over:
            self.listener(Noted(release.id, passed))
        reference, digest, registry = found.reference, found.digest, found.registry
        name = f"{reference.registry}/{reference.repository}@sha256:{digest}"
        with self.pull(reference) as source:
            image = conversion.Image(name, digest, registry.insecure, source, credentials=registry.credentials)
            self._make(release, image)
        return found

    def _make(self, release: Release, image: conversion.Image) -> None:
        """Convert an image into the release's partial file in the spool."""
        partial = self.spool.partial(release)
        partial.unlink(missing_ok=True)
        conversion.convert(
            image,
            partial,
            compression=self.compression,
            scratch=self.spool.scratch / release.id,
            report=lambda line: self.listener(Noted(release.id, line)),
            reserved=self._space.reserved,
        )

    def _adopt(self, action: Adopt) -> str:
        release = action.release
        self.lock.check_writable()
        path = self.spool.sif(release)
        with self._transferring:
            fetched = download.fetch(
                object_key(release), path, [self.stores[action.store]], None, self.listener, release.id
            )
        self.stored.add(release)
        _see_sif(release, path, action.store)
        expected = action.expected
        if expected is not None and (fetched.sha256, fetched.size) != (expected.sha256, expected.size):
            raise ImmutableError(
                f"{release}: store {action.store} has sha256 {fetched.sha256}, but {expected.sha256} is deployed",
                "find out which one is right; nothing was locked",
            )
        self.lock.record(release, Artifact(fetched.sha256, fetched.size))
        return f"sha256 {fetched.sha256} from store {action.store}"

    def _spooled(self, release: Release) -> Path:
        path = self.spool.sif(release)
        if not path.is_file():
            raise StoreError(f"{release}: not in the spool {self.spool.path}")
        return path

    def _acquire(self, release: Release, sources: Iterable[str], *, to_deploy: bool = False) -> Path:
        """Return a local file with the locked bytes: the spool's, else downloaded into it."""
        artifact, path = self._known(release), self.spool.sif(release)
        if artifact is None and self.own_lock is None:
            self._locked(release)
        if artifact is None or not self.spool.holds(release, artifact):
            stores = [self.stores[name] for name in sources]
            need = artifact.size - written(path) if artifact is not None else 0
            with self._transferring, self._space.reserved(self.spool.path, need, str(release)):
                fetched = download.fetch(
                    object_key(release),
                    path,
                    stores,
                    artifact,
                    self.listener,
                    release.id,
                    settings=self.downloads,
                    bandwidth=self.bandwidth,
                )
            self.stored.add(release)
            if artifact is None or to_deploy:
                _see_sif(release, path, fetched.source)
            if artifact is None and self.own_lock is not None:
                self.own_lock.record(release, Artifact(fetched.sha256, fetched.size))
        return path

    def _put(self, release: Release, store: str, path: Path) -> str:
        artifact = self._locked(release)
        started = time.monotonic()
        self.listener(Started(release.id, f"upload to {store}", artifact.size))
        with self._transferring:
            self.stores[store].put(
                object_key(release),
                path,
                artifact,
                lambda done: self.listener(Advanced(release.id, f"upload to {store}", done)),
            )
        seconds = time.monotonic() - started
        self.listener(Finished(release.id, f"upload to {store}", seconds, artifact.size))
        return f"{artifact.size} bytes sent to {store}"

    def _relay(self, action: Copy) -> str:
        release, artifact = action.release, self._locked(action.release)
        sources, target = [self.stores[name] for name in action.sources], self.stores[action.store]
        with self._transferring:
            given = relay(object_key(release), sources, target, artifact, self.listener, release.id)
        return f"{artifact.size} bytes sent from {given.source} to {action.store}"

    def _deploy(self, action: Deploy) -> str:
        deployer = self._root()
        path = self._acquire(action.release, self.sources or self.stores, to_deploy=True)
        artifact = self._locked(action.release)
        with self._deploying:
            record = deployer.deploy(self.declarations[action.release], artifact, path)
        return f"{len(record.commands)} commands"

    def _rewrap(self, release: Release) -> str:
        deployer = self._root()
        deployed = read_record(deployer.standing(release))
        if not isinstance(deployed, DeployRecord):
            raise NeurocommandError(f"{release}: {deployed.reason}", "run it again")
        with self._deploying:
            record = deployer.rewrap(self.declarations[release], deployed)
        return f"{len(record.commands)} commands"


def _see_sif(release: Release, path: Path, store: str) -> None:
    """See that what a store gave is a SIF; the file's own place in the spool would tell nobody where to look."""
    try:
        sif.locate(path)
    except ImageError as error:
        reason = error.message.removeprefix(f"{path}: ")
        raise ImageError(
            f"{release}: store {store} holds something else than a sound SIF under {object_key(release)}: {reason}",
            "put the right file there; a locked digest of other bytes has to be mended first",
        ) from error
