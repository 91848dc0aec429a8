"""The behaviours, by what they are about."""

from __future__ import annotations

from tests.transparency.case import Case
from tests.transparency.cases import (
    arguments,
    callers,
    directories,
    environment,
    exits,
    identity,
    limits,
    sharing,
    signals,
    streams,
    terminals,
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
    *identity.CASES,
    *sharing.CASES,
    *terminals.CASES,
    *callers.CASES,
)
