"""An excerpt of a manifest reads back as what was excerpted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from neurocommand import manifesttext
from neurocommand.manifest import Group, Manifest
from neurocommand.render.excerpt import excerpt


def without_lines(group: Group) -> Group:
    declarations = tuple(dataclasses.replace(declaration, line=0) for declaration in group.declarations)
    return dataclasses.replace(group, declarations=declarations)


def check(found: Manifest) -> None:
    again = manifesttext.parse(excerpt(found), "apps.json", maintained=False)
    groups = [dataclasses.replace(without_lines(group), retirements=(), dois=()) for group in found.groups]
    assert [without_lines(group) for group in again.groups] == groups


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
