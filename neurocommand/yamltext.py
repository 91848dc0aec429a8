"""YAML read with the line of every value, so that a fault can be located; duplicate keys are faults.

Plain values only (pyyaml's safe tags), into the same Document that JSON is read into.
"""

from __future__ import annotations

from typing import Any

import yaml

from neurocommand.errors import Fault, printable
from neurocommand.jsontext import Document, Position

DEPTH_LIMIT = 16
NODE_LIMIT = 10_000


def parse(text: str) -> Document:
    """Read a YAML text (https://yaml.org/spec/1.1/); an empty one is an empty mapping.

    Returns:
        The document; of a text that cannot be read it is empty, and its last fault says why.
    """
    reader = _Reader()
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = {} if node is None else reader.value(node, ())
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        return reader.stopped(line, f"no YAML: {error.problem}")
    except yaml.YAMLError as error:
        return reader.stopped(0, f"no YAML: {error}")
    except RecursionError:
        return reader.stopped(0, "nested too deep")
    except _StoppedError as error:
        return reader.stopped(error.line, error.message)
    return Document(value, reader.lines, tuple(reader.faults))


class _StoppedError(Exception):
    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


class _Reader:
    """Turns YAML nodes into plain values, remembering lines; bounded, since aliases can multiply nodes."""

    def __init__(self) -> None:
        self.lines: dict[Position, int] = {}
        self.faults: list[Fault] = []
        self.constructor = yaml.SafeLoader("")

    def stopped(self, line: int, message: str) -> Document:
        return Document({}, self.lines, (*self.faults, Fault(line, "", message)))

    def value(self, node: yaml.Node, position: Position) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(position, line)
        if len(self.lines) > NODE_LIMIT or len(position) > DEPTH_LIMIT:
            raise _StoppedError(line, "too many values, or nested too deep")
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*position, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self.members(node, position)
        try:
            return self.constructor.construct_object(node)
        except Exception as error:
            # for a value that is not what its tag says, pyyaml raises whatever its own code stumbles over
            kind, shown = node.tag.rpartition(":")[2], printable(repr(node.value))
            raise _StoppedError(line, f"no YAML: {shown} is no {kind}") from error

    def members(self, node: yaml.MappingNode, position: Position) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in result:
                self.faults.append(Fault(line, key, "duplicate key"))
            member = (*position, key)
            self.lines[member] = line
            result[key] = self.value(value_node, member)
        return result
