"""Names: one place for each, and the ones that others rely on."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocommand import layout
from neurocommand.layout import Root
from neurocommand.model import Release

FSL = Release("fsl", "6.0.4", "20210105")


def test_keys_and_releases() -> None:
    assert layout.object_key(FSL) == "fsl_6.0.4_20210105.simg"
    assert layout.release_of_key("fsl_6.0.4_20210105.simg") == FSL
    for foreign in ("fsl_6.0.4_20210105.sif", "log.txt", "x.simg", "../x_1_20210105.simg", ".simg"):
        assert layout.release_of_key(foreign) is None


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{application}_{version}:{build_date}", ("fsl_6.0.4", "20210105")),
        ("{application}:{version}_{build_date}", ("fsl", "6.0.4_20210105")),
    ],
)
def test_both_published_image_names(template: str, expected: tuple[str, str]) -> None:
    assert list(layout.image_names(FSL, [template])) == [expected]


def test_both_spellings_of_a_category() -> None:
    assert layout.category_directory("image registration") == layout.category_directory("image_registration")


def test_the_places_under_a_root() -> None:
    root = Root(Path("/r"))
    release = root.release(FSL)
    places = {
        "state": root.state,
        "lock": root.run_lock,
        "own lock": root.lock,
        "staging": root.staging,
        "spool": root.spool,
        "image": release.image,
        "wrappers": release.wrappers,
        "record": release.record,
        "pending": release.pending_record,
        "modulefile": root.modulefile(FSL),
        "link": root.modules_link,
        "category": root.category_link(FSL, "cryo EM"),
    }
    container = "/r/containers/fsl_6.0.4_20210105"
    assert {name: str(path) for name, path in places.items()} == {
        "state": "/r/.neurocommand",
        "lock": "/r/.neurocommand/lock",
        "own lock": "/r/.neurocommand/apps.lock.json",
        "staging": "/r/.neurocommand/staging",
        "spool": "/r/.neurocommand/spool",
        "image": f"{container}/fsl_6.0.4_20210105.simg",
        "wrappers": f"{container}/bin",
        "record": f"{container}/record.json",
        "pending": f"{container}/record.pending.json",
        "modulefile": "/r/modules/fsl/6.0.4.lua",
        "link": "/r/containers/modules",
        "category": "/r/neurodesk-modules/cryo_EM/fsl/6.0.4.lua",
    }
