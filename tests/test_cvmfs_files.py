"""The folder cvmfs/: units that systemd takes, tables for cron and logrotate, and a manual whose commands are real."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from neurocommand import config
from neurocommand.cli import COMMANDS
from tests.cvmfs.command import COMMANDS as SIMULATED
from tests.test_readme import help_text

TOP = Path(__file__).parents[1]
FOLDER = TOP / "cvmfs"
SERVICES = sorted(FOLDER.glob("*.service"))
UNITS = [*SERVICES, *FOLDER.glob("*.timer")]
# of cvmfs_server, beyond what the simulator has; from upstream's own script
OTHERS = {"add-replica": "o:w:n:a", "snapshot": "ai", "import": "o:w:u:k:rg"}
# all settings that give a service a mount namespace: systemd.exec(5)
NAMESPACE = re.compile(
    r"Private(Tmp|Devices|Mounts|Users)|Protect\w+|(ReadOnly|ReadWrite|Inaccessible|Exec|NoExec)Paths|Bind\w*Paths|"
    r"TemporaryFileSystem|Root(Directory|Image)|MountFlags|MountAPIVFS|MountImages|ExtensionImages|DynamicUser|"
    r"PrivateIPC|LogNamespace|JoinsNamespaceOf|LoadCredential|SetCredential"
)
LOGROTATE = shutil.which("logrotate", path="/usr/sbin:/usr/bin:/sbin:/bin")


def check_call(words: list[str]) -> None:
    """See that a command line of neurocommand or cvmfs_server has a real verb and real options."""
    program, *rest = words
    if program.endswith("neurocommand"):
        while rest[0].startswith("-"):
            assert rest[0] in help_text()
            rest = rest[1 if rest[0] in ("-q", "-v") else 2 :]
        verb, *options = rest
        assert verb in COMMANDS
        for option in (word for word in options if word.startswith("--")):
            assert option in help_text(verb)
    elif program == "cvmfs_server":
        verb, *options = rest
        letters = SIMULATED[verb][0] if verb in SIMULATED else OTHERS[verb]
        for option in (word for word in options if word.startswith("-")):
            assert option[1] in letters, shlex.join(words)


def values(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return {name: dict(section) for name, section in parser.items() if name != "DEFAULT"}


@pytest.mark.parametrize("path", SERVICES, ids=lambda path: path.name)
def test_a_service_lets_a_publication_live_and_makes_no_mount_namespace(path: Path) -> None:
    service = values(path)["Service"]
    assert [name for name in service if NAMESPACE.fullmatch(name)] == []
    assert service["KillMode"] == "process"
    assert "130" in service["SuccessExitStatus"].split()
    check_call(shlex.split(service["ExecStart"]))
    state = service["StateDirectory"]
    assert f"/var/lib/{state}/runs.jsonl" in (FOLDER / "neurocommand.logrotate").read_text()


def test_a_run_that_finds_another_at_work_is_no_failure_of_the_unit() -> None:
    assert "75" in values(FOLDER / "neurocommand-sync.service")["Service"]["SuccessExitStatus"].split()


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    """The program is another one, since neurocommand need not be in /opt here."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    for path in UNITS:
        text = path.read_text().replace("/opt/neurocommand/bin/neurocommand", "/bin/true")
        (tmp_path / path.name).write_text(text)
    argv = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / path.name) for path in UNITS)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    ours = [line for line in (done.stdout + done.stderr).splitlines() if "neurocommand" in line]
    assert (done.returncode, ours) == (0, [])
    calendar = values(FOLDER / "neurocommand-sync.timer")["Timer"]["OnCalendar"]
    subprocess.run(["systemd-analyze", "calendar", calendar], capture_output=True, timeout=60, check=True)


def test_the_cron_table() -> None:
    ranges = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
    jobs = []
    for line in (FOLDER / "neurocommand.cron").read_text().splitlines():
        if line.startswith("#") or re.fullmatch(r"[A-Z]+=\S+", line):
            continue
        *times, user, command = line.split(None, 6)
        assert len(times) == 5
        for time, (low, high) in zip(times, ranges, strict=True):
            assert time == "*" or low <= int(time) <= high
        assert user == "root"
        # cron ends a command at the first one
        assert "%" not in command
        subprocess.run(["sh", "-n", "-c", command], check=True)
        words = shlex.split(command.partition(">")[0])
        jobs.append(words)
    assert len(jobs) == 4
    for words in jobs:
        check_call(words)


def test_the_commands_of_the_manual_are_real() -> None:
    text = (FOLDER / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    calls = [shlex.split(line.partition("|")[0], comments=True) for block in blocks for line in block.splitlines()]
    calls += [shlex.split(call) for call in re.findall(r"`((?:cvmfs_server|neurocommand) [^`…]+)`", text)]
    assert sum(call[0] in ("cvmfs_server", "neurocommand") for call in calls) >= 15
    for call in calls:
        check_call(call)
    for name in re.findall(r"\b(neurocommand[-.][a-z]+(?:\.(?:service|timer))?)\b", text):
        if name != "neurocommand.yaml":
            assert (FOLDER / name).is_file(), name


def test_the_configuration_of_the_manual_is_one(tmp_path: Path) -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    path = tmp_path / "neurocommand.yaml"
    path.write_text(block)
    settings = config.load(path, {})
    assert settings.repository is not None
    assert settings.repository.name == "software.example.org"
    assert settings.root == Path("/cvmfs/software.example.org")
    assert settings.state == Path("/var/lib/neurocommand")


@pytest.mark.skipif(LOGROTATE is None, reason="logrotate is not here")
def test_a_log_is_rotated_between_two_lines(tmp_path: Path) -> None:
    assert LOGROTATE is not None
    text = (FOLDER / "neurocommand.logrotate").read_text()
    state, logs = tmp_path / "state", tmp_path / "logs"
    for place in (state, logs):
        place.mkdir(mode=0o755)
    text = text.replace("/var/lib/neurocommand", str(state)).replace("/var/log/neurocommand", str(logs))
    rules = tmp_path / "rules"
    rules.write_text(text)
    rules.chmod(0o644)
    argv = [LOGROTATE, "-s", str(tmp_path / "remembered")]
    shown = subprocess.run([*argv, "-d", str(rules)], capture_output=True, text=True, timeout=60, check=True)
    assert "error" not in shown.stderr
    for number in range(3):
        (state / "runs.jsonl").write_text(json.dumps({"number": number}) + "\n")
        (logs / "sync.log").write_text(f"{number}\n")
        subprocess.run([*argv, "-f", str(rules)], capture_output=True, text=True, timeout=60, check=True)
        assert not (state / "runs.jsonl").exists()
    assert json.loads((state / "runs.jsonl.1").read_text()) == {"number": 2}
    assert sorted(path.name for path in state.iterdir()) == ["runs.jsonl.1", "runs.jsonl.2.gz", "runs.jsonl.3.gz"]
    assert (logs / "sync.log.1").read_text() == "2\n"
