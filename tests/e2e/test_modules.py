"""What Lmod itself thinks of our names: the default that it picks is the version that we mean without one."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from neurocommand import manifesttext
from neurocommand.model import Release
from tests.e2e.test_hostile import lmod


def default_of(modules: Path, releases: list[Release]) -> dict[str, str]:
    """Return the version of each application that the real Lmod loads when none is named."""
    for release in releases:
        (modules / release.application).mkdir(parents=True, exist_ok=True)
        (modules / release.application / f"{release.version}.lua").write_text("")
    loaded = lmod(modules, "load", *sorted({release.application for release in releases}))["LOADEDMODULES"]
    return dict(module.split("/") for module in loaded.split(":"))


def highest(releases: list[Release]) -> dict[str, str]:
    by_application = defaultdict(list)
    for release in releases:
        by_application[release.application].append(release)
    return {name: max(found, key=lambda r: r.precedence).version for name, found in by_application.items()}


def test_lmod_picks_what_we_mean_for_every_published_application(published: Path, tmp_path: Path) -> None:
    text = (published / "neurodesk-2026-08/apps.json").read_text(encoding="utf-8")
    releases = [declaration.release for declaration in manifesttext.parse(text, "apps.json").declarations]
    picked, meant = default_of(tmp_path, releases), highest(releases)
    assert {name: version for name, version in picked.items() if not equal(version, meant[name])} == {}
    assert picked.keys() == meant.keys()


def test_lmod_picks_what_we_mean_for_odd_versions(tmp_path: Path) -> None:
    odd = ["1.0", "1.0.0", "1.0a", "1.0.post1", "1.0.dev3", "1.rc1", "r12", "v2", "2024a", "2024.1", "0.9.gpu", "1.0b2"]
    pairs = [(first, second) for first in odd for second in odd if first < second and not equal(first, second)]
    releases = [Release(f"tool{number}", version, "20260101") for number, pair in enumerate(pairs) for version in pair]
    assert default_of(tmp_path, releases) == highest(releases)


def equal(first: str, second: str) -> bool:
    """Tell whether two versions differ only in trailing zeros, where Lmod's choice is by chance."""
    return re.sub(r"(\.0)+$", "", first) == re.sub(r"(\.0)+$", "", second)
