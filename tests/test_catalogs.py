"""Where nested catalogs begin: held against a count of every entry's catalog, made independently."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from neurocommand.catalogs import HARD_LIMIT, Range, layout

SMALL = Range(least=3, most=10)


def test_a_tree_that_is_small_enough_is_one_catalog() -> None:
    found = layout({"": 2, "a": 5, "b": 1})
    assert found.markers == ("",)
    assert found.entries[""] == 2 + 5 + 1 + 2, "all entries, the tree itself and its marker"
    assert found.excess == ()


def test_of_a_large_one_the_largest_parts_are_split_off_until_the_rest_fits() -> None:
    found = layout({"": 3, "a": 150_000, "b": 80_000, "c": 500})
    assert found.markers == ("", "a")
    assert found.entries == {"a": 150_002, "": 3 + 80_000 + 500 + 2}


def test_a_part_that_is_not_worth_a_request_is_not_split_off() -> None:
    counts = {"": 400, **{f"d{number}": 999 for number in range(400)}}
    assert layout(counts).markers == ("",), "399,999 are more than wanted, and fewer than CVMFS takes"


def test_below_the_hard_limit_even_small_parts_are_split_off() -> None:
    counts = {"": 1_000, **{f"d{number}": 999 for number in range(1_000)}}
    found = layout(counts)
    assert max(found.entries.values()) <= HARD_LIMIT
    assert found.excess == ()


def test_what_nothing_can_be_split_off_from_is_named() -> None:
    found = layout({"": 1, "a": 1, "a/b": HARD_LIMIT + 1})
    assert found.excess == ("a/b",)
    assert layout({"": HARD_LIMIT + 1}).excess == ("",)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, int]:
    """Give the entries directly in each directory: files, and the directories in it."""
    paths = draw(st.sets(st.lists(st.sampled_from("abcd"), min_size=1, max_size=4).map("/".join), max_size=40))
    every = {""}
    for path in paths:
        parts = path.split("/")
        every |= {"/".join(parts[:number]) for number in range(1, len(parts) + 1)}
    inside = Counter(path.rpartition("/")[0] for path in every if path)
    return {path: inside[path] + draw(st.integers(0, 12)) for path in every}


@given(trees())
def test_every_entry_is_in_the_catalog_that_its_directory_is_in(counts: dict[str, int]) -> None:
    found = layout(counts, SMALL)
    # each directory's entries count for the nearest marked directory above it, or itself
    sizes: Counter[str] = Counter()
    for path, count in counts.items():
        place = path
        while place not in found.entries:
            place = place.rpartition("/")[0]
        sizes[place] += count
    assert {path: size + 2 for path, size in sizes.items()} == dict(found.entries)


@given(trees())
def test_a_catalog_is_too_large_only_where_nothing_worth_it_can_be_split_off(counts: dict[str, int]) -> None:
    found = layout(counts, SMALL)
    for path, entries in found.entries.items():
        if path:
            assert entries - 2 >= SMALL.least
        if entries - 2 > SMALL.most:
            assert (
                counts[path] + sum(_part(counts, found.entries, child) for child in _children(counts, path))
                > SMALL.most
            )
            assert all(
                child in found.entries or _part(counts, found.entries, child) < SMALL.least
                for child in _children(counts, path)
            )


def _children(counts: dict[str, int], path: str) -> list[str]:
    return [one for one in counts if one and one.rpartition("/")[0] == path]


def _part(counts: dict[str, int], marked: object, path: str) -> int:
    """Count what a directory adds to the catalog of the one above it."""
    if path in marked:  # type: ignore[operator]
        return 0
    return counts[path] + sum(_part(counts, marked, child) for child in _children(counts, path))
