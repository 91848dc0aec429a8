"""The environment files of an image, as Apptainer and Singularity write them: read, never executed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
ASSIGNMENT = re.compile(r"^[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)=", re.ASCII | re.MULTILINE)
REFERENCE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})", re.ASCII)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
END_OF_WORD = frozenset(" \t\r\n;&|<>()")

# What Apptainer's shell.Escape makes of any text: \ " ` $ with a backslash before each.
ESCAPED = re.compile(r'(?:[^\\"`$]|\\[\\"`$])*', re.DOTALL)
SHELL_ESCAPE = re.compile(r'\\([\\"`$])')
# The escapes of Go's %q (package strconv, Quote), which older versions put around that.
GO_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8})|.|$)", re.DOTALL)
GO_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"'}


def parse(texts: Iterable[str]) -> dict[str, str]:
    """Read the assignments of environment files.

    Two forms are known: ``export NAME="${NAME:-"value"}"``, written by the runtimes for an OCI image's environment
    (conveyorPacker_oci.go, insertEnv), and a plain shell assignment of a definition file, in any quoting. References
    to earlier variables are filled in; a value with any other expansion is unknown and left out.

    Args:
        texts: the files' contents, in the order in which they are sourced.
    """
    known: dict[str, str] = {}
    for text in texts:
        end = 0
        for match in ASSIGNMENT.finditer(text):
            if match.start() < end:
                continue  # looks like an assignment, but is the inside of a quoted value
            name = match[1]
            value, end = _default(text, match.end(), name)
            if value is not None:
                known[name] = known.get(name) or value
                continue
            value, end = _word(text, match.end(), known)
            if value is not None:
                known[name] = value
    return known


def _default(text: str, start: int, name: str) -> tuple[str | None, int]:
    """Read ``"${NAME:-"value"}"``; the value is None when something else stands there."""
    opening = f'"${{{name}:-'
    if not text.startswith(opening, start):
        return None, start
    match = QUOTED.match(text, start + len(opening))
    if match is None or not text.startswith('}"', match.end()):
        return None, start
    return _recorded(match[1]), match.end() + 2


def _recorded(text: str) -> str:
    """Undo the escaping of the runtimes: Go's %q around shell.Escape up to Apptainer 1.4.5, the latter alone after."""
    inner = _go_unquoted(text)
    if inner is None or not ESCAPED.fullmatch(inner):
        inner = text
    return SHELL_ESCAPE.sub(r"\1", inner)


def _go_unquoted(text: str) -> str | None:
    def replace(match: re.Match[str]) -> str:
        letter, byte, *points = match.groups()
        if letter:
            return GO_LETTERS[letter]
        if byte:
            return bytes.fromhex(byte).decode(errors="surrogateescape")
        point = int(next(filter(None, points)), 16)  # StopIteration: none of them
        return chr(point)

    try:
        return GO_ESCAPE.sub(replace, text)
    except (StopIteration, ValueError, OverflowError):
        return None


def _word(text: str, position: int, known: Mapping[str, str]) -> tuple[str | None, int]:
    """Read one shell word; its value is None when it cannot be known without a shell."""
    value: str | None = ""
    quoted = False
    while position < len(text):
        character = text[position]
        if not quoted and character in END_OF_WORD:
            break
        if not quoted and character == "'":
            end = text.find("'", position + 1)
            if end < 0:
                return None, len(text)
            piece, position = text[position + 1 : end], end + 1
        elif character == '"':
            quoted, piece, position = not quoted, "", position + 1
        elif character == "\\":
            piece, position = _backslash(text, position, quoted=quoted)
        elif character in "$`":
            match = REFERENCE.match(text, position)
            found = known.get(match[1] or match[2]) if match else None
            if found is None:
                value = None
            piece, position = found or "", match.end() if match else position + 1
        else:
            piece, position = character, position + 1
        value = None if value is None else value + piece
    return (None if quoted else value), position


def _backslash(text: str, position: int, *, quoted: bool) -> tuple[str, int]:
    following = text[position + 1 : position + 2]
    if following == "\n":
        return "", position + 2
    if quoted and following not in ("\\", '"', "`", "$"):
        return "\\", position + 1
    return following, position + 2
