"""``neurocommand client-config``: what a CVMFS client needs, printed or put in place."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from neurocommand.commands import journal
from neurocommand.commands.console import echo_json
from neurocommand.commands.options import takes_json
from neurocommand.commands.session import Session
from neurocommand.cvmfs import signature
from neurocommand.errors import NeurocommandError, RefusedError, UsageError, printable, printable_lines, system_error
from neurocommand.files import make_directory, write_atomically
from neurocommand.render import cvmfsclient
from neurocommand.render.cvmfsclient import ClientSettings

_PROXY = re.compile(r"DIRECT|auto|(https?://)?[A-Za-z0-9._-]+:[0-9]{1,5}", re.ASCII)
_UMASK = 0o022  # the client reads its files as a user of its own
_LIMIT = 1 << 16


@dataclass(frozen=True)
class File:
    """One file: its name below the client's directory, its text, and what is to be done there.

    ``state`` is ``printed``, ``new``, ``unchanged`` or ``differs``.
    """

    name: str
    text: str
    state: str


@click.command("client-config")
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="URL",
    help="A caching proxy, http://host:3128, or DIRECT; may be repeated, in the order in which they are tried.",
)
@click.option(
    "--geo/--no-geo", default=None, help="Let clients sort the servers by distance; they do where there are several."
)
@click.option(
    "--quota",
    type=click.IntRange(min=1000, max=100_000_000),
    default=cvmfsclient.QUOTA,
    show_default=True,
    metavar="MB",
    help="Size of the client's cache.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Put the files there, /etc/cvmfs on a client, instead of printing them.",
)
@click.option("--force", is_flag=True, help="Replace files that say something else.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@takes_json
@click.pass_obj
def command(
    session: Session,
    proxies: tuple[str, ...],
    geo: bool | None,
    quota: int,
    output: Path | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Print or install the configuration of clients of the CVMFS repository.

    The public key, the servers of the configuration, and the way to them: through the proxies that are named, else as
    CVMFS's profile for single machines finds out. Files that say something else are left alone, with exit code 3.

    \b
    Examples:
      neurocommand client-config
      neurocommand client-config --output /etc/cvmfs --proxy http://squid.example.org:3128 --proxy DIRECT
      neurocommand client-config --output image/etc/cvmfs --dry-run
    """
    files = _files(_settings(session, proxies, geo, quota), _key(session), output)
    differing = [file.name for file in files if file.state == "differs"]
    if output is not None and differing and not force and not dry_run:
        raise RefusedError(
            f"{printable(str(output))}: {', '.join(differing)}: says something else, so nothing was written",
            "look at it, then move it away or give --force; what belongs to this host alone is for config.d/*.local",
        )
    if output is not None and not dry_run:
        _install(output, files)
    if as_json:
        echo_json({"output": str(output) if output else None, "files": [_values(file, dry_run) for file in files]})
    else:
        _print(files, output, dry_run=dry_run)
    return 0


def _settings(session: Session, proxies: tuple[str, ...], geo: bool | None, quota: int) -> ClientSettings:
    """Return what clients are told.

    Raises:
        UsageError: the configuration names no repository or no server, or a proxy is none.
    """
    settings = session.settings.cvmfs
    servers = () if settings is None else settings.servers or settings.addresses
    if settings is None or not servers:
        raise UsageError(
            "no servers of a CVMFS repository are known", "set cvmfs.repository and cvmfs.servers in neurocommand.yaml"
        )
    for proxy in proxies:
        if not all(_PROXY.fullmatch(one) for one in proxy.split("|")):
            raise UsageError(
                f"{printable(proxy)!r} is no proxy",
                "write http://host:port or DIRECT; | between those that share the load",
            )
    return ClientSettings(settings.repository, servers, proxies, len(servers) > 1 if geo is None else geo, quota)


def _key(session: Session) -> str:
    """Return the repository's public key, as text.

    Raises:
        CvmfsError: it cannot be read, or is none.
        UsageError: no repository is configured.
    """
    settings = session.settings.cvmfs
    if settings is None:
        raise UsageError("no CVMFS repository is configured", "set cvmfs.repository in neurocommand.yaml")
    signature.check_key(settings.public_key)
    with open(settings.public_key, "rb") as source:
        return source.read(_LIMIT).decode("ascii", errors="replace")


def _files(settings: ClientSettings, key: str, output: Path | None) -> list[File]:
    texts = {
        cvmfsclient.key_name(settings.repository): key,
        cvmfsclient.conf_name(settings.repository): cvmfsclient.repository_conf(settings),
        cvmfsclient.DEFAULT_LOCAL: cvmfsclient.default_local(settings),
    }
    return [File(name, text, _state(output, name, text)) for name, text in texts.items()]


def _state(output: Path | None, name: str, text: str) -> str:
    """Tell what stands in a file's place.

    Raises:
        NeurocommandError: that cannot be read.
    """
    if output is None:
        return "printed"
    place = output / name
    if not os.path.lexists(place):
        return "new"
    try:
        with open(place, "rb") as source:
            return "unchanged" if source.read(_LIMIT + 1) == text.encode() else "differs"
    except IsADirectoryError as error:
        raise system_error(place, error) from error
    except FileNotFoundError:
        return "differs"  # a link that leads nowhere
    except OSError as error:
        raise system_error(place, error) from error


def _install(output: Path, files: list[File]) -> None:
    """Put in place what is not there yet.

    Raises:
        NeurocommandError: the directory cannot be written.
    """
    for file in files:
        if file.state == "unchanged":
            continue
        place = output / file.name
        try:
            make_directory(place.parent, _UMASK)
            write_atomically(place, file.text, umask=_UMASK)
        except OSError as error:
            raise system_error(place, error, NeurocommandError, "write it as root, or to another --output") from error


def _values(file: File, dry_run: bool) -> dict[str, Any]:
    return {"name": file.name, "state": _said(file, dry_run), "text": file.text}


def _said(file: File, dry_run: bool) -> str:
    if dry_run or file.state in ("printed", "unchanged"):
        return file.state
    return {"new": "written", "differs": "replaced"}[file.state]


def _print(files: list[File], output: Path | None, *, dry_run: bool) -> None:
    if output is not None:
        for file in files:
            journal.echo(f"{printable(str(output / file.name), 1000)}: {_said(file, dry_run)}")
        return
    for number, file in enumerate(files):
        journal.echo(("\n" if number else "") + f"# --- {cvmfsclient.PLACE}/{file.name}")
        journal.echo(printable_lines(file.text.rstrip("\n")))
