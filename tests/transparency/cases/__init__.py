"""The behaviours, by what they are about."""

from __future__ import annotations

from tests.transparency.case import Case
from tests.transparency.cases import (
    arguments,
    directories,
    environment,
    exits,
    limits,
    signals,
    streams,
    tmpdir,
)

CASES: tuple[Case, ...] = (
    *arguments.CASES,
    *environment.CASES,
    *streams.CASES,
    *exits.CASES,
    *signals.CASES,
    *directories.CASES,
    *tmpdir.CASES,
    *limits.CASES,
)
