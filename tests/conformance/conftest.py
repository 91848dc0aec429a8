"""Make the case that a test is run against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.cases import CASES, Case

NEEDS = {"s3": ("moto_url",), "oci": ("registry",), "http": ("web_server",)}


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, s3_credentials: None) -> Case:
    """One store on its real server, empty."""
    needed = {name: request.getfixturevalue(name) for name in NEEDS.get(request.param, ())}
    return CASES[request.param](tmp_path, **needed)
