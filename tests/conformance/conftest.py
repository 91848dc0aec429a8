"""Make the case that a test is run against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.cases import CASES, Case

NEEDS = {
    "s3": ("moto_url",),
    "swift-s3": ("swift", "monkeypatch"),
    "ceph": ("ceph", "monkeypatch"),
    "http": ("web_server",),
}


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, s3_credentials: None) -> Iterator[Case]:
    """One store on its real server, empty."""
    needed = {name: request.getfixturevalue(name) for name in NEEDS.get(request.param, ())}
    made = CASES[request.param](tmp_path, **needed)
    yield made
    made.close()
