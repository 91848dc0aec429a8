"""Standard streams that neither a reader who went away nor a full disk turns into the end of a run."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO


class Output(io.FileIO):
    """A standard stream whose reader may go away, as ``head`` does: what is written from then on goes nowhere.

    Args:
        descriptor: 1 or 2; stays open.
        forgiving: let every failure to write count so, not only a reader that is gone.
    """

    def __init__(self, descriptor: int, *, forgiving: bool) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self.forgiving = forgiving

    def write(self, data: object, /) -> int:
        """Write bytes and return how many were taken."""
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError as error:
            if error.errno != errno.EPIPE and not self.forgiving:
                raise
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare() -> None:
    """Make the standard streams safe to write to for the rest of the process.

    A stream that was closed when the program began becomes /dev/null, also for the programs that it starts: the next
    file that is opened would take its number, and their messages would end up in there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _text(sys.stdout, 1, forgiving=False)
    sys.stderr = _text(sys.stderr, 2, forgiving=True)


def flush() -> None:
    """Write what is still held back; what cannot be written is dropped, since the interpreter would complain again."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.close(nowhere)


def _text(stream: TextIO | None, descriptor: int, *, forgiving: bool) -> TextIO:
    encoding, errors = "utf-8", "strict"
    if stream is not None:
        stream.flush()
        encoding, errors = stream.encoding, stream.errors or "strict"
    return io.TextIOWrapper(
        io.BufferedWriter(Output(descriptor, forgiving=forgiving)),
        encoding=encoding,
        # a letter that the terminal's encoding lacks is shown by its number
        errors="backslashreplace" if errors == "strict" else errors,
        line_buffering=descriptor == 2 or os.isatty(descriptor),
    )
