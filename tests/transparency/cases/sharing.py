"""Files are the caller's own files: seen at once, locked against all, and left as any program leaves them."""

from __future__ import annotations

import socket

from tests.transparency.case import Case, ended, host, script
from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call

GIGABYTE = 1 << 30


def _listening() -> Case:
    """The network is the host's: what the caller listens at can be reached."""

    def observe(call: Call) -> tuple[Outcome, bytes]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(60)
            port = server.getsockname()[1]
            process = call.start("ash", "-c", f"echo over the network | nc 127.0.0.1 {port}")
            peer, _ = server.accept()
            with peer:
                peer.settimeout(60)
                heard = peer.recv(100)
            out, err = process.communicate(timeout=60)
            return Outcome(process.returncode, out, err), heard

    def check(seen: tuple[Outcome, bytes]) -> None:
        assert seen == (Outcome(0), b"over the network\n")

    return Case("sharing-the-network", observe, check)


def _fifo() -> Case:
    def observe(call: Call) -> Outcome:
        return call.caller("/bin/sh", "-c", 'mkfifo p; "$T" -c "echo through >p" & "$T" -c "cat p"; wait; rm p')

    return Case("sharing-a-fifo-between-two-calls", observe, ended(0, b"through\n"))


LOCK = """"$T" -c 'exec 9>lock; flock 9; echo first >got; while [ ! -e go ]; do sleep 0.02; done; echo first >>log' &
while [ ! -e got ]; do sleep 0.02; done
"$T" -c 'exec 9>lock; flock -n 9 || echo busy; touch go; flock 9; echo second >>log'
wait; cat log; rm got go log lock"""
WITH_CALLER = """exec 8>lock; flock 8; "$T" -c "exec 9>lock; flock -n 9 || echo busy"
flock -u 8; "$B/flock" -n lock true && echo free; rm lock"""
BY_DESCRIPTOR = """exec 8>lock; "$T" -c "flock 8"; flock -n lock true || echo held
flock -u 8; flock -n lock true && echo free; rm lock"""
SETTINGS = """mkdir -p "$HOME/.config/x"; echo v >"$HOME/.config/x/y"; "$T" -c 'cat ~/.config/x/y; rm -r ~/.config'
ls -A "$HOME" | grep -c config"""

CASES = (
    _listening(),
    _fifo(),
    script(
        "sharing-modes-and-owners-of-what-is-made",
        "echo x >f; mkdir d; ln -s f s; mkfifo p; ln f h; chmod 640 f; touch 't w'; chmod 1750 d; chmod 4755 't w'; ls",
        out=b"d\nf\nh\np\ns\nt w\n",
    ),
    script(
        "sharing-hard-links",
        "echo x >a; ln a b; ln b c; stat -c %h a; [ a -ef c ] && echo same; rm a",
        out=b"3\nsame\n",
    ),
    script("sharing-links", "ln -s nowhere l; readlink l; ln -s . me; echo x >me/me/f; cat me/f", out=b"nowhere\nx\n"),
    script("sharing-renames", "echo 1 >a; echo 2 >b; mv a b; cat b; mkdir d; mv b d/; ls", out=b"1\nd\n"),
    script("sharing-times", "touch -d @86400 f; stat -c %Y f", out=b"86400\n"),
    script(
        "sharing-a-sparse-gigabyte",
        "truncate -s 1G f; echo end >>f; stat -c %s f; [ $(stat -c %b f) -lt 100 ] && echo sparse; tail -c 4 f; rm f",
        out=b"%d\nsparse\nend\n" % (GIGABYTE + 4),
    ),
    script(
        "sharing-names-of-every-kind",
        'for n in "a b" "-x" "é" "*" "$(printf "a\\nb")"; do echo x >"./$n"; done; ls | wc -l',
        having=b"5",
    ),
    host(
        "sharing-names-that-are-no-utf8",
        '"$T" -c \'echo x >"$(printf "caf\\351")"\'; ls | od -An -c | head -n 1; cat caf*',
        having=b"351",
    ),
    host(
        "sharing-what-the-caller-wrote-before",
        'echo before >f; "$B/cat" f; echo after >f; "$B/cat" f',
        out=b"before\nafter\n",
    ),
    host(
        "sharing-what-the-tool-wrote-is-there-at-once",
        '"$T" -c "echo x >f"; cat f; rm f; "$T" -c "[ ! -e f ] && echo gone"',
        out=b"x\ngone\n",
    ),
    host(
        "sharing-while-both-run",
        "\"$T\" -c 'while [ ! -e from-caller ]; do sleep 0.02; done; cat from-caller >from-tool' & sleep 0.2\n"
        "echo hello >.x; mv .x from-caller; wait; cat from-tool",
        out=b"hello\n",
    ),
    host("sharing-a-removed-file-stays-open", 'echo x >f; exec 3<f; rm f; "$T" -c "cat <&3"', out=b"x\n"),
    host("sharing-locks-between-two-calls", LOCK, out=b"busy\nfirst\nsecond\n"),
    host(
        "sharing-locks-with-the-caller",
        WITH_CALLER,
        out=b"busy\nfree\n",
    ),
    host(
        "sharing-a-lock-by-descriptor",
        BY_DESCRIPTOR,
        out=b"held\nfree\n",
    ),
    host(
        "sharing-tmp",
        'f=/tmp/neurocommand-$$; echo x >$f; "$T" -c "cat $f; echo y >$f"; cat $f; rm $f',
        out=b"x\ny\n",
    ),
    host("sharing-var-tmp", 'f=/var/tmp/neurocommand-$$; "$T" -c "echo y >$f"; cat $f; rm $f', out=b"y\n"),
    host("sharing-dev-shm", 'f=/dev/shm/neurocommand-$$; "$T" -c "echo y >$f"; cat $f; rm $f', out=b"y\n"),
    host(
        "sharing-home",
        '"$T" -c "echo y >~/.made; stat -c %a ~/.made"; cat "$HOME/.made"; rm "$HOME/.made"',
        out=b"644\ny\n",
    ),
    host(
        "sharing-a-settings-file-in-home",
        SETTINGS,
        out=b"v\n0\n",
        code=1,
    ),
    host(
        "sharing-files-that-the-caller-may-not-read",
        'echo x >f; chmod 000 f; "$T" -c "cat f" 2>/dev/null; echo $?; chmod 600 f',
        out=b"1\n",
    ),
    host(
        "sharing-a-directory-that-the-caller-may-not-write",
        'mkdir d; chmod 555 d; "$T" -c "echo x >d/f" 2>/dev/null; echo $?; ls d | wc -l; chmod 755 d',
        out=b"1\n0\n",
    ),
    script(
        "sharing-the-image-cannot-be-written",
        "{ echo x >/opt/x; } 2>/dev/null; echo $?; { echo x >/bin/x; } 2>/dev/null; echo $?",
        out=b"1\n1\n",
    ),
    script(
        "sharing-devices",
        "head -c 3 /dev/zero | od -An -tx1; echo x >/dev/null; head -c 5 /dev/urandom | wc -c",
        out=b" 00 00 00\n5\n",
    ),
    host(
        "sharing-dev-fd", 'echo x | "$B/cat" /dev/stdin /dev/fd/0; "$T" -c "echo y >/dev/stdout" | cat', out=b"x\ny\n"
    ),
    script(
        "sharing-a-server-of-its-own",
        "nc -l -p 0 -e true & sleep 0.1; kill $!; wait $! 2>/dev/null; echo done",
        out=b"done\n",
        err=None,
    ),
)
