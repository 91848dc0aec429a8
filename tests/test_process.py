"""The door to other programs, with real programs."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from neurocommand.errors import ProcessError
from neurocommand.process import Background, Completed, Outliving, feed, find_program, replace_process, run

ROOT = Path(__file__).parents[1]


def test_output_and_exit_code_are_collected() -> None:
    assert run(["sh", "-c", "echo out; echo err >&2"]) == Completed(0, "out\n", "err\n")
    assert run(["sh", "-c", "exit 7"], check=False) == Completed(7, "", "")


def test_arguments_are_not_read_by_a_shell() -> None:
    odd = ["a b", "$(id)", "*", "", "it's", "ä\n"]
    assert run(["printf", "%s|", *odd]).stdout == "".join(f"{word}|" for word in odd)


def test_standard_input_is_empty() -> None:
    assert run(["cat"], timeout=10).stdout == ""


def test_variables_are_added_and_the_directory_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "kept")
    monkeypatch.setenv("CHANGED", "before")
    done = run(["sh", "-c", "echo $KEPT $CHANGED; pwd"], env={"CHANGED": "after"}, cwd=tmp_path)
    assert done.stdout == f"kept after\n{tmp_path}\n"


def test_output_that_is_no_text_is_kept_readable() -> None:
    assert run(["printf", r"\377"]).stdout == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo one >&2; exit 3", "sh failed (exit 3): one"),
        ("echo only out; exit 1", "sh failed (exit 1): only out"),
        ("for i in 1 2 3 4 5 6 7; do echo $i; done >&2; exit 1", "sh failed (exit 1): 3\n4\n5\n6\n7"),
        ("kill -9 $$", "sh failed (signal 9): "),
    ],
)
def test_a_failure_says_how_and_the_last_lines(script: str, message: str) -> None:
    with pytest.raises(ProcessError) as caught:
        run(["sh", "-c", script])
    assert caught.value.message == message


def test_a_program_that_is_not_there_is_named_with_the_remedy() -> None:
    with pytest.raises(ProcessError, match=r"^no-such-program: not found$") as caught:
        run(["no-such-program"])
    assert "install no-such-program" in caught.value.hint
    assert find_program("no-such-program") is None


def test_a_file_that_cannot_be_executed_is_named(tmp_path: Path) -> None:
    text, binary = tmp_path / "text", tmp_path / "binary"
    text.write_text("#!/bin/sh\n")
    with pytest.raises(ProcessError, match=f"^{text}: cannot be executed: Permission denied$"):
        run([str(text)])
    binary.write_bytes(b"\x7fELF")
    binary.chmod(0o755)
    with pytest.raises(ProcessError, match=f"^{binary}: cannot be executed: Exec format error$"):
        run([str(binary)])
    with pytest.raises(ProcessError, match=r"^echo: cannot be executed: Argument list too long$"):
        run(["echo", "x" * (1 << 22)])


# A program that starts another one, writes the number of that to a file, and waits for it.
FAMILY = 'sleep 600 & echo $! > "$1"; wait'


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that ended but was not waited for does not."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def assert_gone(pid_file: Path) -> None:
    pid, deadline = int(pid_file.read_text()), time.monotonic() + 10
    while lives(pid):
        assert time.monotonic() < deadline, "what the program started still runs"
        time.sleep(0.01)


def test_a_program_that_takes_too_long_ends_with_all_that_it_started(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(ProcessError, match=r"^sh: took more than 0\.5 s$"):
        run(["sh", "-c", FAMILY, "sh", str(tmp_path / "pid")], timeout=0.5)
    assert time.monotonic() - began < 10
    assert_gone(tmp_path / "pid")


def test_an_interruption_ends_the_program_with_all_that_it_started(tmp_path: Path) -> None:
    def interrupt() -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(["sh", "-c", FAMILY, "sh", str(tmp_path / "pid")], timeout=20)
    finally:
        thread.join()
    assert_gone(tmp_path / "pid")


def replaced(argv: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a process that becomes another program, and return how it ended."""
    program = f"""
import os, sys
from neurocommand.errors import ProcessError
from neurocommand.process import replace_process
print(os.getpid(), flush=True)
try:
    replace_process({argv!r}, {{'ADDED': 'a b'}})
except ProcessError as error:
    sys.exit(error.message)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)


def test_the_process_becomes_the_other_program() -> None:
    done = replaced(["sh", "-c", 'echo "$$ $ADDED"; kill -TERM $$'])
    pid = done.stdout.split()[0]
    assert done.stdout == f"{pid}\n{pid} a b\n"
    assert done.returncode == -signal.SIGTERM


def test_a_program_that_it_cannot_become_is_named() -> None:
    assert replaced(["no-such-program"]).stderr == "no-such-program: No such file or directory\n"


def test_the_failure_to_become_another_program_is_ours() -> None:
    with pytest.raises(ProcessError, match="no-such-program: No such file or directory"):
        replace_process(["no-such-program"], {})


def test_standard_input_is_written() -> None:
    done = feed(
        ["sh", "-c", "wc -c; echo $MINE >&2; exit 3"], lambda pipe: pipe.write(b"x" * 3_000_000), env={"MINE": "y"}
    )
    assert (done.code, done.stdout.strip(), done.stderr) == (3, "3000000", "y\n")


def test_a_program_that_reads_no_more_is_no_fault_of_the_writer() -> None:
    assert feed(["sh", "-c", "exit 5"], lambda pipe: pipe.write(b"x" * 30_000_000)).code == 5


def test_a_writer_that_fails_ends_the_program(tmp_path: Path) -> None:
    def fail(pipe: object) -> None:
        while not (tmp_path / "pid").exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        feed(["sh", "-c", f"echo $$ >{tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; sleep 60"], fail)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_feeding_what_is_not_there() -> None:
    with pytest.raises(ProcessError, match="cannot be executed"):
        feed(["/nowhere/at/all"], lambda pipe: None)


# --- beside us --------------------------------------------------------------------------------------------------------


def test_a_program_beside_us_is_read_line_by_line_and_ends_with_the_block() -> None:
    with Background(["sh", "-c", "echo $GREETING; echo err >&2; exec sleep 600"], {"GREETING": "hello"}) as program:
        assert [program.line(20), program.line(20)] == ["hello", "err"]
        assert program.line() is None
        assert program.line(0.05) is None
        assert program.running
        pid = program._process.pid
    assert not program.running
    assert not Path(f"/proc/{pid}").exists()


def test_its_end_is_seen() -> None:
    with Background(["sh", "-c", "echo bye"]) as program:
        assert program.line(20) == "bye"
        assert program.line(20) is None


def test_one_that_does_not_end_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    deaf = 'trap "" TERM; sleep 600 & echo $! > "$1"; echo ready; while :; do sleep 1; done'
    with Background(["sh", "-c", deaf, "sh", str(tmp_path / "pid")], patience=0.3) as program:
        assert program.line(20) == "ready"
    assert_gone(tmp_path / "pid")


def test_one_that_cannot_be_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProcessError, match="no-such-program: cannot be started: No such file"):
        Background(["no-such-program"]).__enter__()


def test_a_lock_that_it_holds_lasts_as_long_as_it_runs(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with Background(["sh", "-c", "echo ready; exec sleep 600"], holding=[descriptor]) as program:
        assert program.line(20) == "ready"
        os.close(descriptor)
        with open(tmp_path / "lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with open(tmp_path / "lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_what_outlives_us_says_all_to_its_file(tmp_path: Path) -> None:
    running = Outliving(["sh", "-c", "pwd; echo error >&2; cat; sleep 0.5; exit 3"], tmp_path / "log", Path("/"))
    assert not running.ended(0.01)
    assert running.ended(60)
    assert (running.code, running.output) == (3, "/\nerror\n")


def test_what_outlives_us_goes_on_when_we_are_killed(tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from neurocommand.process import Outliving
running = Outliving(["sh", "-c", "sleep 1; echo one; echo two; touch ended"], Path("log"), Path.cwd())
os.killpg(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, start_new_session=True, check=False)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while not (tmp_path / "ended").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (tmp_path / "log").read_text() == "one\ntwo\n"


def test_what_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="nosuch: cannot be started"):
        Outliving(["nosuch"], tmp_path / "log", tmp_path)
