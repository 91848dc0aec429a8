"""What every verb starts from: settings, manifest, lock, stores, console; each made when it is first needed."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurocommand import jsontext, manifesttext
from neurocommand.commands.console import Console
from neurocommand.commands.recorder import Recorder
from neurocommand.errors import NeurocommandError, UsageError
from neurocommand.lock import LockFile
from neurocommand.lock import load as load_lock
from neurocommand.manifest import Defaults, Manifest

if sys.version_info >= (3, 11):
    from typing import assert_never
else:
    from typing_extensions import assert_never

if TYPE_CHECKING:
    from neurocommand.bandwidth import Bandwidth
    from neurocommand.render.sets import ModuleSet
    from neurocommand.settings import Settings, StoreSettings
    from neurocommand.stores.interface import Store


class Session:
    """One run of the command line."""

    def __init__(self, config_path: Path | None, *, verbose: bool, quiet: bool) -> None:
        self.config_path = config_path
        self.console = Console(verbose=verbose, quiet=quiet)
        self.manifest_path: Path | None = None
        self.apart: Path | None = None
        self.runs = Recorder()

    def afresh(self) -> Session:
        """Return a session of the same command line that has read nothing yet."""
        session = Session(self.config_path, verbose=self.console.verbose, quiet=self.console.quiet)
        session.manifest_path, session.apart = self.manifest_path, self.apart
        return session

    @functools.cached_property
    def settings(self) -> Settings:
        """The settings in effect."""
        from neurocommand import config

        return config.load(
            self.config_path,
            manifest=self.manifest_path,
            apart=self.apart,
            warn=lambda text: self.console.complain(f"warning: {text}"),
        )

    @functools.cached_property
    def manifest(self) -> Manifest:
        """The manifest in effect; its warnings are not shown again by every verb.

        Raises:
            FaultsError: the manifest has a fault.
        """
        from neurocommand import config

        if self.manifest_path is not None:
            # needs no settings, so that it can be read where those have faults
            return manifesttext.parse(jsontext.read_bytes(self.manifest_path, self.manifest_name), self.manifest_name)
        source = self.settings.manifest
        if config.is_address(source):
            from neurocommand import follow

            cached = self.settings.state / "manifest"
            text = follow.read_manifest_source(source, cached, _acceptable(self.manifest_name), self.console)
            return manifesttext.parse(text, self.manifest_name, maintained=False)
        path = config.bundled("apps.json") if source == config.BUNDLED else Path(source)
        return manifesttext.parse(jsontext.read_bytes(path, str(path)), str(path))

    @property
    def defaults_at_hand(self) -> Defaults:
        """What default versions are decided by, as far as that is known without asking anybody."""
        from neurocommand import config

        try:
            source = self.settings.manifest
            if not config.is_address(source):
                return self.manifest.defaults
            from neurocommand import follow

            text = follow.cached(source, self.settings.state / "manifest") or "{}"
            return manifesttext.parse(text, self.manifest_name, maintained=False).defaults
        except (NeurocommandError, OSError):
            return Defaults()

    @property
    def sets(self) -> tuple[ModuleSet, ...]:
        """The named sets of the configuration, with the releases that they mean.

        Raises:
            UsageError: a set has a member that means no release, or an application is called as their modules are.
        """
        from neurocommand.render import sets

        return sets.resolved(self.settings.sets, self.manifest, self.manifest_name)

    @property
    def manifest_name(self) -> str:
        """The manifest in effect as it may be shown: its path, or its address without a password."""
        from neurocommand import config

        if self.manifest_path is not None:
            return str(self.manifest_path)
        if not config.is_address(self.settings.manifest):
            return self.settings.manifest
        from neurocommand import follow

        return follow.shown(self.settings.manifest)

    @functools.cached_property
    def configured_manifest(self) -> bool:
        """Whether the manifest in effect is the configured one, not another that ``--manifest`` names."""
        from neurocommand import config

        if self.manifest_path is None:
            return True
        source = config.load(self.config_path).manifest
        if config.is_address(source):
            return False
        path = config.bundled("apps.json") if source == config.BUNDLED else Path(source)
        return path.resolve() == self.manifest_path.resolve()

    @functools.cached_property
    def lock(self) -> LockFile:
        """The lock that goes with the manifest; of a run apart its own, and what is locked there counts as well."""
        known = self.settings.lock_from
        return LockFile(self.settings.lock, None if known is None else load_lock(known))

    @functools.cached_property
    def stores(self) -> tuple[Store, ...]:
        """The configured stores, in their order."""
        return tuple(_store(entry, self.settings.state, self.bandwidth) for entry in self.settings.stores)

    @functools.cached_property
    def bandwidth(self) -> Bandwidth:
        """What all transfers of the run share."""
        from neurocommand.bandwidth import Bandwidth

        return Bandwidth(self.settings.limits.bandwidth)

    def chosen_stores(self, names: Sequence[str]) -> tuple[Store, ...]:
        """Return the stores of some names, in the order of the configuration; all of them when none is named.

        Raises:
            UsageError: the configuration has no store of a name.
        """
        known = [store.name for store in self.settings.stores]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise UsageError(f"there is no store {', '.join(unknown)}", f"the stores are {', '.join(known) or 'none'}")
        return tuple(store for store in self.stores if not names or store.name in names)

    @contextlib.contextmanager
    def closing_stores(self) -> Iterator[Sequence[Store]]:
        """Hand out the stores and close their connections afterwards."""
        with contextlib.ExitStack() as stack:
            for store in self.stores:
                stack.callback(store.close)
            yield self.stores


def _acceptable(name: str) -> Callable[[str], None]:
    def validate(text: str) -> None:
        manifesttext.parse(text, name, maintained=False)

    return validate


def _store(entry: StoreSettings, state: Path, bandwidth: Bandwidth) -> Store:
    store = _bare_store(entry, state)
    if bandwidth.rate is not None:
        from neurocommand.stores.paced import PacedStore

        store = PacedStore(store, bandwidth)
    if store.local:
        return store
    from neurocommand.stores.retry import RetryingStore

    return RetryingStore(store)


def _bare_store(entry: StoreSettings, state: Path) -> Store:
    from neurocommand.settings import DirectorySettings, HttpSettings, OciSettings, RcloneSettings, S3Settings

    match entry:
        case DirectorySettings():
            from neurocommand.stores.directory import DirectoryStore

            return DirectoryStore(entry.name, entry.path, entry.writable, make_parents=entry.create, url=entry.url)
        case S3Settings():
            from neurocommand.stores.s3 import S3Store

            return S3Store(
                entry.name,
                entry.bucket,
                endpoint=entry.endpoint,
                region=entry.region,
                profile=entry.profile,
                anonymous=entry.anonymous,
                prefix=entry.prefix,
                writable=entry.writable,
                url=entry.url,
                part_size=entry.part_size,
                concurrency=entry.concurrency,
                records=state / "uploads",
            )
        case RcloneSettings():
            from neurocommand.stores.rclone import RcloneStore

            return RcloneStore(entry.name, entry.remote, writable=entry.writable, url=entry.url)
        case OciSettings():
            from neurocommand.stores.oci import OciStore

            return OciStore(
                entry.name,
                entry.url,
                insecure=entry.insecure,
                credentials=entry.credentials,
                writable=entry.writable,
                images=entry.images,
                state=entry.state,
            )
        case HttpSettings():
            from neurocommand.stores.http import HttpStore

            return HttpStore(entry.name, entry.url, entry.absent)
        case _:
            assert_never(entry)
