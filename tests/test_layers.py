"""Imports point strictly downwards; each door exists once (docs/design.md §3)."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "neurocommand"

# Steps of the ladder, lowest first; a package stands for all of its modules, and modules of one step do not know each
# other. The first three steps are L0, the last three L6. stores.interface is the contract that others may name.
LADDER = (
    {"model", "errors", "events"},
    {
        "aria2log",
        "bandwidth",
        "durations",
        "process",
        "files",
        "jsontext",
        "observation",
        "places",
        "settings",
        "sizes",
        "threads",
        "web",
    },
    {"aria2", "entries", "pace", "schema", "yamltext"},
    {"manifest", "lock", "record", "index", "config", "layout", "stores.interface"},
    {"manifesttext"},
    {"answers", "catalogs", "changes", "recovery", "retention", "tags"},
    {"successor", "actions", "freshness", "memory", "render", "verification", "registrysession"},
    {"leftover", "runs"},
    {"plan"},
    {
        "stores",
        "cvmfs",
        "image",
        "download",
        "imagesearch",
        "registry",
        "follow",
        "runlock",
        "space",
        "spool",
        "versions",
    },
    {"foreign", "lmodcache"},
    {"modulefiles", "setmodules", "exchange", "contents", "tombstone", "draft"},
    {"observe"},
    {"indexing"},
    {"deploy"},
    {"workshop", "publisher"},
    {"apply"},
    {"publishing"},
    {"commands"},
    {"cli"},
    {"__main__"},
)
TOP = ("commands", "cli", "__main__")


def unit(module: str) -> str:
    """Return what a module counts as: its top-level package or module below neurocommand, or the named contract."""
    inner = module.removeprefix("neurocommand").removeprefix(".")
    named = {name for step in LADDER for name in step}
    return inner if inner in named else inner.split(".")[0]


def step(name: str) -> int:
    found = [number for number, names in enumerate(LADDER) if name in names]
    assert len(found) == 1, f"{name} stands on no step, or on two: give it its place in docs/design.md §3 and here"
    return found[0]


def modules() -> dict[str, Path]:
    paths = [path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"]
    return {
        ".".join(["neurocommand", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__"): path
        for path in paths
    }


def imports(path: Path) -> set[str]:
    found = set()
    known = modules()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {member if member in known else str(node.module) for member in members}
    return found


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_downwards(module: str) -> None:
    own = unit(module)
    for imported in imports(modules()[module]):
        if not imported.startswith("neurocommand.") or unit(imported) == own:
            continue
        assert step(unit(imported)) < step(own), f"{module} must not import {imported}"


DOORS = {
    "aria2p": {"neurocommand.aria2"},
    "subprocess": {"neurocommand.process"},
    "spython": {"neurocommand.image.sif"},
    "boto3": {"neurocommand.stores.s3client"},
    "yaml": {"neurocommand.yamltext"},
    "oras": {"neurocommand.registrysession"},
    "rclone_python": {"neurocommand.stores.rcloneprogram"},
    "rich": {"neurocommand.commands.console"},
}


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_has_one_door(library: str) -> None:
    users = {
        module for module, path in modules().items() if any(name.split(".")[0] == library for name in imports(path))
    }
    assert users <= DOORS[library]


def calls(path: Path) -> set[str]:
    """Return the names that a module calls or reads as attributes of modules, as text."""
    return {
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    }


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_the_top_prints_exits_or_reads_argv(module: str) -> None:
    if unit(module) in TOP:
        return
    assert not calls(modules()[module]) & {"print", "sys.exit", "sys.argv", "sys.stdout", "sys.stderr", "click.echo"}


@pytest.mark.parametrize("module", sorted(modules()))
def test_only_config_reads_settings_from_the_environment(module: str) -> None:
    if module in ("neurocommand.config", "neurocommand.process"):  # process hands the environment on
        return
    assert not calls(modules()[module]) & {"os.environ", "os.getenv", "os.environ.get"}


def test_functions_stay_short() -> None:
    long = [
        f"{module}.{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for module, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno is not None and node.end_lineno - node.lineno >= 60
    ]
    assert long == []
