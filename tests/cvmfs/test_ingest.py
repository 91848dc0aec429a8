"""The contract of ``cvmfs_server ingest``: what becomes of each tar, and of each path to delete."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.cvmfs import tars
from tests.cvmfs.simulator import Stratum0


def paths(stratum: Stratum0) -> list[str]:
    """Return what the union shows."""
    found = (str(path.relative_to(stratum.union)) for path in stratum.union.rglob("*"))
    return sorted(path for path in found if path != "new_repository")


def refused(stratum: Stratum0, *argv: str) -> str:
    """Run an ingest that must fail and leave nothing behind; returns what it said."""
    before, shown = stratum.served(), paths(stratum)
    done = stratum.run("ingest", *argv, stratum.name)
    assert done.code == 1, done
    assert stratum.served() == before
    assert paths(stratum) == shown
    assert not stratum.is_open
    assert not stratum.is_writable
    return done.said


def test_a_release_is_one_revision(stratum: Stratum0, tmp_path: Path) -> None:
    members = {**tars.release("tool_1", tool=b"one\n"), "modules/tool/1.lua": b"x\n", "bin/tool": b"y\n"}
    said = stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", members), "-b", "/")
    assert said.index("Swissknife Ingest: ") < said.index("Signing new manifest") < said.index("Remounting newly")
    assert stratum.revision == 2
    assert (stratum.union / "containers/tool_1/tool").read_bytes() == b"one\n"
    assert (stratum.union / "containers/tool_1/tool").stat().st_mtime == tars.TIME
    catalogs = stratum.do("list-catalogs", "-s", "-e").splitlines()
    assert [line.split()[-1] for line in catalogs if line.endswith(("/", "tool_1"))] == ["/", "/containers/tool_1"]


def test_a_file_is_replaced_and_directories_keep_what_they_have(stratum: Stratum0, tmp_path: Path) -> None:
    stratum.do("ingest", "-t", tars.write(tmp_path / "a.tar", {"d/": None, "d/f": b"1", "d/g": b"2"}), "-b", "/")
    stratum.do("ingest", "-t", tars.write(tmp_path / "b.tar", {"d/f": b"new", "d/h": b"3"}), "-b", "/")
    assert paths(stratum) == ["d", "d/f", "d/g", "d/h"]
    assert (stratum.union / "d/f").read_bytes() == b"new"
    assert (stratum.union / "d").stat().st_mtime == tars.TIME


def test_dash_c_makes_a_catalog_and_missing_parents_are_made(stratum: Stratum0, tmp_path: Path) -> None:
    stratum.do("ingest", "-c", "-t", tars.write(tmp_path / "t.tar", {"f": b"1"}), "-b", "n1/n2/n3")
    assert paths(stratum) == ["n1", "n1/n2", "n1/n2/n3", "n1/n2/n3/.cvmfscatalog", "n1/n2/n3/f"]
    assert "/n1/n2/n3\n" in stratum.do("list-catalogs", "-s", "-e")


def test_standard_input_can_be_the_tar(stratum: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"f": b"1"})
    with open(tar, "rb") as file:
        assert stratum.run("ingest", "-t", "-", "-b", "d", stratum.name, stdin=file).code == 0
    assert paths(stratum) == ["d", "d/f"]


def test_deletions_are_one_revision_and_may_go_with_an_addition(stratum: Stratum0, tmp_path: Path) -> None:
    members = {**tars.release("a"), **tars.release("b"), "modules/a.lua": b"x"}
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", members), "-b", "/")
    stratum.do("ingest", "-d", "containers/a", "-d", "modules/a.lua")
    assert stratum.revision == 3
    new = tars.write(tmp_path / "n.tar", tars.release("c"))
    stratum.do("ingest", "-d", "containers/b", "-t", new, "-b", "/")
    assert stratum.revision == 4
    assert paths(stratum) == [
        "containers",
        "containers/c",
        "containers/c/.cvmfscatalog",
        "containers/c/tool",
        "modules",
    ]


@pytest.mark.parametrize("mode", ["w:gz", "w:xz"])
def test_a_compressed_tar_is_refused(stratum: Stratum0, tmp_path: Path, mode: str) -> None:
    tar = tars.write(tmp_path / "t.tar", {"f": b"1"}, mode)
    said = refused(stratum, "-t", tar, "-b", "/")
    assert "Impossible to open the archive: Unrecognized archive format" in said
    assert "Swissknife Ingest: Initialization of the synchronisation engine failed" in said
    assert "Synchronization failed" in said


def test_a_tar_that_is_not_there_is_refused(stratum: Stratum0) -> None:
    said = refused(stratum, "-t", "/nosuch.tar", "-b", "/")
    assert "Impossible to open the archive: Failed to open '/nosuch.tar'" in said


def test_a_tar_that_is_cut_inside_a_member_is_refused(stratum: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"d/": None, "d/f": b"x" * 10_000, "d/g": b"y" * 10_000})
    data = Path(tar).read_bytes()
    Path(tar).write_bytes(data[: data.index(b"y" * 100) + 5000])
    said = refused(stratum, "-t", tar, "-b", "/")
    assert "failed to read data from the tar entry: /d/g (-1)" in said
    assert "Truncated tar archive" in said


def test_a_tar_that_is_cut_between_members_is_published_in_part(stratum: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"d/": None, "d/f": b"x", "d/g": b"y"})
    Path(tar).write_bytes(Path(tar).read_bytes()[: 512 * 3])
    stratum.do("ingest", "-t", tar, "-b", "/")
    assert paths(stratum) == ["d", "d/f"]


def test_nothing_is_a_new_revision(stratum: Stratum0, tmp_path: Path) -> None:
    assert stratum.run("ingest", "-t", "-", "-b", "d", stratum.name).code == 0
    (tmp_path / "empty.tar").write_bytes(b"")
    stratum.do("ingest", "-t", str(tmp_path / "empty.tar"), "-b", "d")
    assert "[WARNING] 'nosuch' cannot be deleted. Unrecognized file type." in stratum.do("ingest", "-d", "nosuch")
    assert stratum.revision == 4
    assert paths(stratum) == []


def test_a_directory_cannot_be_replaced_in_one_revision(stratum: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"a": b"1"})
    stratum.do("ingest", "-t", tar, "-b", "y")
    said = refused(stratum, "-d", "y", "-t", tar, "-b", "y")
    assert "catalog for file '/y/a' cannot be found" in said


def test_a_name_that_comes_twice_is_refused(stratum: Stratum0, tmp_path: Path) -> None:
    twice = [(tars.header("f"), b"1"), (tars.header("f"), b"2")]
    assert "AddEntry" in refused(stratum, "-t", tars.write(tmp_path / "t.tar", twice), "-b", "d")


def test_a_hard_link_is_a_file_of_its_own_or_refused(stratum: Stratum0, tmp_path: Path) -> None:
    link = tars.header("d/l", type=tarfile.LNKTYPE, linkname="d/f")
    stratum.do("ingest", "-t", tars.write(tmp_path / "a.tar", [(tars.header("d/f"), b"1"), (link, b"")]), "-b", "/")
    assert (stratum.union / "d/l").read_bytes() == b"1"
    assert (stratum.union / "d/l").stat().st_nlink == 1
    lost = tars.header("e/l", type=tarfile.LNKTYPE, linkname="e/nosuch")
    said = refused(stratum, "-t", tars.write(tmp_path / "b.tar", [(lost, b"")]), "-b", "/")
    assert "catalog for file 'e/nosuch' cannot be found, aborting" in said


def test_names_that_leave_the_base_are_lost_or_moved(stratum: Stratum0, tmp_path: Path) -> None:
    members = [(tars.header("../evil"), b"1"), (tars.header("/abs/x"), b"2"), (tars.header("./f"), b"3")]
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", members), "-b", "d")
    assert [path for path in paths(stratum) if "evil" not in path] == ["d", "d/abs", "d/abs/x", "d/f"]
    assert not (stratum.union / "d/evil").exists()


def test_a_marker_that_is_a_directory_breaks_check_for_ever(stratum: Stratum0, tmp_path: Path) -> None:
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", {"d/": None, "d/.cvmfscatalog/": None}), "-b", "/")
    done = stratum.run("check", stratum.name)
    assert (done.code, "found abandoned nested catalog marker at /d/.cvmfscatalog" in done.said) == (1, True)


def test_owner_becomes_the_publisher_and_modes_are_kept(stratum: Stratum0, tmp_path: Path) -> None:
    members = [(tars.header("d/f", mode=0o4755), b"1")]
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", members), "-b", "/")
    found = (stratum.union / "d/f").stat()
    owner = (stratum.union / "new_repository").stat()
    assert (found.st_mode & 0o7777, found.st_uid, found.st_gid) == (0o4755, owner.st_uid, owner.st_gid)


def test_a_user_without_a_group_ingests_nothing(stratum: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"f": b"1"})
    stratum.do("ingest", "-u", "nobody", "-t", tar, "-b", "d")
    assert (stratum.revision, paths(stratum)) == (2, [])


def test_with_a_user_and_a_group_the_group_is_the_users_own(stratum: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"f": b"1"})
    user = pwd.getpwuid(os.geteuid())
    other = next(group.gr_name for group in grp.getgrall() if group.gr_gid != user.pw_gid)
    stratum.do("ingest", "-u", user.pw_name, "-g", other, "-t", tar, "-b", "d")
    assert (stratum.union / "d/f").stat().st_gid == user.pw_gid


def test_directories_made_up_while_owners_are_kept_belong_to_nobody(simulated: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"made/up/f": b"1", "entry/": None, "entry/f": b"2"})
    simulated.do("ingest", "-k", "-t", tar, "-b", "/")
    tree = simulated.tree()
    assert {
        path: (tree[path].uid, tree[path].gid) for path in ("made", "made/up", "made/up/f", "entry", "entry/f")
    } == {
        "made": (-1, -1),
        "made/up": (-1, -1),
        "made/up/f": (0, 42),
        "entry": (0, 42),
        "entry/f": (0, 42),
    }


@pytest.mark.parametrize("name", [".wh.foo", "d/.wh..wh..opq", "a 'b' \"c\"", "new\nline", "ü", "n" * 240])
def test_any_name_can_be_ingested_and_deleted(stratum: Stratum0, tmp_path: Path, name: str) -> None:
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", {f"top/{name}": b"1"}), "-b", "/")
    assert f"top/{name}" in paths(stratum)
    stratum.do("ingest", "-d", "top")
    assert paths(stratum) == []


def test_the_union_cannot_delete_an_ingested_whiteout(stratum: Stratum0, tmp_path: Path) -> None:
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", {"d/": None, "d/.wh..wh..opq": b""}), "-b", "/")
    stratum.do("transaction")
    subprocess.run(["rm", "-rf", stratum.union / "d"], check=True)
    done = stratum.run("publish", stratum.name)
    assert (done.code, "Killed" in done.said, "Synchronization failed" in done.said) == (1, True, True)


def test_a_full_storage_aborts_the_ingest(simulated: Stratum0, tmp_path: Path) -> None:
    tar = tars.write(tmp_path / "t.tar", {"f": b"1"})
    simulated.fill_storage()
    assert "block upload failed (code: 28)" in refused(simulated, "-t", tar, "-b", "d")
    simulated.free_storage()
    simulated.do("ingest", "-t", tar, "-b", "d")
    assert simulated.strays() == []


def test_an_ingest_whose_abort_dies_leaves_the_transaction(simulated: Stratum0) -> None:
    simulated.fail_abort()
    assert simulated.run("ingest", "-t", "/nosuch.tar", "-b", "d", simulated.name).code != 0
    assert simulated.is_open
    simulated.do("abort", "-f")
