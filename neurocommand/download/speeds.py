"""How fast hosts were when they were measured last, so that the fastest is asked first without measuring it again."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from neurocommand.files import write_atomically

VERSION = 1
LIFETIME = 24 * 3600.0
_MOST = 1000  # hosts

Count = Callable[[int], None]


def host_of(url: str) -> str:
    """Return what a speed is remembered by: host and port of an address."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def read(path: Path | None) -> dict[str, float]:
    """Return bytes per second by host; nothing from a file that is not there or not ours, nor what is a day old."""
    if path is None:
        return {}
    try:
        return {host: speed for host, (speed, _) in _parsed(path).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _parsed(path: Path) -> dict[str, tuple[float, float]]:
    with open(path, encoding="utf-8") as stream:
        content = json.loads(stream.read(1 << 20))
    if content["version"] != VERSION:
        return {}
    now = time.time()
    found = {str(host): (float(entry["speed"]), float(entry["at"])) for host, entry in content["hosts"].items()}
    return {host: (speed, at) for host, (speed, at) in found.items() if speed > 0 and now - LIFETIME < at <= now}


def remember(path: Path | None, measured: Mapping[str, float]) -> None:
    """Write what was measured just now beside what is known; a place that cannot be written is no failure."""
    if path is None or not measured:
        return
    try:
        known = _parsed(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        known = {}
    now = time.time()
    known.update({host: (speed, now) for host, speed in measured.items()})
    newest = sorted(known.items(), key=lambda item: -item[1][1])[:_MOST]
    hosts = {host: {"speed": round(speed), "at": int(at)} for host, (speed, at) in sorted(newest)}
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"version": VERSION, "hosts": hosts}) + "\n", durable=False)
