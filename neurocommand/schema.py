"""A JSON document held against a JSON Schema: every deviation at its position, in words for people.

The words come from the schema itself: its keyword ``x-fault`` states the rule that a pattern only encodes.
"""

from __future__ import annotations

import functools
import importlib.resources
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from neurocommand.errors import printable
from neurocommand.jsontext import Document, Position

_RULES = {"maxLength": "too long", "minLength": "must not be empty", "minItems": "must not be empty"}
_TYPES = {
    "object": "an object",
    "array": "a list",
    "string": "a text",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "null": "null",
}


@dataclass(frozen=True)
class Deviation:
    """One place where a document breaks its schema."""

    position: Position
    message: str
    unknown_key: bool = False


@functools.cache
def published(name: str) -> dict[str, Any]:
    """Return a schema that comes with the program, by its file name.

    Schemas are JSON Schema, draft 2020-12 (https://json-schema.org/draft/2020-12).
    """
    text = importlib.resources.files("neurocommand").joinpath(name).read_text(encoding="utf-8")
    result: dict[str, Any] = json.loads(text)
    return result


@functools.cache
def _validator(name: str) -> Any:
    from jsonschema import Draft202012Validator, validators

    whole = published(name)
    extend: Any = validators.extend  # has no types
    return extend(Draft202012Validator, {"uniqueItems": _unique})(_without_references(whole, whole))


def _unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    """Judge uniqueItems in one pass; jsonschema compares each item with each where they cannot be sorted."""
    from jsonschema import ValidationError

    items = instance if wanted and isinstance(instance, list) else []
    if len({json.dumps(item, sort_keys=True, default=repr) for item in items}) < len(items):
        yield ValidationError("not unique")


def _without_references(part: Any, whole: dict[str, Any]) -> Any:
    """Put the definitions of a schema where it refers to them; one must not lead to itself.

    Validating takes half the time then, since jsonschema resolves a reference anew for each value that it judges.
    """
    if isinstance(part, list):
        return [_without_references(item, whole) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        names = part["$ref"].removeprefix("#/").split("/")
        definition = functools.reduce(lambda found, name: found[name], names, whole)
        part = {**definition, **{key: value for key, value in part.items() if key != "$ref"}}
    return {key: _without_references(value, whole) for key, value in part.items()}


def deviations(document: Document, name: str) -> Iterator[Deviation]:
    """Yield every deviation of a document from a schema, and every control character in its texts and keys.

    Args:
        document: what was read.
        name: the file name of a schema that comes with the program.
    """
    for position in document.lines:
        if position and isinstance(position[-1], str) and _odd(position[-1]):
            yield Deviation(position, "a control character in a key")
    for position, text in _texts(document.value, ()):
        if _odd(text):
            yield Deviation(position, "a control character")
    for error in _validator(name).iter_errors(document.value):
        yield from _described(error)


def _described(error: Any) -> Iterator[Deviation]:
    position = tuple(error.absolute_path)
    match error.validator:
        case "required":
            # one error for each missing key; only its message says which
            missing = (key for key in error.validator_value if error.message.startswith(repr(key)))
            yield Deviation(position, f"{next(missing)} is missing")
        case "additionalProperties":
            for key in _unknown_keys(error):
                rule = error.schema.get("x-fault")
                yield Deviation((*position, key), rule or "unknown key", unknown_key=rule is None)
        case "type":
            kinds = error.validator_value
            named = [_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]
            yield Deviation(position, f"must be {' or '.join(named)}")
        case "enum":
            yield Deviation(position, _unknown_value(error.instance, error.validator_value))
        case "uniqueItems":
            yield Deviation(position, "names something twice")
        case _ if "propertyNames" in error.absolute_schema_path:
            yield Deviation((*position, error.instance), _broken_rule(error))
        case _:
            yield Deviation(position, _broken_rule(error))


def _unknown_keys(error: Any) -> list[str]:
    known = error.schema.get("properties", {})
    patterns = error.schema.get("patternProperties", {})
    return [key for key in error.instance if key not in known and not any(re.search(p, key) for p in patterns)]


def _unknown_value(value: Any, known: list[Any]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(str(value), [str(one) for one in known], n=1)
    return f"unknown: {printable(str(value))!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _broken_rule(error: Any) -> str:
    rule = error.schema.get("x-fault") or _RULES.get(error.validator, f"breaks the rule {error.validator!r}")
    return f"{printable(repr(error.instance))}: {rule}"


def _texts(value: Any, position: Position) -> Iterator[tuple[Position, str]]:
    if isinstance(value, str):
        yield position, value
    elif isinstance(value, dict):
        for key, member in value.items():
            yield from _texts(member, (*position, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _texts(item, (*position, index))


def _odd(text: str) -> bool:
    return not text.isprintable() and any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in text)
