"""One exception family; the class says which exit code the command ends with (docs/design.md §6)."""

from __future__ import annotations

import errno
import traceback
from collections.abc import Iterable
from dataclasses import dataclass


def printable(text: str, limit: int = 100) -> str:
    r"""Return text that is safe to show on a terminal: control and odd characters escaped, cut at ``limit`` characters.

    >>> printable("a\x1b[31mb")
    'a\\x1b[31mb'
    """
    shown = _escaped(text[: limit + 1])
    return shown if len(shown) <= limit else shown[:limit] + "…"


def printable_lines(text: str) -> str:
    r"""Return text of one or more lines that is safe to show on a terminal, whole; tabs become spaces.

    >>> printable_lines("a\x1b[31mb\nc")
    'a\\x1b[31mb\nc'
    """
    return "\n".join(_escaped(line.expandtabs()) for line in text.split("\n"))


def _escaped(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


class NeurocommandError(Exception):
    """An expected failure: a message for people, and what to do next.

    Args:
        message: what happened, and to what.
        hint: the next step for the reader; empty when there is none.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def plain_reason(error: BaseException) -> str:
    """Say in a few words why something failed: what the system said at the root of a chain of exceptions.

    Libraries wrap a refused connection three or four times; only the innermost layer is worth reading.

    >>> plain_reason(ConnectionRefusedError(111, "Connection refused"))
    'Connection refused'
    """
    found, seen = "", set[int]()
    layer: BaseException | None = error
    while layer is not None and id(layer) not in seen:
        seen.add(id(layer))
        if isinstance(layer, TimeoutError):
            found = "no answer in time"
        elif isinstance(layer, OSError) and layer.strerror:
            found = str(layer.strerror)
        elif type(layer) is OSError and str(layer):
            found = printable(str(layer), 200)
        layer = layer.__cause__ or layer.__context__
    return found or printable(str(error) or type(error).__name__, 200)


def bug_text(error: BaseException) -> str:
    """Say of something that nobody foresaw whose fault it is.

    >>> bug_text(ValueError("x"))
    'a bug in neurocommand: ValueError: x'
    """
    return f"a bug in neurocommand: {traceback.format_exception_only(error)[-1].strip()}"


NO_SPACE = "free some space, or choose another place"
_REMEDIES = {
    errno.EACCES: "may this user read and write there?",
    errno.EPERM: "may this user read and write there?",
    errno.EROFS: "name a place that can be written",
    errno.ENOENT: "is its name right, and its disk mounted?",
    errno.ENOTDIR: "something else stands in its place: move that away, or name another place",
    errno.EEXIST: "something else stands in its place: move that away, or name another place",
    errno.EISDIR: "something else stands in its place: move that away, or name another place",
    errno.ELOOP: "mend its symbolic links, or name another place",
    errno.ENOSPC: NO_SPACE,
    errno.EDQUOT: NO_SPACE,
}


def remedy(error: OSError) -> str:
    """Return the next step for what this machine refused; empty where none is known.

    >>> remedy(PermissionError(13, "Permission denied"))
    'may this user read and write there?'
    """
    return _REMEDIES.get(error.errno or 0, "")


@dataclass(frozen=True, order=True)
class Fault:
    """Something wrong at one place of a file; ``line`` counts from 1, 0 means the file as a whole."""

    line: int
    where: str
    message: str
    warning: bool = False

    def text(self, filename: str) -> str:
        """Return the fault as one line: ``apps.json:112: fsl 6.0.3: …``."""
        place = f"{filename}:{self.line}" if self.line else filename
        level = "warning: " if self.warning else ""
        where = f"{printable(self.where)}: " if self.where else ""
        return f"{place}: {level}{where}{self.message}"


FAULTS_SHOWN = 100


def bounded(faults: Iterable[Fault]) -> tuple[Fault, ...]:
    """Return faults in their order; of very many the first, errors before warnings, and how many more there are."""
    every = sorted(faults)
    if len(every) <= FAULTS_SHOWN:
        return tuple(every)
    kept = ([fault for fault in every if not fault.warning] or every)[:FAULTS_SHOWN]
    last = kept[-1]
    return (*kept, Fault(last.line, "", f"and {len(every) - len(kept)} more", last.warning))


class FaultsError(NeurocommandError):
    """A file with faults; carries them all, or the first of very many."""

    def __init__(self, filename: str, faults: tuple[Fault, ...], hint: str = "") -> None:
        self.filename = filename
        self.faults = bounded(faults)
        super().__init__("\n".join(fault.text(filename) for fault in self.faults), hint)


class BugError(NeurocommandError):
    """Something that nobody foresaw, as one failure among others; its cause is what was raised."""

    def __init__(self, message: str, hint: str = "", *, cause: BaseException) -> None:
        super().__init__(message, hint)
        self.__cause__ = cause


class UsageError(NeurocommandError):
    """The caller asked for something that cannot be meant, or the configuration cannot be read."""

    exit_code = 2


class ProcessError(NeurocommandError):
    """An external program failed or was not found."""


class ImageError(NeurocommandError):
    """An image cannot be converted, read or unpacked."""


class StoreError(NeurocommandError):
    """A store could not do what was asked, or could not tell."""


class TransientStoreError(StoreError):
    """A store could not do it this time; asking again may help.

    Args:
        message: what happened, and to what.
        hint: the next step for the reader.
        retry_after: seconds that the server asks to wait; None when it does not say.
    """

    def __init__(self, message: str, hint: str = "", *, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class StoreFullError(StoreError):
    """A store has no space left."""

    exit_code = 3


class SourceError(StoreError):
    """What a store was to take could not be read to its end; another source may give it."""


class RegistryError(NeurocommandError):
    """A registry could not be asked; never means that an image is absent."""


class RegistryBusyError(RegistryError):
    """A registry does not answer now, and another one is to be asked.

    Args:
        message: what happened, and to what.
        hint: the next step for the reader.
        reason: the same in two or three words: ``rate limited``.
        retry_after: seconds for which it is to be left alone; None when it does not say.
    """

    def __init__(self, message: str, hint: str = "", *, reason: str, retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.reason = reason
        self.retry_after = retry_after


class DownloadError(NeurocommandError):
    """No source gave the wanted bytes."""


class DeployError(NeurocommandError):
    """A release could not be deployed or removed."""


class CvmfsError(NeurocommandError):
    """A CVMFS repository, or a server of one, is not as it has to be."""


class CvmfsDownError(CvmfsError):
    """A server of a CVMFS repository gives no answer that can be used."""


class CvmfsUntrustedError(CvmfsError):
    """What a server of a CVMFS repository says is not vouched for by the repository's key."""


class CvmfsExpiredError(CvmfsUntrustedError):
    """A CVMFS repository's whitelist has expired, so that clients refuse it."""


class CvmfsBehindError(CvmfsError):
    """A server of a CVMFS repository shows an older revision than was seen before, or another one under its number."""


class RefusedError(NeurocommandError):
    """Refused to destroy something, or to start without the space needed."""

    exit_code = 3


class ImmutableError(NeurocommandError):
    """Bytes under a known release id differ from the locked ones."""

    exit_code = 4


class OtherBytesError(ImmutableError):
    """What a store was to take are other bytes than the locked ones.

    Args:
        message: what happened, and to what.
        hint: the next step for the reader.
        sha256: bare hex digest of what was read, as far as that is known.
        size: bytes that were read.
    """

    def __init__(self, message: str, hint: str = "", *, sha256: str | None, size: int) -> None:
        super().__init__(message, hint)
        self.sha256 = sha256
        self.size = size


class PolicyError(NeurocommandError):
    """A rule that someone set forbids it."""

    exit_code = 5


class BusyError(NeurocommandError):
    """Another run holds the run lock."""

    exit_code = 75


def is_full(error: OSError) -> bool:
    """Tell whether the system refused something because a disk or a quota is full."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


def system_error(
    place: object, error: OSError, kind: type[NeurocommandError] = NeurocommandError, hint: str = ""
) -> NeurocommandError:
    """Return what the system refused as an error of ours: RefusedError where there is no space, so exit code 3.

    Args:
        place: what it happened to, where the system names no file.
        error: what the system said.
        kind: the class of all other errors.
        hint: the next step where its number tells none.
    """
    message = f"{error.filename or place}: {error.strerror or error}"
    if is_full(error):
        return RefusedError(message, remedy(error))
    return kind(message, remedy(error) or hint)
