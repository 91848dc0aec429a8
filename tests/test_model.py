"""Values that cannot be wrong once they exist."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand.model import Artifact, ImageReference, Release, StoredObject

SHA = "0123456789abcdef" * 4


@given(
    st.from_regex(r"[a-z0-9][a-z0-9_-]{0,20}", fullmatch=True),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9.]{0,20}", fullmatch=True),
)
def test_an_id_reads_back(application: str, version: str) -> None:
    release = Release(application, version, "20260101")
    assert Release.parse(release.id) == release
    assert str(release) == release.id


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fsl",
        "fsl_6.0",
        "_6.0_20210105",
        "fsl__20210105",
        "fsl_6.0_2021",
        "fsl_6.0_20210105\n",
        "../x_1_20210105",
        "fsl_.._20210105",
        "fsl_6/0_20210105",
        "FSL_6.0_20210105",
        "fsl_6.0_٢٠٢١٠١٠٥",
        "f" * 65 + "_1_20210105",
        "fsl_" + "1" * 65 + "_20210105",
    ],
)
def test_what_is_no_release_id(text: str) -> None:
    with pytest.raises(ValueError, match=re.compile("use |no release id")):
        Release.parse(text)


@given(st.text())
def test_every_release_is_one_safe_name(text: str) -> None:
    try:
        release = Release.parse(text)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z0-9][A-Za-z0-9._-]*", release.id)
    assert len(release.id) < 200


@pytest.mark.parametrize(
    "ascending",
    [
        # what Lmod 8.6.19 marks as the default is the last of each
        ["3.0.1", "3.0.2", "3.0.10"],
        ["6.0.3", "6.0.7.4", "6.0.7.18"],
        ["1.0a", "1.0"],
        ["26.0.rc3", "26.0"],
        ["25.1.post1", "25.1", "25.2"],
        ["2022a", "2022b", "2023a"],
        ["r1933", "r2166", "12.9"],
        ["1.0.dev1", "1.0.alpha2", "1.0.rc1", "1.0"],
        ["2024.4.9", "2024.4.19"],
    ],
)
def test_versions_are_ordered_as_modules_are(ascending: list[str]) -> None:
    releases = [Release("x", version, "20260101") for version in ascending]
    assert (
        sorted(  # noqa: C414
            reversed(releases), key=lambda release: release.precedence
        )
        == releases
    )


def test_trailing_zeros_do_not_count_and_the_build_date_decides() -> None:
    old, new = Release("x", "1.0", "20250101"), Release("x", "1.0.0", "20260101")
    assert max(new, old, key=lambda release: release.precedence) == new


@pytest.mark.parametrize(
    ("sha256", "size", "source"),
    [
        ("x", 1, None),
        (SHA.upper(), 1, None),
        (SHA + "0", 1, None),
        (SHA, -1, None),
        (SHA, 1 << 63, None),
        (SHA, 1, "sha256:" + SHA),
    ],
)
def test_what_is_no_artifact(sha256: str, size: int, source: str | None) -> None:
    with pytest.raises(ValueError, match="use "):
        Artifact(sha256, size, source)


def test_an_object_agrees_unless_it_states_otherwise() -> None:
    artifact = Artifact(SHA, 5, SHA)
    assert StoredObject("k", 5, SHA).agrees(artifact)
    assert StoredObject("k", 5).agrees(artifact)
    assert not StoredObject("k", 4).agrees(artifact)
    assert not StoredObject("k", 5, SHA[::-1]).agrees(artifact)


@pytest.mark.parametrize(
    ("registry", "repository", "tag"),
    [("a b", "x", "1"), ("host", "X", "1"), ("host", "a//b", "1"), ("host", "x", "a b"), ("host", "x", "")],
)
def test_what_is_no_image_reference(registry: str, repository: str, tag: str) -> None:
    with pytest.raises(ValueError, match="use "):
        ImageReference(registry, repository, tag)


def test_an_image_reference_as_text() -> None:
    assert (
        str(ImageReference("127.0.0.1:5000", "neurodesk/fsl_6.0.4", "20210105"))
        == "127.0.0.1:5000/neurodesk/fsl_6.0.4:20210105"
    )
