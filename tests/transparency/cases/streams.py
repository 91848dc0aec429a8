"""Standard input, output and error are the caller's own."""

from __future__ import annotations

import socket
import threading

from tests.transparency.case import Case, ended, host, script, tool
from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call

BINARY = bytes(range(256)) * 4096  # a megabyte
BIG = 64  # MiB
BIGGER = 2048
CLOSED = "the runtime, a Go program, opens /dev/null for a standard stream that is closed"
IGNORED = "the runtime resets the signals that its caller ignores"


def _socket() -> Case:
    def observe(call: Call) -> Outcome:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(60)
            process = call.start("cat", stdin=theirs, stdout=theirs)
            theirs.close()
            ours.sendall(b"over a socket")
            ours.shutdown(socket.SHUT_WR)
            data = b""
            while part := ours.recv(4096):
                data += part
            assert process.stderr is not None
            with process.stderr:
                err = process.stderr.read()
            return Outcome(process.wait(timeout=60), data, err)

    return Case("streams-a-socket", observe, ended(0, b"over a socket"))


def _conversation() -> Case:
    """An answer comes while standard input is still open: nothing is kept back in between."""

    def observe(call: Call) -> Outcome:
        with call.start("ash", "-c", 'while read -r x; do echo "<$x>"; done', stdin=-1) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stderr is not None
            heard = b""
            for word in (b"one", b"two", b"three"):
                process.stdin.write(word + b"\n")
                process.stdin.flush()
                heard += process.stdout.readline()
            process.stdin.close()
            heard += process.stdout.read()
            return Outcome(process.wait(timeout=60), heard, process.stderr.read())

    return Case("streams-a-conversation", observe, ended(0, b"<one>\n<two>\n<three>\n"))


def _through(name: str, megabytes: int, full: bool = False) -> Case:
    """That much goes in and comes out, counted, both at once."""

    def observe(call: Call) -> tuple[int, int]:
        with call.start("cat", stdin=-1, stderr=None) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            block = bytes(1 << 20)

            def write() -> None:
                assert process.stdin is not None
                with process.stdin:
                    for _ in range(megabytes):
                        process.stdin.write(block)

            writer = threading.Thread(target=write)
            writer.start()
            count = 0
            while part := process.stdout.read(1 << 20):
                count += len(part)
            writer.join()
            return process.wait(timeout=60), count

    def check(seen: tuple[int, int]) -> None:
        assert seen == (0, megabytes << 20)

    return Case(name, observe, check, full=full)


CASES = (
    tool("streams-nothing", "true", out=b""),
    tool("streams-input-of-no-bytes", "cat", input=b"", out=b""),
    tool("streams-binary", "cat", input=BINARY, out=BINARY),
    tool("streams-a-last-line-without-its-end", "cat", input=b"a\nb", out=b"a\nb"),
    host("streams-input-from-a-file", 'echo x y >in; "$T" -c "read a b; echo \\$b" <in', out=b"y\n"),
    host(
        "streams-input-is-read-no-further-than-needed",
        'printf "1\\n2\\n3\\n" >in; { "$T" -c "read x; echo tool \\$x"; read y; echo caller $y; } <in',
        out=b"tool 1\ncaller 2\n",
    ),
    host(
        "streams-an-unread-pipe-is-the-next-readers",
        'printf "1\\n2\\n" | { "$T" -c ":"; cat; }',
        out=b"1\n2\n",
    ),
    host(
        "streams-in-a-loop-over-input",
        'printf "1\\n2\\n3\\n" | while read -r x; do "$T" -c "echo got $x" </dev/null; done',
        out=b"got 1\ngot 2\ngot 3\n",
    ),
    host(
        "streams-closed-input",
        '"$T" -c "cat; echo \\$?" 2>/dev/null 0<&-',
        deviation=CLOSED,
        warm="either",
    ),
    host(
        "streams-closed-output",
        '"$T" -c "echo x || echo failed >&2" 1>&-; echo $?',
        err=None,
        deviation=CLOSED,
        warm="either",
    ),
    host(
        "streams-closed-error",
        '"$T" -c "echo x >&2; echo out" 2>&-; echo $?',
        having=b"out\n",
        deviation=CLOSED,
        warm="either",
    ),
    host(
        "streams-all-closed",
        '"$T" -c "exit 5" 0<&- 1>&- 2>&-; echo $?',
        out=b"5\n",
    ),
    script("streams-output-and-error-apart", "echo out; echo err >&2; echo out2", out=b"out\nout2\n", err=b"err\n"),
    host(
        "streams-in-their-order-into-one-pipe",
        '"$T" -c "for i in 1 2 3 4 5; do echo o\\$i; echo e\\$i >&2; done" 2>&1',
        out=b"".join(b"o%d\ne%d\n" % (number, number) for number in range(1, 6)),
    ),
    host("streams-swapped", '"$T" -c "echo out; echo err >&2" 3>&1 1>&2 2>&3 3>&-', out=b"err\n", err=b"out\n"),
    host(
        "streams-a-full-device",
        '"$T" -c "echo x; echo \\$? >&2" >/dev/full; echo $?',
        out=b"0\n",
        err=None,
    ),
    host("streams-into-a-file", 'echo long old text >f; "$T" -c "echo new" >f; cat f', out=b"new\n"),
    host(
        "streams-appended-to-a-file",
        'echo 1 >f; { "$T" -c "echo 2; echo 3"; echo 4; "$T" -c "echo 5 >&2"; } >>f 2>>f; cat f',
        out=b"1\n2\n3\n4\n5\n",
    ),
    host(
        "streams-one-offset-for-caller-and-tool",
        '{ echo 1; "$T" -c "echo 2"; echo 3; } >f; cat f',
        out=b"1\n2\n3\n",
    ),
    host(
        "streams-read-and-write-on-one-file",
        'echo abc >f; "$T" -c "read x <&0; echo \\"<\\$x>\\" >&0" 0<>f; cat f',
        out=b"abc\n<abc>\n",
    ),
    host("streams-a-broken-pipe", '"$B/yes" | head -n 1', out=b"y\n"),
    host(
        "streams-a-broken-pipe-ends-the-tool-by-a-signal",
        '{ "$B/yes"; echo $? >code; } | head -n 1 >/dev/null; cat code',
        shell=("/bin/bash", "-c"),
        having=b"1",
    ),
    host(
        "streams-a-pipe-broken-under-a-caller-that-ignores-it",
        'trap "" PIPE; { "$T" -c "sleep 0.1; echo x; echo \\$? >&2"; } 2>code | true; sleep 0.3; cat code',
        err=None,
        deviation=IGNORED,
        warm="either",
    ),
    host("streams-a-pipeline-of-three", '"$B/seq" 5 | "$B/grep" -v 3 | "$B/tail" -n 2', out=b"4\n5\n"),
    host(
        "streams-a-here-document",
        '"$B/cat" <<EOF\na $((1 + 1))\nb\nEOF',
        out=b"a 2\nb\n",
    ),
    host(
        "streams-process-substitution",
        '"$B/cat" <(echo one) <("$B/echo" two)',
        shell=("/bin/bash", "-c"),
        out=b"one\ntwo\n",
    ),
    host(
        "streams-command-substitution",
        'x=$("$T" -c "printf \\"a b\\\\n\\\\n\\""; echo .); printf "<%s>" "$x"',
        out=b"<a b\n\n.>",
    ),
    _socket(),
    _conversation(),
    _through("streams-64-megabytes-through-a-pipe", BIG),
    _through("streams-two-gigabytes-through-a-pipe", BIGGER, full=True),
)
