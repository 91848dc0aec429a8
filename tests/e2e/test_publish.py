"""``publish`` and ``sync`` to a CVMFS repository: what clients see, and the state that is left, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cvmfs.simulator import Stratum0
from tests.world import Completed, World

RECORD = "containers/small_1.0_20260101/record.json"


@dataclass
class Site:
    """A stratum 0, and a world that publishes to it."""

    world: World
    stratum: Stratum0

    def run(self, *words: str) -> Completed:
        return self.world.run(*words, env=self.stratum.env)

    def seen(self, path: str) -> bytes | None:
        """Return a file as clients see it."""
        found = self.stratum.view(path)
        return None if found is None else found.data

    def releases(self) -> set[str]:
        """Return the releases of which clients see a record."""
        return {path.split("/")[1] for path in self.stratum.tree() if path.endswith("/record.json")}


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    """Give a new repository, and a world whose releases are in its store, locked."""
    with Stratum0.make(tmp_path / "host") as stratum:
        world.configure()
        text = world.config.read_text().replace(
            "publish: {root: root}",
            f"publish: {{repository: {stratum.name}, cvmfs_configuration: {stratum.directory}/etc/cvmfs, min_free: 1}}",
        )
        world.config.write_text(text)
        yield Site(world, stratum)


def test_a_sync_publishes_all_in_one_revision_and_a_second_one_nothing(site: Site) -> None:
    site.world.declare("small 1.0", "small 1.1", "other 2.0")
    done = site.run("sync")
    assert done.code == 0, done
    assert site.releases() == {"small_1.0_20260101", "small_1.1_20260101", "other_2.0_20260101"}
    assert site.stratum.revision == 2, "a new repository is at revision 1"
    assert not site.stratum.is_open
    record: dict[str, Any] = json.loads(site.seen(RECORD) or b"")
    assert record["release"] == "small_1.0_20260101"
    served = site.stratum.served()
    again = site.run("sync")
    assert (again.code, again.out.splitlines()[-1]) == (0, "nothing to do")
    assert site.stratum.served() == served, "nothing was signed"
