"""The modulefile of one release, for Lmod."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from neurocommand.model import Format, Inspection, Release
from neurocommand.render import templates

BASEPATH = "BASEPATH"  # in an image's DEPLOY_ENV_ values: the directory of the unpacked image
KEYWORDS_LENGTH = 8000  # characters; a tool with 600 commands has fewer
DESCRIPTION_LENGTH = 240

# Lmod 8 writes a value for the shell with a backslash before everything special but a line break: what follows one
# would be run by the user's shell. Inspections hold no such value; this is the second lock on that door.
BREAK = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

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


def lua(release: Release, inspection: Inspection, categories: Sequence[str], image_format: Format) -> str:
    """Return the text of a release's modulefile.

    Args:
        release: the release.
        inspection: what its image says.
        categories: the categories of its group, as people read them.
        image_format: in a SIF there is no directory that ``BASEPATH`` could mean, so variables with it are left out.
    """
    values = {
        "RELEASE": release.id,
        "APPLICATION": quoted(release.application),
        "HELP": long_bracketed(inspection.readme),
        "WHATIS": "\n".join(f"whatis({quoted(line)})" for line in _whatis(release, inspection, categories)),
        "PLACE": quoted(f"/containers/{release.id}"),
        "IMAGE": quoted(f"/{release.id}.simg"),
        "MISSING": quoted(f"{release.id} is not deployed where this modulefile is"),
        "SETTINGS": "\n".join(_settings(inspection, image_format)),
    }
    return templates.fill(templates.MODULE_LUA, values)


def _whatis(release: Release, inspection: Inspection, categories: Sequence[str]) -> Iterator[str]:
    yield f"Name: {release.application}"
    yield f"Version: {release.version}"
    yield f"Build date: {release.build_date}"
    if categories:
        yield f"Category: {', '.join(categories)}"
    if description := _first_prose(inspection.readme):
        yield f"Description: {description}"
    if inspection.commands:
        yield f"Keywords: {_shortened(', '.join(inspection.commands), KEYWORDS_LENGTH)}"


def _first_prose(readme: str) -> str:
    """Return the first line of a README that is no heading, rule, fence, badge, comment or list mark."""
    for line in readme.splitlines():
        text = " ".join(line.split())
        if text[:1].isalnum() and any(character.isalpha() for character in text):
            return _shortened(text, DESCRIPTION_LENGTH)
    return ""


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length].rpartition(" ")[0].rstrip(",") + " …"


def _settings(inspection: Inspection, image_format: Format) -> Iterator[str]:
    yield 'prepend_path("PATH", release .. "/bin")'
    for name, value in inspection.environment:
        if BREAK.search(value):
            yield f"-- {name} is not set: its value has a line break or control character"
        elif BASEPATH not in value:
            yield f"setenv({quoted(name)}, {quoted(value)})"
        elif image_format == "tree":
            # the pieces between BASEPATHs are literals, and each BASEPATH is the variable `image`
            pieces = [piece for literal in value.split(BASEPATH) for piece in ("image", quoted(literal))][1:]
            yield f"setenv({quoted(name)}, {' .. '.join(piece for piece in pieces if piece != quoted(''))})"
        else:
            yield f"-- {name} is not set: its value names a directory inside the image, which is one file here"


def _escaped(character: str) -> str:
    return f"\\{character}" if character in '"\\' else f"\\{ord(character):03d}"
