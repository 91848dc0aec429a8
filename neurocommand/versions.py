"""What a root's module trees offer of an application, and the files in them that say so to module systems.

The modulefiles themselves are asked, not the manifest: a release that the manifest does not name is loaded as well, and
one that is withdrawn is not, whoever deployed it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from neurocommand.layout import WARM, Root, is_tombstone, owner_of_modulefile
from neurocommand.manifest import Defaults
from neurocommand.model import Release
from neurocommand.render import versions

LUA, TCL, TCL_DEFAULT = ".modulerc.lua", ".modulerc", ".version"
# bytes; the second line of a modulefile ends before
_HEAD = 1024


def head(path: Path, size: int = _HEAD) -> str:
    """Return the beginning of a modulefile; nothing where anything but a file, or nothing at all, stands there.

    Raises:
        OSError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return ""
        with open(path, "rb") as stream:
            return stream.read(size).decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def offered(root: Root, application: str) -> tuple[tuple[Release, bool], ...]:
    """Return the releases of an application that have a module, and whether it can be loaded.

    Raises:
        OSError: the module tree cannot be read.
    """
    return tuple(sorted(_offered(root, application)))


def _offered(root: Root, application: str) -> Iterator[tuple[Release, bool]]:
    try:
        names = os.listdir(root.modules / application)
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if not name.endswith(".lua") or name.endswith(f"{WARM}.lua") or name.startswith("."):
            continue
        text = head(root.modules / application / name)
        try:
            release = Release.parse(owner_of_modulefile(text))
        except ValueError:
            continue
        if root.modulefile(release).name == name:
            yield release, not is_tombstone(text)


def places(root: Root, application: str) -> tuple[Path, ...]:
    """Return where an application's files are, whether they are there or not."""
    lua, tcl = root.modules / application, root.modules_tcl / application
    return lua / LUA, tcl / TCL, tcl / TCL_DEFAULT


def texts(root: Root, application: str, defaults: Defaults) -> dict[Path, str]:
    """Return what belongs into an application's files; those that are not named do not belong there.

    Raises:
        OSError: the module tree cannot be read.
    """
    found = offered(root, application)
    if not found:
        return {}
    known = [release.version for release, _ in found]
    loadable = [release for release, usable in found if usable]
    default = defaults.among(loadable).version if loadable else versions.NONE
    lua, tcl, tcl_default = places(root, application)
    made = {lua: versions.lua(application, known, default), tcl: versions.tcl(application, known)}
    return {**made, tcl_default: versions.tcl_default(application, default)} if default else made


def links(root: Root, application: str) -> dict[Path, str]:
    """Return the links to the application's file for Lmod, one in each category that has a module of it.

    Raises:
        OSError: the module trees cannot be read.
    """
    found = {}
    for directory in category_directories(root, application):
        if any(name.endswith(".lua") and name != LUA for name in os.listdir(directory)):
            found[directory / LUA] = target(root, application, directory)
    return found


def target(root: Root, application: str, directory: Path) -> str:
    """Return what the link in an application's directory of a category says."""
    return os.path.relpath(root.modules / application / LUA, directory)


def category_directories(root: Root, application: str) -> list[Path]:
    """Return where an application has modules in the trees of the categories.

    Raises:
        OSError: the module trees cannot be read.
    """
    try:
        categories = os.listdir(root.categories)
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = (root.categories / category / application for category in categories)
    return [directory for directory in found if directory.is_dir() and not directory.is_symlink()]


def are_right(root: Root, application: str, defaults: Defaults) -> bool:
    """Tell whether an application's files say what they should, and its categories link to them.

    Raises:
        OSError: the module trees cannot be read.
    """
    wanted = texts(root, application, defaults)
    for path in places(root, application):
        # an empty one that does not belong there is not ours, and does no harm
        if head(path, -1) != wanted.get(path, ""):
            return False
    return all(link.is_symlink() and os.readlink(link) == says for link, says in links(root, application).items())


def default_of(root: Root, application: str) -> str:
    """Return the version that an application's name alone means under a root, as its files say; empty if none does.

    Raises:
        OSError: they cannot be read.
    """
    match = re.search(r'^set ModulesVersion "([^"]*)"$', head(places(root, application)[2]), re.MULTILINE)
    return match[1] if match else ""
