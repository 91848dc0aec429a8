"""``neurocommand which``: the releases of this host that give a command, from the indexes of its roots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from neurocommand import config
from neurocommand.commands import completing, installed
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_json
from neurocommand.commands.session import Session
from neurocommand.errors import NeurocommandError, printable, printable_lines
from neurocommand.index import Entry
from neurocommand.layout import Root
from neurocommand.model import Notice, Release


@dataclass(frozen=True)
class Provider:
    """A release under a root that gives a command; ``default`` where its application's name alone means it."""

    name: str
    entry: Entry
    root: Root
    default: bool

    @property
    def wrapper(self) -> Path:
        """The wrapper of the command."""
        return self.root.release(self.entry.release).wrappers / self.name

    @property
    def notice(self) -> Notice | None:
        """Why the release is withdrawn, as its record says; None for a live one."""
        if not self.entry.withdrawn:
            return None
        return installed.notice(self.root, self.entry.release) or Notice("its record does not say why")


@click.command("which")
@click.argument("name", metavar="CMD", shell_complete=completing.complete_command)
@click.option("--root", type=click.Path(path_type=Path, file_okay=False), help="One more root to look under.")
@click.option("--all", "every", is_flag=True, help="Show withdrawn releases and second copies, too.")
@takes_json
@click.pass_obj
def command(session: Session, name: str, root: Path | None, every: bool, as_json: bool) -> int:
    """Show which deployed releases give a command.

    CMD is a command, or a pattern of commands with * ? and [ ]. For each release: its module, its full id and the
    command's wrapper; the default version first, then the newest. Looks under the prefix and the shared root, and
    asks neither manifest nor network.

    \b
    Examples:
      neurocommand which fslmaths
      neurocommand which 'bet*' --json
    """
    roots = installed.places(session.settings)
    if root is not None:
        roots = list(dict.fromkeys([*roots, Root(config.checked_root(root))]))
    deployed = _deployed(session, roots)
    providers = _providers(deployed, roots, _pattern(name))
    found = providers if every else _first(providers)
    if not found:
        raise _unknown(name, deployed, roots)
    if as_json:
        echo_json([_values(provider) for provider in found])
        return 0
    for line in _lines(found):
        click.echo(printable_lines(line))
    return 0


def _deployed(session: Session, roots: Sequence[Root]) -> list[tuple[Root, Entry]]:
    """Return what is deployed under each root; one that cannot be looked at is named and passed over."""
    found, refused = list[tuple[Root, Entry]](), list[str]()
    for root in roots:
        try:
            entries, reason = installed.entries(root)
        except OSError as error:
            refused.append(installed.reason(error))
            session.console.complain(f"warning: {refused[-1]}")
            continue
        if reason:
            session.console.complain(f"warning: {reason}")
            session.console.complain("  next: the next install, remove, publish or sync under that root renews it")
        found += [(root, entry) for entry in entries]
    if refused and not found:
        raise NeurocommandError(
            f"it cannot be told what is deployed: {', '.join(refused)}", "may this user read there?"
        )
    return found


def _pattern(name: str) -> Callable[[str], bool]:
    if any(character in name for character in "*?["):
        return lambda command: fnmatchcase(command, name)
    return name.__eq__


def _providers(
    deployed: Sequence[tuple[Root, Entry]], roots: Sequence[Root], matches: Callable[[str], bool]
) -> list[Provider]:
    """Return every release that gives a command that matches: the default ones first, then the newest."""
    matching = [(root, entry, name) for root, entry in deployed for name in entry.commands if matches(name)]
    defaults = _defaults({entry.release.application for _, entry, _ in matching}, roots)
    found = [Provider(name, entry, root, entry.release in defaults) for root, entry, name in matching]
    # sorts are stable, so that of two copies that of the first root stays first
    found.sort(key=lambda one: (one.entry.release.build_date, one.entry.release.precedence), reverse=True)
    found.sort(key=lambda one: (one.name, one.entry.withdrawn, not one.default))
    return found


def _defaults(applications: Iterable[str], roots: Sequence[Root]) -> set[Release]:
    """Return what each application's name alone means, to ``run`` as to modules."""
    chosen = [installed.choose(application, roots) for application in applications]
    return {found[0] for found in chosen if found is not None}


def _first(providers: Iterable[Provider]) -> list[Provider]:
    """Return each release once, and a withdrawn one only where no live release gives the command."""
    found: dict[tuple[str, Release], Provider] = {}
    live: set[str] = set()
    for provider in providers:
        if not provider.entry.withdrawn:
            live.add(provider.name)
        elif provider.name in live:
            continue
        found.setdefault((provider.name, provider.entry.release), provider)
    return list(found.values())


def _module(release: Release) -> str:
    return f"{release.application}/{release.version}"


def _lines(found: Sequence[Provider]) -> Iterable[str]:
    names = max(len(provider.name) for provider in found)
    modules = max(len(_module(provider.entry.release)) for provider in found)
    for provider in found:
        release, notice = provider.entry.release, provider.notice
        remark = f"  withdrawn {notice.text}" if notice else "  default" if provider.default else ""
        yield f"{provider.name:{names}}  {_module(release):{modules}}  {release.id}  {provider.wrapper}{remark}"


def _values(provider: Provider) -> dict[str, Any]:
    release, notice = provider.entry.release, provider.notice
    withdrawn = notice and {
        "reason": notice.reason,
        "successor": notice.successor.id if notice.successor else None,
        "since": notice.since or None,
    }
    return {
        "command": provider.name,
        "application": release.application,
        "version": release.version,
        "build_date": release.build_date,
        "id": release.id,
        "root": str(provider.root.path),
        "path": str(provider.wrapper),
        "default": provider.default,
        "withdrawn": withdrawn,
    }


def _unknown(name: str, deployed: Sequence[tuple[Root, Entry]], roots: Sequence[Root]) -> NeurocommandError:
    places = ", ".join(str(root.path) for root in roots)
    known = sorted({command for _, entry in deployed for command in entry.commands})
    folded = [command for command in known if command.casefold() == name.casefold()]
    near = list(dict.fromkeys([*folded, *get_close_matches(name, known, n=6)]))
    hint = f"did you mean {', '.join(near)}?" if near else "see what could be installed: neurocommand list"
    return NeurocommandError(f"{printable(name)}: no release that is deployed under {places} gives it", hint)
