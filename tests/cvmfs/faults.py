"""Faults that a test has ordered: one file each, which the command finds when it comes by."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

# where the command can be killed, in the order of an ingest; then those of other commands
STEPS = (
    "flagged",  # transaction: the flag is there, the union is not writable yet
    "opened",  # transaction: done
    "processing",  # publish: the union is read-only, nothing is stored
    "uploaded",  # files are stored
    "committed",  # catalogs are stored
    "exported",  # the new manifest waits in the spool
    "tagged",  # the tag database is stored
    "signed",  # the new revision is public; union, scratch and flag are as before
    "remounted",  # the union shows the new revision, the flag is still there
    "aborting",  # abort: nothing is done yet
    "tagging",  # tag: the manifest is not replaced yet
    "collecting",  # gc: some objects are gone
)


@dataclass(frozen=True)
class Faults:
    """The faults of one repository."""

    directory: Path

    def order(self, name: str, text: str = "") -> None:
        """Order a fault."""
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / f".{name}"
        temporary.write_text(text)
        temporary.replace(self.directory / name)

    def cancel(self, name: str) -> None:
        """Take an order back."""
        (self.directory / name).unlink(missing_ok=True)

    def has(self, name: str) -> bool:
        """Tell whether a fault that lasts is there."""
        return (self.directory / name).exists()

    def take(self, name: str) -> str | None:
        """Return the text of a fault that happens once, or None; it is gone then."""
        try:
            text = (self.directory / name).read_text()
            (self.directory / name).unlink()
        except FileNotFoundError:
            return None
        return text

    def reach(self, step: str) -> None:
        """Kill this process where a test ordered that for this step."""
        order = self.directory / "kill-at"
        if order.exists() and order.read_text() == step:
            order.unlink()
            os.kill(os.getpid(), signal.SIGKILL)

    def wait_for_mount(self) -> None:
        """Wait while another mount namespace holds the old mount."""
        order = self.directory / "hold-until"
        while True:
            try:
                until = float(order.read_text())
            except FileNotFoundError:
                return
            if time.time() >= until:
                order.unlink(missing_ok=True)
                return
            time.sleep(0.02)

    def leave_orphan(self, lock: int) -> None:
        """Die as the shell of cvmfs_server, where ordered; a worker lives on, and holds the lock and our output."""
        seconds = self.take("orphan")
        if seconds is None:
            return
        worker = subprocess.Popen(["sleep", seconds], cwd="/", stdin=subprocess.DEVNULL, pass_fds=[lock])
        self.order("orphaned", str(worker.pid))
        os.kill(os.getpid(), signal.SIGKILL)
