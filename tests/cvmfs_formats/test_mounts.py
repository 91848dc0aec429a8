"""Who holds a repository's mounts: by what the kernel says of processes, and of copies of a mount elsewhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from neurocommand.cvmfs.mounts import Mount, holders, is_held, parse
from neurocommand.cvmfs.repository import Repository

# proc(5): the rdonly mount of a publisher, peer group 12
OURS = "99 30 0:57 / /var/spool/cvmfs/x.org/rdonly ro,nodev shared:12 - fuse cvmfs2 ro"


@pytest.mark.parametrize(
    ("theirs", "held"),
    [
        ("", False),
        ("150 140 0:57 / /old/rdonly ro,nodev master:12 - fuse cvmfs2 ro", False),
        ("150 140 0:57 / /old/rdonly ro,nodev shared:12 - fuse cvmfs2 ro", False),
        ("150 140 0:57 / /old/rdonly ro,nodev - fuse cvmfs2 ro", True),
        ("150 140 0:57 / /old/rdonly ro,nodev shared:40 master:41 - fuse cvmfs2 ro", True),
        ("150 140 0:58 / /old/rdonly ro,nodev - fuse cvmfs2 ro", False),
        ("no line of this file", False),
    ],
    ids=["none", "slave", "peer", "private", "other peers", "other device", "garbage"],
)
def test_a_copy_that_no_unmounting_reaches_holds(theirs: str, held: bool) -> None:
    (ours,) = parse(OURS)
    assert ours == Mount("0:57", "/var/spool/cvmfs/x.org/rdonly", frozenset({"12"}))
    assert is_held(ours, parse(theirs)) is held


def repository(directory: Path) -> Repository:
    url, key = "http://127.0.0.1/cvmfs/x.org", directory / "x.org.pub"
    return Repository("x.org", directory / "mounted", directory / "spool", url, key, "root", "local,a,b")


def test_who_stands_in_the_repository_or_has_a_file_of_it_open_is_named(tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    (place / "file").touch()
    assert holders(repository(tmp_path)) == ()
    with (
        open(place / "file") as file,
        subprocess.Popen(["sleep", "60"], cwd=place) as standing,
        subprocess.Popen(["sleep", "60"], stdin=file, cwd="/") as reading,
    ):
        try:
            found = {holder.process: str(holder) for holder in holders(repository(tmp_path))}
        finally:
            standing.kill()
            reading.kill()
    assert found.keys() == {standing.pid, reading.pid, os.getpid()}
    assert found[standing.pid] == f"process {standing.pid} (sleep) uses {place}"


def test_a_directory_whose_name_only_begins_alike_is_another_one(tmp_path: Path) -> None:
    (tmp_path / "mounted-elsewhere").mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path / "mounted-elsewhere") as standing:
        try:
            assert holders(repository(tmp_path)) == ()
        finally:
            standing.kill()
