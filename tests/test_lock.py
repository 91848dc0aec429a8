"""The lock: an identity is written once, and survives."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocommand import lock
from neurocommand.errors import FaultsError, ImmutableError, UsageError
from neurocommand.lock import Lock, LockFile
from neurocommand.model import Artifact, Release
from tests.durability import recorded

FSL = Release("fsl", "6.0.4", "20210105")
A, B = Artifact("a" * 64, 1, "c" * 64), Artifact("b" * 64, 1)

releases = st.builds(
    Release, st.sampled_from(["fsl", "ants_x"]), st.from_regex(r"[0-9]{1,3}", fullmatch=True), st.just("20260101")
)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
artifacts = st.builds(
    Artifact,
    digests,
    st.integers(0, 1 << 50),
    st.none() | digests,
)


@given(st.dictionaries(releases, artifacts))
def test_a_lock_reads_back(content: dict[Release, Artifact]) -> None:
    text = lock.render(Lock(content))
    assert lock.parse(text, "x").artifacts == content
    assert json.loads(text)["releases"].keys() == {release.id for release in content}


def test_one_release_per_line_sorted() -> None:
    text = lock.render(Lock({Release("b", "1", "20260101"): A, Release("a", "1", "20260101"): B}))
    assert text == (
        '{\n  "version": 1,\n  "releases": {\n'
        f'    "a_1_20260101": {{"sha256": "{"b" * 64}", "size": 1, "source_digest": null}},\n'
        f'    "b_1_20260101": {{"sha256": "{"a" * 64}", "size": 1, "source_digest": "{"c" * 64}"}}\n'
        "  }\n}\n"
    )


def test_a_locked_release_keeps_its_bytes(tmp_path: Path) -> None:
    file = LockFile(tmp_path / "new" / "apps.lock.json")
    file.record(FSL, A)
    before = file.path.read_bytes()
    file.record(FSL, Artifact(A.sha256, A.size))
    with pytest.raises(ImmutableError) as caught:
        file.record(FSL, B)
    assert caught.value.exit_code == 4
    assert file.path.read_bytes() == before
    assert LockFile(file.path).lock.get(FSL) == A


def test_a_lock_behind_a_link_stays_behind_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "apps.lock.json").write_text(lock.render(Lock()))
    link = tmp_path / "apps.lock.json"
    link.symlink_to("real/apps.lock.json")
    LockFile(link).record(FSL, A)
    assert os.path.islink(link)
    assert LockFile(tmp_path / "real" / "apps.lock.json").lock.get(FSL) == A


def test_a_link_that_leads_nowhere_is_no_empty_lock(tmp_path: Path) -> None:
    (tmp_path / "apps.lock.json").symlink_to("not mounted/apps.lock.json")
    with pytest.raises(FaultsError, match="cannot be read"):
        LockFile(tmp_path / "apps.lock.json")


def test_two_runs_keep_what_the_other_locked(tmp_path: Path) -> None:
    other_release = Release("fsl", "6.0.5", "20220105")
    one, other = LockFile(tmp_path / "apps.lock.json"), LockFile(tmp_path / "apps.lock.json")
    one.record(FSL, A)
    other.record(other_release, B)
    assert LockFile(one.path).lock.artifacts == {FSL: A, other_release: B}
    with pytest.raises(ImmutableError):
        one.record(other_release, A)


def test_many_writers_lose_nothing_of_each_other(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom neurocommand.lock import LockFile\n"
        "from neurocommand.model import Artifact, Release\nfile = LockFile(Path(sys.argv[1]))\n"
        "for number in range(25):\n"
        "    file.record(Release(f'tool{sys.argv[2]}', str(number), '20260101'), Artifact('a' * 64, 1))\n"
    )
    path = tmp_path / "apps.lock.json"
    argv = [sys.executable, "-c", program, str(path)]
    writers = [subprocess.Popen([*argv, str(number)], cwd=Path(__file__).parents[1]) for number in range(4)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert len(LockFile(path).lock.artifacts) == 100
    assert os.listdir(tmp_path) == [path.name]


FLOCK = fcntl.flock


def test_another_writer_is_waited_for_on_nfs_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[str] = []

    def nfs(file: int | IO[bytes], how: int) -> None:
        # it locks only what is open for writing
        number = file if isinstance(file, int) else file.fileno()
        if fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        FLOCK(file, how)
        held.append(os.readlink(f"/proc/self/fd/{number}"))

    monkeypatch.setattr(fcntl, "flock", nfs)
    LockFile(tmp_path / "apps.lock.json").record(FSL, A)
    assert held[0] == str(tmp_path / ".apps.lock.json.lock")


def test_one_that_was_removed_while_it_was_waited_for_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, links = tmp_path / ".apps.lock.json.lock", list[int]()

    def late(file: int | IO[bytes], how: int) -> None:
        if not links:  # the one who held it ends between opening and locking it
            guard.unlink()
        FLOCK(file, how)
        links.append(os.fstat(file if isinstance(file, int) else file.fileno()).st_nlink)

    monkeypatch.setattr(fcntl, "flock", late)
    LockFile(tmp_path / "apps.lock.json").record(FSL, A)
    assert links[:2] == [0, 1]
    assert not guard.exists()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EBADF])
def test_a_file_system_without_locks_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(stream: int, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    file = LockFile(tmp_path / "apps.lock.json")
    for attempt in (file.check_writable, lambda: file.record(FSL, A)):
        with pytest.raises(UsageError, match="cannot be locked against other writers"):
            attempt()
    assert not file.path.exists()


@pytest.mark.parametrize(
    ("directory", "owner", "shared"),
    [(0o2775, os.geteuid(), 0o664), (0o755, os.geteuid(), 0o644), (0o775, 12345, 0o600)],
    ids=["a group's", "one user's", "the file is another user's"],
)
def test_those_who_may_write_there_may_wait_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, directory: int, owner: int, shared: int
) -> None:
    tmp_path.chmod(directory)
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    modes: list[int] = []

    def look(file: int | IO[bytes], how: int) -> None:
        modes.append(stat.S_IMODE(os.fstat(file if isinstance(file, int) else file.fileno()).st_mode))

    monkeypatch.setattr(fcntl, "flock", look)
    before = os.umask(0o077)
    try:
        LockFile(tmp_path / "apps.lock.json").record(FSL, A)
    finally:
        os.umask(before)
    assert modes[0] == shared


def test_what_is_recorded_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, calls = LockFile(tmp_path / "apps.lock.json"), recorded(monkeypatch, tmp_path)
    file.record(FSL, A)
    assert [name for _, name in calls][1:] == ["apps.lock.json", "."]


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    path, guard = tmp_path / "apps.lock.json", tmp_path / ".apps.lock.json.lock"
    guard.touch()
    LockFile(path).tidy()
    assert not guard.exists()
    LockFile(path).tidy()
    assert not any(tmp_path.iterdir())
    guard.symlink_to(tmp_path / "elsewhere")
    LockFile(path).tidy()  # not ours: left alone
    assert guard.is_symlink()


def test_what_another_lock_has_counts_but_is_not_written(tmp_path: Path) -> None:
    path, other_release = tmp_path / "apps.lock.json", Release("fsl", "6.0.5", "20220105")
    file = LockFile(path, Lock({FSL: A}))
    with pytest.raises(ImmutableError):
        file.record(FSL, B)
    assert not path.exists()
    file.record(other_release, B)
    assert file.lock.artifacts == {FSL: A, other_release: B}
    assert LockFile(path).lock.artifacts == {other_release: B}
    with pytest.raises(ImmutableError):
        LockFile(path, Lock({other_release: A}))
    assert Lock({FSL: A}).including(other_release, B) == file.lock


ENTRY = {"sha256": "a" * 64, "size": 1, "source_digest": None}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "has the members"),
        ({"version": 1}, "has the members"),
        ({"version": 1, "releases": []}, "has the members"),
        ({"version": 2, "releases": {}}, "must be 1"),
        ({"version": 1, "releases": {"../x_1_20260101": ENTRY}}, "application"),
        ({"version": 1, "releases": {"x_1_20260101": []}}, "has the members"),
        ({"version": 1, "releases": {"x_1_20260101": {**ENTRY, "more": 1}}}, "has the members"),
        ({"version": 1, "releases": {"x_1_20260101": {**ENTRY, "size": True}}}, "whole number"),
        ({"version": 1, "releases": {"x_1_20260101": {**ENTRY, "size": "1"}}}, "whole number"),
        ({"version": 1, "releases": {"x_1_20260101": {**ENTRY, "sha256": None}}}, "a text"),
        ({"version": 1, "releases": {"x_1_20260101": {**ENTRY, "sha256": "zz"}}}, "hexadecimal"),
        ({"version": 1, "releases": {"x_1_20260101": {**ENTRY, "source_digest": "sha256:x"}}}, "hexadecimal"),
    ],
)
def test_a_lock_with_faults_is_refused(tmp_path: Path, value: object, message: str) -> None:
    path = tmp_path / "apps.lock.json"
    path.write_text(json.dumps(value, indent=1))
    with pytest.raises(FaultsError, match=message):
        LockFile(path)


def test_a_release_that_stands_twice_is_refused() -> None:
    entry = json.dumps(ENTRY)
    with pytest.raises(FaultsError, match="duplicate key"):
        lock.parse(f'{{"version": 1, "releases": {{"x_1_20260101": {entry},\n"x_1_20260101": {entry}}}}}', "x")


def test_the_lock_of_the_project_is_valid() -> None:
    lock.load(Path(__file__).parent.parent / "apps.lock.json")


def test_a_lock_that_could_not_be_written_is_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = LockFile(tmp_path / "a" / "b" / "apps.lock.json")
    found.check_writable()
    asked: list[Path] = []
    # root may write everywhere, so the answer of the system is what is put in
    monkeypatch.setattr(os, "access", lambda path, mode: asked.append(path))
    with pytest.raises(UsageError, match=r"apps\.lock\.json: cannot be written"):
        found.check_writable()
    assert asked == [tmp_path]
