"""The wrapper of one command: a POSIX shell script that becomes the container runtime."""

from __future__ import annotations

from neurocommand.model import Format, Notice, Release
from neurocommand.render import templates

# How the wrapper tests that its image is there: the slash asks for a directory.
TESTS: dict[Format, str] = {"tree": '-x "$image/"', "sif": '-r "$image"'}


def quoted(text: str) -> str:
    r"""Return a word of POSIX shell that stands for the text (POSIX.1-2017, Shell Command Language, 2.2.2).

    >>> print(quoted("it's"))
    'it'\''s'
    """
    return "'" + text.replace("'", "'\\''") + "'"


def tombstone(release: Release, notice: Notice) -> str:
    """Return the text of ``wrapper.sh`` of a withdrawn release: its commands say why, and exit with 69."""
    message = notice.after(f"{release} is withdrawn")
    return templates.fill(templates.TOMBSTONE, {"RELEASE": release.id, "MESSAGE": quoted(message)})


def buried(release: Release, command: str) -> str:
    """Return the text of a withdrawn release's wrapper: it sources ``wrapper.sh``, which says why, and exits."""
    values = {"RELEASE": release.id, "COMMAND": command, "WORD": quoted(command)}
    return templates.fill(templates.WITHDRAWN, values)


def wrapper(release: Release, command: str, image_format: Format) -> str:
    """Return the text of a wrapper.

    It finds the image at ``../<release>.simg`` from its own place, so it depends on no root.

    Args:
        release: the release.
        command: the program's name inside the image; safe as a file name (model.Inspection).
        image_format: what the image is, a tree or a SIF.
    """
    values = {"RELEASE": release.id, "COMMAND": command, "TEST": TESTS[image_format]}
    return templates.fill(templates.WRAPPER, values)
