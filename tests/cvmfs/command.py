"""The command line: options of each command, and exit codes."""

from __future__ import annotations

import getopt
import os
import pwd
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from . import ingestion, publication, repositories, tags, transactions, upkeep
from .host import Host
from .words import RefusedError, WorkerError, complain

Options = list[tuple[str, str]]


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    host = Host(Path(os.environ["CVMFS_SIMULATOR"]).resolve())
    command = COMMANDS.get(argv[0]) if argv else None
    if command is None:
        complain("Usage: cvmfs_server COMMAND [options] <parameters>")
        return 1
    letters, run = command
    try:
        options, words = getopt.gnu_getopt(argv[1:], letters)
        run(host, dict(options), options, words)
    except getopt.GetoptError as error:
        complain(f"Unrecognized option: {error.msg}", "Usage: cvmfs_server COMMAND [options] <parameters>")
        return 2
    except RefusedError as refusal:
        complain(*refusal.lines)
        return refusal.code
    except WorkerError as fault:
        complain(*fault.lines)
        return 1
    return 0


def _name(words: Sequence[str]) -> str:
    """Return the repository that a command is for."""
    if not words:
        raise RefusedError(1, "Usage: cvmfs_server COMMAND [options] <repository name>")
    return words[0]


def _mkfs(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    name = _name(words)
    owner = given.get("-o", pwd.getpwuid(os.geteuid()).pw_name)
    url = given.get("-w", f"http://localhost/cvmfs/{name}")
    wanted = repositories.NewRepository(name, owner, url, collectable="-z" in given, auto_tags="-g" not in given)
    if given.get("-u", "").startswith("gw,"):
        repositories.join_gateway(host, wanted, Path(given["-k"]).resolve(), given["-u"])
    else:
        repositories.mkfs(host, wanted)


def _rmfs(host: Host, _: dict[str, str], __: Options, words: Sequence[str]) -> None:
    repositories.rmfs(host, _name(words))


def _transaction(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    template = None
    if "-T" in given:
        source, _separator, target = given["-T"].partition("=")
        template = (source.strip("/"), target.strip("/"))
    wait = int(given["-t"]) if "-t" in given else None
    transactions.transaction(host, _name(words), wait=wait, template=template)


def _publish(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    name, tag, text = _name(words), given.get("-a", ""), given.get("-m", "")
    publication.publish(host, name, force="-f" in given, tag=tag, text=text)


def _abort(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    transactions.abort(host, _name(words), force="-f" in given)


def _ingest(host: Host, given: dict[str, str], options: Options, words: Sequence[str]) -> None:
    deleted = tuple(path for name, value in options if name == "-d" for path in value.split(":"))
    request = ingestion.Request(
        tar=given.get("-t", ""),
        base=given.get("-b", ""),
        deleted=deleted,
        catalog="-c" in given,
        user=given.get("-u", ""),
        group=given.get("-g", ""),
        keep="-k" in given,
    )
    ingestion.ingest(host, _name(words), request)


def _tag(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    name, plain = _name(words), "-x" in given
    if "-a" in given:
        tags.add(host, name, given["-a"], text=given.get("-m", ""), root=given.get("-h", ""))
    elif "-r" in given:
        tags.remove(host, name, given["-r"])
    elif "-i" in given:
        tags.show(host, name, given["-i"], plain=plain)
    else:
        tags.list_tags(host, name, plain=plain)


def _rollback(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    tags.rollback(host, _name(words), given.get("-t", ""))


def _diff(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    tags.diff(host, _name(words), given.get("-s", "trunk-previous"), given.get("-d", "trunk"))


def _check(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    options = {"only_catalogs": "-c" in given, "contents": "-i" in given, "repair": "-r" in given}
    upkeep.check(host, _name(words), **options)


def _gc(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    keep = int(given["-r"]) if "-r" in given else None
    upkeep.gc(host, _name(words), keep=keep, before=_moment(given.get("-t", "3 days ago")), dry="-d" in given)


def _moment(text: str) -> float:
    """Return the time that a date, or a number of some unit ago, means."""
    words = text.split()
    if words[-1:] == ["ago"]:
        unit = words[1] if words[1].endswith("s") else f"{words[1]}s"
        return time.time() - timedelta(**{unit: int(words[0])}).total_seconds()
    return datetime.fromisoformat(text).timestamp()


def _resign(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    upkeep.resign(host, _name(words), days=int(given.get("-d", "30")), force="-f" in given)


def _mount(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    transactions.mount(host, host.names() if "-a" in given else [_name(words)])


def _list(host: Host, _: dict[str, str], __: Options, ___: Sequence[str]) -> None:
    repositories.list_repositories(host)


def _list_catalogs(host: Host, given: dict[str, str], _: Options, words: Sequence[str]) -> None:
    upkeep.list_catalogs(host, _name(words), sizes="-s" in given, entries="-e" in given)


# each command's letters, as getopt reads them, and what it does
COMMANDS: dict[str, tuple[str, Callable[[Host, dict[str, str], Options, Sequence[str]], None]]] = {
    "mkfs": ("o:zgw:G:pu:k:", _mkfs),
    "rmfs": ("fp", _rmfs),
    "transaction": ("t:T:r", _transaction),
    "publish": ("fa:m:", _publish),
    "abort": ("f", _abort),
    "ingest": ("ct:b:d:u:g:k", _ingest),
    "tag": ("a:m:h:r:fli:x", _tag),
    "rollback": ("ft:", _rollback),
    "diff": ("s:d:x", _diff),
    "check": ("cir", _check),
    "gc": ("fr:t:dl", _gc),
    "resign": ("fd:", _resign),
    "mount": ("a", _mount),
    "list": ("", _list),
    "list-catalogs": ("set", _list_catalogs),
}
