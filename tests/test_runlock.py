"""The run lock, between real processes."""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from neurocommand.errors import BusyError, NeurocommandError
from neurocommand.runlock import RunLock
from tests.servers import run_on_a_small_disk
from tests.users import User

ROOT = Path(__file__).parents[1]


@contextmanager
def another_run(path: Path, body: str = "input()") -> Iterator[subprocess.Popen[str]]:
    """Run a process that takes the lock, says so, and does ``body`` while it has it."""
    program = (
        "import os, subprocess, sys, time\nfrom pathlib import Path\nfrom neurocommand.runlock import RunLock\n"
        f"with RunLock(Path({str(path)!r}), 'neurocommand sync'):\n"
        "    print('locked', flush=True)\n"
        f"    {body}\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_it_says_who_holds_it_and_forgets_it_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "lock"
    with RunLock(path, "neurocommand sync"):
        fields = json.loads(path.read_text())
        assert fields["pid"] == os.getpid()
        assert fields["host"] == os.uname().nodename
        assert fields["command"] == "neurocommand sync"
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", fields["since"])
    assert path.read_text() == ""
    with RunLock(path):
        pass


def test_a_second_run_is_told_who_holds_it_and_since_when(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_run(path) as process:
        since = json.loads(path.read_text())["since"]
        with pytest.raises(BusyError) as caught, RunLock(path):
            pytest.fail("two runs hold the lock")
        assert caught.value.exit_code == 75
        holder = f"process {process.pid} on {os.uname().nodename} (neurocommand sync) since {since}"
        assert caught.value.message == f"{path}: the run lock is held by {holder}"
        process.communicate("\n")
        assert process.returncode == 0
    with RunLock(path):
        pass


def test_a_failed_attempt_takes_nothing_from_the_holder(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with RunLock(path, "first"):
        for _ in range(2):
            with pytest.raises(BusyError, match="first"), RunLock(path, "second"):
                pytest.fail("two runs hold the lock")
        assert json.loads(path.read_text())["command"] == "first"


def test_it_is_free_again_when_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with another_run(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert json.loads(path.read_text())["pid"] == process.pid  # what a killed run leaves does not lock
        with RunLock(path, "next"):
            assert json.loads(path.read_text())["command"] == "next"


def test_it_is_free_again_when_the_holder_fails(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(NeurocommandError), RunLock(path):
        raise NeurocommandError("no")
    with RunLock(path):
        pass


@pytest.mark.parametrize("what", ["KeyboardInterrupt", "ValueError"])
def test_a_run_that_ends_unforeseen_holds_it_until_its_process_is_gone(tmp_path: Path, what: str) -> None:
    path = tmp_path / "lock"
    program = (
        "from pathlib import Path\nfrom neurocommand.runlock import RunLock\n"
        f"try:\n  with RunLock(Path({str(path)!r})):\n    raise {what}\n"
        "except BaseException:\n  print('ended', flush=True)\n  input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ended\n"
        with pytest.raises(BusyError, match=f"process {process.pid} "), RunLock(path):
            pytest.fail("its threads may still be at work")
        process.communicate("\n")
    with RunLock(path):
        pass


def test_programs_started_by_the_holder_do_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    # The child outlives its parent; close_fds=False leaves it everything that is not marked to be closed.
    body = "print(subprocess.Popen(['sleep', '60'], close_fds=False, stdout=2).pid, flush=True); os._exit(0)"
    with another_run(path, body) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.wait()
        try:
            os.kill(child, 0)
            with RunLock(path):
                pass
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "\xff"])
def test_a_holder_that_has_not_said_who_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock"
    with RunLock(path):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(BusyError, match="is held by another run"), RunLock(path):
            pytest.fail("two runs hold the lock")


def test_a_lock_that_cannot_be_made_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("file")
    for path in (tmp_path / "file" / "lock", tmp_path, tmp_path / "link"):
        with pytest.raises(NeurocommandError, match=re.escape(f"{path}: no run lock can be taken: ")) as caught:
            RunLock(path).__enter__()
        assert not isinstance(caught.value, BusyError)


def test_a_disk_without_space_is_an_error_that_names_it() -> None:
    with pytest.raises(NeurocommandError, match="/dev/full: no run lock can be taken: "):
        RunLock(Path("/dev/full")).__enter__()


def test_a_full_disk_is_exit_3(tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from neurocommand.errors import NeurocommandError
from neurocommand.runlock import RunLock
place = Path({str(tmp_path)!r})
(place / "big").write_bytes(bytes(4096))
try:
    RunLock(place / "lock").__enter__()
except NeurocommandError as error:
    print(error.exit_code, error.message)
"""
    out = run_on_a_small_disk(tmp_path, program, "4k")
    assert out == f"3 {tmp_path}/lock: no run lock can be taken: No space left on device\n"


def test_what_the_file_says_of_the_holder_is_not_obeyed_by_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with RunLock(path):
        path.write_text(json.dumps({"pid": 1, "host": "\x1b[2J", "since": "\n", "command": ["\x07"]}))
        with pytest.raises(BusyError, match="is held by process 1 on") as caught, RunLock(path):
            pytest.fail("two runs hold the lock")
        assert caught.value.message.isprintable()


@pytest.mark.parametrize(("directory", "shared"), [(0o2775, True), (0o755, False)])
def test_it_is_shared_with_those_who_may_write_beside_it(tmp_path: Path, directory: int, shared: bool) -> None:
    tmp_path.chmod(directory)
    before = os.umask(0o022)
    try:
        with RunLock(tmp_path / "lock"):
            mode = stat.S_IMODE((tmp_path / "lock").stat().st_mode)
    finally:
        os.umask(before)
    assert mode == (0o664 if shared else 0o644)


def test_another_user_of_the_group_takes_it(ordinary_user: User) -> None:
    if not ordinary_user.root:
        pytest.skip("needs root, to be two users")
    place = Path(tempfile.mkdtemp(dir=ordinary_user.home))
    try:
        os.chown(place, 0, pwd.getpwnam(ordinary_user.name).pw_gid)
        place.chmod(0o775)  # without setgid: the group is given, too
        with RunLock(place / "lock"):
            pass
        program = f"with open({str(place / 'lock')!r}, 'r+') as lock: import fcntl; fcntl.flock(lock, fcntl.LOCK_EX)"
        done = ordinary_user.run(["/usr/bin/python3", "-c", program])
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(place)
