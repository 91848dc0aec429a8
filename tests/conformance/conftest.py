"""Make the case that a test is run against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.cases import CASES, Case


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give boto3 credentials of its own kind, and keep it from looking for others on this machine."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATESTTESTTESTTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    """One store on its real server, empty."""
    needed = {"s3": ("moto_url",), "http": ("web_server",)}.get(request.param, ())
    return CASES[request.param](tmp_path, **{name: request.getfixturevalue(name) for name in needed})
