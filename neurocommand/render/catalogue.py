"""log.txt and applist.json, as Neurodesk publishes them and others read them."""

from __future__ import annotations

import json
from collections.abc import Iterable

from neurocommand.manifest import Declaration


def log_txt(declarations: Iterable[Declaration]) -> str:
    """Return one line for each release: ``<release id> categories:<category>,<category>,``, in the manifest's order."""
    return "".join(
        f"{declaration.release.id} categories:{''.join(f'{category},' for category in declaration.categories)}\n"
        for declaration in declarations
    )


def applist_json(declarations: Iterable[Declaration]) -> str:
    """Return the releases that are not hidden from applist.json, in its published form (no final newline).

    A release without categories has the list ``[""]``, as readers of the published file know it.
    """
    items = [
        {"application": declaration.release.id, "categories": list(declaration.categories) or [""]}
        for declaration in declarations
        if declaration.show_in_applist
    ]
    return json.dumps({"list": items}, indent=4, sort_keys=True)
