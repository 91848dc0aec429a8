"""A manifest as apps.json text: the part of it that goes with some releases."""

from __future__ import annotations

import json
from typing import Any

from neurocommand.manifest import Declaration, Group, Manifest
from neurocommand.manifesttext import EXTRA


def excerpt(manifest: Manifest) -> str:
    """Return a manifest as text that reads back as its groups, releases and launchers, in Neurodesk's form."""
    return json.dumps({group.name: _group(group) for group in manifest.groups}, indent=4, ensure_ascii=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    apps = {declaration.label: _entry(declaration) for declaration in group.declarations}
    for launcher in group.launchers:
        apps[launcher.label] = {"version": launcher.release.build_date, "exec": launcher.command}
    # a group has one list of them, which stands at each of its declarations
    expose = sorted({name for declaration in group.declarations for name in declaration.expose})
    beyond = {EXTRA: {"expose": expose}} if expose else {}
    return {"apps": apps, "categories": list(group.categories), **beyond}


def _entry(declaration: Declaration) -> dict[str, Any]:
    entry: dict[str, Any] = {"version": declaration.release.build_date, "exec": ""}
    if declaration.apptainer_args:
        entry["apptainer_args"] = list(declaration.apptainer_args)
    if not declaration.show_in_menu:
        entry["show_in_menu"] = False
    if not declaration.show_in_applist:
        entry["show_in_applist"] = False
    return entry
