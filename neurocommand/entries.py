"""Entries of the configuration -> settings: paths, registries, stores, and the credentials of the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from neurocommand import sizes
from neurocommand.errors import UsageError, printable
from neurocommand.settings import (
    Bind,
    Budget,
    Credentials,
    CvmfsSettings,
    DirectorySettings,
    HttpSettings,
    LimitSettings,
    OciSettings,
    RcloneSettings,
    RegistrySettings,
    RepositorySettings,
    S3Settings,
    StoreSettings,
    WrapperSettings,
)

DEFAULT_TEMPLATES = ("{application}_{version}:{build_date}", "{application}:{version}_{build_date}")
# What stands for a home directory that is not known. Nothing can be below it, nor be made there by anybody, so that
# only those verbs fail that need such a place.
HOMELESS = Path(os.devnull) / "the home directory is not known"


def path_of(text: str, base: Path) -> Path:
    """Return a path of the configuration: ``~`` and the user's XDG places put in, relative to the file that names it.

    Raises:
        UsageError: it is in the home directory of a user who is not known.
    """
    import platformdirs

    shown = printable(text)
    try:
        for field, place in (("{data}", platformdirs.user_data_path), ("{state}", platformdirs.user_state_path)):
            if field in text:
                text = text.replace(field, str(place("neurocommand")))
        return base / Path(text).expanduser()
    except RuntimeError as error:
        user, *rest = Path(text).parts
        if user.startswith("~") and user != "~":
            message = f"{shown}: the home directory of {printable(user[1:])} is not known"
            raise UsageError(message, "write the path without ~") from error
        return HOMELESS.joinpath(user.strip("~{}"), *rest)


def registry(entry: dict[str, Any], environ: Mapping[str, str]) -> RegistrySettings:
    """Return the settings of a registry.

    Raises:
        UsageError: half of its credentials are in the environment.
    """
    return RegistrySettings(
        name=entry["name"],
        url=entry["url"],
        templates=tuple(entry.get("templates", DEFAULT_TEMPLATES)),
        insecure=entry.get("insecure", False),
        budget=Budget(**entry.get("budget", {})),
        credentials=_credentials(entry["name"], environ),
    )


def store(
    entry: dict[str, Any],
    base: Path,
    registries: Sequence[RegistrySettings],
    state: Path,
    environ: Mapping[str, str],
) -> StoreSettings:
    """Return the settings of a store.

    Args:
        entry: what the file says of it.
        base: what paths are relative to.
        registries: all of them; a store of kind oci may name one.
        state: the state directory.
        environ: the environment, for credentials.

    Raises:
        UsageError: it names something that is not there.
    """
    match entry["kind"]:
        case "directory":
            path, writable = path_of(entry["path"], base), entry.get("writable", True)
            mode = entry.get("mode")
            url = entry.get("url", "").rstrip("/")
            return DirectorySettings(entry["name"], path, writable, entry.get("create", False), mode, url)
        case "s3":
            return S3Settings(
                name=entry["name"],
                bucket=entry["bucket"],
                endpoint=entry.get("endpoint"),
                region=entry.get("region"),
                prefix=entry.get("prefix", ""),
                profile=entry.get("profile"),
                anonymous=entry.get("anonymous", False),
                writable=entry.get("writable", not entry.get("anonymous", False)),
                mode=entry.get("mode"),
                url=entry.get("url", "").rstrip("/"),
                part_size=int(entry.get("part_size", 8)) << 20,  # JSON Schema takes 8.0 for a whole number, too
                concurrency=int(entry.get("concurrency", 4)),
            )
        case "rclone":
            return RcloneSettings(
                name=entry["name"],
                remote=entry["remote"],
                writable=entry.get("writable", True),
                url=entry.get("url", "").rstrip("/"),
                mode=entry.get("mode"),
            )
        case "oci":
            return _oci(entry, registries, state, environ)
        case _:
            return HttpSettings(entry["name"], entry["url"].rstrip("/"), tuple(entry.get("absent", (404, 410))))


def _oci(
    entry: dict[str, Any], registries: Sequence[RegistrySettings], state: Path, environ: Mapping[str, str]
) -> OciSettings:
    name, url = entry["name"], entry["url"]
    images = None
    if "images" in entry:
        images = next((registry for registry in registries if registry.name == entry["images"]), None)
        if images is None or images.url.partition("/")[0] != url.partition("/")[0]:
            raise UsageError(
                f"store {name}: images: {entry['images']} is no registry on {url.partition('/')[0]}",
                "name one of `registries:` on the store's own host: a referrer stands beside its image",
            )
    return OciSettings(
        name=name,
        url=url,
        insecure=entry.get("insecure", False),
        images=images,
        writable=entry.get("writable", True),
        state=state / "uploads" / name,
        credentials=_credentials(name, environ),
        mode=entry.get("mode"),
    )


def cvmfs(entry: dict[str, Any], base: Path) -> CvmfsSettings:
    """Return what is said of a CVMFS repository; ``@fqrn@`` in an address stands for its name, as in CVMFS's own files.

    Args:
        entry: what the file says.
        base: what paths are relative to.
    """
    name, configuration = entry["repository"], path_of(entry.get("configuration", "/etc/cvmfs"), base)
    key, age, first = entry.get("public_key"), entry.get("max_age_hours"), entry.get("stratum0")
    return CvmfsSettings(
        repository=name,
        servers=tuple(_server(url, name) for url in entry.get("servers", ())),
        stratum0=_server(first, name) if first else None,
        public_key=path_of(key, base) if key else configuration / "keys" / f"{name}.pub",
        lag_minutes=int(entry.get("max_lag_minutes", 90)),
        age_hours=None if age is None else int(age),
        release_file=entry.get("release_file", "record.json"),
        configuration=configuration,
    )


def _server(url: str, name: str) -> str:
    return url.replace("@fqrn@", name).rstrip("/")


def limits(entry: dict[str, Any]) -> LimitSettings:
    """Return how much may go on at once."""
    # JSON Schema takes 8.0 for a whole number, too
    numbers = {name: int(entry[name]) for name in ("conversions", "transfers")}
    written = entry.get("bandwidth")
    return LimitSettings(**numbers, bandwidth=None if written is None else _bytes(written))


def _bytes(written: str | int) -> int:
    return sizes.bytes_of(written) if isinstance(written, str) else int(written)


def repository(entry: dict[str, Any]) -> RepositorySettings | None:
    """Return the CVMFS repository that is published to; None where ``publish`` names none."""
    if "repository" not in entry:
        return None
    return RepositorySettings(
        name=entry["repository"],
        configuration=Path(entry["cvmfs_configuration"]),
        whitelist_days=float(entry["whitelist_days"]),
        min_free=_bytes(entry["min_free"]),
        revision_size=_bytes(entry["revision_size"]),
        revision_entries=int(entry["revision_entries"]),
        revision_seconds=int(entry["revision_seconds"]),
    )


def wrappers(entry: dict[str, Any]) -> WrapperSettings:
    """Return what every wrapper does."""
    binds = tuple(
        Bind(bind["source"], bind.get("destination", bind["source"]), bind.get("read_only", False))
        for bind in entry["binds"]
    )
    return WrapperSettings(entry["gpu"], entry["warm"], int(entry["warm_idle"]), tuple(entry["pass"]), binds)


def _credentials(name: str, environ: Mapping[str, str]) -> Credentials | None:
    """Return what the environment has for a registry or store; None when that is nothing."""
    variables = [f"NEUROCOMMAND_{name.upper().replace('-', '_')}_{field}" for field in ("USERNAME", "PASSWORD")]
    username, password = (environ.get(variable, "") for variable in variables)
    if bool(username) != bool(password):
        raise UsageError(f"{' and '.join(variables)} belong together", "set both, or neither")
    return Credentials(username, password) if username else None
