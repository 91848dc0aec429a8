"""What a new version of a tree has that the one before had not."""

from __future__ import annotations

from neurocommand.changes import Difference, Entry
from neurocommand.successor import inside, is_worth_it

ONE, TWO, DIRECTORY = Entry("file", "1 644"), Entry("file", "2 644"), Entry("directory")
WAS = {
    "a": ONE,
    "lib": DIRECTORY,
    "lib/m.py": ONE,
    "lib/n.py": ONE,
    "lib/__pycache__": DIRECTORY,
    "lib/__pycache__/m.cpython-311.pyc": ONE,
    "lib/__pycache__/n.cpython-311.opt-1.pyc": ONE,
    "gone": ONE,
}


def test_a_module_goes_with_its_compiled_file() -> None:
    now = {path: entry for path, entry in WAS.items() if path != "gone"}
    now["lib/__pycache__/m.cpython-311.pyc"] = TWO
    assert inside(WAS, now) == Difference(("gone",), ("lib/__pycache__/m.cpython-311.pyc", "lib/m.py"), exchanged=False)
    now["lib/__pycache__/n.cpython-311.opt-1.pyc"] = TWO
    assert "lib/n.py" in inside(WAS, now).puts


def test_a_compiled_file_without_its_module_goes_alone() -> None:
    compiled = {"__pycache__": DIRECTORY, "__pycache__/x.cpython-39.pyc": ONE}
    now = {**compiled, "__pycache__/x.cpython-39.pyc": TWO}
    assert inside(compiled, now).puts == ("__pycache__/x.cpython-39.pyc",)
    assert inside({**compiled, "x.py": ONE}, {**now, "x.py": ONE}).puts == ("__pycache__/x.cpython-39.pyc", "x.py")


def test_it_is_worth_it_while_most_files_are_the_same() -> None:
    now = {**WAS, "a": TWO}
    assert is_worth_it(now, inside(WAS, now))
    other = {path: TWO if entry == ONE else entry for path, entry in WAS.items()}
    assert not is_worth_it(other, inside(WAS, other))
    assert not is_worth_it({}, inside(WAS, {}))
