"""README.md: its usage is what --help prints, its examples do what they show, its configuration is one.

To renew the usage after a change of an option or a help text: python -m tests.test_readme
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from neurocommand import config, manifesttext, yamltext
from neurocommand.cli import COMMANDS, cli
from neurocommand.render.shards import github_matrix

TOP = Path(__file__).parents[1]
README = TOP / "README.md"
USAGE = re.compile(r"(<!-- usage:begin[^\n]*-->\n).*?(<!-- usage:end -->)", re.DOTALL)
COLUMNS = 100


def help_text(*verb: str) -> str:
    shown = CliRunner().invoke(cli, [*verb, "--help"], prog_name="neurocommand", terminal_width=COLUMNS)
    assert shown.exit_code == 0, shown.output
    return shown.output


def usage() -> str:
    sections = [f"```text\n{help_text()}```\n"]
    sections += [f"### neurocommand {verb}\n\n```text\n{help_text(verb)}```\n" for verb in COMMANDS]
    return "\n".join(sections)


def renewed(text: str) -> str:
    return USAGE.sub(lambda found: f"{found[1]}\n{usage()}\n{found[2]}", text)


def blocks(language: str) -> list[str]:
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_usage_is_what_help_prints() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(USAGE.findall(text)) == 1
    assert text == renewed(text), "README.md is behind --help; to renew it: python -m tests.test_readme"


def test_examples_do_what_they_show(tmp_path: Path) -> None:
    """Run every command after ``$ `` of the console blocks, in one directory; ``…`` stands for anything on a line."""
    for name in ("apps.json", "apps.lock.json"):
        shutil.copy(TOP / name, tmp_path)
    shutil.copytree(TOP / "examples", tmp_path / "examples")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    commands = 0
    for block in blocks("console"):
        for example in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = example.partition("\n")
            done = subprocess.run(
                ["bash", "-c", f"exec 2>&1; {command}"],
                cwd=tmp_path,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )
            assert re.fullmatch(".*".join(map(re.escape, shown.split("…"))), done.stdout), f"{command}\n{done.stdout}"
            commands += 1
    assert commands >= 6


def test_the_configuration_is_one(tmp_path: Path) -> None:
    example, wrappers, cvmfs = blocks("yaml")
    path = tmp_path / "neurocommand.yaml"
    path.write_text(example, encoding="utf-8")
    settings = config.load(path, {})
    assert [store.name for store in settings.stores] == ["bucket", "rack", "public"]
    assert settings.root == Path("/srv/neuro/root")
    path.write_text(wrappers, encoding="utf-8")
    shown = config.load(path, {}).wrappers
    assert (shown.gpu, shown.warm, shown.warm_idle, shown.passed) == ("auto", False, 600, ("SUBJECTS_DIR", "FS_*"))
    assert [(bind.source, bind.destination, bind.read_only) for bind in shown.binds] == [
        ("/scratch", "/scratch", False),
        ("/data/licences", "/licences", True),
    ]
    path.write_text(cvmfs, encoding="utf-8")
    repository = config.load(path, {}).cvmfs
    assert repository is not None
    assert repository.servers[0].endswith("/cvmfs/neurodesk.ardc.edu.au")
    assert (repository.lag_minutes, repository.release_file) == (90, "commands.txt")


def test_the_retirement_is_one() -> None:
    (example,) = blocks("json")
    found = manifesttext.parse(example, "apps.json")
    (retirement,) = found.retirements
    assert retirement.release.id == "dcm2niix_1.0.20220720_20261104"
    assert found.warnings == ()
    assert [d.release.version for d in found.declarations if d.deprecation] == ["1.0.20230411"]
    # all that may be said is shown
    extra = json.loads(example)["dcm2niix"]["x-neurocommand"]
    assert (
        extra.keys() | {"doi"}
        == json.loads(config.bundled("apps.schema.json").read_text())["$defs"]["extra"]["properties"].keys()
    )


def test_the_workflow_runs_no_matrix_without_jobs() -> None:
    (block,) = blocks("yml")
    document = yamltext.parse(block)
    assert document.faults == ()
    assert github_matrix(()).strip() in document.value["jobs"]["convert"]["if"]
    commands = [step.get("run", "") for job in document.value["jobs"].values() for step in job["steps"]]
    for verb, option in (("plan", "--format"), ("sync", "--apart")):
        assert any(f"neurocommand {verb} {option}" in command for command in commands)
        assert option in help_text(verb)


def test_shell_examples_name_real_verbs_and_options() -> None:
    lines = [line.partition("#")[0] for block in blocks("sh") for line in block.splitlines()]
    calls = [line for line in lines if re.match(r"\s*(eval \"\$\()?neurocommand ", line)]
    assert len(calls) >= 6
    for call in calls:
        verb, *words = call.strip().removeprefix('eval "$(').removeprefix("neurocommand ").split()
        assert verb in COMMANDS, call
        for option in (word for word in words if word.startswith("--")):
            assert option in help_text(verb), call


def test_figures_come_from_benchmarks_that_are_there() -> None:
    named = re.findall(r"(bench/[a-z_]+\.py)", README.read_text(encoding="utf-8"))
    assert named
    assert [name for name in named if not (TOP / name).is_file()] == []


@pytest.mark.parametrize("script", ["demo", "test"])
def test_the_two_commands_are_there(script: str) -> None:
    assert os.access(TOP / script, os.X_OK)
    assert any(f"./{script} " in block for block in blocks("sh"))


def test_a_work_folder_of_the_demo_is_taken_where_the_caller_stands(tmp_path: Path) -> None:
    argv = ["bash", "-x", str(TOP / "demo"), "--work", "a b", "--help"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert f"+ work='{tmp_path}/a b'\n" in done.stderr


if __name__ == "__main__":
    README.write_text(renewed(README.read_text(encoding="utf-8")), encoding="utf-8")
