"""Read one object from one address after the other, each going on where the one before broke off."""

from __future__ import annotations

import time
from io import RawIOBase

import requests
import urllib3

from neurocommand import web
from neurocommand.bandwidth import Bandwidth
from neurocommand.download.mirrors import Mirror, check_span
from neurocommand.download.part import Part
from neurocommand.download.speeds import Count
from neurocommand.errors import StoreError

_AT_ONCE = 1 << 20
LOOKED = 10.0  # seconds over which a mirror is judged by what it gives


def go_on(mirror: Mirror, part: Part, size: int, advance: Count, bandwidth: Bandwidth, slowest: float = 0.0) -> None:
    """Read what is missing of an object, from where the file ends.

    Args:
        mirror: where from.
        part: the file; what has holes or is too long is begun anew.
        size: the object's, in bytes.
        advance: called with the number of bytes that are there.
        bandwidth: kept to.
        slowest: bytes per second below which the mirror is left.

    Raises:
        StoreError: the mirror sent an error, broke off, or is too slow; what it sent before stays in the file.
        OSError: the file cannot be written.
    """
    if part.has_holes or part.size > size:
        part.restart()
    done = part.size
    if done == size:
        return
    with open(part.path, "r+b", buffering=0) as target, web.Session() as session:
        target.seek(done)
        try:
            answer = session.open_span(mirror.url, mirror.headers, done)
            with answer:
                check_span(answer, done, size - 1, size)
                looked, before = time.monotonic(), done
                while chunk := answer.raw.read1(_AT_ONCE):
                    try:
                        _write(target, chunk)
                    except OSError as error:
                        raise _LocalError(error) from error
                    done += len(chunk)
                    advance(done)
                    # a mirror is not judged by the time that we made it wait
                    looked += bandwidth.spend(len(chunk))
                    if (took := time.monotonic() - looked) > LOOKED:
                        _check_speed((done - before) / took, slowest)
                        looked, before = time.monotonic(), done
        except _LocalError as error:
            raise error.error from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise StoreError(f"store {mirror.name}: {web.reason(error)} after {done} of {size} bytes") from error
    if done != size:
        raise StoreError(f"store {mirror.name}: broke off after {done} of {size} bytes")


def _check_speed(speed: float, slowest: float) -> None:
    if speed < slowest:
        raise ValueError(f"gives {speed:.0f} bytes per second, far less than another one")


def _write(target: RawIOBase, chunk: bytes) -> None:
    """Write all of it, without a buffer: what was announced is in the file."""
    left = memoryview(chunk)
    while left:
        left = left[target.write(left) or 0 :]


class _LocalError(Exception):
    """The file cannot be written: no fault of the mirror's."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error
