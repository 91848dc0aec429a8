"""What can happen to a host of the simulator, as tests order it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from . import revisions, signing
from .faults import STEPS
from .host import Host, Repository


class Mishaps:
    """A host of the simulator that things happen to."""

    host: Host
    name: str

    @property
    def repository(self) -> Repository:
        """Return the repository as the simulator sees it."""
        return Repository(self.host, self.name)

    def renew_whitelist(self, days: int = 30) -> None:
        """Sign a whitelist that is valid for so many days."""
        self.repository.objects.replace(".cvmfswhitelist", signing.whitelist(self.repository.signing, days))

    def expire_whitelist(self) -> None:
        """Let the whitelist have expired."""
        self.renew_whitelist(0)

    def fill_storage(self) -> None:
        """Let no new object fit into the storage."""
        self.repository.faults.order("storage-full")

    def free_storage(self) -> None:
        """Let objects fit again."""
        self.repository.faults.cancel("storage-full")

    def fill_spool(self) -> None:
        """Let nothing fit into the spool."""
        self.repository.faults.order("spool-full")

    def free_spool(self) -> None:
        """Let things fit into the spool again."""
        self.repository.faults.cancel("spool-full")

    def break_mount(self) -> None:
        """Take the mounts away, as a reboot does."""
        self.repository.set_mounted("none")
        self.repository.hide()

    def hold_mount(self, seconds: float) -> None:
        """Let every remount wait so long, as while another namespace holds the old mount."""
        self.repository.faults.order("hold-until", str(time.time() + seconds))

    def release_mount(self) -> None:
        """End what ``hold_mount`` began."""
        self.repository.faults.cancel("hold-until")

    def kill_at(self, step: str) -> None:
        """Kill the next command that reaches a step, and all its workers; steps are ``faults.STEPS``."""
        assert step in STEPS, step
        self.repository.faults.order("kill-at", step)

    def kill_worker(self) -> None:
        """Kill only the worker of the next publish or ingest."""
        self.repository.faults.order("kill-worker")

    def orphan(self, seconds: float) -> None:
        """Kill only the shell of the next publish or ingest; its worker holds the lock, and our output, so long."""
        self.repository.faults.order("orphan", str(seconds))

    def end_orphan(self) -> None:
        """End the worker that ``orphan`` has left."""
        worker = self.repository.faults.take("orphaned")
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(worker), signal.SIGKILL)

    def fail_abort(self) -> None:
        """Let the next abort die."""
        self.repository.faults.order("abort-fails")

    def corrupt(self, path: str) -> Path:
        """Let the object of a published file have other bytes; returns the object."""
        place = self.object(path)
        data = place.read_bytes()
        place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        return place

    def object(self, path: str) -> Path:
        """Return the object of a published file."""
        tree = revisions.read(self.repository, revisions.current(self.repository)).tree
        return self.repository.objects.path(tree[path].stored)

    def copy(self, directory: Path) -> Path:
        """Copy what is served now, as a replica that is not renewed."""
        return Path(shutil.copytree(self.repository.storage, directory))
