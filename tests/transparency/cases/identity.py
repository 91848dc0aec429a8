"""Who and where the process is: its parent, session, groups, user, name."""

from __future__ import annotations

import os
import pwd
import subprocess

from tests.transparency.case import Case, ended, host, is_, script
from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call

PARENT = "the tool's parent is a process of the runtime, which is the one that the caller knows"


def _parent() -> Case:
    """A warm call holds no process of the runtime's between the caller and the tool."""

    def observe(call: Call) -> tuple[bool, bool]:
        process = call.start("ash", "-c", "echo $$ $PPID")
        out, _ = process.communicate(timeout=60)
        tool, parent = map(int, out.split())
        return tool == process.pid, parent == os.getpid()

    def check(seen: tuple[bool, bool]) -> None:
        assert not any(seen)

    return Case("identity-process-and-parent", observe, check, PARENT, warm="host")


def _session() -> Case:
    """The tool is in the caller's process group and session."""

    def observe(call: Call) -> list[bool]:
        process = call.start("ash", "-c", "cut -d' ' -f5,6 /proc/$$/stat", start_new_session=True)
        out, _ = process.communicate(timeout=60)
        group, session = map(int, out.split())
        return [group == process.pid, session == process.pid]

    return Case("identity-session-and-group", observe, is_([True, True]))


def _groups() -> Case:
    """All groups of the caller count, seen as numbers: the image has other names for them."""

    def observe(call: Call) -> Outcome:
        if not call.user.root:
            return call.run("ash", "-c", "id -u; id -g; id -G")
        entry = pwd.getpwnam(call.user.name)
        extra = f"{entry.pw_gid},4,24"
        line = call.command(("ash", "-c", "id -u; id -g; id -G; grep -i groups /proc/self/status"))
        line = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", f"--groups={extra}", *line[4:]]
        line.insert(4, "--inh-caps=-all") if "--inh-caps=-all" not in line else None
        done = subprocess.run(line, cwd=call.place, capture_output=True, check=False, stdin=subprocess.DEVNULL)
        return Outcome(done.returncode, done.stdout, done.stderr)

    deviation = "in a user namespace groups that are not the user's own have the number of nobody"
    return Case("identity-more-groups", observe, ended(0), deviation)


def _same_as_caller(name: str, path: str, deviation: str = "") -> Case:
    """A file of /proc says of the tool what it says of its caller."""
    text = f'[ "$(cat {path})" = "$("$T" -c "cat {path}")" ] && echo same'
    return host(f"identity-{name}", text, out=b"same\n", deviation=deviation)


CASES = (
    _parent(),
    _session(),
    _groups(),
    script("identity-user-and-groups", "id -u; id -g; id -G; id -ru; id -rg"),
    script("identity-the-user-has-a-name", "id -un; whoami; grep -c ^$(id -un): /etc/passwd", having=b"\n1\n"),
    script("identity-home-in-the-user-list", 'grep "^$(id -un):" /etc/passwd | cut -d: -f3,4,6'),
    host("identity-host-name", '[ "$(uname -n)" = "$("$B/uname" -n)" ] && "$B/hostname"'),
    script("identity-kernel", "uname -srm"),
    _same_as_caller("control-group", "/proc/self/cgroup"),
    _same_as_caller("login-session", "/proc/self/sessionid"),
    _same_as_caller("processors", "/proc/sys/kernel/pid_max"),
    _same_as_caller("uptime-s-boot", "/proc/sys/kernel/random/boot_id"),
    host(
        "identity-namespaces-of-the-caller",
        'for n in net pid ipc uts cgroup; do [ "$(readlink /proc/self/ns/$n)" = "$("$B/readlink" /proc/self/ns/$n)" ] '
        "&& echo $n; done",
        out=b"net\npid\nipc\nuts\ncgroup\n",
    ),
    host(
        "identity-sees-the-callers-processes",
        'exec 2>/dev/null; sleep 30 & it=$!; "$T" -c "kill -0 $it && echo seen; kill $it"; wait $it; echo $?',
        out=b"seen\n143\n",
        err=None,
    ),
    host(
        "identity-the-caller-sees-the-tool",
        "\"$T\" -c 'echo $$ >pid; while [ -e pid ]; do sleep 0.02; done' & while [ ! -s pid ]; do sleep 0.02; done\n"
        "grep -c sleep /proc/$(cat pid)/cmdline; rm pid; wait",
        out=b"1\n",
    ),
    host(
        "identity-name-of-the-process",
        '"$B/sleep" 0.3 & sleep 0.2; ps -o comm= --ppid $! --pid $! | grep -c sleep; wait',
        out=b"1\n",
        deviation="the runtime's process has the runtime's name; its child, the tool, has its own",
        warm="either",
    ),
    host("identity-time", '[ $(($(date +%s) - $("$B/date" +%s))) -le 1 ] && echo same', out=b"same\n"),
    script("identity-time-zone-of-the-caller", "date -d @0 +%H%z", env={"TZ": "XYZ-5"}, out=b"05+0500\n"),
    script("identity-memory", "grep MemTotal /proc/meminfo; nproc"),
)
