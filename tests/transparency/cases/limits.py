"""What a process inherits: mask, limits, priority, descriptors."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable

from tests.transparency.case import Case, ended, host
from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call

FIRST = 3


def _inherited(name: str, prepare: Callable[[], object], text: str, having: bytes, deviation: str = "") -> Case:
    def observe(call: Call) -> Outcome:
        return call.run("ash", "-c", text, preexec_fn=prepare)

    return Case(f"inherited-{name}", observe, ended(0, having=having), deviation, warm="either")


def _limit(name: str, which: int, value: int, seen: bytes, letter: str) -> Case:
    def prepare() -> None:
        _, hard = resource.getrlimit(which)
        resource.setrlimit(which, (value, value if hard == resource.RLIM_INFINITY else min(hard, max(value, 0))))

    return _inherited(f"limit-{name}", prepare, f"ulimit -S{letter}; ulimit -H{letter}", seen + b"\n")


def _mask(mask: int) -> Case:
    text = "umask; echo x >file; mkdir directory; mkfifo fifo; stat -c %a file directory fifo"
    return _inherited(f"umask-{mask:03o}", lambda: os.umask(mask), text, f"{mask:04o}\n".encode())


def _soft_limits() -> Case:
    """A soft limit below the hard one stays so, and can be raised."""

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1024))

    return _inherited(
        "limit-soft-and-hard", prepare, "ulimit -Sn; ulimit -Hn; ulimit -Sn 512; ulimit -Sn", b"256\n1024\n"
    )


def _passed_descriptors() -> Case:
    """Files that the caller opened are read and written by number, as in a shell's 3<file."""

    def observe(call: Call) -> Outcome:
        source, target = call.place / "source", call.place / "target"
        source.write_text("from the caller\n")
        numbers = [os.open(source, os.O_RDONLY), os.open(target, os.O_RDWR | os.O_CREAT, 0o644)]
        wanted = tuple(range(FIRST, FIRST + 2))
        try:
            high = [os.dup2(number, 60 + place) for place, number in enumerate(numbers)]

            def prepare() -> None:
                for number, place in zip(high, wanted, strict=True):
                    os.dup2(number, place)

            text = "read x <&3; echo got $x; echo to the caller >&4"
            done = call.run("ash", "-c", text, preexec_fn=prepare, pass_fds=wanted)
            return Outcome(done.code, done.out + target.read_bytes(), done.err)
        finally:
            for number in (*numbers, *high):
                os.close(number)

    return Case("descriptors-passed", observe, ended(0, b"got from the caller\nto the caller\n"))


def _seen_descriptors(name: str, redirections: str, seen: bytes) -> Case:
    """Say of each of some descriptors whether it leads to the file that the caller opened under it."""
    text = (
        f'for n in 3 4 5 6 7 8 9; do echo $n >f$n; done; "$T" -c \'for n in 3 4 5 6 7 8 9; do '
        f"case $(readlink /proc/$$/fd/$n) in */f$n) echo $n;; esac; done' {redirections}; rm f?"
    )
    return host(f"descriptors-{name}", text, out=seen)


def _write_oom(value: int) -> None:
    with open("/proc/self/oom_score_adj", "w") as stream:
        stream.write(str(value))


def _affinity() -> Case:
    def prepare() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    return _inherited("affinity", prepare, "grep Cpus_allowed_list /proc/self/status; nproc", b"\n1\n")


def _status(name: str, words: str, having: bytes, deviation: str = "") -> Case:
    text = f"for k in {words}; do grep $k: /proc/self/status; done"

    def observe(call: Call) -> Outcome:
        return call.run("ash", "-c", text)

    return Case(f"inherited-{name}", observe, ended(0, having=having), deviation)


CASES = (
    *(_mask(mask) for mask in (0o077, 0o027, 0o022, 0o000)),
    _limit("open-files", resource.RLIMIT_NOFILE, 333, b"333", "n"),
    _limit("stack", resource.RLIMIT_STACK, 4 << 20, b"4096", "s"),
    _limit("core", resource.RLIMIT_CORE, 0, b"0", "c"),
    _limit("memory", resource.RLIMIT_AS, 8 << 30, str(8 << 20).encode(), "v"),
    _limit("time", resource.RLIMIT_CPU, 1000, b"1000", "t"),
    _limit("file-size", resource.RLIMIT_FSIZE, 1 << 30, str(2 << 20).encode(), "f"),
    _soft_limits(),
    host(
        "inherited-a-file-size-limit-ends-the-tool",
        'ulimit -f 8; "$T" -c "head -c 100000 /dev/zero >big" 2>/dev/null; stat -c %s big',
        out=b"4096\n",
    ),
    _inherited("niceness", lambda: os.nice(7), "cut -d' ' -f19 /proc/self/stat", b"7\n"),
    _affinity(),
    _inherited("oom-score", lambda: _write_oom(321), "cat /proc/self/oom_score_adj", b"321\n"),
    _status("capabilities", "CapInh CapPrm CapEff CapAmb", b"CapEff:\t0000000000000000\n"),
    _status(
        "no-new-privileges",
        "NoNewPrivs Seccomp",
        b"NoNewPrivs:\t1\n",
        "the runtime sets no_new_privs",
    ),
    _passed_descriptors(),
    _seen_descriptors("none-of-the-callers", "", b""),
    _seen_descriptors("three-to-nine", "3<f3 4<f4 5<f5 6<f6 7<f7 8<f8 9<f9", b"3\n4\n5\n6\n7\n8\n9\n"),
    _seen_descriptors("with-gaps", "4<f4 9>f9", b"4\n9\n"),
    _seen_descriptors("closed-again", "3<f3 4<f4 3<&-", b"4\n"),
    host(
        "descriptors-a-pipe-by-number",
        '{ "$T" -c "echo side >&3; echo main"; } 3>&1 >main | cat; cat main',
        out=b"side\nmain\n",
    ),
    host(
        "descriptors-no-reader-waits-for-the-background",
        'x=$("$T" -c "echo a"); echo "<$x>"; echo b | "$B/cat"',
        out=b"<a>\nb\n",
    ),
    host(
        "descriptors-closed-on-exec",
        "python3 -c 'import os, sys; os.open(\"/etc/passwd\", os.O_RDONLY); os.execv(sys.argv[1], sys.argv[1:])' "
        '"$T" -c "readlink /proc/self/fd/* 2>/dev/null | grep -c passwd"; true',
        out=b"0\n",
    ),
)
