"""How a run ends badly: what is said about it, to people and to programs, and with which exit code."""

from __future__ import annotations

import contextlib
import json
import os

import click

from neurocommand.commands import journal
from neurocommand.errors import NeurocommandError, bug_text, is_full, printable_lines, remedy

# in a message: a place in a home directory was needed (entries.HOMELESS, which would load the reading of settings)
HOMELESS = "/the home directory is not known"
_HOME = "set HOME, or name every place in the configuration"


def described(error: Exception) -> tuple[str, str, int]:
    """Return what happened, what to do next, and the exit code."""
    if isinstance(error, NeurocommandError):
        message, hint, code = error.message, error.hint, error.exit_code
    elif isinstance(error, OSError):
        message, hint = _refusal(error)
        code = 3 if is_full(error) else 1
    else:
        message, hint, code = bug_text(error), "", 1
    return message, _HOME if HOMELESS in message else hint, code


def tell(error: Exception, *, as_json: bool = False) -> int:
    """Say why a run ends badly, keep the traceback of what nobody foresaw, and return the exit code."""
    message, hint, code = described(error)
    if not isinstance(error, NeurocommandError | OSError):
        from neurocommand.commands import bugs

        hint = bugs.keep(error)
    return report(message, hint, code, as_json=as_json)


def report(message: str, hint: str, code: int, *, as_json: bool = False) -> int:
    """Say it to people and, where they are asked for, as JSON values to programs; return the exit code."""
    journal.echo(f"error: {printable_lines(message)}", err=True)
    if hint:
        journal.echo(f"  next: {printable_lines(hint)}", err=True)
    if as_json:
        # standard output may be what failed
        with contextlib.suppress(OSError):
            click.echo(json.dumps({"error": message, "next": hint, "exit_code": code}))
    return code


def _refusal(error: OSError) -> tuple[str, str]:
    """Say what this machine refuses, which is no bug: permissions, space, a path in the way; and what to do next."""
    try:
        os.getcwd()
    except OSError:
        return "the current directory does not exist any more", "go to another one: cd"
    return f"{error.filename or 'this machine'}: {error.strerror or error}", remedy(error)
