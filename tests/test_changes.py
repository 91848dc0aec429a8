"""What makes one listing of another: held against listings that are changed path by path."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neurocommand.changes import Difference, Entry, difference

FILE, OTHER, DIRECTORY, LINK = Entry("file", "a 644"), Entry("file", "b 644"), Entry("directory"), Entry("link", "x")


def test_nothing_differs() -> None:
    found = difference({"a": FILE}, {"a": FILE})
    assert not found
    assert found == Difference((), (), exchanged=False)


def test_a_file_takes_the_place_of_a_file() -> None:
    assert difference({"a": FILE}, {"a": OTHER}) == Difference((), ("a",), exchanged=False)


def test_a_directory_comes_before_what_is_in_it_and_goes_as_a_whole() -> None:
    before = {"old": DIRECTORY, "old/a": FILE, "old/b": DIRECTORY, "old/b/c": FILE, "old-er": FILE}
    after = {"new": DIRECTORY, "new/a": FILE, "new-er": FILE, "old-er": FILE}
    assert difference(before, after) == Difference(("old",), ("new", "new-er", "new/a"), exchanged=False)


def test_what_becomes_something_else_goes_first_with_all_below_it() -> None:
    before = {"d": DIRECTORY, "d/x": FILE, "l": LINK, "i": Entry("image", "link /a")}
    after = {"d": FILE, "l": Entry("link", "y"), "i": Entry("image", "inode 1")}
    assert difference(before, after) == Difference(("d", "i", "l"), ("d", "i", "l"), exchanged=True)


def test_what_stands_below_what_is_exchanged_is_put_again() -> None:
    before = {"d": LINK}
    after = {"d": DIRECTORY, "d/x": FILE}
    assert difference(before, after) == Difference(("d",), ("d", "d/x"), exchanged=True)


@st.composite
def listings(draw: st.DrawFn) -> dict[str, Entry]:
    """Give a listing in which every directory of a path has its own entry."""
    paths = draw(st.sets(st.lists(st.sampled_from(["a", "b", "a-", "c"]), min_size=1, max_size=3).map("/".join)))
    found: dict[str, Entry] = {}
    for path in sorted(paths, key=lambda one: one.split("/")):
        above = path.rpartition("/")[0]
        if above and found.get(above) != DIRECTORY:
            continue
        found[path] = draw(st.sampled_from([FILE, OTHER, DIRECTORY, DIRECTORY, LINK, Entry("link", "y")]))
    return found


@given(listings(), listings())
def test_applied_it_makes_one_of_the_other(before: dict[str, Entry], after: dict[str, Entry]) -> None:
    found = difference(before, after)
    made = dict(before)
    for gone in found.removes:
        assert gone in made, "it is there, and was not removed with something above it"
        made = {path: entry for path, entry in made.items() if path != gone and not path.startswith(gone + "/")}
    for path in found.puts:
        above = path.rpartition("/")[0]
        assert not above or made[above] == DIRECTORY
        assert made.get(path, after[path]).kind == after[path].kind, "nothing but a file is replaced"
        assert path not in made or after[path].kind == "file"
        made[path] = after[path]
    assert made == after
    assert found.exchanged == bool(set(found.removes) & set(after))
