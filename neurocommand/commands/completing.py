"""What a word on the command line may become; asks no network, and whatever is wrong gives no candidates."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neurocommand.errors import NeurocommandError
from neurocommand.model import Release

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from neurocommand.settings import Settings

# where `--manifest` is kept for the words that come after it
MANIFEST = "neurocommand.manifest"


def complete_release(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the releases of the manifest that a word may become."""
    with contextlib.suppress(NeurocommandError, OSError):
        return _names(_declared(ctx), incomplete)
    return []


def complete_store(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of stores that a word may become."""
    with contextlib.suppress(NeurocommandError, OSError):
        return sorted(store.name for store in _settings(ctx).stores if store.name.startswith(incomplete))
    return []


def complete_installed(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the installed releases that a word may become: under ``--prefix``, else under all roots of this host."""
    from neurocommand import config
    from neurocommand.commands import installed
    from neurocommand.layout import Root

    with contextlib.suppress(NeurocommandError, OSError):
        prefix = ctx.params.get("prefix")
        if prefix is not None:
            roots = [Root(config.checked_root(prefix))]
        elif "prefix" in ctx.params:
            roots = [Root(_settings(ctx).prefix)]
        else:
            roots = installed.places(_settings(ctx))
        there = (release for root in roots for release in installed.named(root) if installed.has_record(root, release))
        return _names(there, incomplete)
    return []


def complete_any(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the releases that a word may become, of the manifest or installed."""
    found = complete_release(ctx, parameter, incomplete) + complete_installed(ctx, parameter, incomplete)
    return sorted(set(found))


def complete_command(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the commands of what is deployed that a word may become: on this host, and under ``--root``."""
    from neurocommand import config
    from neurocommand.commands import installed
    from neurocommand.layout import Root

    with contextlib.suppress(NeurocommandError, OSError):
        more = ctx.params.get("root")
        roots = [*installed.places(_settings(ctx)), *([Root(config.checked_root(more))] if more is not None else [])]
        every = (entry for root in roots for entry in installed.entries(root)[0])
        return sorted({name for entry in every for name in entry.commands if name.startswith(incomplete)})
    return []


def complete_run(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the commands of the release that ``run`` is given; then files, since the words are the command's own."""
    from click.shell_completion import CompletionItem

    from neurocommand.commands import installed

    words = [word for word in ctx.params.get("words") or () if word != "--"]
    if words:
        return [CompletionItem(incomplete, type="file")]
    with contextlib.suppress(NeurocommandError, OSError):
        chosen = installed.choose(ctx.params.get("release") or "", installed.places(_settings(ctx)))
        if chosen is not None:
            release, (root, *_) = chosen
            commands = next(entry.commands for entry in installed.entries(root)[0] if entry.release == release)
            return [CompletionItem(name) for name in commands if name.startswith(incomplete)]
    return []


def _names(releases: Iterable[Release], incomplete: str) -> list[str]:
    versions = "/" in incomplete
    names = {f"{r.application}/{r.version}" if versions else r.application for r in releases}
    return sorted(name for name in names if name.startswith(incomplete))


def _settings(ctx: click.Context) -> Settings:
    from neurocommand import config

    return config.load(ctx.find_root().params.get("config_path"))


def _declared(ctx: click.Context) -> list[Release]:
    from neurocommand import config, jsontext, manifesttext

    given: Path | None = ctx.meta.get(MANIFEST)
    source = str(given) if given is not None else _settings(ctx).manifest
    maintained = True
    if given is None and config.is_address(source):
        from neurocommand import follow

        # a copy may be missing, and then there are no candidates
        text = follow.cached(source, _settings(ctx).state / "manifest") or "{}"
        maintained = False
    else:
        path = config.bundled("apps.json") if source == config.BUNDLED else Path(source)
        text = jsontext.read_bytes(path, str(path))
    return [declared.release for declared in manifesttext.parse(text, source, maintained=maintained).declarations]
