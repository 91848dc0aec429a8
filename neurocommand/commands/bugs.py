"""What nobody foresaw: its traceback is kept where it can be sent from."""

from __future__ import annotations

import sys
import tempfile
import traceback

import click

from neurocommand import __version__
from neurocommand.errors import printable_lines


def keep(error: BaseException) -> str:
    """Save a traceback to a file, and return what to report; where nothing can be saved, show it."""
    trace = "".join(traceback.format_exception(error))
    text = f"neurocommand {__version__}: {' '.join(sys.argv[1:])}\n{trace}"
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="neurocommand-bug-", suffix=".log", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as log:
            log.write(text)
        place = log.name
    except OSError:
        click.echo(printable_lines(text), err=True)
        place = "what stands above"
    return f"report it with {place}"
