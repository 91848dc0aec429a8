"""``publish`` and ``sync`` to a CVMFS repository: what clients see, and the state that is left, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurocommand.runlock import RunLock
from tests import servers
from tests.cvmfs.real import RealStratum0, why_not
from tests.cvmfs.simulator import Stratum0
from tests.world import Completed, World

RECORD = "containers/small_1.0_20260101/record.json"


@dataclass
class Site:
    """A stratum 0, and a world that publishes to it."""

    world: World
    stratum: Stratum0 | RealStratum0

    def run(self, *words: str) -> Completed:
        return self.world.run(*words, env=self.stratum.env)

    def seen(self, path: str) -> bytes | None:
        """Return a file as clients see it."""
        found = self.stratum.view(path)
        return None if found is None else found.data

    def releases(self) -> set[str]:
        """Return the releases of which clients see a record."""
        return {path.split("/")[1] for path in self.stratum.tree() if path.endswith("/record.json")}


@pytest.fixture(scope="session")
def stock(image_registry: servers.Registry, tmp_path_factory: pytest.TempPathFactory) -> World:
    """Give a world whose store has every release, locked."""
    made = World(tmp_path_factory.mktemp("stock"), image_registry.host)
    made.declare("small 1.0", "small 1.1", "other 2.0")
    made.configure()
    for verb in ("convert", "upload"):
        done = made.run(verb)
        assert done.code == 0, done
    return made


def publishing(world: World, stratum: Stratum0 | RealStratum0, stock: World) -> Site:
    """Let a world publish to a repository what another one has converted."""
    world.configure()
    shutil.copytree(stock.store, world.store)
    shutil.copyfile(stock.path / "apps.lock.json", world.path / "apps.lock.json")
    place = f"repository: {stratum.name}, root: {stratum.union}"
    if isinstance(stratum, Stratum0):
        place += f", cvmfs_configuration: {stratum.directory}/etc/cvmfs"
    text = world.config.read_text().replace("publish: {root: root}", f"publish: {{{place}, min_free: 1}}")
    world.config.write_text(text)
    return Site(world, stratum)


@pytest.fixture
def site(world: World, tmp_path: Path, stock: World) -> Iterator[Site]:
    """Give a new repository of the simulator, and a world that publishes to it."""
    with Stratum0.make(tmp_path / "host") as stratum:
        yield publishing(world, stratum, stock)


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.real_cvmfs)])
def any_site(request: pytest.FixtureRequest, world: World, tmp_path: Path, stock: World) -> Iterator[Site]:
    """Give a new repository, of the simulator and of the real thing, and a world that publishes to it."""
    if request.param == "simulated":
        with Stratum0.make(tmp_path / "host") as stratum:
            yield publishing(world, stratum, stock)
        return
    if reason := why_not():
        pytest.skip(reason)
    with RealStratum0.make(f"nctest{os.getpid()}.test.local") as real:
        yield publishing(world, real, stock)


def test_a_sync_publishes_all_in_one_revision_and_a_second_one_nothing(any_site: Site) -> None:
    site = any_site
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


def test_what_the_manifest_retires_is_withdrawn_and_what_goes_is_gone(any_site: Site) -> None:
    site = any_site
    site.world.declare("small 1.0", "small 1.1")
    assert site.run("sync").code == 0
    site.world.declare("small 1.1", retired=[site.world.release("small 1.0")])
    done = site.run("publish")
    assert done.code == 0, done
    tree = site.stratum.tree()
    assert not [path for path in tree if path.startswith("containers/small_1.0_20260101/small_1.0_20260101.simg")]
    assert b"withdrawn" in (site.seen("containers/small_1.0_20260101/wrapper.sh") or b"")
    assert site.releases() == {"small_1.0_20260101", "small_1.1_20260101"}, "of one only the tombstone"
    assert site.run("publish").out.splitlines()[-1] == "nothing to do"
    assert site.stratum.revision == 3


def test_other_bytes_take_the_place_of_a_damaged_release_in_one_revision(any_site: Site) -> None:
    site = any_site
    assert site.run("sync").code == 0
    site.stratum.do("transaction")
    (site.stratum.union / RECORD).write_text("{")
    (site.stratum.union / "containers/small_1.0_20260101/small_1.0_20260101.simg/stale").write_text("x")
    site.stratum.do("publish")
    before = site.stratum.revision
    done = site.run("publish")
    assert done.code == 0, done
    assert site.stratum.revision == before + 1
    assert json.loads(site.seen(RECORD) or b"")["release"] == "small_1.0_20260101"
    assert site.seen("containers/small_1.0_20260101/small_1.0_20260101.simg/stale") is None
    assert site.run("publish").out.splitlines()[-1] == "nothing to do"


def test_new_wrappers_are_published_without_the_image(any_site: Site) -> None:
    site = any_site
    assert site.run("sync").code == 0
    image = "containers/small_1.0_20260101/small_1.0_20260101.simg"
    before = {path: entry for path, entry in site.stratum.tree().items() if path.startswith(image)}
    site.world.config.write_text(site.world.config.read_text() + "wrappers: {warm: true}\n")
    done = site.run("publish")
    assert done.code == 0, done
    assert site.stratum.revision == 3
    assert {path: entry for path, entry in site.stratum.tree().items() if path.startswith(image)} == before
    assert site.run("publish").out.splitlines()[-1] == "nothing to do"


def test_a_new_version_begins_as_the_tree_before_and_only_what_differs_is_written(any_site: Site) -> None:
    site = any_site
    site.world.declare("small 1.0")
    assert site.run("sync").code == 0
    old = "containers/small_1.0_20260101/small_1.0_20260101.simg/"
    before = {path.removeprefix(old): entry for path, entry in site.stratum.tree().items() if path.startswith(old)}
    site.world.declare("small 1.0", "small 1.1")
    done = site.run("sync")
    assert done.code == 0, done
    new = "containers/small_1.1_20260101/small_1.1_20260101.simg/"
    seen = {path.removeprefix(new): entry for path, entry in site.stratum.tree().items() if path.startswith(new)}
    assert site.seen(f"{new}opt/small/version") == b"small 1.1"
    assert site.seen(f"{old}opt/small/version") == b"small 1.0"
    differing = {path for path in seen.keys() | before.keys() if seen.get(path) != before.get(path)}
    assert "opt/small/version" in differing
    assert not [path for path in differing if path.startswith("bin/")], "nothing that is the same was written again"
    assert site.seen("containers/small_1.1_20260101/record.pending.json") is None
    assert site.releases() == {"small_1.0_20260101", "small_1.1_20260101"}
    assert site.run("sync").out.splitlines()[-1] == "nothing to do"


def test_without_an_inventory_a_new_version_goes_in_as_a_whole(site: Site) -> None:
    site.world.declare("small 1.0")
    assert site.run("sync").code == 0
    (kept,) = (site.stratum.spool / "neurocommand/inventories").iterdir()
    kept.write_bytes(b"damaged")
    site.world.declare("small 1.0", "small 1.1")
    revision = site.stratum.revision
    assert site.run("sync").code == 0
    assert site.stratum.revision == revision + 1
    assert site.releases() == {"small_1.0_20260101", "small_1.1_20260101"}


def test_a_dry_run_changes_nothing_and_takes_no_lock(any_site: Site) -> None:
    site = any_site
    served = site.stratum.served()
    done = site.run("sync", "--dry-run")
    assert done.code == 0
    assert "deploy" in done.out
    assert site.stratum.served() == served
    assert not (site.stratum.spool / "neurocommand").exists()


def test_somebody_elses_transaction_is_told_and_left_alone(any_site: Site) -> None:
    site = any_site
    site.stratum.foreign_transaction("theirs", b"work")
    done = site.run("sync")
    assert done.code == 75, done
    assert "has had a transaction open since" in done.err
    assert f"cvmfs_server abort {site.stratum.name}" in done.err
    assert (site.stratum.union / "theirs").read_bytes() == b"work"
    site.stratum.do("publish")
    assert site.run("sync").code == 0
    assert site.seen("theirs") == b"work"


def test_an_expired_whitelist_is_told_before_anything_is_done(any_site: Site) -> None:
    site = any_site
    site.stratum.expire_whitelist()
    done = site.run("sync")
    assert (done.code, site.stratum.is_open) == (1, False), done
    assert "the whitelist has expired" in done.err
    assert f"cvmfs_server resign -d 30 {site.stratum.name}" in done.err
    site.stratum.renew_whitelist(3)
    assert "the whitelist expires in 3.0 days" in site.run("publish").err
    site.stratum.renew_whitelist(30)
    assert site.run("publish").code == 0
    assert site.releases() == {"small_1.0_20260101"}


def test_a_full_storage_leaves_the_repository_as_it_was(site: Site) -> None:
    site.stratum.fill_storage()
    served = site.stratum.served()
    done = site.run("sync")
    assert done.code == 3, done
    assert "free space in the repository's storage" in done.err
    assert (site.stratum.served(), site.stratum.is_open) == (served, False)
    site.stratum.free_storage()
    assert site.run("sync").code == 0
    assert site.releases() == {"small_1.0_20260101"}


def test_mounts_that_are_gone_are_brought_back_before_anything_is_looked_at(any_site: Site) -> None:
    site = any_site
    assert site.run("sync").code == 0
    served = site.stratum.served()
    site.stratum.break_mount()
    shown = site.run("publish", "--dry-run")
    assert (shown.code, f"cvmfs_server mount {site.stratum.name}" in shown.err) == (1, True), shown
    done = site.run("publish")
    assert (done.code, done.out.splitlines()[-1:]) == (0, ["nothing to do"]), done
    assert site.stratum.served() == served


def test_a_worker_that_is_killed_is_told_and_the_next_run_publishes(site: Site) -> None:
    site.stratum.kill_worker()
    done = site.run("sync")
    assert (done.code, site.stratum.is_open) == (1, False), done
    assert "Synchronization failed" in done.err
    assert site.run("sync").code == 0
    assert site.releases() == {"small_1.0_20260101"}


def test_an_orphaned_worker_is_waited_for(site: Site) -> None:
    site.stratum.orphan(3)
    done = site.run("sync")
    assert done.code in (0, 1), done
    assert "somebody is publishing; waiting for the end of it" in done.err
    assert site.run("sync").code == 0
    assert (site.releases(), site.stratum.is_open) == ({"small_1.0_20260101"}, False)


def test_a_publication_that_hangs_at_its_mount_ends_with_what_holds_it(site: Site) -> None:
    site.stratum.hold_mount(4)
    done = site.run("sync")
    assert done.code == 0, done
    assert site.releases() == {"small_1.0_20260101"}


def test_an_abort_that_fails_stops_the_run_with_what_to_do_next(site: Site) -> None:
    site.stratum.kill_at("processing")
    site.stratum.fail_abort()
    done = site.run("sync")
    assert done.code == 3, done
    assert "free space in the spool" in done.err
    assert (site.stratum.is_open, site.stratum.revision) == (True, 1), "left for the next run"
    assert site.run("sync").code == 0
    assert (site.releases(), site.stratum.is_open) == ({"small_1.0_20260101"}, False)


def test_the_last_publication_can_be_undone(any_site: Site) -> None:
    site = any_site
    assert site.run("sync").code == 0
    first = site.stratum.tree()
    site.world.declare("small 1.0", "small 1.1")
    assert site.run("sync").code == 0
    served = site.stratum.served()
    shown = site.run("rollback", "--dry-run")
    assert shown.code == 0, shown
    assert "small_1.1_20260101" in shown.out
    assert site.stratum.served()["C"] == served["C"]
    done = site.run("rollback")
    assert (done.code, done.out.splitlines()[-1].startswith("published the content of revision 2")) == (0, True), done
    assert site.stratum.tree() == first
    assert site.stratum.revision > int(served["S"])
    assert site.run("sync").code == 0, "what the manifest wants comes back"
    assert site.releases() == {"small_1.0_20260101", "small_1.1_20260101"}


def test_an_unknown_tag_is_told_with_those_that_there_are(any_site: Site) -> None:
    site = any_site
    assert site.run("sync").code == 0
    done = site.run("rollback", "nosuch")
    assert done.code == 2
    assert "there is no tag nosuch" in done.err
    assert "added small_1.0_20260101" in done.err
    assert "there is no earlier publication" in site.run("rollback").err


def test_garbage_is_collected_but_never_during_a_transaction(any_site: Site) -> None:
    site = any_site
    assert site.run("sync").code == 0
    assert site.run("gc").code == 0
    site.stratum.foreign_transaction()
    done = site.run("gc")
    assert (done.code, site.stratum.is_open) == (75, True), done


def test_two_runs_do_not_publish_at_once(any_site: Site) -> None:
    site = any_site
    (site.stratum.spool / "neurocommand").mkdir()
    with RunLock(site.stratum.spool / "neurocommand/lock", "publishing elsewhere"):
        done = site.run("publish")
    assert done.code == 75
    assert "publishing elsewhere" in done.err


@pytest.mark.parametrize("verb", ["rollback", "gc"])
def test_without_a_repository_there_is_nothing_to_roll_back_or_collect(verb: str, world: World) -> None:
    done = world.run(verb)
    assert done.code == 2
    assert "set publish.repository" in done.err
