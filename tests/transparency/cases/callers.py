"""Whoever calls, and however the tool is named."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace

from tests.transparency.case import Case, host
from tests.transparency.outcomes import Outcome
from tests.transparency.routes import Call

MAKEFILE = """all: a b c d
\\t@cat a b c d
a b c d:
\\t@"$(B)/ash" -c 'sleep 0.1; echo $@ >$@'
.PHONY: all
"""
PYTHON = ("/usr/bin/python3", "-B", "-c")
BASH = ("/bin/bash", "-c")


def _make(jobs: str) -> Case:
    text = f"printf '%b' '{MAKEFILE.replace(chr(39), chr(39) + chr(92) + chr(39) * 2)}' >Makefile; make -s {jobs}"
    return host(f"callers-make{jobs}", text, out=b"a\nb\nc\nd\n", full=not jobs)


def _python(name: str, text: str, out: bytes, **settings: object) -> Case:
    code = f"import os, subprocess, sys\nT, B = os.environ['T'], os.environ['B']\n{text}"
    return host(f"callers-python-{name}", code, shell=PYTHON, out=out, **settings)  # type: ignore[arg-type]


def _named(name: str, text: str, out: bytes = b"ran a b\n", **settings: object) -> Case:
    return host(f"callers-named-{name}", text, out=out, **settings)  # type: ignore[arg-type]


def _timed_out() -> Case:
    """subprocess.run kills by SIGKILL what takes too long, and reads what it wrote until then."""
    text = """
try:
    subprocess.run([T, "-c", "echo before; exec sleep 60"], capture_output=True, timeout=1)
except subprocess.TimeoutExpired as error:
    print(error.stdout)"""
    deviation = "a runtime that is killed leaves the mount of its image behind"
    return replace(_python("timeout", text, b"b'before\\n'\n", deviation=deviation, warm="host"), patience=1.0)


def _detached() -> Case:
    """A background job goes on after the shell that started it."""

    def observe(call: Call) -> tuple[Outcome, bytes]:
        done = call.caller("/bin/sh", "-c", '"$T" -c "sleep 0.3; echo late >late" >/dev/null 2>&1 &')
        late = call.place / "late"
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(["sh", "-c", 'until [ -s "$0" ]; do sleep 0.02; done', str(late)], timeout=20, check=False)
        return Outcome(done.code, done.out, done.err), late.read_bytes()

    def check(seen: tuple[Outcome, bytes]) -> None:
        assert seen == (Outcome(0), b"late\n")

    return Case("callers-a-job-that-outlives-its-shell", observe, check)


LINE = """"$T" -c 'echo "$1"' x "a b" | cat"""
TERMINATED = """p = subprocess.Popen([T, '-c', 'echo r; exec sleep 60'], stdout=-1)
p.stdout.readline(); p.terminate(); print(p.wait() in (-15, 143))"""
COUNTED = """{ time -p "$T" -c 'i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done'; } 2>t
[ $(sed -n "s/user //p" t | tr -d .) -gt 1 ] && echo counted; rm t"""
CRON = """cd /
env -i SHELL=/bin/sh PATH=/usr/bin:/bin HOME="$HOME" T="$T" sh -c '"$T" -c "echo x; pwd" </dev/null 2>&1 | cat'"""
INTERPRETER = """ln -s "$T" "$HOME/ash"; printf '#!%s\\necho ran $*\\n' "$HOME/ash" >s; chmod +x s
./s a b; rm s "$HOME/ash\""""
RUN = '-c "echo ran \\$*" ash a b'
HOST_ONLY = "a program on the host is found by its own name, so another name is another of busybox's programs"

CASES = (
    _make(""),
    _make(" -j4"),
    _python(
        "list", "print(subprocess.run([T, '-c', 'echo $1', 'x', 'a b'], capture_output=True).stdout)", b"b'a b\\n'\n"
    ),
    _python("shell", f"print(subprocess.run({LINE!r}, shell=True, capture_output=True, text=True).stdout)", b"a b\n\n"),
    _python(
        "text-in",
        "print(subprocess.run([B + '/cat'], input='é', stdout=-1, text=True, encoding='utf-8').stdout == 'é')",
        b"True\n",
    ),
    _python(
        "code",
        "print(subprocess.call([T, '-c', 'exit 3']), subprocess.run([T, '-c', 'kill -9 $$']).returncode in (-9, 137))",
        b"3 True\n",
    ),
    _python(
        "environment",
        "env = dict(os.environ, TZ='a', APPTAINERENV_TZ='a')\n"
        "print(subprocess.run([T, '-c', 'echo $TZ'], env=env, stdout=-1).stdout)",
        b"b'a\\n'\n",
    ),
    _python(
        "directory",
        "os.mkdir('d'); print(subprocess.run([T, '-c', 'pwd'], cwd='d', stdout=-1).stdout.endswith(b'/place/d\\n'))",
        b"True\n",
    ),
    _python(
        "terminate",
        TERMINATED,
        b"True\n",
    ),
    _python(
        "four-at-once",
        "ps = [subprocess.Popen([T, '-c', f'exit {n}']) for n in range(4)]; print([p.wait() for p in ps])",
        b"[0, 1, 2, 3]\n",
    ),
    _python("os-system", 'sys.exit(os.waitstatus_to_exitcode(os.system(\'"$T" -c "exit 9"\')))', b"", code=9),
    _timed_out(),
    host("callers-xargs", 'printf "%s\\0" "a b" c "d\ne" | xargs -0 "$B/words" | tr "\\0" "|"', out=b"a b|c|d\ne|"),
    host(
        "callers-xargs-in-parallel",
        'seq 4 | xargs -P4 -n1 "$T" -c "echo \\$1 >f\\$1" x; cat f*',
        out=b"1\n2\n3\n4\n",
    ),
    host("callers-xargs-and-a-failure", 'seq 3 | xargs -n1 "$T" -c "exit \\$1" x; echo $?', out=b"123\n"),
    host(
        "callers-find",
        'touch "a b" ./-e; find . -type f -exec "$B/words" {} + | tr "\\0" "\\n" | sort',
        having=b"./a b\n",
    ),
    host("callers-find-execdir", 'mkdir d; echo x >d/f; find . -name f -execdir "$B/cat" {} \\;', out=b"x\n"),
    host(
        "callers-background-and-wait",
        '"$T" -c "exit 7" & a=$!; "$T" -c "exit 8" & b=$!; wait $a; echo $?; wait $b; echo $?',
        out=b"7\n8\n",
    ),
    host(
        "callers-time",
        '{ time -p "$T" -c "echo x; exit 2"; } 2>t; echo $?; grep -c real t; rm t',
        shell=BASH,
        out=b"x\n2\n1\n",
        err=None,
    ),
    host(
        "callers-user-time-is-counted",
        COUNTED,
        shell=BASH,
        out=b"counted\n",
    ),
    host("callers-timeout-that-is-not-reached", 'timeout 60 "$T" -c "echo x; exit 3"; echo $?', out=b"x\n3\n"),
    host("callers-nice", 'nice -n 5 "$T" -c "cut -d\\  -f19 /proc/self/stat"', out=b"5\n"),
    host("callers-setsid", 'setsid -w "$T" -c "echo x; exit 3"; echo $?', out=b"x\n3\n"),
    host("callers-stdbuf", 'stdbuf -oL "$B/echo" x', out=b"x\n"),
    host("callers-sh-c", 'sh -c \'"$T" -c "echo x"\'', out=b"x\n"),
    host("callers-bash-c", 'bash -c \'"$T" -c "echo x"\'', out=b"x\n"),
    host("callers-a-login-shell", 'bash -lc \'"$T" -c "echo x"\'', out=b"x\n"),
    host("callers-perl", 'perl -e \'system($ENV{T}, "-c", "exit 3"); print $? >> 8, "\\n"\'', out=b"3\n"),
    host("callers-awk", """awk 'BEGIN { "\\"$T\\" -c \\"echo x\\"" | getline y; print y }'""", out=b"x\n"),
    host(
        "callers-eval-and-exec",
        'eval "$T" -c "exit\\ 3" 2>/dev/null; exec "$T" -c "echo x; exit 5"',
        out=b"x\n",
        code=5,
        err=None,
    ),
    host("callers-a-loop", 'for i in 0 1 2; do "$T" -c "exit $i" || printf "$? "; done', out=b"1 2 "),
    host("callers-from-itself", '"$T" -c \'echo outer; ash -c "echo inner"\'', out=b"outer\ninner\n"),
    host(
        "callers-coproc",
        'coproc "$B/cat"; echo x >&${COPROC[1]}; read -r y <&${COPROC[0]}; echo "$y"; kill $COPROC_PID; wait',
        shell=BASH,
        out=b"x\n",
        err=None,
    ),
    _detached(),
    host(
        "callers-a-nearly-empty-environment",
        'env -i PATH="$PATH" HOME="$HOME" "$T" -c "echo \\"\\$HOME\\""',
        having=b"/",
    ),
    host(
        "callers-no-home-and-no-user",
        'env -i PATH=/usr/bin:/bin "$T" -c "echo x; cd && pwd"',
        having=b"x\n",
        err=None,
        deviation="the runtime looks up the home directory",
    ),
    host(
        "callers-cron",
        CRON,
        out=b"x\n/\n",
    ),
    host(
        "callers-a-home-that-is-missing",
        'HOME=/nowhere "$T" -c "echo x" 2>/dev/null; echo $?',
        err=None,
        deviation="the runtime cannot show it",
    ),
    _named("by-a-relative-path", f'd=$PWD; cd "$B/.."; "./${{B##*/}}/ash" {RUN}'),
    _named(
        "by-a-relative-path-from-below",
        f'cd "$B"; ./ash {RUN}; mkdir -p "$HOME/x" && cd "$HOME/x" && "../${{B#"$HOME/"}}/ash" {RUN}; rmdir "$HOME/x"',
        b"ran a b\nran a b\n",
    ),
    _named(
        "through-path",
        f'PATH="$B:$PATH" words x | tr "\\\\0" "\\n"; PATH="$B:$PATH"; ash {RUN}',
        b"x\nran a b\n",
        deviation="a shell may have a program of that name itself",
    ),
    _named("through-an-empty-part-of-path", f'cd "$B"; PATH=:/usr/bin:/bin; ash {RUN}'),
    _named("through-a-link", f'ln -s "$T" ash; ./ash {RUN}; rm ash'),
    _named(
        "through-links-to-links",
        f'ln -s "$T" one; mkdir d; ln -s ../one d/two; ln -s d/two ash; ./ash {RUN}; rm -r one d ash',
        deviation=HOST_ONLY,
    ),
    _named(
        "through-a-link-of-another-name",
        f'ln -s "$T" "another name"; "./another name" {RUN}; rm an*',
        deviation=HOST_ONLY,
        err=None,
    ),
    _named("through-a-linked-directory", f'ln -s "$B" dir; dir/ash {RUN}; rm dir'),
    _named("by-a-path-with-dots", f'"$B/../${{B##*/}}//./ash" {RUN}'),
    _named("by-another-argument-zero", f'exec -a "other name" "$T" {RUN}', shell=BASH, deviation=HOST_ONLY, err=None),
    _named(
        "as-a-script-of-a-shell",
        f'sh "$T" {RUN}; bash "$T" {RUN}',
        b"ran a b\nran a b\n",
        deviation="a program is no script",
    ),
    _named("as-a-script-found-in-the-directory", f'cd "$B"; sh ash {RUN}', deviation="a program is no script"),
    _named(
        "by-the-loader-of-scripts",
        INTERPRETER,
    ),
    _named("while-its-directory-is-the-caller-s", f'cd "$B"; "$T" {RUN}'),
)
