"""The documents agree with each other and with the code: links, exit codes, verbs, modules."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pytest

import neurocommand
from neurocommand.cli import COMMANDS
from neurocommand.errors import NeurocommandError

TOP = Path(__file__).parents[1]
PACKAGE = TOP / "neurocommand"
DESIGN = TOP / "docs" / "design.md"
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "cvmfs/*.md") for path in TOP.glob(pattern)
)

FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def prose(path: Path) -> str:
    """Return a document without its examples."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge makes from headings: lower case, words joined by ``-``, no punctuation."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in HEADING.findall(prose(path))}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(TOP)))
def test_relative_links_resolve(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}"
        assert TOP in (target, *target.parents), f"{path.name} links outside the project: {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name} links to {link}"


def exit_codes(path: Path) -> Counter[int]:
    """Count the codes in the table of exit codes; a row may hold several."""
    table = prose(path).partition("| code | meaning |")[2].partition("\n\n")[0]
    return Counter(
        int(code) for row in re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE) for code in row.split(",")
    )


def families() -> set[type[NeurocommandError]]:
    """Return every class of expected errors, wherever it is defined."""
    for module in pkgutil.walk_packages(neurocommand.__path__, "neurocommand."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, waiting = set[type[NeurocommandError]](), [NeurocommandError]
    while waiting:
        found.add(kind := waiting.pop())
        waiting += kind.__subclasses__()
    return found


@pytest.mark.parametrize("path", [TOP / "README.md", DESIGN], ids=lambda path: path.name)
def test_every_exit_code_stands_once_in_the_table(path: Path) -> None:
    listed = exit_codes(path)
    assert set(listed.values()) == {1}
    assert set(listed) >= {0, 2, 130, *(kind.exit_code for kind in families())}
    assert set(listed) == set(exit_codes(DESIGN))


def test_the_readme_says_what_every_verb_is_for() -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8").partition("<!-- usage:begin")[0]
    assert [verb for verb in COMMANDS if not re.search(rf"(neurocommand |`){verb}\b", text)] == []


def listed_modules() -> tuple[set[str], set[str]]:
    """Return the packages, and the modules with their package's folder, that the table of layers names."""
    packages, modules = set[str](), set[str]()
    for row in re.findall(r"^\| (?:L[0-6])? *\| (.*?) \| (.*) \|$", prose(DESIGN), re.MULTILINE):
        names, folder = re.findall(r"`([a-z_0-9/.]+)`", row[0]), ""
        for name in names:
            if name.endswith("/"):
                packages.add(name)
                folder = name
        modules |= {name for name in names if name.endswith(".py")}
        if folder:
            modules |= {folder + name for name in re.findall(r"`([a-z_0-9]+\.py)`", row[1])}
    return packages, modules


def test_the_table_of_layers_names_every_module() -> None:
    """A package is named by its folder; where its modules are told, all of them are."""
    packages, listed = listed_modules()
    there = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if not path.name.startswith("__")}
    assert packages == {f"{Path(name).parent}/" for name in there if "/" in name}
    assert listed <= there, f"not there: {sorted(listed - there)}"
    told = {f"{Path(name).parent}/" for name in listed if "/" in name}
    missing = {name for name in there - listed if "/" not in name or f"{Path(name).parent}/" in told}
    assert missing == set(), f"not named: {sorted(missing)}"


@pytest.mark.parametrize("name", ["apps.json", "apps.lock.json", "apps.schema.json", "neurocommand.schema.json"])
def test_an_installed_copy_has_what_is_published(name: str) -> None:
    assert (PACKAGE / name).resolve() == TOP / name
