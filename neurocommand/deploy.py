"""One SIF -> image, wrappers, modulefile and record under a root; a host prefix and a shared root alike.

A release is put together in the root's staging directory, appears by one rename, gets its modulefile, and is "deployed"
when its pending record takes its final name (docs/design.md §4). Killed anywhere, the next run finishes the job.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from neurocommand import record
from neurocommand.errors import DeployError, ImmutableError, RefusedError
from neurocommand.events import Finished, Listener, Noted, Started
from neurocommand.files import digest_of, free_space, remove_tree, write_atomically
from neurocommand.image import inspection, sif, tree
from neurocommand.layout import ReleaseDirectory, Root
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, DeployRecord, Format, Inspection, Release
from neurocommand.modulefiles import Modulefiles, make_link, refuse_link
from neurocommand.render import plain, templates, wrapper

# an unpacked tree is seldom more than this many times its compressed SIF
_UNPACKED = 4
_OLD = ".old"


class Deployer:
    """Deploys releases under one root; used under the root's run lock only."""

    def __init__(self, root: Root, image_format: Format, mount_points: Sequence[str], listener: Listener) -> None:
        self.root = root
        self.modulefiles = Modulefiles(root)
        self.format = image_format
        self.mount_points = tuple(mount_points)
        self.listener = listener

    def prepare(self) -> None:
        """Make the root's own directories, and finish or remove what a killed run left in staging.

        Raises:
            DeployError: the root cannot be written, or a symbolic link stands where we write.
        """
        try:
            for directory in (self.root.state, self.root.spool):
                refuse_link(directory)
            for directory in (self.root.staging, self.root.containers, self.root.modules):
                refuse_link(directory)
                directory.mkdir(parents=True, exist_ok=True)
            self._give_back()
            remove_tree(self.root.staging)
            self.root.staging.mkdir()
            make_link(self.root.modules_link, os.path.relpath(self.root.modules, self.root.containers))
        except OSError as error:
            raise _cannot_write(self.root.path, error) from error

    def _give_back(self) -> None:
        """Put a deployment back that a killed run had moved aside, but not replaced yet."""
        for entry in self.root.staging.iterdir():
            final = self.root.containers / entry.name.removesuffix(_OLD)
            if entry.name.endswith(_OLD) and not os.path.lexists(final):
                os.rename(entry, final)

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
            DeployError: the place is taken by something foreign, or cannot be written.
        """
        started = time.monotonic()
        release = declaration.release
        self.listener(Started(release.id, "deploy"))
        self._refuse_foreign(release)
        self.modulefiles.refuse_foreign(release)
        self._refuse_without_space(release, artifact, path)
        if (seen := digest_of(path)) != (artifact.sha256, artifact.size):
            raise ImmutableError(f"{release}: {path} has sha256 {seen[0]}, the locked one is {artifact.sha256}")
        try:
            staged = ReleaseDirectory(self.root.staging / release.id, release)
            new, found = self._stage(staged, declaration, artifact, path)
            self._exchange(staged)
            self.modulefiles.write(new, found)
            directory = self.root.release(release)
            os.replace(directory.pending_record, directory.record)
        except OSError as error:
            raise _cannot_write(self.root.path, error) from error
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
        self._refuse_foreign(declaration.release)
        self.modulefiles.refuse_foreign(declaration.release)
        try:
            found = self._inspect(directory, deployed.format, None)
            new = _record(declaration, artifact, found, deployed.format)
            self._write_wrappers(directory.wrappers, declaration.release, found, deployed.format)
            _write_texts(directory.path, found)
            self.modulefiles.write(new, found)
            write_atomically(directory.record, record.render(new))
        except OSError as error:
            raise _cannot_write(self.root.path, error) from error
        self.listener(Finished(declaration.release.id, "rewrap", time.monotonic() - started, 0))
        return new

    def remove(self, release: Release) -> None:
        """Remove a deployed or half-deployed release: modulefile and links first, so that nobody loads what goes away.

        Raises:
            DeployError: the place is taken by something foreign, or cannot be written.
        """
        self._refuse_foreign(release)
        directory = self.root.release(release)
        gone = self.root.staging / f"{release.id}.removed"
        try:
            self.modulefiles.remove(release)
            if directory.record.exists():
                # from here on a killed removal is told apart from a deployed release
                os.replace(directory.record, directory.pending_record)
            if directory.path.exists():
                os.rename(directory.path, gone)
            remove_tree(gone)
        except OSError as error:
            raise _cannot_write(self.root.path, error) from error

    def _refuse_foreign(self, release: Release) -> None:
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
        staged.path.mkdir()
        if self.format == "tree":
            sif.unpack(path, staged.image)
            for note in tree.normalise(staged.image, self.mount_points):
                self.listener(Noted(declaration.release.id, note))
        else:
            _link_or_copy(path, staged.image)
        found = self._inspect(staged, self.format, sif.recorded_environment(path))
        self._write_wrappers(staged.wrappers, declaration.release, found, self.format)
        _write_texts(staged.path, found)
        new = _record(declaration, artifact, found, self.format)
        write_atomically(staged.pending_record, record.render(new))
        self._report(declaration.release, found)
        return new, found

    def _inspect(
        self, directory: ReleaseDirectory, image_format: Format, recorded: tuple[tuple[str, str], ...] | None
    ) -> Inspection:
        application = directory.release.application
        if image_format == "tree":
            return inspection.inspect_tree(directory.image, application, recorded)
        scratch = self.root.staging / "inspected"
        remove_tree(scratch)
        try:
            return inspection.inspect_sif(directory.image, application, scratch)
        finally:
            remove_tree(scratch)

    def _report(self, release: Release, found: Inspection) -> None:
        for skipped in found.skipped:
            self.listener(Noted(release.id, f"skipped {skipped.name!r}: {skipped.reason}"))
        if not found.commands:
            self.listener(Noted(release.id, "the image exposes no command (DEPLOY_PATH, DEPLOY_BINS)"))

    def _write_wrappers(self, directory: Path, release: Release, found: Inspection, image_format: Format) -> None:
        """Write every wrapper in place of its predecessor, and remove those of commands that are gone."""
        refuse_link(directory)
        directory.mkdir(exist_ok=True)
        for command in found.commands:
            write_atomically(directory / command, wrapper.wrapper(release, command, image_format), 0o755, durable=False)
        for entry in directory.iterdir():
            if entry.name not in found.commands:
                remove_tree(entry)

    def _exchange(self, staged: ReleaseDirectory) -> None:
        """Give the staged release its place; what stood there moves out of sight first."""
        final = self.root.release(staged.release)
        old = self.root.staging / f"{staged.release.id}{_OLD}"
        if os.path.lexists(final.path):
            os.rename(final.path, old)
        os.rename(staged.path, final.path)
        remove_tree(old)


def _record(declaration: Declaration, artifact: Artifact, found: Inspection, image_format: Format) -> DeployRecord:
    return DeployRecord(
        declaration.release,
        artifact.sha256,
        artifact.size,
        image_format,
        found.commands,
        declaration.categories,
        templates.REVISION,
    )


def _write_texts(directory: Path, found: Inspection) -> None:
    write_atomically(directory / "commands.txt", plain.commands_txt(found), durable=False)
    write_atomically(directory / "env.txt", plain.env_txt(found), durable=False)
    write_atomically(directory / "README.md", found.readme, durable=False)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
    target.chmod(0o644)


def _cannot_write(path: Path, error: OSError) -> DeployError:
    place = error.filename or path
    return DeployError(f"{place}: {error.strerror or error}", "see who owns it, and whether its disk is full")
