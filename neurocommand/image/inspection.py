"""What the file system of an image says about its use: commands, variables, README; read without running anything."""

from __future__ import annotations

import re
import stat
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path

from neurocommand.image import environment as environment_files
from neurocommand.image.filetree import PartialTree, Parts, Tree, parts_of
from neurocommand.image.header import locate, recorded_environment
from neurocommand.image.programs import Program, architecture_of, program_of
from neurocommand.model import Inspection, SkippedCommand

Environment = tuple[tuple[str, str], ...]

COMMAND = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9_.+@-]*", re.ASCII)
LONGEST_COMMAND = 200
# What may be set on a host, but for what excluded-variables.txt names. zsh ties or reserves names in small letters
# (path, precmd, …: zshparam(1)), csh and fish use them for all of theirs, and _ is the shells' own.
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*", re.ASCII)
LIBRARY = re.compile(r".*\.so(\.[0-9]+)*", re.ASCII)
README_SIZE = 256 << 10
ENVIRONMENT_SIZE = 1 << 20
MOST_ROUNDS = 500
LIBC_PLACES = ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
LIBC_SIZE = 8 << 20
# its banner: "GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36."
LIBC_VERSION = re.compile(rb"GNU C Library [^\n\0]{0,200} version ([0-9]{1,2}\.[0-9]{1,3})")
# Lmod leaves = bare for zsh, which takes `=ls`, also behind a colon, for the path of the command ls, and ends the whole
# module where there is no such command (zshexpn(1), "`=' expansion").
EXPANDED_BY_ZSH = re.compile(r"(^|:)=.")

PREFIX = "DEPLOY_ENV_"
# Written by the runtime into every image; they hold conditions, and nothing of the image's own.
OF_THE_RUNTIME = frozenset(("01-base.sh", "94-appsbase.sh", "95-apps.sh", "99-base.sh", "99-runtimevars.sh"))
# What Apptainer appends to the image's PATH where it is missing: fixpath in action_script.sh, defaultPath in env.go.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def inspect_tree(
    tree: Path, application: str, recorded: Environment | None, expose: Collection[str] = ()
) -> Inspection:
    """Inspect an unpacked image.

    Args:
        tree: its directory.
        application: the application, whose own name may be a command even where such names are excluded.
        recorded: the OCI image's environment as (name, value); None reads the tree's environment files instead.
        expose: names of programs that become commands as well, although they are excluded.
    """
    return _inspect(Tree(tree), {application, *expose}, recorded)


def inspect_sif(path: Path, application: str, scratch: Path, expose: Collection[str] = ()) -> Inspection:
    """Inspect a SIF; only what has to be looked at is unpacked.

    Args:
        path: the SIF.
        application: the application, as for ``inspect_tree``.
        scratch: where to unpack; must not exist, its parent must; the caller removes it.
        expose: as for ``inspect_tree``.

    Raises:
        ImageError: no sound SIF, or no space.
    """
    recorded = recorded_environment(path)
    scratch.mkdir()
    tree = PartialTree(scratch, path, locate(path).offset)
    own = {application, *expose}
    inspection = _inspect(tree, own, recorded)
    for _ in range(MOST_ROUNDS):
        if not tree.fetch():
            break
        inspection = _inspect(tree, own, recorded)
    return inspection


def is_excluded_command(name: str) -> bool:
    """Tell whether a name never becomes a command, unless the application is that tool."""
    return _listed("excluded-commands.txt").fullmatch(name) is not None


def is_excluded_variable(name: str) -> bool:
    """Tell whether a variable is one of those that no image may set on a host, whatever their values."""
    return _listed("excluded-variables.txt").fullmatch(name) is not None


@cache
def _listed(name: str) -> re.Pattern[str]:
    """Return a pattern of the words of a file in wrappers/, without comments; ``*`` stands for any characters."""
    text = (package_files("neurocommand") / "wrappers" / name).read_text(encoding="utf-8")
    words = {word for line in text.splitlines() for word in line.partition("#")[0].split()}
    return re.compile("|".join(re.escape(word).replace(r"\*", ".*") for word in sorted(words)))


def _inspect(tree: Tree, own: Collection[str], recorded: Environment | None) -> Inspection:
    environment = environment_of(tree, recorded)
    search = _search_path(tree, environment.get("PATH", ""))
    found: dict[str, Program] = {}
    skipped: dict[str, str] = {}
    for name, outcome in (*_of_path(tree, environment, search), *_of_bins(tree, environment, search)):
        reason = outcome if isinstance(outcome, str) else _reason_against(name, own)
        if reason is not None:
            skipped.setdefault(_shown(name), reason)
        elif isinstance(outcome, Program):
            found.setdefault(name, outcome)
    variables = dict(_variables(environment, skipped))
    return Inspection(
        commands=tuple(sorted(found)),
        skipped=tuple(SkippedCommand(name, reason) for name, reason in sorted(skipped.items()) if name not in found),
        environment=tuple(sorted(variables.items())),
        readme=_readme(tree),
        architecture=_architecture(tree, found.values()),
        glibc=_glibc(tree),
    )


def _glibc(tree: Tree) -> str:
    """Return the version of the image's glibc, which the library says itself; empty where there is none."""
    for place in LIBC_PLACES:
        target = tree.target(parts_of(f"{place}/libc.so.6"))
        status = tree.status(target) if target is not None else None
        if target is None or status is None or not stat.S_ISREG(status.st_mode):
            continue
        said = LIBC_VERSION.search(tree.start(target, LIBC_SIZE))
        if said:
            return said[1].decode()
    return ""


def environment_of(tree: Tree, recorded: Environment | None) -> dict[str, str]:
    """Return an image's environment: the recorded one of the OCI image, else what the image's own files say."""
    return dict(recorded) if recorded is not None else environment_files.parse(_environment_files(tree))


def _environment_files(tree: Tree) -> Iterator[str]:
    """Yield the image's own environment files; a link in place of one is not followed."""
    directory = (".singularity.d", "env")
    for name in tree.names(directory):
        status = tree.status((*directory, name))
        regular = status is not None and stat.S_ISREG(status.st_mode)
        if regular and name.endswith(".sh") and name not in OF_THE_RUNTIME:
            yield tree.start((*directory, name), ENVIRONMENT_SIZE).decode(errors="surrogateescape")


def _search_path(tree: Tree, path: str) -> tuple[Parts, ...]:
    """Return the directories in which the container looks for a command, links resolved."""
    texts = [text for text in (path + ":" + DEFAULT_PATH).split(":") if text.startswith("/")]
    targets = (tree.target(parts_of(text)) for text in texts)
    return tuple(dict.fromkeys(target for target in targets if target is not None))


def _of_path(tree: Tree, environment: dict[str, str], search: tuple[Parts, ...]) -> Iterator[tuple[str, Program | str]]:
    """Yield every executable name at depth 1 of DEPLOY_PATH's directories: a program, or the reason against it."""
    for text in environment.get("DEPLOY_PATH", "").split(":"):
        directory = tree.target(parts_of(text)) if text.startswith("/") else None
        if not text or directory is None:
            if text:
                yield text, "directory of DEPLOY_PATH that the image does not have"
            continue
        for name in tree.names(directory):
            outcome = program_of(tree, (*directory, name))
            if isinstance(outcome, Program) and directory not in search and _found(tree, name, search) is None:
                yield name, f"{_shown(text)} is not on the image's PATH, so the container would not find it"
            elif outcome is not None:
                yield name, outcome


def _of_bins(tree: Tree, environment: dict[str, str], search: tuple[Parts, ...]) -> Iterator[tuple[str, Program | str]]:
    """Yield every name of DEPLOY_BINS: the program that the image's PATH leads to, or the reason against it."""
    for name in filter(None, environment.get("DEPLOY_BINS", "").split(":")):
        program = _found(tree, name, search) if "/" not in name and name not in (".", "..") else None
        yield name, program or "DEPLOY_BINS names it, but it is not on the image's PATH"


def _found(tree: Tree, name: str, search: tuple[Parts, ...]) -> Program | None:
    for directory in search:
        outcome = program_of(tree, (*directory, name))
        if isinstance(outcome, Program):
            return outcome
    return None


def _reason_against(name: str, own: Collection[str]) -> str | None:
    if not COMMAND.fullmatch(name):
        return "its name is not safe: use letters, digits and _ . + @ -, none of . + - first"
    if len(name) > LONGEST_COMMAND:
        return f"its name is longer than {LONGEST_COMMAND} characters"
    if LIBRARY.fullmatch(name):
        return "a shared library"
    hides = name not in own and is_excluded_command(name)
    return "would hide a program of the host (wrappers/excluded-commands.txt)" if hides else None


def _variables(environment: dict[str, str], skipped: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield the DEPLOY_ENV_ variables that are safe to set on a host; note the reason against the others."""
    for full_name, value in environment.items():
        if not full_name.startswith(PREFIX):
            continue
        name = full_name.removeprefix(PREFIX)
        if not environment_files.NAME.fullmatch(name):
            skipped[_shown(full_name)] = "its name is no variable's: use letters, digits and _, no digit first"
        elif not VARIABLE.fullmatch(name):
            skipped[full_name] = "its name is not of capital letters, and the host's shells reserve or tie such names"
        elif is_excluded_variable(name):
            skipped[full_name] = (
                "would change how the host's own shell and programs work (wrappers/excluded-variables.txt)"
            )
        elif not _is_one_line(value):
            # Lmod's own output leaves a line break bare: what follows it would run in the user's shell.
            skipped[full_name] = "its value has a line break or control character, which no module can set safely"
        elif EXPANDED_BY_ZSH.search(value):
            skipped[full_name] = "its value begins with =, or has := in it, which zsh replaces by the path of a command"
        else:
            yield name, value


def _is_one_line(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return not any(_is_control(character) for character in value if character != "\t")


def _readme(tree: Tree) -> str:
    """Return /README.md without control characters, at most 256 KiB of it; a link in its place is not followed."""
    status = tree.status(("README.md",))
    if status is None or not stat.S_ISREG(status.st_mode):
        return ""
    text = tree.start(("README.md",), README_SIZE).decode(errors="replace").replace("\r\n", "\n")
    return "".join(character for character in text if character in "\n\t" or not _is_control(character))


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"


def _architecture(tree: Tree, programs: Iterable[Program]) -> str:
    """Return the architecture of most programs; where all are scripts, that of the image's shell."""
    known = [program.architecture for program in programs if program.architecture]
    return max(sorted(set(known)), key=known.count) if known else architecture_of(tree, ("bin", "sh"))


def _shown(name: str) -> str:
    """Return a name as it can be printed: itself, or quoted with escapes."""
    return name if name.isprintable() else ascii(name)
