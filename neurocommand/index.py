"""commands.tsv: which release under a root gives which commands; made from the records, so that one file answers.

One line for each release: its id, ``live`` or ``withdrawn``, and its commands, with tabs between them. No JSON,
since a root may have tens of thousands of commands and somebody waits for the answer with a finger on the tab key.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from neurocommand.errors import Fault, FaultsError, printable
from neurocommand.model import Release

# what every version of such a file begins with
MARK = "# neurocommand: commands of releases, "
_VERSION = "1"
_HEADING = f"{MARK}{_VERSION}; made from containers/*/record.json, renewed by every run that changes something there\n"
# of a record's names those without blanks, which no command has
_COMMAND = r"[A-Za-z0-9_@][A-Za-z0-9_.+@-]{0,199}"
_LINE = re.compile(rf"([^\t]{{1,200}})\t(live|withdrawn)((?:\t{_COMMAND})*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a release: its commands, and whether all they do is to say that it is withdrawn."""

    release: Release
    commands: tuple[str, ...]
    withdrawn: bool = False


def render(entries: Iterable[Entry]) -> str:
    r"""Return the index as text, which depends on the entries alone, not on their order; no command stands in it twice.

    >>> print(render([Entry(Release("fsl", "6.0.4", "20210105"), ("bet", "flirt"))]).splitlines()[1].split("\t"))
    ['fsl_6.0.4_20210105', 'live', 'bet', 'flirt']
    """
    lines = (
        "\t".join((entry.release.id, "withdrawn" if entry.withdrawn else "live", *_names(entry)))
        for entry in sorted(entries, key=lambda entry: entry.release)
    )
    return _HEADING + "".join(f"{line}\n" for line in lines)


def _names(entry: Entry) -> list[str]:
    return sorted({command for command in entry.commands if re.fullmatch(_COMMAND, command, re.ASCII)})


def parse(text: str, filename: str) -> tuple[Entry, ...]:
    """Read an index as carefully as anything that others can write.

    Raises:
        FaultsError: the text is no index, was cut short, or is that of another version of the program.
    """
    if not text.startswith(_HEADING):
        ours = text.startswith(MARK)
        raise _fault(filename, 1, "another version of the program wrote it" if ours else "no index of commands")
    lines = text.removeprefix(_HEADING).split("\n")
    if lines.pop():
        raise _fault(filename, len(lines) + 2, "the text ends within a line")
    found: dict[Release, Entry] = {}
    for number, line in enumerate(lines, 2):
        try:
            entry = _entry(line)
        except ValueError as error:
            raise _fault(filename, number, str(error)) from error
        if entry.release in found:
            raise _fault(filename, number, f"{entry.release} stands twice")
        found[entry.release] = entry
    return tuple(found.values())


def _entry(line: str) -> Entry:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{printable(line)}: no release, live or withdrawn, and names of commands")
    return Entry(Release.parse(match[1]), tuple(match[3].split("\t")[1:]), match[2] == "withdrawn")


def _fault(filename: str, line: int, message: str) -> FaultsError:
    return FaultsError(filename, (Fault(line, "", message),))
