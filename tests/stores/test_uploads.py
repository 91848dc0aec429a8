"""Records of unfinished uploads: they survive, they are held by one, and what is damaged in them is not believed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from neurocommand.stores.uploads import Part, Purpose, record

PURPOSE = Purpose("http://x/bucket", "images/a.simg", "0" * 64, 100, 40)
PARTS = (Part(1, '"a"', "1" * 64), Part(3, '"c"', "3" * 64))


def remember(directory: Path) -> None:
    with record(directory, "r") as made:
        assert made.lasts
        made.begin(PURPOSE, "upload")
        for part in PARTS:
            made.add(part)


def test_what_is_remembered_is_read_by_another(tmp_path: Path) -> None:
    remember(tmp_path / "below")
    with record(tmp_path / "below", "r") as found:
        assert found.read() == (PURPOSE, "upload", PARTS)
        found.begin(replace(PURPOSE, size=1), "other")
        assert found.read() == (replace(PURPOSE, size=1), "other", ())
        found.clear()
        assert found.read() is None
    assert list((tmp_path / "below").iterdir()) == []


def test_what_is_held_is_not_read(tmp_path: Path) -> None:
    remember(tmp_path)
    with record(tmp_path, "r") as first, record(tmp_path, "r") as second:
        assert first.read() is not None
        assert not second.lasts
        assert second.read() is None
        second.begin(PURPOSE, "second")
        second.add(PARTS[0])
        second.clear()
        assert first.read() == (PURPOSE, "upload", PARTS)


def test_an_empty_record_leaves_no_file_whatever_happened(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), record(tmp_path, "r"):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_remembers_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    for directory, name in ((tmp_path / "file", "r"), (tmp_path, "link"), (None, "r")):
        with record(directory, name) as made:
            assert not made.lasts
            made.begin(PURPOSE, "upload")
            assert made.read() is None


@pytest.mark.parametrize("length", range(0, 400, 7))
def test_half_a_record_gives_no_part_that_was_not_there(length: int, tmp_path: Path) -> None:
    remember(tmp_path)
    path = tmp_path / "r"
    path.write_bytes(path.read_bytes()[:length])
    with record(tmp_path, "r") as found:
        read = found.read()
        assert read is None or (read[:2] == (PURPOSE, "upload") and set(read[2]) <= set(PARTS))


@pytest.mark.parametrize(
    "text", ["[]", "5\n", '{"purpose": 5, "upload": 5}', '{"purpose": {"x": 1}}', "\xff", "{}\n{}"]
)
def test_what_is_no_record_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_text(text, encoding="latin-1")
    with record(tmp_path, "r") as found:
        assert found.read() is None


def test_threads_add_parts_at_the_same_time(tmp_path: Path) -> None:
    parts = {Part(number, f'"{number}"', f"{number:064x}") for number in range(500)}
    with record(tmp_path, "r") as made:
        made.begin(PURPOSE, "upload")
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(made.add, parts))
    with record(tmp_path, "r") as found:
        read = found.read()
        assert read is not None
        assert set(read[2]) == parts
