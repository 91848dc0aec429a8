"""The modulefile of one release, for Lmod."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neurocommand.render import templates
from neurocommand.render.module import Module, Variable

# A byte that could end or change a literal; UTF-8 stays as it is.
UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\]')


def quoted(text: str) -> str:
    r"""Return a Lua string literal that stands on one line (Lua 5.1 to 5.4, reference manual §3.1).

    >>> quoted('say "hi"\n')
    '"say \\"hi\\"\\010"'
    """
    return '"' + UNSAFE.sub(lambda match: _escaped(match[0]), text) + '"'


def long_bracketed(text: str) -> str:
    r"""Return a Lua literal in long brackets, of a level that the text does not close.

    Lua takes CR and LF, in any pairing, for one line break; a line break right after the opening is dropped, so one is
    added.

    >>> long_bracketed("a]]b")
    '[=[\na]]b]=]'
    """
    level = 0
    while f"]{'=' * level}]" in f"{text}]":
        level += 1
    equals = "=" * level
    return f"[{equals}[\n{text}]{equals}]"


def lua(module: Module) -> str:
    """Return the text of a module's file for Lmod."""
    values = {
        "RELEASE": module.release.id,
        "STATE": module.state,
        "APPLICATION": quoted(module.release.application),
        "HELP": long_bracketed(module.help),
        "WHATIS": "\n".join(f"whatis({quoted(line)})" for line in module.whatis),
        "NOTICES": "".join(f"\n{notice}" for notice in _notices(module)),
        "PLACE": quoted(module.place),
        "IMAGE": quoted(module.image),
        "MISSING": quoted(module.missing),
        "SETTINGS": "\n".join(('prepend_path("PATH", release .. "/bin")', *map(_setting, module.variables))),
    }
    return templates.fill(templates.MODULE_LUA, values)


def _notices(module: Module) -> Iterator[str]:
    for function, text in (("LmodError", module.withdrawal), ("LmodMessage", module.deprecation)):
        if text:
            yield f'if mode() == "load" then\n    {function}({quoted(text)})\nend'


def _setting(variable: Variable) -> str:
    if variable.omitted:
        return f"-- {variable.name} is not set: {variable.omitted}"
    # the pieces are literals, and between them stands the variable `image`
    pieces = [piece for literal in variable.pieces for piece in ("image", quoted(literal))][1:]
    value = " .. ".join(piece for piece in pieces if piece != quoted("")) or quoted("")
    return f"setenv({quoted(variable.name)}, {value})"


def _escaped(character: str) -> str:
    return f"\\{character}" if character in '"\\' else f"\\{ord(character):03d}"
