"""Promised space: never more than there is, waited for while somebody gives back, refused when nobody does."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from neurocommand.errors import RefusedError
from neurocommand.space import Space, require


def test_what_is_not_there_is_refused_with_the_figures(tmp_path: Path) -> None:
    space = Space(lambda path: 10)
    refused = pytest.raises(RefusedError, match=rf"small: needs 11 bytes, {tmp_path} has 10 left")
    with refused, space.reserved(tmp_path, 11, "small"):
        pass
    with space.reserved(tmp_path, 10, "small"):
        pass


def test_who_comes_second_waits_until_the_first_gives_back(tmp_path: Path) -> None:
    space, order = Space(lambda path: 10), list[str]()

    def second() -> None:
        with space.reserved(tmp_path, 6, "second"):
            order.append("second")

    waiting = threading.Thread(target=second)
    with space.reserved(tmp_path, 6, "first"):
        waiting.start()
        time.sleep(0.2)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_what_fits_beside_others_does_not_wait(tmp_path: Path) -> None:
    space = Space(lambda path: 10)
    with space.reserved(tmp_path, 6, "first"), space.reserved(tmp_path, 4, "second"):
        pass


def test_who_waits_is_refused_once_nobody_is_left_to_give_back(tmp_path: Path) -> None:
    free = {"bytes": 10}
    space, refused = Space(lambda path: free["bytes"]), list[str]()

    def second() -> None:
        try:
            with space.reserved(tmp_path, 6, "second"):
                pass
        except RefusedError as error:
            refused.append(error.message)

    waiting = threading.Thread(target=second)
    with space.reserved(tmp_path, 6, "first"):
        waiting.start()
        time.sleep(0.2)
        free["bytes"] = 5  # the first one used its bytes
    waiting.join(10)
    assert len(refused) == 1


def test_a_failure_gives_back_too(tmp_path: Path) -> None:
    space = Space(lambda path: 10)
    with pytest.raises(KeyError), space.reserved(tmp_path, 10, "x"):
        raise KeyError
    with space.reserved(tmp_path, 10, "x"):
        pass


@pytest.mark.parametrize("place", ["", "not/yet/made"])
def test_what_a_run_asks_for_is_asked_of_the_file_system_that_will_be_written(tmp_path: Path, place: str) -> None:
    asked = list[Path]()

    def free(path: Path) -> int:
        asked.append(path)
        return (3 << 29) - 1

    require(tmp_path / place, 1 << 30, free)
    with pytest.raises(RefusedError, match=f"^{tmp_path / place}: needs 1.5G, has 1.4G$") as caught:
        require(tmp_path / place, 3 << 29, free)
    assert caught.value.exit_code == 3
    assert asked == [tmp_path, tmp_path]
