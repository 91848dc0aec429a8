"""JSON (RFC 8259) read with the line of every value, so that a fault can be located; duplicate keys are faults.

A small reader of our own because the standard library's keeps no positions, lets a later key replace an earlier one,
accepts NaN, and follows nesting as deep as the stack.
"""

from __future__ import annotations

import codecs
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurocommand.errors import Fault, FaultsError, remedy

SIZE_LIMIT = 16 << 20
DEPTH_LIMIT = 32
# what a position and a line are kept for; many times those of the largest manifests and locks that there are
VALUE_LIMIT = 100_000
TEXT_LIMIT = 1 << 16

Position = tuple[str | int, ...]

_SPACE = re.compile(r"[ \t\n\r]*")
_STRING = re.compile(r'"([^"\\\x00-\x1f]*(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*)*)"')
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_HALF_PAIR = re.compile(r"[\ud800-\udfff]")
_DIGITS_LIMIT = 400
_LITERALS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Document:
    """A JSON text that was read: its value, and for the position of each value in it the line where it begins.

    A position is the tuple of keys and indexes that lead to the value, as jsonschema's ``absolute_path`` has them; a
    member's line is that of its key.
    """

    value: Any
    lines: dict[Position, int]
    faults: tuple[Fault, ...]

    def line(self, position: Position) -> int:
        """Return the line of the value at a position, or of the nearest value around it."""
        while position not in self.lines and position:
            position = position[:-1]
        return self.lines.get(position, 0)


class _SyntaxError(Exception):
    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset
        self.message = message


@dataclass
class _Reader:
    """A recursive descent over one text; ``at`` is the offset of the next character."""

    text: str
    at: int = 0
    line_at: int = 0
    line: int = 1
    lines: dict[Position, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    values: int = 0

    def skip(self) -> str:
        """Move to the next token and return its first character; empty at the end."""
        self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]
        return self.text[self.at : self.at + 1]

    def line_here(self) -> int:
        self.line += self.text.count("\n", self.line_at, self.at)
        self.line_at = self.at
        return self.line

    def value(self, position: Position) -> Any:
        first = self.skip()
        self.lines.setdefault(position, self.line_here())
        self.values += 1
        if self.values > VALUE_LIMIT:
            raise _SyntaxError(self.at, f"more than {VALUE_LIMIT} values")
        if len(position) > DEPTH_LIMIT:
            raise _SyntaxError(self.at, f"nested deeper than {DEPTH_LIMIT} levels")
        if first == "{":
            return self.members(position)
        if first == "[":
            return self.items(position)
        if first == '"':
            return self.string()
        return self.scalar()

    def members(self, position: Position) -> dict[str, Any]:
        result: dict[str, Any] = {}
        self.at += 1
        if self.skip() == "}":
            self.at += 1
            return result
        while True:
            if self.skip() != '"':
                raise _SyntaxError(self.at, "expected a key in double quotes")
            line = self.line_here()
            key = self.string()
            member = (*position, key)
            if key in result:
                self.faults.append(Fault(line, key, f"duplicate key (first on line {self.lines[member]})"))
            else:
                self.lines[member] = line
            if self.skip() != ":":
                raise _SyntaxError(self.at, "expected ':' after the key")
            self.at += 1
            result[key] = self.value(member)
            if self.separator("}"):
                return result

    def items(self, position: Position) -> list[Any]:
        result: list[Any] = []
        self.at += 1
        if self.skip() == "]":
            self.at += 1
            return result
        while True:
            result.append(self.value((*position, len(result))))
            if self.separator("]"):
                return result

    def separator(self, end: str) -> bool:
        """Pass a comma, or the end of the object or array; tell whether it was the end."""
        found = self.skip()
        if found not in (",", end):
            raise _SyntaxError(self.at, f"expected ',' or '{end}'")
        self.at += 1
        return found == end

    def string(self) -> str:
        match = _STRING.match(self.text, self.at, self.at + TEXT_LIMIT)
        if match is None:
            limit = f"within {TEXT_LIMIT} characters"
            raise _SyntaxError(self.at, f"a string that does not end on its line ({limit}), or has an invalid escape")
        self.at = match.end()
        result: str = json.loads(match.group()) if "\\" in match.group() else match.group(1)
        if _HALF_PAIR.search(result):
            raise _SyntaxError(match.start(), "a string with half a surrogate pair")
        return result

    def scalar(self) -> Any:
        for name, value in _LITERALS.items():
            if self.text.startswith(name, self.at):
                self.at += len(name)
                return value
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            raise _SyntaxError(self.at, "expected a value" if self.text[self.at :] else "the text ends too early")
        if len(match.group()) > _DIGITS_LIMIT:
            raise _SyntaxError(self.at, f"a number of more than {_DIGITS_LIMIT} digits")
        self.at = match.end()
        return float(match.group()) if match.group(1) or match.group(2) else int(match.group())


def read(text: str, filename: str) -> Document:
    """Read a JSON text.

    Args:
        text: the whole text.
        filename: what faults are reported against.

    Returns:
        The value, its lines, and the faults that reading survives (duplicate keys; the last value counts).

    Raises:
        FaultsError: the text is no JSON.
    """
    reader = _Reader(text)
    try:
        value = reader.value(())
        if reader.skip():
            raise _SyntaxError(reader.at, "text after the end of the value")
    except _SyntaxError as fault:
        line = text.count("\n", 0, fault.offset) + 1
        raise FaultsError(filename, (*reader.faults, Fault(line, "", f"no JSON: {fault.message}"))) from fault
    return Document(value, reader.lines, tuple(reader.faults))


def read_bytes(path: Path, filename: str) -> str:
    """Return the UTF-8 text of a file of at most 16 MiB.

    Raises:
        FaultsError: the file cannot be read, is too large, is no UTF-8, or holds NUL characters.
    """
    try:
        with open(path, "rb") as stream:
            data = stream.read(SIZE_LIMIT + 1)
    except OSError as error:
        fault = Fault(0, "", f"cannot be read: {error.strerror}")
        raise FaultsError(filename, (fault,), remedy(error)) from error
    return decode(data, filename)


def decode(data: bytes, filename: str) -> str:
    """Return bytes as text; see ``read_bytes`` for what is refused. A byte order mark is passed over.

    Raises:
        FaultsError: too large, no UTF-8, or with NUL characters.
    """
    if len(data) > SIZE_LIMIT:
        raise FaultsError(filename, (Fault(0, "", f"larger than {SIZE_LIMIT >> 20} MiB"),))
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\0" in data:
        raise FaultsError(filename, (Fault(data[: data.index(b"\0")].count(b"\n") + 1, "", "a NUL character"),))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise FaultsError(filename, (Fault(line, "", "not UTF-8"),)) from error
