"""The two signed files of a CVMFS server as values: ``.cvmfspublished`` and ``.cvmfswhitelist``.

Pure: bytes in, values out; nothing here says who signed them. Both are lines of text, each with a letter that says
what it is, then ``--``, the SHA-1 of the lines, and the bytes of a signature of that SHA-1
(https://cvmfs.readthedocs.io/en/stable/cpt-details.html, "Internal Manifest Structure" and "Internal Whitelist
Structure").
"""

from __future__ import annotations

import datetime
import hashlib
import re
from dataclasses import dataclass

from neurocommand.errors import CvmfsUntrustedError, printable

PUBLISHED, WHITELIST = ".cvmfspublished", ".cvmfswhitelist"
LIMIT = 1 << 16  # bytes of either file; real ones have less than a thousand
EMPTY_PATH = hashlib.md5(b"", usedforsecurity=False).hexdigest()
_MARK = b"\n--\n"
_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)
_FINGERPRINT = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){19}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
_KNOWN = "CBRDSNXHTM"
_HINT = "is this the address of a repository, and does no proxy change what it sends?"


@dataclass(frozen=True)
class Letter:
    """A signed text: what is signed, the bare hex SHA-1 of that, and the signature of the SHA-1's text."""

    text: bytes
    sha1: str
    signature: bytes


@dataclass(frozen=True)
class RepositoryManifest:
    """What ``.cvmfspublished`` says; hashes are bare hex SHA-1.

    Args:
        name: of the repository.
        revision: its number.
        root_catalog: the object that holds the root catalog.
        root_size: bytes of the root catalog itself; None where it is not said.
        ttl: seconds for which clients do not ask again.
        timestamp: Unix time of the last signing, which is not always that of the revision.
        certificate: the object that holds the certificate of who signed.
        history: the object that holds the tags; None without any.
        meta: the object that holds what is said about the repository; None without.
    """

    name: str
    revision: int
    root_catalog: str
    root_size: int | None
    ttl: int
    timestamp: int
    certificate: str
    history: str | None = None
    meta: str | None = None


@dataclass(frozen=True)
class Whitelist:
    """Who may sign a repository: SHA-1 fingerprints of certificates, upper case with colons; until when (Unix time)."""

    name: str
    expires: int
    fingerprints: frozenset[str]


def letter(data: bytes, filename: str) -> Letter:
    """Take a signed file apart, and hold its text against the SHA-1 that it states.

    Raises:
        CvmfsUntrustedError: it is no such file, is too long, or was changed.
    """
    if len(data) > LIMIT:
        raise CvmfsUntrustedError(f"{filename} is longer than {LIMIT} bytes", _HINT)
    text, mark, rest = data.partition(_MARK)
    stated, end, signature = rest.partition(b"\n")
    if not mark or not end:
        raise CvmfsUntrustedError(f"{filename} is cut off, or no signed file: it has no line --, or no hash", _HINT)
    sha1 = stated.decode("ascii", errors="replace")
    if not _SHA1.fullmatch(sha1):
        raise CvmfsUntrustedError(f"{filename} states no SHA-1 of itself, but {printable(sha1)!r}", _other_hash(sha1))
    if not signature:
        raise CvmfsUntrustedError(f"{filename} has no signature", _HINT)
    text += b"\n"
    if hashlib.sha1(text, usedforsecurity=False).hexdigest() != sha1:
        raise CvmfsUntrustedError(f"{filename} was changed: its SHA-1 is not the one that it states", _HINT)
    return Letter(text, sha1, signature)


def manifest(signed: Letter) -> RepositoryManifest:
    """Read the fields of ``.cvmfspublished``; fields that are not known are passed over.

    Raises:
        CvmfsUntrustedError: names the field that is missing, stands twice, or is not what it has to be.
    """
    fields = _Fields(signed, PUBLISHED)
    for number, line in enumerate(signed.text.decode("utf-8", errors="replace").split("\n"), 1):
        if line[:1] and line[0] in _KNOWN:
            fields.take(number, line)
    root = fields.hash("R", 32)
    if root != EMPTY_PATH:
        raise CvmfsUntrustedError(f"{PUBLISHED}: its root catalog is not that of /", "neurocommand cannot read it")
    return RepositoryManifest(
        name=fields.text("N"),
        revision=fields.number("S"),
        root_catalog=fields.hash("C"),
        root_size=fields.number("B") if fields.has("B") else None,
        ttl=fields.number("D"),
        timestamp=fields.number("T"),
        certificate=fields.hash("X"),
        history=fields.hash("H") if fields.has("H") else None,
        meta=fields.hash("M") if fields.has("M") else None,
    )


def whitelist(signed: Letter) -> Whitelist:
    """Read ``.cvmfswhitelist``: ``E`` until when it holds, ``N`` for whom, and a line for each certificate.

    Raises:
        CvmfsUntrustedError: names the line that is not what it has to be.
    """
    lines = signed.text.decode("utf-8", errors="replace").rstrip("\n").split("\n")
    fields = _Fields(signed, WHITELIST)
    for number, line in enumerate(lines[1:], 2):
        if line[:1] in ("E", "N") and not _FINGERPRINT.fullmatch(_word(line)):
            fields.take(number, line)
        elif line.startswith(("Vpkcs7", "Wcachain")):
            hint = "neurocommand reads repositories whose whitelist the master key alone signs"
            raise CvmfsUntrustedError(f"{WHITELIST}:{number}: asks for {printable(line)}, another kind of proof", hint)
    listed = frozenset(word for line in lines[1:] if _FINGERPRINT.fullmatch(word := _word(line)))
    if not listed:
        raise CvmfsUntrustedError(f"{WHITELIST} names no certificate by its SHA-1", "sign it anew: cvmfs_server resign")
    return Whitelist(fields.text("N"), _moment(fields.text("E")), listed)


def _word(line: str) -> str:
    """Return a line up to its first blank: what follows a fingerprint is a remark."""
    return re.split(r"[ \t]", line, maxsplit=1)[0]


def _moment(text: str) -> int:
    try:
        if re.fullmatch(r"[0-9]{14}", text, re.ASCII) is None:
            raise ValueError(text)
        moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=datetime.timezone.utc)
    except ValueError as error:
        raise CvmfsUntrustedError(f"{WHITELIST}: E is {printable(text)!r}, which is no time", _HINT) from error
    return int(moment.timestamp())


def _other_hash(text: str) -> str:
    kind = text.partition("-")[2]
    return "neurocommand reads repositories with SHA-1 only" if kind in ("rmd160", "shake128") else _HINT


class _Fields:
    """The fields of a signed file by their letters."""

    def __init__(self, signed: Letter, filename: str) -> None:
        self.filename = filename
        self._found: dict[str, str] = {}

    def take(self, number: int, line: str) -> None:
        """Keep a line."""
        if line[0] in self._found:
            raise CvmfsUntrustedError(f"{self.filename}:{number}: the field {line[0]} stands twice", _HINT)
        self._found[line[0]] = line[1:]

    def has(self, key: str) -> bool:
        """Tell whether a field is there."""
        return key in self._found

    def text(self, key: str) -> str:
        """Return a field that must be there."""
        if not self._found.get(key):
            raise CvmfsUntrustedError(f"{self.filename}: the field {key} is missing", _HINT)
        return self._found[key]

    def number(self, key: str) -> int:
        """Return a field that is a number."""
        text = self.text(key)
        if not _NUMBER.fullmatch(text):
            raise CvmfsUntrustedError(f"{self.filename}: {key} is {printable(text)!r}, which is no number", _HINT)
        return int(text)

    def hash(self, key: str, digits: int = 40) -> str:
        """Return a field that is a hash."""
        text = self.text(key)
        if re.fullmatch(rf"[0-9a-f]{{{digits}}}", text, re.ASCII) is None:
            message = f"{self.filename}: {key} is {printable(text)!r}, which is no hash of {digits} hex digits"
            raise CvmfsUntrustedError(message, _other_hash(text))
        return text
