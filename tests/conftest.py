"""Options and fixtures of all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

pytest.register_assert_rewrite(
    "tests.ceph",
    "tests.images",
    "tests.modulesystems",
    "tests.proxy",
    "tests.servers",
    "tests.slurm",
    "tests.swift",
    "tests.transparency",
    "tests.users",
    "tests.world",
)

# fixtures for all
from tests.ceph import ceph  # noqa: E402, F401
from tests.images import small_archive, small_sif  # noqa: E402, F401
from tests.modulesystems import copies_removed  # noqa: E402, F401
from tests.servers import moto_url, registry, s3_credentials, web_server  # noqa: E402, F401
from tests.slurm import slurm  # noqa: E402, F401
from tests.swift import swift  # noqa: E402, F401
from tests.users import ordinary_user  # noqa: E402, F401
from tests.world import big_registry, image_registry, open_world, synced, world  # noqa: E402, F401

# the same examples each time: what a change breaks is told apart from what chance finds; --full looks further
settings.register_profile("quick", max_examples=150, deadline=None, derandomize=True)
settings.register_profile("full", max_examples=1500, deadline=None)

DATA = "NEUROCOMMAND_TEST_DATA"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long campaigns too")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("full" if config.getoption("--full") else "quick")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="a long campaign: runs with --full"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if DATA not in os.environ:
        terminalreporter.write_line(f"{DATA} is not set: tests on the published manifests were skipped")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a home of its own, so that no test reads or writes the user's."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    # Servers of tests are on this machine: no proxy stands in between.
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("NEUROCOMMAND_") and name != DATA]:
        monkeypatch.delenv(name)
    return home


@pytest.fixture(scope="session")
def published() -> Path:
    """Return the directory of the published manifests."""
    if DATA not in os.environ:
        pytest.skip(f"{DATA} is not set")
    return Path(os.environ[DATA])
