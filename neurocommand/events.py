"""Progress as values: the layers below report through a callback, only L6 shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A stage of a release began; ``total`` is its size in bytes, or None when it is not known."""

    release: str
    stage: str
    total: int | None = None


@dataclass(frozen=True)
class Advanced:
    """A stage has done ``done`` bytes so far."""

    release: str
    stage: str
    done: int


@dataclass(frozen=True)
class Finished:
    """A stage ended well; ``seconds`` is wall time, ``size`` the bytes that it moved or wrote."""

    release: str
    stage: str
    seconds: float
    size: int


@dataclass(frozen=True)
class Noted:
    """Something the reader should know that is no failure; ``subject`` is a release id, a store or a file."""

    subject: str
    message: str


Event = Started | Advanced | Finished | Noted
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
