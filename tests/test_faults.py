"""Every way in which a mirror can fail, beside two good ones: the bytes are right at the end, and the bad one is named.

Each fault alone here; every two of them at once with --full. Real aria2c, real servers on loopback.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurocommand.download.fetch import fetch
from neurocommand.download.part import Part, written
from neurocommand.errors import BusyError, DownloadError, ImmutableError
from neurocommand.events import Advanced
from neurocommand.model import Artifact
from neurocommand.settings import DownloadSettings
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Store
from neurocommand.stores.retry import RetryingStore
from tests.servers import (
    Answer,
    Request,
    Respond,
    WebServer,
    first_byte,
    in_parts,
    refused_url,
    silent_server,
)
from tests.test_download import Ear

KEY = "niimath_1.0.20240114_20250101.simg"
RELEASE = "niimath_1.0.20240114_20250101"
GOOD = random.Random(1).randbytes((9 << 20) + 12345)
OTHER = bytes(byte ^ 0xFF for byte in GOOD)
ARTIFACT = Artifact(hashlib.sha256(GOOD).hexdigest(), len(GOOD))
RATE = 4e6  # bytes per second and connection of a good mirror
PAGE = b"<html><title>Sorry</title></html>"
HTML: dict[str, str | None] = {"Content-Type": "text/html; charset=utf-8"}

Serve = Callable[[Respond], WebServer]


def good(request: Request) -> Answer:
    return in_parts(GOOD, request, rate=RATE)


def always(answer: Answer) -> Respond:
    return lambda request: answer


def on_get(answer: Callable[[Request], Answer], content: bytes = GOOD) -> Respond:
    """Answer HEAD as a good mirror does."""
    return lambda request: answer(request) if request.method == "GET" else in_parts(content, request)


def later(answer: Callable[[Request], Answer]) -> Respond:
    """Answer as a good mirror does where the beginning is asked for."""
    return lambda request: answer(request) if first_byte(request) else good(request)


def stating(size: int) -> Respond:
    def respond(request: Request) -> Answer:
        headers: dict[str, str | None] = {}
        if (answer := good(request)).status == 206:
            headers["Content-Range"] = re.sub(r"/\d+$", f"/{size}", str(answer.headers["Content-Range"]))
        return in_parts(GOOD, request, headers=headers)

    return respond


def longer(request: Request) -> Answer:
    return in_parts(GOOD + b"more", request)


@dataclass(frozen=True)
class Fault:
    """What a mirror does, and what is said of it; a string is a special address."""

    does: Respond | str
    said: str


FAULTS = {
    "1 refuses": Fault("refused", "Connection refused"),
    "2 does not resolve": Fault("unknown", "Name or service not known|resol|Temporary failure"),
    "3 hangs": Fault("silent", "no answer in time"),
    "3 hangs on GET": Fault(on_get(lambda r: in_parts(GOOD, r, pause=600)), "no answer in time"),
    "3 hangs later": Fault(later(lambda r: in_parts(GOOD, r, pause=600)), "sent nothing|too slow|bytes per second"),
    "4 is slow": Fault(lambda r: in_parts(GOOD, r, rate=RATE / 100), "too slow|times slower"),
    "4 is slow later": Fault(later(lambda r: in_parts(GOOD, r, rate=RATE / 1000)), "bytes per second|sent nothing"),
    "5 answers 403": Fault(always(Answer(403)), "answers 403"),
    "5 answers 404": Fault(always(Answer(404)), "does not hold it"),
    "5 answers 429": Fault(always(Answer(429)), "answers 429"),
    "5 answers 503": Fault(always(Answer(503)), "answers 503"),
    "5 answers 403 on GET": Fault(on_get(lambda r: Answer(403)), "answers 403"),
    "5 answers 404 later": Fault(later(lambda r: Answer(404)), "not found"),
    "5 answers 503 later": Fault(later(lambda r: Answer(503)), "status=503|answers 503"),
    "6 sends a page": Fault(always(Answer(200, PAGE, HTML)), "web page"),
    "6 sends a page on GET": Fault(on_get(lambda r: Answer(200, PAGE, HTML)), "web page"),
    "6 sends a page later": Fault(later(lambda r: Answer(200, PAGE, HTML)), "range|web page|length|size"),
    "7 states another length": Fault(longer, "has 9449533 bytes"),
    "7 states another length on GET": Fault(on_get(stating(len(GOOD) + 1)), r"states \d+ bytes"),
    "7 states another length later": Fault(later(stating(len(GOOD) + 1)), "range|states"),
    "8 truncates": Fault(on_get(lambda r: in_parts(GOOD, r, sent=1000)), "broke off"),
    "8 truncates later": Fault(later(lambda r: in_parts(GOOD, r, sent=1000)), "EOF|broke off"),
    "9 resets": Fault(on_get(lambda r: in_parts(GOOD, r, sent=1000, reset=True)), "reset|broke off"),
    "9 resets later": Fault(later(lambda r: in_parts(GOOD, r, sent=1000, reset=True)), "reset|EOF|broke off"),
    "10 ignores Range": Fault(always(Answer(200, GOOD)), "ignores Range"),
    "10 ignores Range later": Fault(later(lambda r: Answer(200, GOOD)), "range|Range"),
    "11 other bytes": Fault(lambda r: in_parts(OTHER, r, rate=RATE), "has .* the lock has"),
    "11 other bytes later": Fault(later(lambda r: in_parts(OTHER, r)), "has .* the lock has"),
    "12 redirects in a loop": Fault(always(Answer(302, headers={"Location": f"/{KEY}"})), "redirects in a loop"),
    "12 redirects in a loop later": Fault(
        later(lambda r: Answer(302, headers={"Location": f"/{KEY}"})), "[Rr]edirects"
    ),
}


@pytest.fixture
def mirror(web_server: Serve) -> Iterator[Callable[[str, Respond | str], Store]]:
    """Make a store of a name that behaves as it is told."""
    with contextlib.ExitStack() as stack:

        def make(name: str, does: Respond | str) -> Store:
            match does:
                case "refused":
                    url = refused_url()
                case "unknown":
                    url = "http://nowhere.invalid"
                case "silent":
                    url = stack.enter_context(silent_server())
                case str():
                    url = does
                case _:
                    url = web_server(does).url
            return RetryingStore(HttpStore(name, url))

        yield make


Make = Callable[[str, "Respond | str"], Store]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / KEY


def left_in(place: Path) -> list[str]:
    return sorted(os.listdir(place.parent))


def fetch_past(faults: list[str], mirror: Make, place: Path, *, aria2: bool = True) -> dict[str, str]:
    """Download from good mirrors and faulty ones; return what was said of each."""
    ear = Ear()
    bad = [mirror(fault.replace(" ", "-"), FAULTS[fault].does) for fault in faults]
    sources = [bad[0], mirror("one", good), *bad[1:], mirror("two", good)]
    fetched = fetch(KEY, place, sources, ARTIFACT, ear, RELEASE, settings=DownloadSettings(aria2=aria2))
    assert place.read_bytes() == GOOD
    assert (fetched.sha256, fetched.size) == (ARTIFACT.sha256, ARTIFACT.size)
    assert left_in(place) == [KEY]
    *_, last = (event for event in ear.events if isinstance(event, Advanced))
    assert last == Advanced(RELEASE, "download", len(GOOD))
    notes = ear.notes()
    assert {"one", "two"} & set(notes) == set(), notes
    assert set(fetched.source.split(", ")) <= {"one", "two"} | {bad.name for bad in bad if bad.name not in notes}
    return notes


# What is only seen once others have been asked is not seen where one good mirror gives it all.
EARLY = [fault for fault in FAULTS if not fault.endswith("later")]
# One form of each fault in every run, the others in the long campaigns.
FORMS = [pytest.param(fault, marks=() if fault in EARLY else pytest.mark.full) for fault in FAULTS]
FEW = ("1 refuses", "3 hangs", "6 sends", "8 truncates", "10 ignores", "11 other")
FEW_FORMS = [pytest.param(fault, marks=() if fault.startswith(FEW) else pytest.mark.full) for fault in EARLY]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FORMS)
def test_a_mirror_with_a_fault_is_dropped_and_named_and_the_others_finish(
    fault: str, mirror: Make, place: Path
) -> None:
    notes = fetch_past([fault], mirror, place)
    name = fault.replace(" ", "-")
    assert set(notes) <= {name, RELEASE}
    assert notes[name].startswith(f"dropped for {RELEASE}: ")
    assert re.search(FAULTS[fault].said, notes[name]), notes


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", FEW_FORMS)
def test_the_same_without_aria2(fault: str, mirror: Make, place: Path) -> None:
    notes = fetch_past([fault], mirror, place, aria2=False)
    assert re.search(FAULTS[fault].said, notes[fault.replace(" ", "-")]), notes


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("pair", [*itertools.combinations(FAULTS, 2)], ids=" and ".join)
def test_two_faults_at_once(pair: tuple[str, str], mirror: Make, place: Path) -> None:
    notes = fetch_past([*pair], mirror, place)
    # one that would fail later may not be asked for more, once the other one has made the job begin again
    for fault in set(pair) & set(EARLY):
        assert fault.replace(" ", "-") in notes
    assert {fault.replace(" ", "-") for fault in pair} & set(notes)


# --- everything at once -----------------------------------------------------------------------------------------------

BROKEN = [fault for fault in EARLY if fault[:2].strip() not in ("3", "4", "7", "10", "11")]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("aria2", [True, False])
def test_when_all_mirrors_fail_nothing_is_claimed(aria2: bool, mirror: Make, place: Path) -> None:
    ear = Ear()
    bad = [mirror(fault.replace(" ", "-"), FAULTS[fault].does) for fault in BROKEN]
    with pytest.raises(DownloadError) as caught:
        fetch(KEY, place, bad, ARTIFACT, ear, RELEASE, settings=DownloadSettings(aria2=aria2))
    assert caught.value.exit_code == 1
    assert all(store.name in caught.value.message for store in bad)
    assert set(ear.notes()) == {store.name for store in bad}
    assert left_in(place) == []


@pytest.mark.timeout(120)
def test_when_all_mirrors_hold_other_bytes_that_is_said(mirror: Make, place: Path) -> None:
    ear = Ear()
    other = [mirror(name, FAULTS[name].does) for name in ("11 other bytes", "11 other bytes later")]
    with pytest.raises(ImmutableError) as caught:
        fetch(KEY, place, other, ARTIFACT, ear, RELEASE)
    assert caught.value.exit_code == 4
    assert {store.name for store in other} <= set(ear.notes())
    assert left_in(place) == []


def test_what_ignores_range_is_enough_where_there_is_nothing_else(mirror: Make, place: Path) -> None:
    ear = Ear()
    only = mirror("only", FAULTS["10 ignores Range"].does)
    assert fetch(KEY, place, [only], ARTIFACT, ear, RELEASE).source == "only"
    assert place.read_bytes() == GOOD
    assert ear.notes() == {}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("aria2", [True, False])
def test_what_breaks_off_is_kept_and_continued(aria2: bool, mirror: Make, place: Path, web_server: Serve) -> None:
    """Only the half before a certain byte can be had at first."""
    half = len(GOOD) // 2
    settings = DownloadSettings(aria2=aria2)

    def until_half(request: Request) -> Answer:
        first = first_byte(request)
        return Answer(404) if first >= half else in_parts(GOOD, request, rate=RATE, sent=half - first)

    with pytest.raises(DownloadError):
        fetch(
            KEY,
            place,
            [HttpStore("half", web_server(on_get(until_half)).url)],
            ARTIFACT,
            Ear(),
            RELEASE,
            settings=settings,
        )
    assert not place.exists()
    assert f".{KEY}.part" in left_in(place)
    server = web_server(good)
    fetch(KEY, place, [HttpStore("whole", server.url)], ARTIFACT, Ear(), RELEASE, settings=settings)
    assert place.read_bytes() == GOOD
    assert left_in(place) == [KEY]
    assert server.sent < 0.8 * len(GOOD)


# --- left by earlier runs ---------------------------------------------------------------------------------------------


@pytest.mark.timeout(120)
def test_what_aria2_left_of_an_artifact_of_another_length_does_no_harm(place: Path, web_server: Serve) -> None:
    shorter = GOOD[: 5 << 20]

    def until_half(request: Request) -> Answer:
        first, end = first_byte(request), 2 << 20
        return Answer(404) if first >= end else in_parts(shorter, request, rate=RATE, sent=end - first)

    artifact = Artifact(hashlib.sha256(shorter).hexdigest(), len(shorter))
    with pytest.raises(DownloadError):
        fetch(KEY, place, [HttpStore("half", web_server(on_get(until_half, shorter)).url)], artifact, Ear(), RELEASE)
    assert left_in(place) == [f".{KEY}.part", f".{KEY}.part.aria2"]
    ear = Ear()
    fetch(KEY, place, [HttpStore("whole", web_server(good).url)], ARTIFACT, ear, RELEASE)
    assert place.read_bytes() == GOOD
    assert "whole" not in ear.notes()


# --- killed -----------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from neurocommand import events, model
from neurocommand.download.fetch import fetch
from neurocommand.download.part import Part
from neurocommand.errors import BusyError, DownloadError, ImmutableError
from neurocommand.settings import DownloadSettings
from neurocommand.stores.http import HttpStore
place, key, release, sha256, size, aria2, *urls = sys.argv[1:]
def listen(event):
    if isinstance(event, events.Advanced):
        print(event.done, flush=True)
stores = [HttpStore(f"mirror{number}", url) for number, url in enumerate(urls)]
settings = DownloadSettings(aria2=aria2 == "True")
fetch(key, Path(place), stores, model.Artifact(sha256, int(size)), listen, release, settings=settings)
"""


def aria2s_on(directory: Path) -> list[int]:
    """Return the processes that have a file of a directory open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(os.readlink(name).startswith(f"{directory}/") for name in (process / "fd").iterdir()):
                found.append(int(process.name))
    return found


def kill_and_rerun(moment: float, place: Path, web_server: Serve, *, aria2: bool) -> None:
    """Kill a download once so much of it is there, and see the next one finish it."""
    servers = [web_server(good), web_server(good)]
    arguments = [str(place), KEY, RELEASE, ARTIFACT.sha256, str(ARTIFACT.size), str(aria2)]
    argv = [sys.executable, "-c", PROGRAM, *arguments, *(server.url for server in servers)]
    root = Path(__file__).parents[1]
    env = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(argv, cwd=root, env=env, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        done = 0
        for line in child.stdout:
            done = int(line)
            if done >= moment * len(GOOD):
                break
        child.kill()
    assert not place.exists()
    deadline = time.monotonic() + 10
    while aria2s_on(place.parent):
        assert time.monotonic() < deadline, "what a killed download started still runs"
        time.sleep(0.05)
    for server in servers:
        server.sent = 0
    ear = Ear()
    stores = [HttpStore(f"mirror{number}", server.url) for number, server in enumerate(servers)]
    fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=DownloadSettings(aria2=aria2))
    assert place.read_bytes() == GOOD
    assert left_in(place) == [KEY]
    assert ear.notes() == {}
    # a mebibyte of each for measuring, and what was on its way
    allowed = len(GOOD) - done + (4 << 20)
    assert sum(server.sent for server in servers) < allowed, f"killed at {done}"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("moment", [random.Random(seed).uniform(0.5, 0.98) for seed in range(3)])
def test_a_killed_download_is_continued(moment: float, place: Path, web_server: Serve) -> None:
    kill_and_rerun(moment, place, web_server, aria2=True)


@pytest.mark.timeout(120)
def test_a_killed_download_without_aria2_is_continued(place: Path, web_server: Serve) -> None:
    kill_and_rerun(0.7, place, web_server, aria2=False)


@pytest.mark.full
@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", range(20))
def test_a_download_killed_at_any_moment_is_continued(seed: int, place: Path, web_server: Serve) -> None:
    kill_and_rerun(random.Random(seed).uniform(0.02, 0.99), place, web_server, aria2=seed % 4 > 0)


def test_a_mirror_that_becomes_slow_is_left_without_aria2_too(
    place: Path, web_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_later(request: Request) -> Answer:
        measured = not request.headers.get("Range", "").endswith("-")
        return in_parts(GOOD, request, rate=0 if measured else 20_000)

    monkeypatch.setattr("neurocommand.download.inturn.LOOKED", 1.0)
    stores = [HttpStore("slow", web_server(slow_later).url), HttpStore("good", web_server(good).url)]
    ear = Ear()
    began = time.monotonic()
    fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=DownloadSettings(aria2=False))
    assert place.read_bytes() == GOOD
    assert time.monotonic() - began < len(GOOD) / 20_000 / 10
    assert "bytes per second" in ear.notes()["slow"]
    assert "good" not in ear.notes()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("aria2", [True, False])
@pytest.mark.parametrize("control", [b"", b"\0\1garbage"], ids=["beginning", "with a record of aria2's"])
@pytest.mark.parametrize("size", [3 << 20, len(GOOD), len(GOOD) + 5], ids=["shorter", "as long", "longer"])
def test_what_is_left_of_another_artifact_does_no_harm(
    size: int, control: bytes, aria2: bool, place: Path, web_server: Serve
) -> None:
    place.with_name(f".{KEY}.part").write_bytes((OTHER + OTHER)[:size])
    if control:
        place.with_name(f".{KEY}.part.aria2").write_bytes(control)
    stores = [HttpStore("one", web_server(good).url), HttpStore("two", web_server(good).url)]
    ear = Ear()
    fetch(KEY, place, stores, ARTIFACT, ear, RELEASE, settings=DownloadSettings(aria2=aria2))
    assert place.read_bytes() == GOOD
    assert left_in(place) == [KEY]
    assert {"one", "two"} & set(ear.notes()) == set()


def test_what_is_written_already_needs_no_space_again(place: Path) -> None:
    assert written(place) == 0
    with Part(place) as part, open(part.path, "r+b") as stream:
        stream.write(bytes(1 << 20))
        stream.truncate(64 << 20)  # holes need space still
        stream.flush()
        os.fsync(stream.fileno())
        assert 1 << 20 <= written(place) < 2 << 20


def test_two_downloads_to_one_place_do_not_meet(mirror: Make, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocommand.download.part.ENDING", 0.2)
    with Part(place), pytest.raises(BusyError, match="another process is downloading it"):
        fetch(KEY, place, [mirror("one", good)], ARTIFACT, Ear(), RELEASE)
    assert left_in(place) == []
