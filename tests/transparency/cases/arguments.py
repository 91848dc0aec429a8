"""Arguments arrive as they were given, whatever is in them."""

from __future__ import annotations

import os

from tests.transparency.case import Case, ended, is_, tool
from tests.transparency.outcomes import Outcome, nul_separated
from tests.transparency.routes import Call

PAGE = os.sysconf("SC_PAGESIZE")
LONGEST = 32 * PAGE - 1  # MAX_ARG_STRLEN of the kernel, without the zero byte

# What a shell, a runtime's command line or a terminal could take for something else; each is one call of its own.
VECTORS: dict[str, tuple[str, ...]] = {
    "none": (),
    "one-empty": ("",),
    "many-empty": ("", "", "x", ""),
    "blanks": (" ", "  two  words ", "trailing "),
    "tabs": ("\t", "a\tb", "\tx\t"),
    "newlines": ("\n", "a\nb", "trailing\n", "\n\n"),
    "carriage-returns": ("\r", "a\r\nb", "x\r"),
    "single-quotes": ("'", "''", "it's", "'a b'"),
    "double-quotes": ('"', '""', 'say "x"', '"a b"'),
    "mixed-quotes": ("'\"'\"'", "\"'", "$'a\\nb'", '$"a"'),
    "globs": ("*", "?", "[a-z]*", "**", "/*", "/etc/h*"),
    "extended-globs": ("!(x)", "@(a|b)", "+([0-9])", "[!a]", "[^a]"),
    "variables": ("$HOME", "${HOME}", "$$", "$0", "$@", "$*", "$#", "$?", "${x:?fail}"),
    "substitutions": ("$(id)", "`id`", "$((1+1))", "<(id)", ">(cat)", "$(touch PWNED)"),
    "backslashes": ("\\", "\\\\", "a\\ b", "\\n", "\\0", "x\\"),
    "operators": ("a;b", "a|b", "a||b", "a&b", "a&&b", "(a)", "{ a; }"),
    "redirections": (">PWNED", "<x", "2>&1", ">>x", "<<EOF", ">&2"),
    "a-dash": ("-", "-", "x"),
    "two-dashes": ("--", "x", "--"),
    "short-options": ("-x", "-c", "-n", "-e", "-rf"),
    "help-and-version": ("--help", "-h", "--version"),
    "options-of-the-runtime": ("--nv", "--bind", "/x:/y", "--pwd", "/", "--env", "A=b", "-B", "/"),
    "options-with-values": ("--a=b c", "--a", "=b", "-o=x,y"),
    "options-then-dashes": ("-a", "--", "-b", "--", "--c"),
    "tildes": ("~", "~root", "~/x", "a=~", "~+"),
    "assignments": ("A=b", "=", "==", "PATH=/nowhere", "IFS=,"),
    "exclamation-marks": ("!", "!!", "!$", "a!b"),
    "braces": ("{a,b}", "{1..3}", "{}", "{", "}", "{a,b}{c,d}"),
    "comments": ("#", "#x", "a #b", "a#"),
    "percents": ("%s%n", "%", "%%", "%1", "%d %x"),
    "commas-and-colons": (",", ":", "a,b:c", "a:b:ro", ":,:"),
    "latin": ("é", "ü ß", "naïve façade"),
    "scripts-of-the-world": ("脳", "мозг", "मस्तिष्क", "מוח", "\u202eabc"),
    "emoji-and-joiners": ("\U0001f9e0", "👩‍🔬", "a\u0301", "\u200b", "\ufeffx"),
    "not-utf8": (os.fsdecode(b"\xff\xfe"), os.fsdecode(b"caf\xe9"), os.fsdecode(b"\xc3"), os.fsdecode(b"\xed\xa0\x80")),
    "every-byte": ("".join(os.fsdecode(bytes([number])) for number in range(1, 256)),),
    "control-characters": ("\x01", "\x07\x08", "\x1b[31mred\x1b[0m", "\x7f", "\x04", "\x1a"),
    "paths": ("/", "//", "./x", "../x", "/etc/passwd", "a//b", "."),
    "addresses": ("http://a/?b=c&d=e#f", "user@host:/x", "file:///x", "s3://b/k"),
    "code": ("import sys; print('a' + \"b\")", "s/\\(a\\)/\\1/g", "{print $1}", 'function(x){return "$x"}'),
    "json": ('{"a": [1, "b c", null], "d": {"e": "\\u00e9"}}',),
    "numbers": ("0", "-1", "1e-5", "0x10", "007", "1,5"),
    "words-of-the-wrapper": ("$image", "@COMMAND@", "@RELEASE@", "${1}", "exec", "fail", "transparent_1.0_20260102"),
    "the-longest": ("x" * LONGEST,),
    "just-below-the-longest": ("'" * (LONGEST - 1), '"'),
    "ten-thousand": tuple(str(number) for number in range(10_000)),
    "ten-thousand-empty": ("",) * 10_000,
    "a-thousand-quotes": tuple("'\"\\$`"[number % 5] * (number % 7) for number in range(1000)),
    "a-megabyte-in-all": ("y" * 100_000,) * 10,
}


NOT_UTF8 = {"not-utf8", "every-byte"}
UNICODE_ONLY = "the runtime, a Go program, writes U+FFFD for every byte that is no UTF-8"
# Calls of their own, since the first word, the number of words, or their size matters. The rest go in one call.
ALONE = NOT_UTF8 | {
    *("none", "one-empty", "many-empty", "a-dash", "two-dashes", "short-options", "help-and-version"),
    *("options-of-the-runtime", "the-longest", "just-below-the-longest", "ten-thousand", "ten-thousand-empty"),
    *("a-thousand-quotes", "a-megabyte-in-all", "newlines"),
}
TOGETHER = {name: words for name, words in VECTORS.items() if name not in ALONE}
SHARED = "arguments-together"

Words = tuple[int, list[bytes], bytes, tuple[str, ...]]


def _words(call: Call, words: tuple[str, ...]) -> Words:
    done = call.run("words", *words)
    return done.code, nul_separated(done.out), done.err, done.files


def _expected(words: tuple[str, ...]) -> Words:
    return 0, [os.fsencode(word) for word in words], b"", ()


def _alone(name: str, words: tuple[str, ...], full: bool = False) -> Case:
    def observe(call: Call) -> Words:
        return _words(call, words)

    def replaced(seen: Words) -> None:
        assert seen[0] == 0
        assert len(seen[1]) == len(words)

    if name in NOT_UTF8:
        return Case(f"arguments-{name}", observe, replaced, UNICODE_ONLY, warm="either")
    return Case(f"arguments-{name}", observe, is_(_expected(words)), full=full)


def _together(name: str, words: tuple[str, ...]) -> Case:
    """One call holds the words of all; each case looks at its own."""
    start = sum(
        len(found) for other, found in TOGETHER.items() if list(TOGETHER).index(other) < list(TOGETHER).index(name)
    )

    def observe(call: Call) -> Words:
        return _words(call, tuple(word for found in TOGETHER.values() for word in found))

    def pick(seen: Words) -> Words:
        code, found, err, files = seen
        return code, found[start : start + len(words)], err, files

    return Case(f"arguments-{name}", observe, is_(_expected(words)), shared=SHARED, pick=pick)


def _too_long() -> Case:
    """The kernel refuses such an argument before anything of ours runs."""

    def observe(call: Call) -> str:
        try:
            call.run("words", "x" * (LONGEST + 1))
        except OSError as error:
            return os.strerror(error.errno or 0)
        return "taken"

    return Case("arguments-one-byte-too-long", observe, is_("Argument list too long"))


def _command_line() -> Case:
    def observe(call: Call) -> Outcome:
        return call.run("cat", "/proc/self/cmdline")

    deviation = "a program in a container sees its own path there"
    return Case("arguments-the-command-line-in-proc", observe, ended(0, b"/bin/cat\0/proc/self/cmdline\0"), deviation)


CASES = (
    *(_together(name, words) for name, words in TOGETHER.items()),
    *(_alone(name, words) for name, words in VECTORS.items() if name in ALONE),
    *(_alone(f"{name}-in-their-own-call", words, full=True) for name, words in TOGETHER.items()),
    _too_long(),
    _command_line(),
    tool("arguments-a-dash-first", "echo", "-", "--", "-q", out=b"- -- -q\n"),
    tool("arguments-an-option-of-the-tools-own", "echo", "-n", "x", out=b"x"),
    tool("arguments-a-dash-as-standard-input", "cat", "-", input=b"piped", out=b"piped"),
    tool("arguments-of-a-script-from-standard-input", "ash", "-s", "a b", "*", input=b'echo "$#$1$2"', out=b"2a b*\n"),
)
