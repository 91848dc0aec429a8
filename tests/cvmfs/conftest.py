"""The contract's two sides: the simulator, and the real thing where it can run."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cvmfs.real import RealStratum0, why_not
from tests.cvmfs.simulator import Stratum0

_numbers = itertools.count()


@pytest.fixture(params=["simulator", pytest.param("real", marks=pytest.mark.real_cvmfs)])
def stratum(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stratum0 | RealStratum0]:
    """Give a new repository, garbage-collectable and without automatic tags."""
    if request.param == "simulator":
        with Stratum0.make(tmp_path / "host") as simulated:
            yield simulated
        return
    if reason := why_not():
        pytest.skip(reason)
    with RealStratum0.make(f"nctest{os.getpid()}-{next(_numbers)}.test.local") as real:
        yield real


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[Stratum0]:
    """Give a new repository of the simulator, for what cannot be provoked on the real thing."""
    with Stratum0.make(tmp_path / "host") as stratum:
        yield stratum
