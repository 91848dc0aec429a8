"""Ctrl-C and SIGTERM end a run soon, whatever it waits for."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

CODE = 130
# seconds in which the run may tidy up; what it leaves then is what a killed run leaves, and the next one removes that
GRACE = 2.0
_SAYING = 0.5
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SHOW_CURSOR = b"\x1b[?25h"

_said = threading.Lock()
_last_words: Callable[[], object] = str


class Terminated(KeyboardInterrupt):
    """SIGTERM, where it matters that it was not Ctrl-C."""


def remember(words: Callable[[], object]) -> None:
    """Have something called after people were told that the run was interrupted, also where the main thread hangs.

    Args:
        words: takes no longer than writing a line, and may be called though the run has noted its end itself.
    """
    global _last_words  # noqa: PLW0603
    _last_words = words


def prepare(say: Callable[[], object]) -> None:
    """Let the signals raise KeyboardInterrupt in the main thread, and end the process when that does not end it.

    A signal reaches Python's code only when the main thread comes back to it, from a name server or a disk that
    hangs, say. The C part of the handler writes its number to a pipe at once, and a thread waits there. Children get
    the signal that ``dying_with_us`` arranged when the process ends.

    Args:
        say: tells people that the run was interrupted; called at most once, here or by ``leave``.
    """
    for number in _SIGNALS:
        # a background job of a shell ignores SIGINT, and so do we then
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading, say), daemon=True).start()


def leave(say: Callable[[], object], code: int = CODE) -> NoReturn:
    """End the process; neither threads that wait nor anything that libraries do at the end of a process is awaited."""
    if _said.acquire(blocking=False):
        # in a thread of its own, since whoever reads the standard streams may have stopped to
        saying = threading.Thread(target=lambda: (say(), _last_words()), daemon=True)
        saying.start()
        saying.join(_SAYING)
        if sys.stderr.isatty():
            os.write(2, _SHOW_CURSOR)  # a progress bar hides it
    else:
        time.sleep(_SAYING)  # the other thread is at it
    os._exit(code)


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise Terminated if signum == signal.SIGTERM else KeyboardInterrupt


def _watch(reading: int, say: Callable[[], object]) -> NoReturn:
    while os.read(reading, 1)[0] not in _SIGNALS:
        pass  # a signal of somebody else's, as SIGCHLD
    time.sleep(GRACE)
    leave(say)
