"""Several things at once, in threads that nobody waits for when the one who asked has to leave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import NoReturn, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def each(work: Callable[[T], R], items: Iterable[T], at_once: int) -> list[R]:
    """Do the work for each item, several at a time, and return the results in the order of the items.

    An interrupt ends the waiting at once: the threads take no further item, and since they are daemons, neither the
    caller nor the interpreter waits for those that hang. (``concurrent.futures`` waits for them twice.)

    Args:
        work: called in threads; whatever it raises is raised here, and ends the rest.
        items: what it is called with.
        at_once: how many threads at most.
    """
    waiting: SimpleQueue[tuple[int, T]] = SimpleQueue()
    answers: SimpleQueue[tuple[int, R | BaseException, bool]] = SimpleQueue()
    stopped = threading.Event()
    number = 0
    for number, item in enumerate(items, 1):
        waiting.put((number - 1, item))

    def labour() -> None:
        while not stopped.is_set():
            try:
                index, item = waiting.get_nowait()
            except Empty:
                return
            try:
                answers.put((index, work(item), True))
            except BaseException as error:
                answers.put((index, error, False))

    for _ in range(min(at_once, number)):
        threading.Thread(target=labour, daemon=True).start()
    found: dict[int, R] = {}
    try:
        while len(found) < number:
            index, answer, good = answers.get()
            if not good:
                raise answer  # type: ignore[misc]
            found[index] = answer  # type: ignore[assignment]
    finally:
        stopped.set()
    return [found[index] for index in range(number)]


def stream(work: Callable[[T], Iterator[R]], items: Iterable[T], at_once: int) -> Generator[R, None, None]:
    """Do the work for each item, several at a time, and yield what each gives as it comes.

    When the caller leaves, or is interrupted, no further item is taken, and what is under way ends at its next result;
    nobody waits for it.

    Args:
        work: called in threads, and its results asked for there; whatever it raises is raised here, and ends the rest.
            What has no company needs no thread.
        items: what it is called with.
        at_once: how many threads at most.
    """
    todo = list(items)
    if len(todo) <= 1 or at_once <= 1:
        for item in todo:
            yield from work(item)
        return
    waiting: SimpleQueue[T] = SimpleQueue()
    results: SimpleQueue[Callable[[], R]] = SimpleQueue()
    stopped = threading.Event()
    for item in todo:
        waiting.put(item)
    running = min(at_once, len(todo))
    for _ in range(running):
        threading.Thread(target=_labour, args=(work, waiting, results, stopped), daemon=True).start()
    try:
        while running:
            try:
                result = results.get()()
            except Empty:
                running -= 1
            else:
                yield result
    finally:
        stopped.set()


def _labour(
    work: Callable[[T], Iterator[R]],
    waiting: SimpleQueue[T],
    results: SimpleQueue[Callable[[], R]],
    stopped: threading.Event,
) -> None:
    """Put every result as a call that returns it, and what ends the work (Empty: none is left) as one that raises."""
    try:
        while True:
            for result in work(waiting.get_nowait()):
                results.put(lambda result=result: result)  # type: ignore[misc]
                if stopped.is_set():
                    return
    except BaseException as error:
        results.put(_failing(error))


def within(seconds: float, work: Callable[[], R]) -> R:
    """Do the work in a thread, and return its result if it comes in time; else nobody waits for it any longer.

    Args:
        seconds: that it may take.
        work: whatever it raises is raised here.

    Raises:
        TimeoutError: it took longer.
    """
    results: SimpleQueue[Callable[[], R]] = SimpleQueue()

    def labour() -> None:
        try:
            result = work()
        except BaseException as error:
            results.put(_failing(error))
        else:
            results.put(lambda: result)

    threading.Thread(target=labour, daemon=True).start()
    try:
        given = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"took more than {seconds:g} s") from None
    return given()


def _failing(error: BaseException) -> Callable[[], NoReturn]:
    """Return a call that raises an error."""

    def fail() -> NoReturn:
        raise error

    return fail
