"""The behaviours, by what they are about."""

from __future__ import annotations

from tests.transparency.case import Case
from tests.transparency.cases import (
    arguments,
    environment,
    streams,
)

CASES: tuple[Case, ...] = (
    *arguments.CASES,
    *environment.CASES,
    *streams.CASES,
)
