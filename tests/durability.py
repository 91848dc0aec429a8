"""What reaches the disk, in its order: the calls that say so, and those that change names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def recorded(monkeypatch: pytest.MonkeyPatch, directory: Path) -> list[tuple[str, str]]:
    """Record fsync and replace from now on, each with the name below a directory."""
    calls: list[tuple[str, str]] = []
    fsync, replace = os.fsync, os.replace

    def name(path: Any) -> str:
        return os.path.relpath(path, directory)

    def recording_fsync(descriptor: int) -> None:
        calls.append(("fsync", name(os.readlink(f"/proc/self/fd/{descriptor}"))))
        fsync(descriptor)

    def recording_replace(source: Any, target: Any) -> None:
        calls.append((f"replace by {name(source)}", name(target)))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    return calls
