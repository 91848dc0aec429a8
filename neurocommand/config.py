"""Settings: neurocommand.yaml over the defaults, and the only place that reads settings from the environment.

Variables: ``NEUROCOMMAND_CONFIG`` names the configuration file, ``NEUROCOMMAND_PREFIX`` the prefix of ``install``.
"""

from __future__ import annotations

import contextlib
import importlib.resources
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from neurocommand import schema
from neurocommand.errors import Fault, FaultsError, UsageError, printable
from neurocommand.jsontext import Document, Position, read_bytes
from neurocommand.model import Format

SCHEMA = "neurocommand.schema.json"
BUNDLED = "bundled"
DEFAULT_TEMPLATES = ("{application}_{version}:{build_date}", "{application}:{version}_{build_date}")
_NODE_LIMIT = 10_000
# what a root keeps, docs/design.md §4; a test holds it against layout.py
KEPT = ("containers", "modules", "neurodesk-modules", ".neurocommand")


class ConfigurationError(FaultsError):
    """The configuration file has faults."""

    exit_code = 2


@dataclass(frozen=True)
class RegistrySettings:
    """One registry: ``host[:port][/path]`` and how it names images."""

    name: str
    url: str
    templates: tuple[str, ...]
    insecure: bool


@dataclass(frozen=True)
class DirectorySettings:
    """A store in a directory; with ``create`` its parents are made too, else they must be there (a mounted disk)."""

    name: str
    path: Path
    writable: bool
    create: bool


@dataclass(frozen=True)
class S3Settings:
    """A store in an S3 bucket; credentials come from boto3's own sources."""

    name: str
    bucket: str
    endpoint: str | None
    region: str | None
    prefix: str
    profile: str | None
    anonymous: bool
    writable: bool


@dataclass(frozen=True)
class HttpSettings:
    """A public store that is only read."""

    name: str
    url: str
    absent: tuple[int, ...]


StoreSettings = DirectorySettings | S3Settings | HttpSettings


@dataclass(frozen=True)
class Settings:
    """Everything that can be configured; paths are absolute."""

    manifest: str
    lock: Path
    state: Path
    spool: Path
    registries: tuple[RegistrySettings, ...]
    stores: tuple[StoreSettings, ...]
    prefix: Path
    install_format: Format
    root: Path | None
    publish_format: Format
    mount_points: tuple[str, ...]


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
    places = [Path("neurocommand.yaml"), Path("/etc/neurocommand/neurocommand.yaml")]
    # without a home directory there is no place in it
    with contextlib.suppress(RuntimeError):
        places.insert(1, platformdirs.user_config_path("neurocommand") / "neurocommand.yaml")
    return next((place for place in places if os.path.isfile(place)), None)


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
    merged: dict[str, Any] = yaml.safe_load(default_text)  # ours: a test holds it against the schema
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
    """See that no place is swept or emptied with another one in it.

    The rule, on paths without symbolic links: neither the spool nor a store lies in what a root (shared root or prefix)
    keeps (``KEPT``), nor is or holds a root; the spool and a store neither are nor hold each other; the spool does not
    lie in the shared root, nor a root in what another one keeps; two stores are two directories.

    Args:
        settings: where everything is to be.
        filename: what faults are reported against.

    Raises:
        ConfigurationError: names every two places that break the rule.
    """
    faults = tuple(
        Fault(
            0,
            one,
            f"{printable(one_path)} stands in the way of {other} ({printable(other_path)}): choose another place",
        )
        for (one, one_path), (other, other_path) in _collisions(settings)
    )
    if faults:
        raise ConfigurationError(filename, faults)


_Place = tuple[str, str]


def _collisions(settings: Settings) -> Iterator[tuple[_Place, _Place]]:
    """Yield every two places (name and path) that break the rule of ``check_apart``."""
    spool = ("spool", os.path.realpath(settings.spool))
    stores = [
        (f"store {store.name}", os.path.realpath(store.path))
        for store in settings.stores
        if isinstance(store, DirectorySettings)
    ]
    roots = [("install.prefix", os.path.realpath(settings.prefix))]
    if settings.root is not None:
        roots.append(("publish.root", os.path.realpath(settings.root)))
        if _within(spool[1], roots[-1][1]):
            yield spool, roots[-1]
    for place in (spool, *stores):
        yield from ((place, root) for root in roots if _within(root[1], place[1]) or _kept_by(root[1], place[1]))
    yield from ((one, other) for one in roots for other in roots if _kept_by(other[1], one[1]))
    yield from ((spool, store) for store in stores if _within(spool[1], store[1]) or _within(store[1], spool[1]))
    yield from ((one, other) for index, one in enumerate(stores) for other in stores[:index] if one[1] == other[1])


def _within(path: str, directory: str) -> bool:
    return Path(path).is_relative_to(directory)


def _kept_by(root: str, path: str) -> bool:
    return any(_within(path, os.path.realpath(os.path.join(root, name))) for name in KEPT)


def _text(path: Path) -> str:
    try:
        return read_bytes(path, str(path))
    except FaultsError as error:
        raise ConfigurationError(error.filename, error.faults) from error


def _read(text: str, filename: str) -> dict[str, Any]:
    """Return the checked content of a configuration file."""
    document = _document(text, filename)
    faults = list(document.faults)
    for deviation in schema.deviations(document, SCHEMA):
        where = ".".join(str(part) for part in deviation.position)
        faults.append(Fault(document.line(deviation.position), where, deviation.message))
    faults += _repeated_names(document)
    if faults:
        raise ConfigurationError(filename, tuple(faults))
    content: dict[str, Any] = document.value
    return content


def _document(text: str, filename: str) -> Document:
    """Read YAML with the line of every value; an empty file is an empty mapping."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise ConfigurationError(filename, (Fault(line, "", f"no YAML: {error.problem}"),)) from error
    except yaml.YAMLError as error:
        raise ConfigurationError(filename, (Fault(0, "", f"no YAML: {error}"),)) from error
    except RecursionError as error:
        raise ConfigurationError(filename, (Fault(0, "", "nested too deep"),)) from error
    if node is None:
        return Document({}, {}, ())
    reader = _YamlReader(filename)
    return Document(reader.value(node, ()), reader.lines, tuple(reader.faults))


class _YamlReader:
    """Turns YAML nodes into plain values, remembering lines; bounded, since aliases can multiply nodes."""

    def __init__(self, filename: str) -> None:
        self.filename = filename
        self.lines: dict[Position, int] = {}
        self.faults: list[Fault] = []
        self.constructor = yaml.SafeLoader("")

    def value(self, node: yaml.Node, position: Position) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(position, line)
        if len(self.lines) > _NODE_LIMIT or len(position) > 16:
            raise ConfigurationError(self.filename, (Fault(line, "", "too many values, or nested too deep"),))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*position, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self.members(node, position)
        try:
            return self.constructor.construct_object(node)
        except Exception as error:
            # for a value that is not what its tag says, pyyaml raises whatever its own code stumbles over
            kind, shown = node.tag.rpartition(":")[2], printable(repr(node.value))
            raise ConfigurationError(self.filename, (Fault(line, "", f"no YAML: {shown} is no {kind}"),)) from error

    def members(self, node: yaml.MappingNode, position: Position) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in result:
                self.faults.append(Fault(line, key, "duplicate key"))
            member = (*position, key)
            self.lines[member] = line
            result[key] = self.value(value_node, member)
        return result


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
    """Let a file's own top-level keys replace the defaults; the sections install and publish merge by key."""
    result = {**defaults, **own}
    for section in ("install", "publish"):
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
            return DirectorySettings(entry["name"], path, writable, entry.get("create", False))
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
            )
        case _:
            return HttpSettings(entry["name"], entry["url"].rstrip("/"), tuple(entry.get("absent", (404, 410))))
