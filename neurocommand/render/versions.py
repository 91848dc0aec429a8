"""What tells module systems of an application's versions: which is the default, and what ``avail`` leaves out."""

from __future__ import annotations

from collections.abc import Sequence

from neurocommand.layout import WARM
from neurocommand.render.modulefile import quoted

# no version: it is in neither file where none can be loaded
NONE = ""


def lua(application: str, versions: Sequence[str], default: str) -> str:
    """Return the text of ``.modulerc.lua``, for Lmod.

    Args:
        application: the application.
        versions: all that have a module, withdrawn ones too.
        default: the default one, or NONE.
    """
    lines = [f"module_version({quoted(f'{application}/{default}')}, {quoted('default')})"] if default else []
    lines += [f"hide_version({quoted(f'{application}/{version}{WARM}')})" for version in versions]
    return "\n".join(["-- -*- lua -*-", f"-- {_owned(application)}", *lines, ""])


def tcl(application: str, versions: Sequence[str]) -> str:
    """Return the text of ``.modulerc``, for Environment Modules: what ``avail`` leaves out."""
    hidden = [f"module-hide {application}/{version}{WARM}" for version in versions]
    return "\n".join(["#%Module1.0", f"# {_owned(application)}", *hidden, ""])


def tcl_default(application: str, default: str) -> str:
    """Return the text of ``.version``, for Environment Modules."""
    return f'#%Module1.0\n# {_owned(application)}\nset ModulesVersion "{default}"\n'


def _owned(application: str) -> str:
    return f"{application}: made by neurocommand; its default version, and what `avail` leaves out."
