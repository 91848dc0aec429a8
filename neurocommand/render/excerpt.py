"""A manifest as apps.json text: the part of it that goes with some releases."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from neurocommand.manifest import EXTRA, Declaration, Group, Manifest
from neurocommand.model import Notice


def excerpt(manifest: Manifest) -> str:
    """Return a manifest as text that reads back as its groups, releases and launchers, in Neurodesk's form."""
    return json.dumps({group.name: _group(group) for group in manifest.groups}, indent=4, ensure_ascii=False) + "\n"


def _group(group: Group) -> dict[str, Any]:
    apps = {declaration.label: _entry(declaration) for declaration in group.declarations}
    for launcher in group.launchers:
        apps[launcher.label] = {"version": launcher.release.build_date, "exec": launcher.command}
    extra = _extra(group)
    return {"apps": apps, "categories": list(group.categories), **({EXTRA: extra} if extra else {})}


def _extra(group: Group) -> dict[str, Any]:
    """Return what people write about a group beyond Neurodesk's format, as far as it is about these releases."""
    extra: dict[str, Any] = {}
    if group.default in ("highest", "newest", *(declaration.release.version for declaration in group.declarations)):
        extra["default"] = group.default
    # a group has one list of them, which stands at each of its declarations
    if expose := sorted({name for declaration in group.declarations for name in declaration.expose}):
        extra["expose"] = expose
    for declaration in group.declarations:
        about = {name: value for name, value in asdict(declaration.about).items() if value}
        if about:
            extra["about"] = {**about, **({"keywords": list(about["keywords"])} if "keywords" in about else {})}
        if declaration.doi:
            extra.setdefault("doi", {})[declaration.release.id] = declaration.doi
        if declaration.deprecation:
            extra.setdefault("deprecated", {})[declaration.release.id] = _notice(declaration.deprecation)
    return extra


def _notice(notice: Notice) -> dict[str, str]:
    successor = notice.successor.id if notice.successor else ""
    told = {"reason": notice.reason, "successor": successor, "since": notice.since}
    return {name: text for name, text in told.items() if text}


def _entry(declaration: Declaration) -> dict[str, Any]:
    entry: dict[str, Any] = {"version": declaration.release.build_date, "exec": ""}
    if declaration.apptainer_args:
        entry["apptainer_args"] = list(declaration.apptainer_args)
    if not declaration.show_in_menu:
        entry["show_in_menu"] = False
    if not declaration.show_in_applist:
        entry["show_in_applist"] = False
    return entry
