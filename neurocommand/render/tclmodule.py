"""The modulefile of one release, for Environment Modules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neurocommand.render import templates
from neurocommand.render.module import Module, Variable

# What has a meaning between double quotes, or in the braces around a procedure; a control character by its number,
# since `source` takes some for a line break and one for the end of the file.
UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\$\[\]{}]')


def escaped(text: str) -> str:
    r"""Return what stands for a text between double quotes of Tcl (Tcl(n), rules 4 to 9).

    >>> print(escaped('say "$x"\n'))
    say \"\$x\"\u000a
    """
    return UNSAFE.sub(lambda match: _escaped(match[0]), text)


def quoted(text: str) -> str:
    r"""Return a word of Tcl that stands for the text, on one line.

    >>> print(quoted("[exit]"))
    "\[exit\]"
    """
    return f'"{escaped(text)}"'


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}" if character < " " or character == "\x7f" else f"\\{character}"


def tcl(module: Module) -> str:
    """Return the text of a module's file for Environment Modules."""
    values = {
        "RELEASE": module.release.id,
        "STATE": module.state,
        "APPLICATION": module.release.application,
        # people read it in this file, too: its lines stay lines
        "HELP": "\n".join(f"    puts stderr {quoted(line)}" for line in module.help.removesuffix("\n").split("\n")),
        "WHATIS": "\n".join(f"module-whatis {quoted(line)}" for line in module.whatis),
        "NOTICES": "".join(f"\n{notice}" for notice in _notices(module)),
        "PLACE": module.place,
        "IMAGE": module.image,
        "MISSING": quoted(module.missing),
        "SETTINGS": "\n".join(("prepend-path PATH $release/bin", *map(_setting, module.variables))),
    }
    return templates.fill(templates.MODULE_TCL, values)


def _notices(module: Module) -> Iterator[str]:
    for text, end in ((module.withdrawal, "\n    break"), (module.deprecation, "")):
        if text:
            yield f"if {{[module-info mode load]}} {{\n    puts stderr {quoted(text)}{end}\n}}"


def _setting(variable: Variable) -> str:
    if variable.omitted:
        return f"# {variable.name} is not set: {variable.omitted}"
    return f'setenv {quoted(variable.name)} "{"${image}".join(map(_same_bytes, variable.pieces))}"'


def _same_bytes(text: str) -> str:
    """Return what stands for a text between double quotes, and reaches the shell as its UTF-8 in any locale.

    Environment Modules read a modulefile as UTF-8, but write in the encoding of the locale, which is Latin-1 for ``C``.
    """
    if text.isascii():
        return escaped(text)
    return f"[encoding convertfrom [encoding system] [encoding convertto utf-8 {quoted(text)}]]"
