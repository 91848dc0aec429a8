"""Where a run is noted: the verbs tell it what they do, whether anything is kept of it or not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurocommand.actions import Plan
    from neurocommand.apply import Outcome
    from neurocommand.manifest import Manifest


class Recorder:
    """Forgets all that it is told: of a dry run, and of verbs that change no store and no shared root."""

    def locked(self) -> None:
        """Take note that the run holds the run lock of its state directory."""

    def planned(self, wanted: Manifest, whole: Plan, plan: Plan, *, everything: bool) -> None:
        """Take note of what is to be done.

        Args:
            wanted: the releases that matter.
            whole: all that is to be done for them.
            plan: what of it the run does.
            everything: they are all releases of the manifest.
        """

    def happened(self, outcome: Outcome) -> None:
        """Take note of what became of an action."""
