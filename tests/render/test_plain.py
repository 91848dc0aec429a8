"""The plain lists."""

from __future__ import annotations

from neurocommand.model import Inspection
from neurocommand.render.plain import commands_txt, env_txt


def test_commands_txt() -> None:
    assert commands_txt(Inspection(("bet", "flirt"), (), (), "")) == "bet\nflirt\n"
    assert commands_txt(Inspection((), (), (), "")) == ""


def test_env_txt() -> None:
    values = (("A", "BASEPATH/x y=z"), ("B", "\\n \\"), ("C", "a\\\nb\r\nc"), ("D", ""))
    assert env_txt(Inspection((), (), values, "")).split("\n") == [
        "DEPLOY_ENV_A=BASEPATH/x y=z",
        "DEPLOY_ENV_B=\\n \\",
        "DEPLOY_ENV_C=a\\\\\\nb\\r\\nc",
        "DEPLOY_ENV_D=",
        "",
    ]
