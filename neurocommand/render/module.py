"""What a release's module says and does, whichever module system it is written for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from neurocommand.manifest import Declaration
from neurocommand.model import Format, Inspection, Notice, Release

BASEPATH = "BASEPATH"  # in an image's DEPLOY_ENV_ values: the directory of the unpacked image
KEYWORDS_LENGTH = 8000  # characters; a tool with 600 commands has fewer
DESCRIPTION_LENGTH = 240

# Lmod 8 writes a value for the shell with a backslash before everything special but a line break: what follows one
# would be run by the user's shell. Inspections hold no such value; this is the second lock on that door.
BREAK = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

# ends the second line of every modulefile: of a live release, and of a withdrawn one
LIVE = "the whole root may be moved, since everything is found from this file's own place."
WITHDRAWN = "withdrawn: it cannot be loaded, and says why."


@dataclass(frozen=True)
class Variable:
    """A variable that the module sets: literals, between which the path of the image stands; or why it is not set."""

    name: str
    pieces: tuple[str, ...]
    omitted: str = ""


@dataclass(frozen=True)
class Module:
    """What one release's module says and does.

    Args:
        release: the release.
        help: for people who ask for it.
        whatis: one line for each fact; searched by ``keyword``.
        variables: what it sets beside PATH.
        deprecation: what is told on loading; empty where there is nothing to tell.
        withdrawal: why it cannot be loaded; empty where it can.
    """

    release: Release
    help: str
    whatis: tuple[str, ...]
    variables: tuple[Variable, ...] = ()
    deprecation: str = ""
    withdrawal: str = ""

    @property
    def state(self) -> str:
        """What the second line of its modulefile ends with."""
        return WITHDRAWN if self.withdrawal else LIVE

    @property
    def place(self) -> str:
        """Where its release is, from the root."""
        return f"/containers/{self.release.id}"

    @property
    def image(self) -> str:
        """Where its image is, from the release."""
        return f"/{self.release.id}.simg"

    @property
    def missing(self) -> str:
        """What is told where the release is not."""
        return f"{self.release.id} is not deployed where this modulefile is"


def live(declaration: Declaration, inspection: Inspection, image_format: Format) -> Module:
    """Return the module of a release that can be used.

    Args:
        declaration: the release, and what people say of it.
        inspection: what its image says.
        image_format: in a SIF there is no directory that ``BASEPATH`` could mean, so variables with it are left out.
    """
    deprecation = ""
    if declaration.deprecation:
        deprecation = declaration.deprecation.after(f"{_name(declaration.release)} is deprecated")
    return Module(
        declaration.release,
        inspection.readme,
        tuple(_facts(declaration, inspection)),
        tuple(_variable(name, value, image_format) for name, value in inspection.environment),
        deprecation,
    )


def tombstone(release: Release, categories: Sequence[str], notice: Notice) -> Module:
    """Return the module of a withdrawn release: it says so, and cannot be loaded."""
    told = notice.after(f"{_name(release)} is withdrawn")
    facts = [*_names(release), f"Withdrawn: {notice.text.removeprefix(': ')}"]
    facts += [f"Category: {', '.join(categories)}"] if categories else []
    return Module(release, f"{told}.\n", tuple(facts), withdrawal=told)


def _name(release: Release) -> str:
    return f"{release.application}/{release.version}"


def _names(release: Release) -> Iterator[str]:
    yield f"Name: {release.application}"
    yield f"Version: {release.version}"
    yield f"Build date: {release.build_date}"


def _facts(declaration: Declaration, inspection: Inspection) -> Iterator[str]:
    about = declaration.about
    yield from _names(declaration.release)
    if declaration.deprecation:
        yield f"Deprecated: {declaration.deprecation.text.removeprefix(': ')}"
    facts = {
        "Category": ", ".join(declaration.categories),
        "Description": about.description or first_prose(inspection.readme),
        "URL": about.url,
        "Licence": about.licence,
        "Citation": about.citation,
        "DOI": declaration.doi,
        "Keywords": shortened(", ".join((*about.keywords, *inspection.commands)), KEYWORDS_LENGTH),
    }
    yield from (f"{name}: {fact}" for name, fact in facts.items() if fact)


def first_prose(readme: str) -> str:
    """Return the first line of a README that is no heading, rule, fence, badge, comment or list mark."""
    for line in readme.splitlines():
        text = " ".join(line.split())
        if text[:1].isalnum() and any(character.isalpha() for character in text):
            return shortened(text, DESCRIPTION_LENGTH)
    return ""


def shortened(text: str, length: int) -> str:
    """Return a text that is cut at a blank where it is longer than so many characters."""
    return text if len(text) <= length else text[:length].rpartition(" ")[0].rstrip(",") + " …"


def _variable(name: str, value: str, image_format: Format) -> Variable:
    if BREAK.search(value):
        return Variable(name, (), "its value has a line break or control character")
    pieces = tuple(value.split(BASEPATH))
    if len(pieces) > 1 and image_format == "sif":
        return Variable(name, (), "its value names a directory inside the image, which is one file here")
    return Variable(name, pieces)
