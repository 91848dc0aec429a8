"""The modules of named sets: what they mean by the manifest, and their text in both languages."""

from __future__ import annotations

import json

import pytest

from neurocommand import manifesttext
from neurocommand.errors import UsageError
from neurocommand.manifest import Manifest
from neurocommand.model import Release
from neurocommand.render.sets import ModuleSet, lua, resolved, tcl

DATE = "20260101"


def manifest(*labels: str) -> Manifest:
    groups: dict[str, dict[str, object]] = {}
    for label in labels:
        group = groups.setdefault(label.split()[0], {"apps": {}, "categories": []})
        group["apps"] = {**dict(group["apps"]), label: {"version": DATE, "exec": ""}}  # type: ignore[call-overload]
    return manifesttext.parse(json.dumps(groups, indent=1), "apps.json")


def test_members_are_what_the_manifest_means() -> None:
    known = manifest("fsl 6.0.9", "fsl 6.0.10", "other 1.0")
    (found,) = resolved([("mri", ["other", "fsl", "fsl/6.0.10"])], known, "apps.json")
    assert found == ModuleSet("mri", (Release("other", "1.0", DATE), Release("fsl", "6.0.10", DATE)))
    assert (found.id, found.modules) == ("set/mri", ("other/1.0", "fsl/6.0.10"))
    assert resolved([], manifest("set 1.0"), "apps.json") == ()


def test_a_member_that_means_nothing_is_named_with_its_set() -> None:
    with pytest.raises(UsageError, match=r"sets\.mri: fls: no such release") as caught:
        resolved([("mri", ["fls"])], manifest("fsl 1.0"), "apps.json")
    assert "fsl" in caught.value.hint


def test_an_application_called_set_is_in_the_way() -> None:
    with pytest.raises(UsageError, match=r"apps\.json:13: set 1\.0: an application called set") as caught:
        resolved([("mri", ["fsl"])], manifest("fsl 1.0", "set 1.0"), "apps.json")
    assert caught.value.exit_code == 2


def test_the_texts() -> None:
    made = ModuleSet("mri", (Release("fsl", "6.0", DATE), Release("other", "1.0", DATE)))
    assert lua(made).splitlines() == [
        "-- -*- lua -*-",
        "-- set/mri: made by neurocommand; a set that the configuration names.",
        'help("Loads fsl/6.0, other/1.0.")',
        'whatis("Name: set/mri")',
        'whatis("Description: Loads fsl/6.0, other/1.0.")',
        'load("fsl/6.0", "other/1.0")',
    ]
    assert tcl(made).splitlines() == [
        "#%Module1.0",
        "# set/mri: made by neurocommand; a set that the configuration names.",
        "proc ModulesHelp {} {",
        '    puts stderr "Loads fsl/6.0, other/1.0."',
        "}",
        'module-whatis "Name: set/mri"',
        'module-whatis "Description: Loads fsl/6.0, other/1.0."',
        "module load fsl/6.0 other/1.0",
    ]
