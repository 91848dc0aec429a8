"""A real Slurm of one node on loopback, stopped by what began it.

``setup/packages.sh test`` brings its daemons and munge, which proves to them who asks; both have files, sockets and
ports of their own. Processes of a job are found by their parents (proctrack/linuxproc): control groups would need a
system that delegates them. Where the tests are not root, whoever runs them owns it all and is the only user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port
from tests.users import User

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")
GOING_ON = ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING")
TASKS = 4  # that run at once, however few processors there are


@dataclass(frozen=True)
class Ended:
    """A job that has ended: its number, and of its tasks in the order of the array what they wrote and exited with."""

    number: int
    outputs: tuple[str, ...]  # standard output and error together
    codes: tuple[int, ...]


@dataclass(frozen=True)
class Slurm:
    """A running Slurm; ``conf`` is its configuration, which every user can read (SLURM_CONF)."""

    conf: Path

    def ask(self, user: User, *argv: str, **options: Any) -> str:
        """Run one of Slurm's commands as a user and return what it says; options are subprocess.run's."""
        done = user.run(argv, env={"SLURM_CONF": str(self.conf)}, text=True, **options)
        assert done.returncode == 0, f"{argv[0]}: exit {done.returncode}: {done.stderr}"
        return str(done.stdout)

    def submit(self, user: User, script: str, *options: str) -> tuple[int, Path]:
        """Submit a script; returns the job's number and the directory where it runs and writes ``<task>.out``."""
        directory = user.give(Path(tempfile.mkdtemp(prefix="job-", dir=user.home)))
        argv = ["sbatch", "--parsable", f"--chdir={directory}", f"--output={directory}/%a.out", *options]
        return int(self.ask(user, *argv, stdin=None, input=script)), directory

    def sbatch(self, user: User, script: str, *options: str) -> Ended:
        """Submit a script and wait for its end, oftener than every two seconds as ``sbatch --wait`` does."""
        number, directory = self.submit(user, script, *options)
        tasks = self.ended(user, number)
        outputs = sorted(directory.glob("*.out"), key=lambda path: int(path.stem))
        codes = tuple(int(task["ExitCode"].split(":")[0]) for task in tasks)
        return Ended(number, tuple(path.read_text() for path in outputs), codes)

    def tasks(self, user: User, number: int) -> list[dict[str, str]]:
        """Return what Slurm knows of each task of a job, as JobState or ExitCode; those that wait may be one."""
        said = self.ask(user, "scontrol", "--oneliner", "show", "job", str(number)).splitlines()
        found = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in said]
        return sorted(found, key=lambda task: int(task.get("ArrayTaskId", "0").split("-")[0]))

    def ended(self, user: User, number: int) -> list[dict[str, str]]:
        """Wait for the end of a job, and return what Slurm knows of its tasks."""
        deadline = time.monotonic() + 120
        while True:
            tasks = self.tasks(user, number)
            if not any(task["JobState"] in GOING_ON for task in tasks):
                return tasks
            assert time.monotonic() < deadline, tasks
            time.sleep(0.1)


_CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser={user}
SlurmdUser={user}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={directory}/munge/socket
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
PropagateResourceLimits=NONE
MpiDefault=none
ReturnToService=2
NodeName=node NodeHostname={host} NodeAddr=127.0.0.1 CPUs={tasks} State=UNKNOWN
PartitionName=tests Nodes=node Default=YES MaxTime=INFINITE State=UP
"""


@contextlib.contextmanager
def slurm_server(directory: Path) -> Iterator[Slurm]:
    """Run Slurm with its files in a directory, which must be open to all users."""
    slurm = Slurm(directory / "slurm.conf")
    for name in ("state", "spool", "munge"):
        (directory / name).mkdir()
    settings = {"user": pwd.getpwuid(os.geteuid()).pw_name, "host": os.uname().nodename.split(".")[0]}
    ports = {"controller": free_port(), "node": free_port()}
    slurm.conf.write_text(_CONFIGURATION.format(directory=directory, tasks=TASKS, **settings, **ports))
    with contextlib.ExitStack() as stack:
        stack.enter_context(_running(_munged(directory / "munge"), slurm))
        _until("munged", slurm, (directory / "munge" / "socket").exists)
        for argv in (["slurmctld", "-D"], ["slurmd", "-D", "-N", "node"]):
            stack.enter_context(_running(argv, slurm))
        _until("Slurm", slurm, lambda: _said(slurm, "sinfo", "--noheader", "--format=%t") == "idle")
        stack.callback(_end_jobs, slurm)
        yield slurm


def _munged(directory: Path) -> list[str]:
    """Return the command of munge's daemon with a new key; not root's, where we are root, since it wants no rights."""
    key = directory / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    become: list[str] = []
    if os.geteuid() == 0:
        become = ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups"]
        for path in (directory, key):
            shutil.chown(path, "munge", "munge")
    files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed", "log-file": "log"}
    options = [f"--{option}={directory / name}" for option, name in files.items()]
    return [*become, "munged", "--foreground", "--origin=127.0.0.1", *options]


@contextlib.contextmanager
def _running(argv: list[str], slurm: Slurm) -> Iterator[None]:
    """Run a daemon that ends as it is asked to; one that does not is killed."""
    name = next(word for word in argv if word in DAEMONS)
    log = slurm.conf.with_name(f"{name}.log")
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment(slurm)
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def _environment(slurm: Slurm) -> dict[str, str]:
    return {"PATH": f"{os.environ['PATH']}:{SBIN}", "SLURM_CONF": str(slurm.conf)}


def _said(slurm: Slurm, *argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False, env=_environment(slurm), timeout=60)
    return done.stdout.strip()


def _end_jobs(slurm: Slurm) -> None:
    """Cancel what a test that failed left, while there is still who can."""
    if _said(slurm, "squeue", "--noheader"):
        _said(slurm, "scancel", "--partition=tests")
        _until("the end of all jobs", slurm, lambda: not _said(slurm, "squeue", "--noheader"))


def _until(what: str, slurm: Slurm, is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        if time.monotonic() > deadline:
            logs = sorted(slurm.conf.parent.rglob("*log"))
            last = "\n".join(f"{log.name}: {log.read_text(errors='replace')[-1000:]}" for log in logs)
            pytest.fail(f"{what}: still not there after a minute: {last}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Slurm]:
    """A Slurm for the whole session; its directory is outside pytest's, which is closed to other users."""
    with tempfile.TemporaryDirectory(prefix="neurocommand-slurm-") as directory:
        os.chmod(directory, 0o755)
        with slurm_server(Path(directory)) as running:
            yield running
