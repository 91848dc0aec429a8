"""Tombstones: what is left of a withdrawn release says why it does not work, and a killed withdrawal is finished."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neurocommand import observe, record
from neurocommand.deploy import Deployer
from neurocommand.layout import Root
from neurocommand.manifest import Declaration, Defaults
from neurocommand.model import Artifact, DeployRecord, Inspection, Notice, Release
from neurocommand.observation import Deployed
from neurocommand.render import module, templates
from neurocommand.settings import WrapperSettings
from tests.world import listing

OLD, NEW = Release("tool", "1.0", "20260101"), Release("tool", "2.0", "20260101")
NOTICE = Notice("wrong results; it's $HOME `id`", NEW, "2026-01-31")
SAID = "tool_1.0_20260101 is withdrawn since 2026-01-31: wrong results; it's $HOME `id`; use tool/2.0 instead"
REVISION = templates.revision(WrapperSettings())
COMMANDS = ("@run", "bet", "a b")
CHANGES = "rename,link,symlink,mkdir,rmdir,unlink,unlinkat,chmod,fchmod,fsync"

# what a run does that finds a release which the manifest retires
SCRIPT = """
import sys
from pathlib import Path
from tests.test_withdrawal import OLD, run
run(Path(sys.argv[1]))
"""


def run(path: Path) -> None:
    place = deployer(path)
    with place.locked():
        place.prepare()
        view = observe.root(place.root, "tree", REVISION, Defaults())
        found = view.deployments[OLD]
        assert isinstance(found, Deployed), found
        if not (found.record.withdrawn and found.complete and not view.misled):
            place.withdraw(found.record, NOTICE)


def deployer(path: Path) -> Deployer:
    return Deployer(Root(path), "tree", (), lambda event: None)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    """Give a root with two releases of tool, as deploying leaves them but for what is in their trees."""
    place = deployer(tmp_path / "root")
    with place.locked():
        place.prepare()
    for release in (OLD, NEW):
        directory = place.root.release(release)
        (directory.image / "opt/deep/er").mkdir(parents=True)
        (directory.image / "opt/file").write_text("x")
        directory.wrappers.mkdir()
        for command in COMMANDS:
            (directory.wrappers / command).write_text("#!/bin/sh\necho works\n")
            (directory.wrappers / command).chmod(0o755)
        for name in ("commands.txt", "env.txt", "README.md"):
            (directory.path / name).write_text("x\n")
        deployed = DeployRecord(release, "a" * 64, 5, "tree", COMMANDS, ("body",), REVISION)
        declaration = Declaration(release, "tool 1", 1, ("body",), True, True, ())
        made = module.live(declaration, Inspection(COMMANDS, (), (), "x\n"), "tree")
        place.modulefiles.write(deployed, made)
        directory.record.write_text(record.render(deployed))
    place.modulefiles.renew("tool")
    return place.root


def test_its_commands_say_why_and_exit_with_69(root: Root, tmp_path: Path) -> None:
    run(root.path)
    directory = root.release(OLD)
    assert sorted(os.listdir(directory.path)) == ["README.md", "bin", "record.json", "wrapper.sh"]
    assert sorted(os.listdir(directory.wrappers)) == sorted(COMMANDS)
    (tmp_path / "link").symlink_to(directory.wrappers / "bet")
    (tmp_path / "moved").symlink_to(directory.path)
    for path, name in (
        (directory.wrappers / "bet", "bet"),
        (directory.wrappers / "a b", "a b"),
        (directory.wrappers / "@run", "@run"),
        (tmp_path / "link", "bet"),
        (tmp_path / "moved/bin/bet", "bet"),
    ):
        done = subprocess.run([path, "-x"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (69, "", f"{name}: {SAID}\n")
    sourced = subprocess.run(
        ["sh", "-c", "nc_command=x; . ./wrapper.sh; echo not here"],
        cwd=directory.path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (sourced.returncode, sourced.stdout, sourced.stderr) == (69, "", f"x: {SAID}\n")


def test_its_record_and_modules_say_so_and_the_other_version_stays_the_default(root: Root) -> None:
    others = listing(root.release(NEW).path)
    run(root.path)
    found = observe.read_record(root.release(OLD))
    assert found == DeployRecord(OLD, "a" * 64, 5, "tree", COMMANDS, ("body",), REVISION, NOTICE)
    assert '"record": 2' in root.release(OLD).record.read_text()
    for text in (root.modulefile(OLD).read_text(), root.tcl_modulefile(OLD).read_text()):
        assert "withdrawn since 2026-01-31" in text
    assert root.category_link(OLD, "body").resolve() == root.modulefile(OLD)
    assert 'set ModulesVersion "2.0"' in (root.modules_tcl / "tool/.version").read_text()
    assert listing(root.release(NEW).path) == others
    assert os.listdir(root.staging) == []


def test_the_last_one_leaves_no_default_and_a_removal_nothing(root: Root) -> None:
    place = deployer(root.path)
    place.withdraw(DeployRecord(NEW, "a" * 64, 5, "tree", COMMANDS, ("body",), REVISION), NOTICE)
    run(root.path)
    assert not (root.modules_tcl / "tool/.version").exists()
    assert "module_version" not in (root.modules / "tool/.modulerc.lua").read_text()
    for release in (OLD, NEW):
        place.remove(release)
    assert [*root.modules.iterdir(), *root.modules_tcl.iterdir(), *root.categories.iterdir()] == []
    assert os.listdir(root.containers) == ["modules"]


def test_it_is_renewed(root: Root) -> None:
    run(root.path)
    before = listing(root.path)
    deployed = observe.read_record(root.release(OLD))
    assert isinstance(deployed, DeployRecord)
    other = Notice("other reason")
    deployer(root.path).withdraw(deployed, other)
    done = subprocess.run([root.release(OLD).wrappers / "bet"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (69, "bet: tool_1.0_20260101 is withdrawn: other reason\n")
    deployer(root.path).withdraw(deployed, NOTICE)
    assert listing(root.path) == before


def test_a_live_release_takes_the_place_of_a_tombstone(root: Root, small_sif: Path) -> None:
    run(root.path)
    place = deployer(root.path)
    place.prepare()
    from neurocommand.files import digest_of

    declaration = Declaration(OLD, "tool 1.0", 1, ("body",), True, True, ())
    place.deploy(declaration, Artifact(*digest_of(small_sif)), small_sif)
    found = observe.root(root, "tree", REVISION, Defaults())
    state = found.deployments[OLD]
    assert isinstance(state, Deployed)
    assert (state.complete, state.record.withdrawn, found.misled) == (True, None, frozenset())
    assert not root.release(OLD).wrapper_body.exists() or "withdrawn" not in root.release(OLD).wrapper_body.read_text()


def killed(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("strace")
    assert program, "strace is missing: run setup/packages.sh test (./test does)"
    argv = [program, "-qq", "-o", f"{path}.trace", "-e", f"trace={CHANGES}", *options]
    return subprocess.run(
        [*argv, sys.executable, "-B", "-c", SCRIPT, str(path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[1],
        timeout=60,
    )


@pytest.mark.timeout(1200)
def test_killed_anywhere_the_next_run_finishes(root: Root, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    clean = tmp_path / "clean"
    shutil.copytree(root.path, clean, symlinks=True)
    assert killed(clean).returncode == 0
    finished = listing(clean)
    assert finished != listing(root.path)
    calls = [line.split("(")[0] for line in Path(f"{clean}.trace").read_text().splitlines() if "(" in line]
    numbers = range(len(calls))
    for number in numbers if request.config.getoption("--full") else random.Random(1).sample(numbers, 8):
        place = tmp_path / f"killed{number}"
        shutil.copytree(root.path, place, symlinks=True)
        name, count = calls[number], calls[: number + 1].count(calls[number])
        done = killed(place, "-e", f"inject={name}:signal=SIGKILL:when={count}")
        assert done.returncode == -signal.SIGKILL, (name, count, done.stderr)
        run(place)
        assert listing(place) == finished, (name, count)
        run(place)
        assert listing(place) == finished
        shutil.rmtree(place)
