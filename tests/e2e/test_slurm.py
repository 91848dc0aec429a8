"""Deployed tools in the jobs of a real Slurm, as an ordinary user: `ml` and a command in a batch script simply work."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurocommand.deploy import Deployer
from neurocommand.events import ignore
from neurocommand.files import digest_of
from neurocommand.layout import Root
from neurocommand.manifest import Declaration
from neurocommand.model import Artifact, Format, Release
from tests.modulesystems import lmod_init
from tests.slurm import TASKS, Slurm
from tests.users import User

RELEASE = Release("small", "1.0", "20260102")
GONE = 15  # seconds after the end of a job in which all that ran for it must have ended


@dataclass(frozen=True)
class Site:
    """The small image under a root that its user can read, on a machine with a batch system."""

    slurm: Slurm
    user: User
    root: Path
    before: frozenset[str]  # what the user ran already, which no job is to blame for

    def script(self, *lines: str) -> str:
        """Return a batch script that has loaded the module of the image."""
        start = (f"source {lmod_init('bash')}", f"module use {self.root}/modules", "ml small")
        return "\n".join(("#!/bin/bash", *start, *lines, ""))


@pytest.fixture(scope="module", params=("tree", "sif"))
def site(request: pytest.FixtureRequest, slurm: Slurm, small_sif: Path, ordinary_user: User) -> Iterator[Site]:
    root = ordinary_user.home / f"slurm-{request.param}"
    made = Site(slurm, ordinary_user, root, frozenset(holders(root, ordinary_user)))
    image_format: Format = request.param
    deployer = Deployer(Root(made.root), image_format, (), ignore)
    deployer.prepare()
    declaration = Declaration(RELEASE, "small 1.0", 1, ("workflows",), True, True, ())
    deployer.deploy(declaration, Artifact(*digest_of(small_sif)), small_sif)
    ordinary_user.give(made.root)
    yield made
    shutil.rmtree(made.root)


@pytest.fixture(scope="module")
def scratch(ordinary_user: User) -> Iterator[Path]:
    """Give a directory for all jobs that the runtime does not show by itself; in the home where there is no root."""
    place = Path("/srv" if ordinary_user.root else ordinary_user.home) / f"neurocommand-slurm-{os.getpid()}"
    place.mkdir()
    yield ordinary_user.give(place)
    shutil.rmtree(place)


def holders(root: Path, user: User) -> list[str]:
    """Return the user's processes that hold a root: with its path in their words, or in another mount namespace.

    Those that have ended, and only wait for their parent to notice, hold nothing any more. A user who is not the
    tests' own may have processes elsewhere for other reasons: there the words must do.
    """
    uid = pwd.getpwnam(user.name).pw_uid
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if process.stat().st_uid == uid and _holds(process, os.fsencode(root), user.root):
                words = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ")
                found.append(f"{process.name}: {os.fsdecode(words)}")
    return found


def _holds(process: Path, path: bytes, anywhere: bool) -> bool:
    if process.joinpath("stat").read_bytes().rpartition(b") ")[2][:1] in b"ZX":
        return False
    if path in process.joinpath("cmdline").read_bytes() + process.joinpath("environ").read_bytes():
        return True
    return anywhere and os.readlink(process / "ns" / "mnt") != os.readlink("/proc/self/ns/mnt")


def held_until(site: Site, seconds: float) -> set[str]:
    """Wait until nobody holds a root; returns who still does when the time is over."""
    deadline = time.monotonic() + seconds
    while (left := set(holders(site.root, site.user)) - site.before) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def until(path: Path, text: str) -> None:
    """Wait until a file of a job has a text."""
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text():
        assert time.monotonic() < deadline, f"{path}: {path.read_text() if path.exists() else 'not there'}"
        time.sleep(0.05)


WARM = pytest.mark.parametrize("warm", ["", "export NEUROCOMMAND_WARM=1"], ids=("cold", "warm"))


def test_a_job_array(site: Site) -> None:
    script = site.script(
        "smallhello $SLURM_ARRAY_TASK_ID", "echo $SLURM_JOB_ID | smallsh -c 'read job; echo task of $job'"
    )
    ended = site.slurm.sbatch(site.user, script, f"--array=1-{TASKS}")
    assert ended.codes == (0,) * TASKS, ended
    greetings, jobs = zip(*(output.splitlines() for output in ended.outputs), strict=True)
    assert list(greetings) == [f"hello {task}" for task in range(1, TASKS + 1)]
    assert len(set(jobs)) == TASKS
    assert f"task of {ended.number}" in jobs


@WARM
def test_the_job_is_known_in_the_container(warm: str, site: Site) -> None:
    script = site.script(
        warm,
        "echo $SLURM_JOB_ID $SLURM_ARRAY_TASK_ID",
        "smallsh -c 'echo $SLURM_JOB_ID $SLURM_ARRAY_TASK_ID'",
        "srun --ntasks=2 --label smallsh -c 'echo task $SLURM_PROCID of $SLURM_NTASKS' | sort",
    )
    ended = site.slurm.sbatch(site.user, script, "--array=7", "--ntasks=2")
    assert ended.codes == (0,), ended
    outside, inside, *steps = ended.outputs[0].splitlines()
    assert outside == f"{ended.number} 7"
    assert inside == outside
    assert steps == ["0: task 0 of 2", "1: task 1 of 2"]


def test_the_exit_code_of_a_tool_is_the_jobs(site: Site) -> None:
    one_by_one = site.script("[ $SLURM_ARRAY_TASK_ID = 2 ] || exec smallexit $((SLURM_ARRAY_TASK_ID * 7))")
    ended = site.slurm.sbatch(site.user, f"{one_by_one}srun smallexit 3 2>step\n", "--array=0-2")
    assert (ended.codes, ended.outputs) == ((0, 7, 3), ("", "", ""))


@WARM
def test_a_directory_of_the_job_for_temporary_files(warm: str, site: Site, scratch: Path) -> None:
    script = site.script(
        warm,
        f"export TMPDIR={scratch}/$SLURM_JOB_ID; mkdir $TMPDIR",
        "smallsh -c 'echo $TMPDIR; echo written >$TMPDIR/file'; cat $TMPDIR/file; rm -r $TMPDIR",
    )
    ended = site.slurm.sbatch(site.user, script)
    assert (ended.codes, ended.outputs) == ((0,), (f"{scratch}/{ended.number}\nwritten\n",))


@WARM
def test_a_cancelled_job_leaves_no_process(warm: str, site: Site) -> None:
    script = site.script(warm, "smallsh -c 'echo started; sleep 600; echo survived'; echo code $?")
    number, directory = site.slurm.submit(site.user, script, "--array=0")
    until(directory / "0.out", "started")
    assert set(holders(site.root, site.user)) > site.before
    site.slurm.ask(site.user, "scancel", str(number))
    assert held_until(site, GONE) == set()
    assert [task["JobState"] for task in site.slurm.ended(site.user, number)] == ["CANCELLED"]
    assert "survived" not in (directory / "0.out").read_text()


@pytest.mark.parametrize("ends", ["by itself", "by scancel"])
def test_warm_calls_are_like_cold_ones_and_their_container_ends_with_the_job(ends: str, site: Site) -> None:
    calls = [f"smallhello {number}" for number in range(5)]
    # the tool's parent is the script where a call is warm, and a process of the runtime where it is cold
    heat = 'for n in $(seq 100); do [ "$(smallsh -c "echo \\$PPID; :")" = $$ ] && echo warm && break; sleep 0.1; done'
    rest = {"by itself": "exec env -i /bin/sleep 2", "by scancel": "exec env -i /bin/sleep 100"}[ends]
    script = site.script(*calls, "export NEUROCOMMAND_WARM=1", *calls, heat, *calls, "echo done", rest)
    number, directory = site.slurm.submit(site.user, script, "--array=0")
    until(directory / "0.out", "done")
    assert set(holders(site.root, site.user)) > site.before, "while the job runs, something holds the image"
    if ends == "by scancel":
        site.slurm.ask(site.user, "scancel", str(number))
    assert held_until(site, GONE + 5) == set()
    said = "".join(f"hello {number}\n" for number in range(5))
    assert (directory / "0.out").read_text().startswith(f"{said}{said}warm\n{said}done\n")
