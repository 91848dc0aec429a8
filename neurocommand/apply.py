"""Carry a plan out, one release at a time: a failed action skips the rest of its release only."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurocommand.deploy import Deployer
from neurocommand.download import fetch as download
from neurocommand.errors import ImageError, ImmutableError, NeurocommandError, RegistryError, StoreError
from neurocommand.events import Advanced, Finished, Listener, Noted, Started
from neurocommand.files import digest_of
from neurocommand.image import sif
from neurocommand.layout import image_names, object_key
from neurocommand.lock import LockFile
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, DeployRecord, ImageReference, Release
from neurocommand.observe import read_record
from neurocommand.plan import Action, Adopt, Convert, Copy, Deploy, Plan, Retire, Rewrap, Upload
from neurocommand.settings import DownloadSettings, RegistrySettings
from neurocommand.spool import Spool
from neurocommand.stores.interface import Store

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never


@dataclass(frozen=True)
class Done:
    """An action was carried out, and what to say of it."""

    action: Action
    detail: str


@dataclass(frozen=True)
class Failed:
    """An action failed, and why."""

    action: Action
    error: NeurocommandError


@dataclass(frozen=True)
class Skipped:
    """An action was not tried, because an earlier one of its release failed."""

    action: Action
    reason: str


Outcome = Done | Failed | Skipped

Resolve = Callable[[ImageReference], str | None]


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
        deployer: of the root, prepared; None when nothing is deployed.
        listener: told about progress.
        own_lock: a prefix's own lock: a release that the lock does not know is recorded there when it is fetched.
        stored: releases that some store is known to have, so that the spool need not keep them.
        downloads: how objects are fetched.
        sources: names of the stores that a release may be fetched from; empty: of all.
    """

    declarations: Mapping[Release, Declaration]
    lock: LockFile
    spool: Spool
    stores: Mapping[str, Store]
    registries: Sequence[RegistrySettings]
    resolve: Resolve
    deployer: Deployer | None
    listener: Listener
    own_lock: LockFile | None = None
    stored: set[Release] = field(default_factory=set)
    downloads: DownloadSettings = field(default_factory=DownloadSettings)
    sources: Sequence[str] = ()

    def apply(self, plan: Plan) -> Iterator[Outcome]:
        """Carry a plan out and yield each action's outcome as it comes."""
        for release, actions in itertools.groupby(plan.actions, key=lambda action: action.release):
            outcomes = []
            for outcome in self._release(list(actions)):
                outcomes.append(outcome)
                yield outcome
            self._discard(release, outcomes)
        self.spool.clear_scratch()

    def _release(self, actions: list[Action]) -> Iterator[Outcome]:
        failed = ""
        for action in actions:
            if failed:
                yield Skipped(action, failed)
                continue
            try:
                yield Done(action, self._carry_out(action))
            except NeurocommandError as error:
                failed = f"{type(action).__name__.lower()} failed"
                yield Failed(action, error)
            except OSError as error:
                failed = f"{type(action).__name__.lower()} failed"
                yield Failed(action, NeurocommandError(f"{error.filename or action.release}: {error.strerror}"))

    def _carry_out(self, action: Action) -> str:
        match action:
            case Convert():
                detail = self._convert(action)
            case Adopt():
                detail = self._adopt(action)
            case Upload():
                detail = self._put(action.release, action.store, self._spooled(action.release))
            case Copy():
                detail = self._put(action.release, action.store, self._acquire(action.release, action.sources))
            case Deploy():
                detail = self._deploy(action)
            case Rewrap():
                detail = self._rewrap(action.release)
            case Retire():
                self._root().remove(action.release)
                detail = "withdrawn"
            case _:
                assert_never(action)
        return detail

    def _discard(self, release: Release, outcomes: Iterable[Outcome]) -> None:
        """Drop the spool's SIF once a store has it, and every upload went well."""
        uploads = [outcome for outcome in outcomes if isinstance(outcome.action, Upload)]
        if uploads and all(isinstance(outcome, Done) for outcome in uploads):
            self.stored.add(release)
        if release in self.stored:
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
        started = time.monotonic()
        self.listener(Started(release.id, "convert"))
        try:
            registry, reference, digest = self._image(release)
        except ValueError as error:
            raise ImageError(f"{release}: {error}", "a registry cannot hold an image of this name") from error
        partial = self.spool.partial(release)
        partial.unlink(missing_ok=True)
        sif.convert(
            f"docker://{reference.registry}/{reference.repository}@sha256:{digest}",
            partial,
            insecure=registry.insecure,
            scratch=self.spool.scratch,
            report=lambda line: self.listener(Noted(release.id, line)),
        )
        sha256, size = digest_of(partial)
        self.spool.keep(release)
        self.lock.record(release, Artifact(sha256, size, digest))
        self.listener(Finished(release.id, "convert", time.monotonic() - started, size))
        return f"{reference} sha256:{digest} -> {self.spool.sif(release)}"

    def _image(self, release: Release) -> tuple[RegistrySettings, ImageReference, str]:
        """Find the first registry that has the image; one that cannot tell is passed over, but not taken for a no."""
        unknown: list[str] = []
        asked: list[str] = []
        for registry in self.registries:
            host, _, path = registry.url.partition("/")
            for name, tag in image_names(release, registry.templates):
                repository = f"{path}/{name}" if path else name
                reference = ImageReference(host, repository, tag, registry.insecure)
                try:
                    digest = self.resolve(reference)
                except RegistryError as error:
                    unknown.append(f"{registry.name}: {error.message}")
                    break
                if digest is not None:
                    return registry, reference, digest
                asked.append(str(reference))
        if unknown:
            raise RegistryError(f"{release}: no registry has its image, but some cannot tell: {'; '.join(unknown)}")
        raise ImageError(
            f"{release}: no registry has its image (asked for {', '.join(asked)})", "build and push it first"
        )

    def _adopt(self, action: Adopt) -> str:
        release = action.release
        path = self.spool.sif(release)
        fetched = download.fetch(
            object_key(release), path, [self.stores[action.store]], None, self.listener, release.id
        )
        self.stored.add(release)
        sif.locate(path)
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

    def _acquire(self, release: Release, sources: Iterable[str]) -> Path:
        """Return a local file with the locked bytes: the spool's, else downloaded into it."""
        artifact, path = self._known(release), self.spool.sif(release)
        if artifact is None and self.own_lock is None:
            self._locked(release)
        if artifact is None or not self.spool.holds(release, artifact):
            stores = [self.stores[name] for name in sources]
            fetched = download.fetch(
                object_key(release), path, stores, artifact, self.listener, release.id, settings=self.downloads
            )
            self.stored.add(release)
            if artifact is None and self.own_lock is not None:
                sif.locate(path)
                self.own_lock.record(release, Artifact(fetched.sha256, fetched.size))
        return path

    def _put(self, release: Release, store: str, path: Path) -> str:
        artifact = self._locked(release)
        started = time.monotonic()
        self.listener(Started(release.id, f"upload to {store}", artifact.size))
        self.stores[store].put(
            object_key(release),
            path,
            artifact,
            lambda done: self.listener(Advanced(release.id, f"upload to {store}", done)),
        )
        seconds = time.monotonic() - started
        self.listener(Finished(release.id, f"upload to {store}", seconds, artifact.size))
        return f"{artifact.size} bytes sent to {store}"

    def _deploy(self, action: Deploy) -> str:
        deployer = self._root()
        path = self._acquire(action.release, self.sources or self.stores)
        artifact = self._locked(action.release)
        record = deployer.deploy(self.declarations[action.release], artifact, path)
        return f"{len(record.commands)} commands"

    def _rewrap(self, release: Release) -> str:
        deployer = self._root()
        deployed = read_record(deployer.root.release(release))
        if not isinstance(deployed, DeployRecord):
            raise NeurocommandError(f"{release}: {deployed.reason}", "run it again")
        record = deployer.rewrap(self.declarations[release], deployed)
        return f"{len(record.commands)} commands"
