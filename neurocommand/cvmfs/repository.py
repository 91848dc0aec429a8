"""A repository of this publisher, as ``cvmfs_server`` keeps it in ``server.conf``.

``cvmfs_server`` is a shell script that pastes what it reads, and its arguments, unquoted into other commands. So
every name, path and address is held against a pattern of characters that mean nothing to a shell.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from neurocommand.errors import CvmfsError, printable

CONFIGURATION = Path("/etc/cvmfs")
# The characters and the length are those that CVMFS takes; a word that begins with - would be an option.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", re.ASCII)
_PATH = re.compile(r"(?:/[A-Za-z0-9._@%+,:-]+)+", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9._-]+(?::[0-9]{1,5})?(?:/[A-Za-z0-9._~@%+,:-]+)*", re.ASCII)
_UPSTREAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@%+,:/=-]*", re.ASCII)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*", re.ASCII)
_KEY = re.compile(r"\s*(?:export\s+)?([A-Z][A-Z0-9_]*)=(.*)", re.ASCII)
_LIMIT = 1 << 20


@dataclass(frozen=True)
class Repository:
    """A repository that this machine publishes.

    Args:
        name: its full name, ``neurodesk.example.org``.
        mount: where it is mounted.
        spool: where ``cvmfs_server`` keeps its locks and what is being changed.
        url: where its stratum 0 is served.
        public_key: the file of its master public key.
        owner: the user who may publish.
        upstream: where its objects go, in CVMFS's own notation: ``local,/srv/cvmfs/X/data/txn,/srv/cvmfs/X``.
    """

    name: str
    mount: Path
    spool: Path
    url: str
    public_key: Path
    owner: str
    upstream: str


def checked_name(name: str) -> str:
    """Return a repository's name.

    Raises:
        CvmfsError: CVMFS takes no such name.
    """
    if not NAME.fullmatch(name):
        raise CvmfsError(
            f"{printable(name)!r} is no name of a CVMFS repository",
            "write letters, digits and . - _, at most 60 of them: neurodesk.example.org",
        )
    return name


def checked_url(url: str) -> str:
    """Return a server's address without a slash at its end.

    Raises:
        CvmfsError: it is none, or has characters that mean something to a shell.
    """
    url = url.rstrip("/")
    if not _URL.fullmatch(url) or "/../" in f"{url}/":
        raise CvmfsError(
            f"{printable(url)!r} is no address of a CVMFS repository", "write http://host[:port]/cvmfs/REPOSITORY"
        )
    return url


def read(name: str, configuration: Path = CONFIGURATION) -> Repository:
    """Read what ``cvmfs_server mkfs`` wrote about a repository.

    Args:
        name: of the repository.
        configuration: CVMFS's own directory.

    Raises:
        CvmfsError: there is no such repository, it is a replica, or something is said of it that no shell is safe of.
    """
    file = configuration / "repositories.d" / checked_name(name) / "server.conf"
    found = values(_text(file, name))

    def value(key: str, pattern: re.Pattern[str], missing: str | None = None) -> str:
        text = found.get(key, missing)
        if text is None:
            raise CvmfsError(f"{file}: says nothing of {key}", f"run `cvmfs_server info {name}`, and mend the file")
        if not pattern.fullmatch(text) or {".", ".."} & set(text.split("/")):
            hint = "cvmfs_server passes it to a shell unquoted: write it with letters, digits and . _ @ % + , : - only"
            raise CvmfsError(f"{file}: {key} is {printable(text)!r}, which is not safe", hint)
        return text

    if found.get("CVMFS_REPOSITORY_TYPE", "stratum0") != "stratum0":
        raise CvmfsError(f"{file}: {name} is a replica here", "publish on the machine that holds its stratum 0")
    stated = value("CVMFS_REPOSITORY_NAME", NAME, name)
    if stated != name:
        raise CvmfsError(f"{file}: is about {stated}, not {name}", "name the repository by its full name")
    public_key = configuration / "keys" / f"{name}.pub"
    if not public_key.is_file():
        raise CvmfsError(f"{public_key}: is missing", "copy the repository's master public key there")
    return Repository(
        name,
        mount=Path(value("CVMFS_UNION_DIR", _PATH, f"/cvmfs/{name}")),
        spool=Path(value("CVMFS_SPOOL_DIR", _PATH, f"/var/spool/cvmfs/{name}")),
        url=value("CVMFS_STRATUM0", _URL).rstrip("/"),
        public_key=public_key,
        owner=value("CVMFS_USER", _USER),
        upstream=value("CVMFS_UPSTREAM_STORAGE", _UPSTREAM),
    )


def values(text: str) -> dict[str, str]:
    r"""Return the plain assignments of a shell file; of a name that stands twice the last one counts, as for a shell.

    What is more than one word, or cannot be read as one, is kept as it is written, so that no pattern takes it.

    >>> values('A=1\n# B=2\nC="x y" # z\n')
    {'A': '1', 'C': 'x y'}
    """
    found = {}
    for line in text.splitlines():
        match = _KEY.fullmatch(line)
        if match is None:
            continue
        try:
            words = shlex.split(match[2], comments=True)
        except ValueError:
            words = [match[2], ""]
        found[match[1]] = "".join(words[:1]) if len(words) < 2 else match[2]
    return found


def _text(file: Path, name: str) -> str:
    try:
        with open(file, "rb") as source:
            content = source.read(_LIMIT + 1)
    except FileNotFoundError as error:
        hint = f"make it with `cvmfs_server mkfs {name}`, or correct cvmfs.repository in neurocommand.yaml"
        raise CvmfsError(f"this machine publishes no CVMFS repository {name}: {file} is missing", hint) from error
    except OSError as error:
        raise CvmfsError(f"{file}: {error.strerror}", "run as the user who owns the repository") from error
    if len(content) > _LIMIT:
        raise CvmfsError(f"{file}: is larger than {_LIMIT} bytes", "it is no server.conf: restore it")
    return content.decode(errors="replace")
