"""The templates of generated files: plain text in wrappers/, with placeholders like ``@RELEASE@``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files

from neurocommand.settings import WrapperSettings

PLACEHOLDER = re.compile(r"@([A-Z]+)@")

_PACKAGE = files("neurocommand")
# What wrappers and modulefiles are made from; a comment changed here renews them, which does no harm.
_SOURCES = (
    _PACKAGE / "wrappers" / "wrapper.sh.in",
    _PACKAGE / "wrappers" / "module.lua.in",
    _PACKAGE / "wrappers" / "tombstone.sh.in",
    _PACKAGE / "wrappers" / "body.sh.in",
    _PACKAGE / "wrappers" / "warm.sh.in",
    _PACKAGE / "wrappers" / "holder.sh.in",
    _PACKAGE / "wrappers" / "born.sh.in",
    _PACKAGE / "wrappers" / "udocker.sh.in",
    _PACKAGE / "wrappers" / "module.tcl.in",
    _PACKAGE / "wrappers" / "excluded-commands.txt",
    _PACKAGE / "wrappers" / "excluded-variables.txt",
    _PACKAGE / "render" / "wrapper.py",
    _PACKAGE / "render" / "module.py",
    _PACKAGE / "render" / "modulefile.py",
    _PACKAGE / "render" / "runtimeoptions.py",
    _PACKAGE / "render" / "tclmodule.py",
)

# says where it stands itself, so it is made from nothing else
LMODRC = (_PACKAGE / "wrappers" / "lmodrc.lua.in").read_text(encoding="utf-8")
WRAPPER, MODULE_LUA, TOMBSTONE, BODY, WARM, HOLDER, BORN, UDOCKER, MODULE_TCL = (
    source.read_text(encoding="utf-8").rstrip("\n") + "\n" for source in _SOURCES[:9]
)

# The identity of all of these: 12 hex digits.
REVISION = hashlib.sha256(b"\0".join(source.read_bytes() for source in _SOURCES)).hexdigest()[:12]


def revision(settings: WrapperSettings) -> str:
    """Return the identity of what all wrappers and modulefiles under a root are made from: 12 hex digits.

    A release that was deployed with another one gets its wrappers and modulefile anew.
    """
    return hashlib.sha256(f"{REVISION} {settings!r}".encode()).hexdigest()[:12]


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each placeholder by its value, in one pass, so that values may hold anything.

    Raises:
        KeyError: the template has a placeholder without a value.
    """
    return PLACEHOLDER.sub(lambda match: values[match[1]], template)
