"""An excerpt of a manifest reads back as what was excerpted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from neurocommand import manifesttext
from neurocommand.manifest import Group, Manifest
from neurocommand.model import About, Release
from neurocommand.render.excerpt import excerpt


def without_lines(group: Group) -> Group:
    declarations = tuple(dataclasses.replace(declaration, line=0) for declaration in group.declarations)
    return dataclasses.replace(group, declarations=declarations)


def check(found: Manifest) -> None:
    again = manifesttext.parse(excerpt(found), "apps.json", maintained=False)
    groups = [dataclasses.replace(without_lines(group), retirements=(), dois=live(group)) for group in found.groups]
    assert [without_lines(group) for group in again.groups] == groups


def live(group: Group) -> tuple[tuple[Release, str], ...]:
    return tuple((declaration.release, declaration.doi) for declaration in group.declarations if declaration.doi)


def test_what_is_said_of_releases_goes_with_them() -> None:
    extra = {
        "default": "1",
        "about": {"description": "D", "keywords": ["k"]},
        "doi": {"a_2_20220105": "10.1234/x", "a_0_20200105": "10.1234/y"},
        "deprecated": {
            "a_1_20210105": {"reason": "old", "since": "2026-01-31"},
            "a_2_20220105": {"reason": "bad", "successor": "a_1_20210105"},
        },
        "retired": {"a_0_20200105": {"reason": "older"}},
    }
    entries = {"a 1": {"version": "20210105", "exec": ""}, "a 2": {"version": "20220105", "exec": ""}}
    text = json.dumps({"a": {"apps": entries, "categories": [], "x-neurocommand": extra}})
    found = manifesttext.parse(text, "apps.json")
    check(found)
    # a default that does not come along would be a fault
    (declaration,) = manifesttext.parse(excerpt(found.only(["a/2"])), "apps.json").declarations
    assert declaration.deprecation is not None
    assert declaration.about == About("D", keywords=("k",))


def test_flags_arguments_and_launchers_go_with_their_release() -> None:
    entries = {
        "a 1": {"version": "20210105", "exec": "", "show_in_menu": False, "apptainer_args": ["--nv"]},
        "gui-a 1": {"version": "20210105", "exec": "gui --now"},
        "a 2": {"version": "20220105", "exec": "", "show_in_applist": True},
    }
    group: dict[str, Any] = {"apps": entries, "categories": ["body"], "show_in_applist": False}
    group["x-neurocommand"] = {"expose": ["python3", "git"]}
    found = manifesttext.parse(json.dumps({"a": group}), "apps.json")
    check(found)
    only = manifesttext.parse(excerpt(found.only(["a/1"])), "apps.json")
    assert [declaration.label for declaration in only.declarations] == ["a 1"]
    assert [launcher.command for launcher in only.launchers] == ["gui --now"]


@pytest.mark.parametrize("edition", ["neurodesk-2026-08", "neurodesk-2025-06"])
def test_the_published_manifests_survive(published: Path, edition: str) -> None:
    check(manifesttext.parse((published / edition / "apps.json").read_text(), "apps.json", maintained=False))
