"""log.txt and applist.json, byte for byte as published."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocommand import manifesttext
from neurocommand.render import catalogue


@pytest.mark.parametrize("edition", ["neurodesk-2026-08", "neurodesk-2025-06"])
def test_the_published_files_are_reproduced(published: Path, edition: str) -> None:
    text = (published / edition / "apps.json").read_text(encoding="utf-8")
    declarations = manifesttext.parse(text, "apps.json").declarations
    assert catalogue.log_txt(declarations).encode() == (published / edition / "log.txt").read_bytes()
    assert catalogue.applist_json(declarations).encode() == (published / edition / "applist.json").read_bytes()


def test_a_release_without_categories_and_a_hidden_one() -> None:
    entry = '{"version": "20210105", "exec": ""'
    text = f'{{"a": {{"apps": {{"a 1": {entry}}}, "a 2": {entry}, "show_in_applist": false}}}}, "categories": []}}}}'
    declarations = manifesttext.parse(text, "apps.json").declarations
    assert catalogue.log_txt(declarations) == "a_1_20210105 categories:\na_2_20210105 categories:\n"
    assert '"a_1_20210105"' in catalogue.applist_json(declarations)
    assert "a_2" not in catalogue.applist_json(declarations)
    assert '""' in catalogue.applist_json(declarations)
