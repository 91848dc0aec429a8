"""The files that a CVMFS client needs for one repository; it reads them as shell, so every value is quoted for one.

The format: https://cvmfs.readthedocs.io/en/stable/cpt-configure.html.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

# Where clients look for their configuration; what is written elsewhere is to be copied there.
PLACE = "/etc/cvmfs"
DEFAULT_LOCAL = "default.local"
QUOTA = 4000


@dataclass(frozen=True)
class ClientSettings:
    """What a client is told.

    Args:
        repository: the full name.
        servers: addresses of the repository, in the order in which they are tried.
        proxies: in the order in which they are tried, DIRECT for none; empty where the client is to find out itself.
        geo: servers are sorted by their distance instead, as they themselves tell it.
        quota: MB of the cache.
    """

    repository: str
    servers: tuple[str, ...]
    proxies: tuple[str, ...] = ()
    geo: bool = False
    quota: int = QUOTA


def key_name(repository: str) -> str:
    """Return the name of the public key's file, below the client's directory."""
    return f"keys/{repository}.pub"


def conf_name(repository: str) -> str:
    """Return the name of the repository's file, below the client's directory."""
    return f"config.d/{repository}.conf"


def repository_conf(settings: ClientSettings) -> str:
    """Return ``config.d/<repository>.conf``: where it is served, and by which key it is known."""
    return _text(
        f"{settings.repository}: made by `neurocommand client-config`.",
        CVMFS_SERVER_URL=";".join(settings.servers),
        CVMFS_PUBLIC_KEY=f"{PLACE}/{key_name(settings.repository)}",
        CVMFS_USE_GEOAPI="yes" if settings.geo else "no",
    )


def default_local(settings: ClientSettings) -> str:
    """Return ``default.local``: the way to the servers, and the size of the cache, for all repositories of a client."""
    way = {"CVMFS_HTTP_PROXY": ";".join(settings.proxies)} if settings.proxies else {"CVMFS_CLIENT_PROFILE": "single"}
    return _text(
        "All CVMFS repositories of this host: made by `neurocommand client-config`.",
        **way,
        CVMFS_QUOTA_LIMIT=str(settings.quota),
    )


def _text(remark: str, **values: str) -> str:
    return "".join(f"{line}\n" for line in [f"# {remark}", *(f"{k}={shlex.quote(v)}" for k, v in values.items())])
