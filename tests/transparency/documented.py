"""What the wrapper documents, once more and in other words: which variables it passes, and as which runtime call."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

PASSED = (
    *("DISPLAY", "WAYLAND_DISPLAY", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "OMP_*", "MKL_*"),
    *("OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "SLURM_*", "PMI_*", "PMIX_*"),
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"),
)
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
SHOWN = ("/tmp", "/var/tmp")  # the runtime itself shows these, and the home directory


def passed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of the caller's that the command sees, but for those that are set as APPTAINERENV_*."""
    more = [word for word in re.split(r"[\s,:]+", environment.get("NEUROCOMMAND_PASS", "")) if word]
    found = {
        name: value
        for name, value in environment.items()
        if NAME.fullmatch(name) and any(fnmatchcase(name, pattern) for pattern in (*PASSED, *more))
    }
    place, socket = environment.get("XDG_RUNTIME_DIR", ""), environment.get("WAYLAND_DISPLAY", "")
    if place and socket and Path(place, socket).is_socket():
        found["XDG_RUNTIME_DIR"] = place
    if os.path.isfile(environment.get("XAUTHORITY", "")):
        found["XAUTHORITY"] = environment["XAUTHORITY"]
    if (directory := temporary(environment)) is not None:
        found["TMPDIR"] = directory
    return found


def temporary(environment: Mapping[str, str]) -> str | None:
    """Return the directory that the command gets as TMPDIR; None where it gets none."""
    value = environment.get("TMPDIR", "")
    if not value.startswith("/") or not os.path.isdir(value):
        return None
    there = os.path.realpath(value)
    return there if _is_shown(there, environment) or bind(there) else None


def _is_shown(path: str, environment: Mapping[str, str]) -> bool:
    return any(f"{path}/".startswith(f"{shown}/") for shown in (*SHOWN, environment["HOME"]))


def bind(path: str, more: str = "") -> list[str]:
    """Return the option that shows a path under its own name; by --mount where --bind would take it apart."""
    if re.search(r'[,:"\\]', path):
        quoted = path.replace('"', '""')  # CSV, RFC 4180
        return ["--mount", f'type=bind,"source={quoted}","destination={quoted}"{more and f",{more}"}']
    return ["--bind", f"{path}:{path}{more and f':{more}'}"]


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that makes the bare runtime pass the same variables."""
    given = dict(environment)
    for name, value in passed(environment).items():
        if f"SINGULARITYENV_{name}" not in environment:
            given.setdefault(f"APPTAINERENV_{name}", value)
    return {**given, "APPTAINER_NO_EVAL": "1"}


def options(environment: Mapping[str, str], cwd: Path | None) -> list[str]:
    """Return the options of the bare runtime.

    Args:
        environment: the caller's.
        cwd: the working directory; None where it cannot be named.
    """
    found = ["--silent", "exec", "--cleanenv"]
    if cwd is not None:
        real = os.path.realpath(cwd)
        found += ["--pwd", real, *(["--bind", "/mnt"] if real == "/mnt" else [])]
    directory = temporary(environment)
    if directory is not None and not _is_shown(directory, environment):
        found += bind(directory)
    if os.path.isfile(environment.get("XAUTHORITY", "")):
        found += bind(environment["XAUTHORITY"], "ro")
    return found
