"""Plain text lists beside a deployed release, for the tools that read Neurodesk's (formats.md §4)."""

from __future__ import annotations

from neurocommand.model import Inspection


def commands_txt(inspection: Inspection) -> str:
    r"""Return ``commands.txt``: one command per line.

    >>> commands_txt(Inspection(("bet", "flirt"), (), (), ""))
    'bet\nflirt\n'
    """
    return "".join(f"{command}\n" for command in inspection.commands)


def env_txt(inspection: Inspection) -> str:
    r"""Return ``env.txt``: one ``DEPLOY_ENV_NAME=value`` per line.

    Values stand as they are, since today's readers take them so. Only a value with a line break is written with
    escapes, ``\\`` for a backslash, ``\n`` and ``\r`` for the breaks, so that each variable stays one line.
    """
    return "".join(f"DEPLOY_ENV_{name}={_on_one_line(value)}\n" for name, value in inspection.environment)


def _on_one_line(value: str) -> str:
    if "\n" not in value and "\r" not in value:
        return value
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
