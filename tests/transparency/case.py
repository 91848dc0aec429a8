"""A behaviour: what is called, what is looked at, and what is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call

Like = Literal["bare", "host", "either"]


@dataclass(frozen=True)
class Case:
    """A behaviour that must be the same by every way to the tool.

    Args:
        name: unique; part of the test's.
        observe: makes the call and returns what was seen of it.
        check: fails unless what the bare runtime showed is a sound example, so that no two equal failures pass.
        deviation: how the bare runtime itself is known to differ from the host; empty where it must not.
        full: whether it runs with --full only.
        warm: what a warm call is held against where the bare runtime deviates.
        shared: names one call that several behaviours are seen in; empty where this one has its own.
        pick: what this one looks at, of what ``observe`` returned.
        patience: seconds for what was started to end by itself.
    """

    name: str
    observe: Callable[[Call], Any]
    check: Callable[[Any], None]
    deviation: str = ""
    full: bool = False
    warm: Like = "bare"
    shared: str = ""
    pick: Callable[[Any], Any] = lambda seen: seen
    patience: float = 5.0


def ended(
    code: int = 0, out: bytes | None = None, err: bytes | None = b"", having: bytes = b""
) -> Callable[[Outcome], None]:
    """Return a check that a call ended with this code and wrote this; None: whatever."""

    def check(outcome: Outcome) -> None:
        assert outcome.code == code, outcome
        assert out is None or outcome.out == out, outcome
        assert err is None or outcome.err == err, outcome
        assert having in outcome.out, outcome

    return check


def is_(expected: Any) -> Callable[[Any], None]:
    """Return a check that exactly this was seen."""

    def check(seen: Any) -> None:
        assert seen == expected

    return check


def tool(
    name: str,
    *argv: str,
    code: int = 0,
    out: bytes | None = None,
    err: bytes | None = b"",
    having: bytes = b"",
    env: Mapping[str, str] | None = None,
    deviation: str = "",
    full: bool = False,
    warm: Like = "bare",
    **options: Any,
) -> Case:
    """Return the case of one call of one tool, which must end with this code, output and messages (None: whatever)."""

    def observe(call: Call) -> Outcome:
        return call.run(*argv, env=env, **options)

    return Case(name, observe, ended(code, out, err, having), deviation, full, warm)


def script(name: str, text: str, *words: str, **settings: Any) -> Case:
    """Return the case of one script in the tool's shell, with words as its arguments."""
    return tool(name, "ash", "-c", text, "ash", *words, **settings)


def host(
    name: str,
    text: str,
    *words: str,
    shell: tuple[str, ...] = ("/bin/sh", "-c"),
    code: int = 0,
    out: bytes | None = None,
    err: bytes | None = b"",
    having: bytes = b"",
    env: Mapping[str, str] | None = None,
    deviation: str = "",
    full: bool = False,
    warm: Like = "bare",
    **options: Any,
) -> Case:
    """Return the case of a script on the host that calls tools: "$T" is the tool's shell, $B the directory of all."""

    def observe(call: Call) -> Outcome:
        return call.caller(*shell, text, *words, env=env, **options)

    return Case(name, observe, ended(code, out, err, having), deviation, full, warm)
