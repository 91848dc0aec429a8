"""One SIF -> image, wrappers, modulefile and record under a root; a host prefix and a shared root alike.

A release is put together in the root's staging directory, appears by one rename, gets its modulefile, and is "deployed"
when its pending record takes its final name (docs/design.md §4). Killed anywhere, the next run finishes the job or
gives back what was there before; where it fails, all is at once as it was before.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neurocommand import contents, indexing, lmodcache, record, setmodules, tombstone
from neurocommand.errors import DeployError, ImmutableError, NeurocommandError, RefusedError, system_error
from neurocommand.events import Finished, Listener, Noted, Started
from neurocommand.exchange import Exchange, give_back
from neurocommand.files import current_umask, digest_of, free_space, make_directory, remove_tree, write_atomically
from neurocommand.foreign import make_link, refuse_obstacle
from neurocommand.image import inspection, sif, tree
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.manifest import Declaration, Defaults
from neurocommand.model import Artifact, DeployRecord, Format, Inspection, Notice, Release, SkippedCommand
from neurocommand.modulefiles import Modulefiles
from neurocommand.render import module, templates
from neurocommand.render.runtimeoptions import allowed
from neurocommand.render.sets import ModuleSet
from neurocommand.runlock import RunLock
from neurocommand.settings import WrapperSettings

# an unpacked tree is seldom more than this many times its compressed SIF
_UNPACKED = 4
# what others need of a shared root, whatever the umask: to read files and to enter directories
_OTHERS = 0o055


# names skipped for one reason that are told one by one; a whole system directory would be hundreds of lines
_TOLD = 20


def skipped_notes(skipped: Sequence[SkippedCommand]) -> Iterator[str]:
    """Yield what is said of programs without a wrapper: each with its reason, or very many of one reason together."""
    reasons: dict[str, list[str]] = {}
    for one in skipped:
        reasons.setdefault(one.reason, []).append(repr(one.name))
    for reason, names in reasons.items():
        if len(names) <= _TOLD:
            yield from (f"skipped {name}: {reason}" for name in names)
        else:
            yield f"skipped {len(names)} names: {reason}: {', '.join(names[:_TOLD])} and others"


@dataclass(frozen=True)
class Draft:
    """What is to be known of a root that is only made here, for another place.

    Args:
        place: where users will find it.
        fit: is given the directory of each release once its image is there; what it raises ends the deployment.
    """

    place: Path
    fit: Callable[[ReleaseDirectory], None]


class Deployer:
    """Deploys releases under one root; used under the root's run lock only.

    Args:
        root: the root.
        image_format: what releases are deployed as.
        mount_points: directories that every tree has.
        listener: told about progress.
        shared: others read this root, so what is made there is open to them whatever the umask; else the umask counts.
        wrappers: what its wrappers do.
        defaults: what the default versions of its modules are decided by.
        draft: what is to be known where the root is a draft.
    """

    def __init__(
        self,
        root: Root,
        image_format: Format,
        mount_points: Sequence[str],
        listener: Listener,
        *,
        shared: bool = False,
        wrappers: WrapperSettings | None = None,
        defaults: Defaults | None = None,
        draft: Draft | None = None,
    ) -> None:
        self.root = root
        self.wrappers = wrappers or WrapperSettings()
        self.umask = current_umask() & ~_OTHERS if shared else None
        self.modulefiles = Modulefiles(root, self.umask, defaults)
        self.format = image_format
        self.mount_points = tuple(mount_points)
        self.listener = listener
        self.draft = draft
        self.changed = False

    def standing(self, release: Release) -> ReleaseDirectory:
        """Return the directory of a release as users find it, which its record is held against."""
        return (Root(self.draft.place) if self.draft is not None else self.root).release(release)

    def _changing(self) -> None:
        """Remember that modulefiles change, and forget what Lmod would read instead of them."""
        self.changed = True
        lmodcache.forget(self.root)

    def finish(self, sets: Sequence[ModuleSet] | None, lmod: Sequence[Path]) -> Iterator[str]:
        """Bring up to date what goes by all modules of the root: the sets, and Lmod's cache.

        Args:
            sets: the named sets; None leaves their modules as they are.
            lmod: where Lmod's programs may be.

        Yields:
            What people should know of it.

        Raises:
            DeployError: the root cannot be written, or something foreign is in the way.
        """
        with self._telling():
            self.changed |= sets is not None and setmodules.write(self.root, sets, self.umask)
            for one, member in setmodules.missing(self.root, sets or ()):
                yield f"{one.id}: {member} cannot be loaded under {self.root.path}"
            if not lmodcache.is_there(self.root):
                note = lmodcache.build(self.root, lmod, self.umask, self.draft.place if self.draft else None)
                if note and self.changed:
                    yield note

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run lock of the root, as long as the deployer is used; a shared root is made open.

        At the end the root's index is renewed, if anything was changed or it is behind.

        Raises:
            DeployError: the root cannot be made.
        """
        if self.umask is not None:
            with self._telling():
                make_directory(self.root.state, self.umask)
        with RunLock(self.root.run_lock):
            try:
                yield
            finally:
                self._renew_index()

    def _renew_index(self) -> None:
        """Renew the index; without one the records are read, so that it cannot be written is no failure of the run."""
        if not self.changed and not isinstance(indexing.read(self.root), indexing.Unindexed):
            return
        try:
            indexing.renew(self.root, self.umask)
        except OSError as error:
            self.listener(Noted(str(self.root.index), f"the index of commands is not renewed: {error.strerror}"))

    def prepare(self) -> None:
        """Make the root's own directories, and finish or remove what a killed run left in staging.

        Raises:
            DeployError: the root cannot be written, or a link or a file stands where we write.
            RefusedError: there is no space.
        """
        root = self.root
        with self._telling():
            for directory in (root.state, root.spool, root.staging, root.containers, root.modules, root.modules_tcl):
                refuse_obstacle(directory)
            for directory in (root.staging, root.containers, root.modules, root.modules_tcl):
                make_directory(directory, self.umask)
            give_back(root)
            remove_tree(root.staging)
            make_directory(root.staging, self.umask)
            make_link(root.modules_link, os.path.relpath(root.modules, root.containers))

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Say what the system refuses in our words."""
        try:
            yield
        except OSError as error:
            raise system_error(self.root.path, error, DeployError, "see who owns it") from error

    def deploy(self, declaration: Declaration, artifact: Artifact, path: Path) -> DeployRecord:
        """Deploy a release from a local SIF, in place of a deployment of other bytes or a half-written one.

        Args:
            declaration: the release and its categories.
            artifact: the bytes that the SIF must have.
            path: the SIF; left as it is.

        Returns:
            The record that was written.

        Raises:
            ImmutableError: the SIF's bytes are not the artifact's.
            RefusedError: there is no space for it.
            ImageError: the SIF cannot be unpacked or read.
            DeployError: a place is taken by something foreign, or cannot be written.
            Whatever it is, what was deployed before is deployed still.
        """
        started = time.monotonic()
        release = declaration.release
        self.listener(Started(release.id, "deploy"))
        exchange = Exchange(self.root, release)
        with self._telling():
            self._refuse_foreign(release)
            self.modulefiles.refuse_foreign(release, declaration.categories)
            self._refuse_without_space(release, artifact, path)
            if (seen := digest_of(path)) != (artifact.sha256, artifact.size):
                raise ImmutableError(f"{release}: {path} has sha256 {seen[0]}, the locked one is {artifact.sha256}")
            try:
                new, found = self._stage(ReleaseDirectory(exchange.staged, release), declaration, artifact, path)
                self._exchange(exchange, new, module.live(declaration, found, self.format))
            finally:
                # what cannot be removed now is by the next run; the failure that led here matters more
                with contextlib.suppress(OSError):
                    exchange.clear()
            self.modulefiles.renew(release.application)
        self.listener(Finished(release.id, "deploy", time.monotonic() - started, artifact.size))
        return new

    def rewrap(self, declaration: Declaration, deployed: DeployRecord) -> DeployRecord:
        """Renew wrappers, texts, modulefile and links of a deployed release, without touching its image.

        Raises:
            ImageError: the image cannot be read.
            DeployError: the root cannot be written.
        """
        started = time.monotonic()
        directory = self.root.release(declaration.release)
        artifact = Artifact(deployed.sha256, deployed.size)
        with self._telling():
            self._refuse_foreign(declaration.release)
            self.modulefiles.refuse_foreign(declaration.release, declaration.categories)
            found = self._inspect(directory, declaration, deployed.format, None)
            new = self._record(declaration, artifact, found, deployed.format)
            self._changing()
            contents.write(directory, found, deployed.format, self._making(declaration), self.umask)
            self.modulefiles.write(new, module.live(declaration, found, deployed.format))
            write_atomically(directory.record, record.render(new), umask=self.umask)
            self.modulefiles.renew(declaration.release.application)
        self.listener(Finished(declaration.release.id, "rewrap", time.monotonic() - started, 0))
        return new

    def withdraw(self, deployed: DeployRecord, notice: Notice) -> DeployRecord:
        """Leave only a tombstone of a deployed release: its commands and modules stay, and say why they do not work.

        The record says so first, and the image goes last: killed in between, the next run finishes.

        Args:
            deployed: what its record says; that of a tombstone renews it.
            notice: what its users are told.

        Returns:
            The record that was written.

        Raises:
            DeployError: a place is taken by something foreign, or cannot be written.
        """
        release = deployed.release
        directory = self.root.release(release)
        new = replace(deployed, wrapper_revision=templates.revision(self.wrappers), withdrawn=notice)
        with self._telling():
            self._refuse_foreign(release)
            if not self.modulefiles.belongs_to_another(release):
                self.modulefiles.refuse_foreign(release, deployed.categories)
            self._changing()
            write_atomically(directory.record, record.render(new), umask=self.umask)
            tombstone.write(directory, new, notice, self.umask)
            self.modulefiles.bury(new, module.tombstone(release, new.categories, notice))
            self.modulefiles.renew(release.application)
            tombstone.empty(directory, self.root.staging)
        return new

    def remove(self, release: Release) -> None:
        """Remove a deployed or half-deployed release: modulefile and links first, so that nobody loads what goes away.

        Raises:
            DeployError: the place is taken by something foreign, or cannot be written.
        """
        directory = self.root.release(release)
        gone = self.root.staging / f"{release.id}.removed"
        with self._telling():
            self._refuse_foreign(release)
            self._changing()
            self.modulefiles.remove(release)
            if directory.record.exists():
                # from here on a killed removal is told apart from a deployed release
                os.replace(directory.record, directory.pending_record)
            if directory.path.exists():
                os.rename(directory.path, gone)
            remove_tree(gone)

    def _refuse_foreign(self, release: Release) -> None:
        # who asks is about to change the release
        self.changed = True
        directory = self.root.release(release)
        ours = (directory.record, directory.pending_record)
        if not os.path.lexists(directory.path):
            return
        if directory.path.is_symlink() or not any(os.path.lexists(path) for path in ours):
            raise DeployError(f"{directory.path}: not deployed by neurocommand", "move it away")

    def _refuse_without_space(self, release: Release, artifact: Artifact, path: Path) -> None:
        linked = self.format == "sif" and path.stat().st_dev == self.root.staging.stat().st_dev
        need = 0 if linked else artifact.size * (_UNPACKED if self.format == "tree" else 1)
        free = free_space(self.root.path)
        if free < need:
            raise RefusedError(
                f"{release}: {self.root.path} has {free} bytes free, deploying needs about {need}",
                "free some space, or choose another place",
            )

    def _stage(
        self, staged: ReleaseDirectory, declaration: Declaration, artifact: Artifact, path: Path
    ) -> tuple[DeployRecord, Inspection]:
        """Put the whole release together under the staging directory; its pending record last."""
        remove_tree(staged.path)
        make_directory(staged.path, self.umask)
        if self.format == "tree":
            sif.unpack(path, staged.image)
            for note in tree.normalise(staged.image, self.mount_points):
                self.listener(Noted(declaration.release.id, note))
        else:
            contents.link_or_copy(path, staged.image, self.umask)
        if self.draft is not None:
            self.draft.fit(staged)
        found = self._inspect(staged, declaration, self.format, sif.recorded_environment(path))
        contents.write(staged, found, self.format, self._making(declaration), self.umask)
        new = self._record(declaration, artifact, found, self.format)
        write_atomically(staged.pending_record, record.render(new), umask=self.umask)
        self._report(declaration.release, found)
        return new, found

    def _inspect(
        self,
        directory: ReleaseDirectory,
        declaration: Declaration,
        image_format: Format,
        recorded: tuple[tuple[str, str], ...] | None,
    ) -> Inspection:
        application, expose = declaration.release.application, declaration.expose
        if image_format == "tree":
            return inspection.inspect_tree(directory.image, application, recorded, expose)
        scratch = self.root.staging / "inspected"
        remove_tree(scratch)
        try:
            return inspection.inspect_sif(directory.image, application, scratch, expose)
        finally:
            remove_tree(scratch)

    def _making(self, declaration: Declaration) -> contents.Making:
        options = allowed(declaration.apptainer_args)
        for refused in options.refused:
            self.listener(Noted(declaration.release.id, f"apptainer_args: {refused} is not allowed, and left out"))
        return contents.Making(self.wrappers, options)

    def _report(self, release: Release, found: Inspection) -> None:
        for note in skipped_notes(found.skipped):
            self.listener(Noted(release.id, note))
        if not found.commands:
            self.listener(Noted(release.id, "the image exposes no command (DEPLOY_PATH, DEPLOY_BINS)"))

    def _exchange(self, exchange: Exchange, new: DeployRecord, made: module.Module) -> None:
        """Give the staged release its place, modulefile and record; where that fails, all is as it was before."""
        links = self.modulefiles.links(new.release)
        self._changing()
        try:
            exchange.begin()
            self.modulefiles.write(new, made)
            exchange.finish()
        except BaseException:
            # what cannot be put back now is by the next run; the failure that led here matters more
            with contextlib.suppress(OSError, NeurocommandError):
                if not exchange.finished:
                    self.modulefiles.undo(new, links, saved=exchange.saved)
                    exchange.undo()
            raise

    def _record(
        self, declaration: Declaration, artifact: Artifact, found: Inspection, image_format: Format
    ) -> DeployRecord:
        return DeployRecord(
            declaration.release,
            artifact.sha256,
            artifact.size,
            image_format,
            found.commands,
            declaration.categories,
            declaration.revised(templates.revision(self.wrappers)),
        )
