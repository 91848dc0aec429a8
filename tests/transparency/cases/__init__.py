"""The behaviours, by what they are about."""

from __future__ import annotations

from dataclasses import replace

from tests.transparency.case import Case
from tests.transparency.cases import (
    arguments,
    callers,
    directories,
    environment,
    exits,
    identity,
    limits,
    longer,
    sharing,
    signals,
    streams,
    terminals,
    tmpdir,
)

ALL: tuple[Case, ...] = (
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

CASES = tuple(replace(case, full=case.full or case.name in longer.NAMES) for case in ALL)
