"""The module of a named set, which loads several releases."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neurocommand.errors import UsageError
from neurocommand.manifest import Manifest
from neurocommand.model import Release
from neurocommand.render.modulefile import quoted
from neurocommand.render.tclmodule import quoted as tcl_quoted

# the directory of these modules, where an application of that name would have its own
APPLICATION = "set"


@dataclass(frozen=True)
class ModuleSet:
    """A named set, and the releases that its module loads, in this order."""

    name: str
    members: tuple[Release, ...]

    @property
    def id(self) -> str:
        """The name of its module, which also says whose its modulefiles are."""
        return f"{APPLICATION}/{self.name}"

    @property
    def modules(self) -> tuple[str, ...]:
        """The names of the modules that it loads."""
        return tuple(f"{member.application}/{member.version}" for member in self.members)


def resolved(sets: Iterable[tuple[str, Sequence[str]]], manifest: Manifest, filename: str) -> tuple[ModuleSet, ...]:
    """Return the sets with the releases that they mean by the manifest.

    Args:
        sets: name and members of each, as the configuration has them.
        manifest: what members are looked for in.
        filename: the manifest's, for messages.

    Raises:
        UsageError: a member means no release; or an application is called as the sets' modules are.
    """
    found = tuple(ModuleSet(name, _members(name, members, manifest)) for name, members in sets)
    taken = next((d for d in manifest.declarations if d.release.application == APPLICATION), None)
    if found and taken is not None:
        raise UsageError(
            f"{filename}:{taken.line}: {taken.label}: an application called {APPLICATION} has the place of the modules"
            f" of `sets:`",
            "rename the application, or take `sets:` out of the configuration",
        )
    return found


def _members(name: str, members: Sequence[str], manifest: Manifest) -> tuple[Release, ...]:
    try:
        return tuple(dict.fromkeys(manifest.choose(member).release for member in members))
    except UsageError as error:
        raise UsageError(f"sets.{name}: {error.message}", error.hint) from error


def lua(made: ModuleSet) -> str:
    """Return the text of a set's modulefile for Lmod."""
    loads = ", ".join(map(quoted, made.modules))
    lines = [f"whatis({quoted(line)})" for line in _whatis(made)]
    head = ["-- -*- lua -*-", f"-- {_owned(made)}", f"help({quoted(_help(made))})"]
    return "\n".join([*head, *lines, f"load({loads})", ""])


def tcl(made: ModuleSet) -> str:
    """Return the text of a set's modulefile for Environment Modules."""
    shown = f"proc ModulesHelp {{}} {{\n    puts stderr {tcl_quoted(_help(made))}\n}}"
    lines = [f"module-whatis {tcl_quoted(line)}" for line in _whatis(made)]
    return "\n".join(["#%Module1.0", f"# {_owned(made)}", shown, *lines, f"module load {' '.join(made.modules)}", ""])


def _owned(made: ModuleSet) -> str:
    return f"{made.id}: made by neurocommand; a set that the configuration names."


def _help(made: ModuleSet) -> str:
    return f"Loads {', '.join(made.modules)}."


def _whatis(made: ModuleSet) -> tuple[str, ...]:
    return (f"Name: {made.id}", f"Description: {_help(made)}")
