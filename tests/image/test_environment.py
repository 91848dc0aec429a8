"""Environment files as real runtimes write them; the OCI configuration in the same SIF says what they mean."""

from __future__ import annotations

import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neurocommand.image import sif
from neurocommand.image.environment import parse
from tests import images

VALUES = [
    "plain",
    "",
    "a b",
    'say "hi"',
    "it's",
    "$HOME and ${HOME}",
    "$(id)",
    "`id`",
    "back\\slash",
    "back\\\\slashes",
    "\\n is not a break",
    "\\$HOME",
    "tab\tand\nline\r\nbreaks",
    "]] ]===]",
    "a=b=c",
    "trailing\\",
    '"',
    '\\"',
    "é ü 脳 \U0001f9e0",
    "}",
    '"}" export X="y',
    "\x01\x7f",
    "# no comment",
    "*?[a]~!;&|<>",
    'quote " at\nexport FORGED="${FORGED:-"yes"}"',
]


def test_files_of_apptainer_mean_what_was_recorded(tmp_path: Path) -> None:
    environment = {f"DEPLOY_ENV_V{number}": value for number, value in enumerate(VALUES)}
    environment = {"PATH": images.PATH, **environment}
    path = images.built_sif(images.base(), environment, tmp_path / "a.sif")
    assert dict(sif.recorded_environment(path) or ()) == environment
    sif.unpack(path, tmp_path / "tree")
    texts = [
        file.read_bytes().decode(errors="surrogateescape")
        for file in sorted((tmp_path / "tree/.singularity.d/env").glob("[19]0-*.sh"))
    ]
    found = parse(texts)
    assert {name: found.get(name) for name in environment} == environment
    assert "FORGED" not in found


# What newer versions write (shell.Escape alone); the oracle is the shell itself.
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "`": "\\`", "$": "\\$"})


@given(value=st.text(string.printable.replace("\\", "") + "é脳", min_size=1, max_size=20))
@example("a\\b")
@example("\\$x")
@example("\\n")
def test_files_without_gos_quoting(value: str) -> None:
    text = f'export X="${{X:-"{value.translate(ESCAPES)}"}}"\n'
    assert parse([text]) == {"X": value}


WORDS = st.text("ab \\\"'=#\n;{}~*é", max_size=15)


@given(value=WORDS, form=st.sampled_from(["'", '"']))
def test_plain_assignments_mean_what_the_shell_says(value: str, form: str) -> None:
    body = value.replace("'", "") if form == "'" else value.translate(ESCAPES)
    text = f"X={form}{body}{form}\nexport X\n"
    shell = subprocess.run(["sh", "-c", f'{text}printf %s "$X"'], capture_output=True, check=True, env={})
    assert parse([text])["X"].encode() == shell.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("export X=a", {"X": "a"}),
        ("  export X=a; export Y=b\n", {"X": "a"}),
        ("X=a\\ b'c d'\"e f\"g # not this", {"X": "a bc de fg"}),
        ("X=a\\\nb", {"X": "ab"}),
        ('X="a\\\nb\\c"', {"X": "ab\\c"}),
        ("X=1\nX=2", {"X": "2"}),
        ("A=/opt\nX=$A/bin:${A}/lib", {"A": "/opt", "X": "/opt/bin:/opt/lib"}),
        ("X=$UNKNOWN", {}),
        ("X=$(id)", {}),
        ("X=`id`", {}),
        ('X="${Y:-z}"', {}),
        ("X='open", {}),
        ('X="open', {}),
        ('X="${X:-"open', {}),
        ('X="${X:-"shut"', {}),
        ("X=\"'\"\nY='\"'", {"X": "'", "Y": '"'}),
        ('X="a\nY=forged"', {"X": "a\nY=forged"}),
        ('X="${X:-"a"}"\nX="${X:-"b"}"', {"X": "a"}),
        ('X="${X:-""}"\nX="${X:-"b"}"', {"X": "b"}),
        ('X="${X:-"\\x41\\u0042\\U00000043\\q"}"', {"X": "\\x41\\u0042\\U00000043\\q"}),
        ('X="${X:-"\\x41\\u0042\\U00000043\\a"}"', {"X": "ABC\a"}),
        ('X="${X:-"\\Uffffffff"}"', {"X": "\\Uffffffff"}),
        ('X="${X:-"\\xff"}"', {"X": "\udcff"}),
        ("if true; then\n\tX=a\nfi", {"X": "a"}),
        ("1X=a\n-X=b\nécole=c", {}),
    ],
)
def test_assignments(text: str, expected: dict[str, str]) -> None:
    assert parse([text]) == expected


@given(text=st.text(string.printable + "\udcff\x00", max_size=60))
def test_no_text_is_a_traceback(text: str) -> None:
    parse([f"export X={text}", text, f'export X="${{X:-"{text}'])
