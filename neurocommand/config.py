"""Settings: neurocommand.yaml over the defaults, and the only place that reads settings from the environment.

Variables: ``NEUROCOMMAND_CONFIG`` names the configuration file, ``NEUROCOMMAND_PREFIX`` the prefix of ``install``.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurocommand import places, schema, yamltext
from neurocommand.errors import Fault, FaultsError, UsageError, printable
from neurocommand.jsontext import Document, read_bytes
from neurocommand.settings import (
    DirectorySettings,
    DownloadSettings,
    HttpSettings,
    RegistrySettings,
    S3Settings,
    Settings,
    StoreSettings,
)

SCHEMA = "neurocommand.schema.json"
BUNDLED = "bundled"
DEFAULT_TEMPLATES = ("{application}_{version}:{build_date}", "{application}:{version}_{build_date}")


class ConfigurationError(FaultsError):
    """The configuration file has faults."""

    exit_code = 2


def find(given: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file in effect: the given one, else the first that exists; None when there is none.

    Args:
        given: from the command line.
        environ: the environment.
    """
    import platformdirs

    if given is not None:
        return given
    if environ.get("NEUROCOMMAND_CONFIG"):
        return Path(environ["NEUROCOMMAND_CONFIG"])
    files = [Path("neurocommand.yaml"), Path("/etc/neurocommand/neurocommand.yaml")]
    # without a home directory there is no place in it
    with contextlib.suppress(RuntimeError):
        files.insert(1, platformdirs.user_config_path("neurocommand") / "neurocommand.yaml")
    return next((file for file in files if os.path.isfile(file)), None)


def load(
    given: Path | None = None, environ: Mapping[str, str] | None = None, *, manifest: Path | None = None
) -> Settings:
    """Read the settings in effect.

    Args:
        given: the configuration file named on the command line.
        environ: the environment; the process's own unless said otherwise.
        manifest: the manifest named on the command line.

    Raises:
        ConfigurationError: the file has faults, or cannot be read; or its places stand in each other's way.
        UsageError: a place is named by a home directory that is not known, or cannot be a root.
    """
    environ = os.environ if environ is None else environ
    default_text = importlib.resources.files("neurocommand").joinpath("defaults.yaml").read_text(encoding="utf-8")
    merged: dict[str, Any] = yamltext.parse(default_text).value  # ours: a test holds it against the schema
    base = Path.cwd()
    path = find(given, environ)
    if path is not None:
        merged = _merge(merged, _read(_text(path), str(path)))
        base = path.absolute().parent
    if manifest is not None:
        merged = {**merged, "manifest": str(manifest.absolute())}
    settings = _settings(merged, base, environ)
    check_apart(settings, str(path or "the configuration"))
    return settings


def checked_root(path: Path) -> Path:
    """Return a root or prefix as an absolute path.

    Raises:
        UsageError: nothing can be deployed there: modules are found through MODULEPATH, a list with colons.
    """
    if path == Path():
        raise UsageError("no directory is named", "name one by its path; for the current directory, write $PWD")
    text = str(path.absolute())
    if ":" in text or not text.isprintable():
        raise UsageError(
            f"{printable(text)}: a root's path has no colon and no control character, since MODULEPATH cannot hold it",
            "choose another directory",
        )
    return path.absolute()


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
        raise ConfigurationError(error.filename, error.faults) from error


def _read(text: str, filename: str) -> dict[str, Any]:
    """Return the checked content of a configuration file."""
    document = yamltext.parse(text)
    faults = list(document.faults)
    for deviation in schema.deviations(document, SCHEMA):
        where = ".".join(str(part) for part in deviation.position)
        faults.append(Fault(document.line(deviation.position), where, deviation.message))
    faults += _repeated_names(document)
    if faults:
        raise ConfigurationError(filename, tuple(faults))
    content: dict[str, Any] = document.value
    return content


def _repeated_names(document: Document) -> list[Fault]:
    faults = []
    content = document.value if isinstance(document.value, dict) else {}
    for section in ("registries", "stores"):
        seen: set[str] = set()
        entries = content.get(section)
        for index, entry in enumerate(entries if isinstance(entries, list) else []):
            name = entry.get("name") if isinstance(entry, dict) else None
            if isinstance(name, str) and name in seen:
                faults.append(Fault(document.line((section, index)), section, f"the name {name} stands twice"))
            seen.add(str(name))
    return faults


def _merge(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Let a file's own top-level keys replace the defaults; some sections merge by key."""
    result = {**defaults, **own}
    for section in ("install", "publish", "downloads"):
        result[section] = {**defaults[section], **own.get(section, {})}
    return result


def _settings(content: dict[str, Any], base: Path, environ: Mapping[str, str]) -> Settings:
    def path(text: str) -> Path:
        return _path(text, base)

    state = path(content["state"])
    manifest, install, publish = content["manifest"], content["install"], content["publish"]
    if manifest != BUNDLED and not is_address(manifest):
        manifest = str(path(manifest))
    root = publish.get("root")
    return Settings(
        manifest=manifest,
        lock=path(content["lock"]) if "lock" in content else _lock_beside(manifest, state),
        state=state,
        spool=path(content["spool"]) if "spool" in content else state / "spool",
        registries=tuple(_registry(entry) for entry in content["registries"]),
        stores=tuple(_store(entry, base) for entry in content["stores"]),
        prefix=checked_root(Path(environ.get("NEUROCOMMAND_PREFIX") or path(install["prefix"]))),
        install_format=install["format"],
        root=checked_root(path(root)) if root else None,
        publish_format=publish["format"],
        mount_points=tuple(publish["mount_points"]),
        downloads=DownloadSettings(**content["downloads"], speeds=state / "speeds.json"),
    )


def _path(text: str, base: Path) -> Path:
    import platformdirs

    shown = printable(text)
    try:
        for field, place in (("{data}", platformdirs.user_data_path), ("{state}", platformdirs.user_state_path)):
            if field in text:
                text = text.replace(field, str(place("neurocommand")))
        return base / Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"{shown}: the home directory is not known", "set HOME, or write the path without ~"
        ) from error


def is_address(manifest: str) -> bool:
    """Tell whether a manifest is followed by its address rather than read from a file."""
    return manifest.startswith(("https://", "http://"))


def bundled(name: str) -> Path:
    """Return the place of a file that comes with the program; in a checkout, the checkout's own file."""
    return Path(str(importlib.resources.files("neurocommand").joinpath(name))).resolve()


def _lock_beside(manifest: str, state: Path) -> Path:
    """Return the place of a manifest's lock: beside it, and for one that we follow in the state directory."""
    if is_address(manifest):
        return state / "apps.lock.json"
    path = bundled("apps.json") if manifest == BUNDLED else Path(manifest)
    return path.with_name(path.stem + ".lock.json")


def _registry(entry: dict[str, Any]) -> RegistrySettings:
    templates = tuple(entry.get("templates", DEFAULT_TEMPLATES))
    return RegistrySettings(entry["name"], entry["url"], templates, entry.get("insecure", False))


def _store(entry: dict[str, Any], base: Path) -> StoreSettings:
    match entry["kind"]:
        case "directory":
            path, writable = _path(entry["path"], base), entry.get("writable", True)
            return DirectorySettings(
                entry["name"], path, writable, entry.get("create", False), url=entry.get("url", "").rstrip("/")
            )
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
                url=entry.get("url", "").rstrip("/"),
                part_size=int(entry.get("part_size", 8)) << 20,  # JSON Schema takes 8.0 for a whole number, too
                concurrency=int(entry.get("concurrency", 4)),
            )
        case _:
            return HttpSettings(entry["name"], entry["url"].rstrip("/"), tuple(entry.get("absent", (404, 410))))
