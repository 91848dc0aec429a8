"""What tells module systems the default version: every file's text."""

from __future__ import annotations

from neurocommand.layout import owner_of_modulefile
from neurocommand.render import versions


def test_what_lmod_reads() -> None:
    text = versions.lua("tool", ["1.0", "2.0"], "1.0")
    assert owner_of_modulefile(text) == "tool"
    assert text.splitlines()[2:] == [
        'module_version("tool/1.0", "default")',
        'hide_version("tool/1.0-warm")',
        'hide_version("tool/2.0-warm")',
    ]


def test_what_environment_modules_read() -> None:
    text = versions.tcl("tool", ["1.0", "2.0"])
    assert owner_of_modulefile(text) == "tool"
    assert text.splitlines()[2:] == ["module-hide tool/1.0-warm", "module-hide tool/2.0-warm"]
    text = versions.tcl_default("tool", "1.0")
    assert owner_of_modulefile(text) == "tool"
    assert text.splitlines()[2:] == ['set ModulesVersion "1.0"']
