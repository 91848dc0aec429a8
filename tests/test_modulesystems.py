"""Both module systems really are here: they list and load a modulefile that says nothing of ours, in each shell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modulesystems import SHELLS, lmod_init, run_with_modules, tcl_init
from tests.users import User

SYSTEMS = {"Modules based on Lua": lmod_init, "Modules Release 5": tcl_init}


@pytest.fixture(scope="module")
def tree(ordinary_user: User) -> Iterator[Path]:
    """Give a tree with the module ``greeting/1.0``."""
    made = ordinary_user.home / "greetings"
    (made / "greeting").mkdir(parents=True)
    (made / "greeting" / "1.0").write_text("#%Module\nsetenv GREETING {hello you}\nprepend-path PATH /nowhere/bin\n")
    yield ordinary_user.give(made)
    shutil.rmtree(made)


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_module_is_listed_loaded_and_unloaded(system: str, shell: str, tree: Path, ordinary_user: User) -> None:
    script = (
        "module --version 2>&1; module avail 2>&1; module load greeting\n"
        'echo "<$GREETING> <$PATH>"; module unload greeting; echo "<${GREETING-gone}>"; ml greeting; echo "<$GREETING>"'
    )
    done = run_with_modules(SYSTEMS[system](shell), tree, script, ordinary_user)
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.split()
    assert system in done.stdout
    assert "greeting/1.0" in said
    *_, loaded, unloaded, again = done.stdout.splitlines()
    assert loaded.startswith("<hello you> </nowhere/bin:")
    assert (unloaded, again) == ("<gone>", "<hello you>")


def test_modules_fail_where_there_are_none(tree: Path, ordinary_user: User) -> None:
    for init in (lmod_init("bash"), tcl_init("bash")):
        done = run_with_modules(init, tree, "module load farewell", ordinary_user)
        assert done.returncode != 0
        assert "farewell" in done.stderr
