"""Settings: neurocommand.yaml over the defaults, and the only place that reads settings from the environment.

Variables: ``NEUROCOMMAND_CONFIG`` names the configuration file, ``NEUROCOMMAND_PREFIX`` the prefix of ``install``,
``NEUROCOMMAND_STATE`` the state directory;
``NEUROCOMMAND_<NAME>_USERNAME`` and ``_PASSWORD`` log in to the registry or the store of kind oci of that name.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from neurocommand import entries, places, schema, yamltext
from neurocommand.errors import Fault, FaultsError, UsageError, printable
from neurocommand.jsontext import Document, read_bytes
from neurocommand.settings import (
    DirectorySettings,
    DownloadSettings,
    RetentionSettings,
    Settings,
)

SCHEMA = "neurocommand.schema.json"
BUNDLED = "bundled"


class ConfigurationError(FaultsError):
    """The configuration file has faults."""

    exit_code = 2


def find(given: Path | None, environ: Mapping[str, str], warn: Callable[[str], object]) -> Path | None:
    """Return the configuration file in effect: the given one, else the first that exists; None when there is none.

    One in the current directory is passed over when somebody else may have written it: whoever stands in a directory
    of another user must not run that user's programs.

    Args:
        given: from the command line.
        environ: the environment.
        warn: called with a message for people when a file is passed over.
    """
    import platformdirs

    if given is not None:
        return given
    if environ.get("NEUROCOMMAND_CONFIG"):
        return Path(environ["NEUROCOMMAND_CONFIG"])
    here = Path("neurocommand.yaml")
    if here.is_file():
        reason = _distrusted(here)
        if not reason:
            return here
        warn(f"{here.absolute()} is ignored, since {reason}; to use it all the same: --config {here}")
    files = [Path("/etc/neurocommand/neurocommand.yaml")]
    # without a home directory there is no place in it
    with contextlib.suppress(RuntimeError):
        files.insert(0, platformdirs.user_config_path("neurocommand") / "neurocommand.yaml")
    return next((file for file in files if os.path.isfile(file)), None)


def _distrusted(path: Path) -> str:
    """Say why a file, or a link to it, may be somebody else's; empty when it is the caller's or root's alone."""
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in (os.geteuid(), 0):
            return f"it belongs to another user (uid {status.st_uid})"
        if status.st_mode & stat.S_IWOTH and not stat.S_ISLNK(status.st_mode):
            return "everybody may write to it"
    return ""


def load(
    given: Path | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    manifest: Path | None = None,
    apart: Path | None = None,
    warn: Callable[[str], object] = str,
) -> Settings:
    """Read the settings in effect.

    Args:
        given: the configuration file named on the command line.
        environ: the environment; the process's own unless said otherwise.
        manifest: the manifest named on the command line.
        apart: a directory that holds state, spool and lock of this run alone, which deploys nothing.
        warn: called with a message for people about a file that is not obeyed.

    Raises:
        ConfigurationError: the file has faults, or cannot be read; or its places stand in each other's way.
        UsageError: a place is named by a home directory that is not known, or cannot be a root.
    """
    environ = os.environ if environ is None else environ
    default_text = importlib.resources.files("neurocommand").joinpath("defaults.yaml").read_text(encoding="utf-8")
    merged: dict[str, Any] = yamltext.parse(default_text).value  # ours: a test holds it against the schema
    base = Path.cwd()
    path = find(given, environ, warn)
    if path is not None:
        merged = _merge(merged, _read(_text(path), str(path)))
        base = path.absolute().parent
    if manifest is not None:
        merged = {**merged, "manifest": str(manifest.absolute())}
    settings = _settings(merged, base, environ)
    if apart is not None:
        place = str(apart.absolute())
        own = {"state": place, "spool": f"{place}/spool", "lock": f"{place}/apps.lock.json"}
        merged = {**merged, **own, "publish": {**merged["publish"], "root": None}}
        environ = {name: value for name, value in environ.items() if name != "NEUROCOMMAND_STATE"}
        settings = replace(_settings(merged, base, environ), lock_from=settings.lock)
    check_apart(settings, str(path or "the configuration"))
    return settings


def checked_root(path: Path) -> Path:
    """Return a root or prefix as an absolute path; a ``~`` before it is the home directory.

    Raises:
        UsageError: nothing can be deployed there: modules are found through MODULEPATH, a list with colons.
    """
    if path == Path():
        raise UsageError("no directory is named", "name one by its path; for the current directory, write $PWD")
    path = entries.path_of(str(path), Path.cwd())
    text = str(path)
    if ":" in text or not text.isprintable():
        raise UsageError(
            f"{printable(text)}: a root's path has no colon and no control character, since MODULEPATH cannot hold it",
            "choose another directory",
        )
    return path


def check_apart(settings: Settings, filename: str) -> None:
    """See that no place is swept or emptied with another one in it (the rule stands in ``places``).

    Args:
        settings: where everything is to be.
        filename: what faults are reported against.

    Raises:
        ConfigurationError: names every two places that break the rule.
    """
    stores = {store.name: store.path for store in settings.stores if isinstance(store, DirectorySettings)}
    faults = tuple(
        Fault(
            0,
            one.name,
            f"{printable(one.path)} stands in the way of {other.name} ({printable(other.path)}): choose another place",
        )
        for one, other in places.collisions(settings.spool, stores, settings.prefix, settings.root)
    )
    if faults:
        raise ConfigurationError(filename, faults)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, str(path))
    except FaultsError as error:
        raise ConfigurationError(error.filename, error.faults, error.hint) from error


def _read(text: str, filename: str) -> dict[str, Any]:
    """Return the checked content of a configuration file."""
    document = yamltext.parse(text)
    faults = list(document.faults)
    for deviation in schema.deviations(document, SCHEMA):
        where = ".".join(str(part) for part in deviation.position)
        faults.append(Fault(document.line(deviation.position), where, deviation.message))
    faults += [*_repeated_names(document), *_unusable_addresses(document)]
    if faults:
        raise ConfigurationError(filename, tuple(faults))
    content: dict[str, Any] = document.value
    return content


def _repeated_names(document: Document) -> list[Fault]:
    faults = []
    content = document.value if isinstance(document.value, dict) else {}
    for section in ("registries", "stores"):
        seen: set[str] = set()
        listed = content.get(section)
        for index, entry in enumerate(listed if isinstance(listed, list) else []):
            name = entry.get("name") if isinstance(entry, dict) else None
            if isinstance(name, str) and name in seen:
                faults.append(Fault(document.line((section, index)), section, f"the name {name} stands twice"))
            seen.add(str(name))
    return faults


def _unusable_addresses(document: Document) -> Iterator[Fault]:
    """Find the addresses of stores that the schema's pattern lets pass, but that lead nowhere."""
    stores = document.value.get("stores") if isinstance(document.value, dict) else None
    for index, entry in enumerate(stores if isinstance(stores, list) else []):
        for key in ("url", "endpoint"):
            address = entry.get(key) if isinstance(entry, dict) else None
            if isinstance(address, str) and entry.get("kind") == "oci":
                address = f"https://{address}"  # a registry is written without a scheme
            if isinstance(address, str) and not _has_host(address):
                position = ("stores", index, key)
                message = f"{printable(address)!r}: no address: write https://host[:port][/path]"
                yield Fault(document.line(position), f"stores.{index}.{key}", message)


def _has_host(address: str) -> bool:
    try:
        parts = urlsplit(address)
        # the port is judged only when it is asked for
        host, _ = parts.hostname, parts.port
    except ValueError:
        return False
    return bool(host) and not re.search(r"[^!-~]|[\"<>\\^`{|}]", parts.netloc) and ".." not in f".{host}"


def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Let a file's own top-level keys replace the defaults; some sections merge by their keys."""
    result = {**defaults, **own}
    for section in ("convert", "downloads", "limits", "install", "publish", "retention", "wrappers"):
        result[section] = {**defaults[section], **own.get(section, {})}
    return result


def _settings(content: dict[str, Any], base: Path, environ: Mapping[str, str]) -> Settings:
    def path(text: str) -> Path:
        return entries.path_of(text, base)

    state = (
        Path(environ["NEUROCOMMAND_STATE"]).absolute() if environ.get("NEUROCOMMAND_STATE") else path(content["state"])
    )
    manifest, install, publish = content["manifest"], content["install"], content["publish"]
    if manifest != BUNDLED and not is_address(manifest):
        manifest = str(path(manifest))
    root = publish.get("root") or ("repository" in publish and f"/cvmfs/{publish['repository']}")
    registries = tuple(entries.registry(entry, environ) for entry in content["registries"])
    return Settings(
        manifest=manifest,
        lock=path(content["lock"]) if "lock" in content else _lock_beside(manifest, state),
        state=state,
        spool=path(content["spool"]) if "spool" in content else state / "spool",
        registries=registries,
        stores=tuple(entries.store(entry, base, registries, state, environ) for entry in content["stores"]),
        prefix=checked_root(Path(environ.get("NEUROCOMMAND_PREFIX") or path(install["prefix"]))),
        install_format=install["format"],
        root=checked_root(path(root)) if root else None,
        publish_format=publish["format"],
        mount_points=tuple(publish["mount_points"]),
        quorum=None if content["quorum"] is None else int(content["quorum"]),
        retention=_retention(content["retention"]),
        compression=content["convert"]["compression"],
        downloads=DownloadSettings(**content["downloads"], speeds=state / "speeds.json"),
        limits=entries.limits(content["limits"]),
        wrappers=entries.wrappers(content["wrappers"]),
        repository=entries.repository(publish),
        sets=tuple((name, tuple(members)) for name, members in content["sets"].items()),
        cvmfs=entries.cvmfs(content["cvmfs"], base) if "cvmfs" in content else None,
    )


def is_address(manifest: str) -> bool:
    """Tell whether a manifest is followed by its address rather than read from a file."""
    return manifest.startswith(("https://", "http://"))


def lmod_directories(environ: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Return where Lmod's programs may be: where its own variables say, and where packages put them.

    Args:
        environ: the environment; the process's own unless said otherwise.
    """
    environ = os.environ if environ is None else environ
    named = [Path(environ["LMOD_DIR"])] if environ.get("LMOD_DIR") else []
    named += [Path(environ["LMOD_PKG"]) / "libexec"] if environ.get("LMOD_PKG") else []
    usual = ("/usr/share/lmod/lmod", "/usr/share/lmod", "/opt/apps/lmod/lmod", "/usr/local/lmod/lmod")
    return (*named, *(Path(place) / "libexec" for place in usual))


def bundled(name: str) -> Path:
    """Return the place of a file that comes with the program; in a checkout, the checkout's own file."""
    return Path(str(importlib.resources.files("neurocommand").joinpath(name))).resolve()


def _lock_beside(manifest: str, state: Path) -> Path:
    """Return the place of a manifest's lock: beside it, and for one that we follow in the state directory."""
    if is_address(manifest):
        return state / "apps.lock.json"
    path = bundled("apps.json") if manifest == BUNDLED else Path(manifest)
    return path.with_name(path.stem + ".lock.json")


def _retention(entry: dict[str, Any]) -> RetentionSettings:
    # JSON Schema takes 8.0 for a whole number, too
    numbers = {name: int(entry[name]) for name in ("grace_days", "gap_days", "floor", "cap")}
    return RetentionSettings(**numbers, pinned=frozenset(entry["pinned"]))
