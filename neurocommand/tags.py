"""The tags of a CVMFS repository, as ``cvmfs_server tag -l -x`` lists them: each names a revision, with a reason."""

from __future__ import annotations

import re
from dataclasses import dataclass

# name, root catalog, its size, revision, Unix time, branch, description (CernVM-FS 2.12, measured)
_LINE = re.compile(r"(\S+) ([0-9a-f]{40}\S*) (\d+) (\d+) (\d+) (\S+)(?: (.*))?")
OURS = "neurocommand-"
# the newest revision and the one before it have these names always
_MOVING = ("trunk", "trunk-previous")


@dataclass(frozen=True)
class Tag:
    """A name of a revision.

    Args:
        name: the tag's.
        revision: the number of the revision.
        time: Unix time at which it was made.
        text: why.
    """

    name: str
    revision: int
    time: int
    text: str


def parse(output: str) -> tuple[Tag, ...]:
    """Read a list of tags; newest first, without those that move by themselves. Other lines are passed over."""
    found = []
    for line in output.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None and match[1] not in _MOVING:
            found.append(Tag(match[1], int(match[4]), int(match[5]), match[7] or ""))
    return tuple(sorted(found, key=lambda tag: (tag.revision, tag.time, tag.name), reverse=True))


def before_last(tags: tuple[Tag, ...]) -> Tag | None:
    """Return the newest publication but one, which undoes the newest; None where there are not two of ours."""
    ours = [tag for tag in tags if tag.name.startswith(OURS)]
    earlier = [tag for tag in ours if tag.revision < ours[0].revision]
    return earlier[0] if earlier else None
