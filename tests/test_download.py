"""Each way in which a source can fail, alone and together; what is asserted in the end is the bytes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from neurocommand.download.fetch import Fetched, fetch
from neurocommand.errors import DownloadError, ImmutableError, RefusedError, StoreError
from neurocommand.events import Advanced, Event, Finished, Noted, Started
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.http import HttpStore
from neurocommand.stores.interface import Advance, Store
from tests.durability import recorded
from tests.servers import Answer, Respond, WebServer, refused_url, run_on_a_small_disk, silent_server

KEY = "niimath_1.0.20240114_20250101.simg"
RELEASE = "niimath_1.0.20240114_20250101"
GOOD = bytes(range(256)) * 12_000  # 3 MB
OTHER = b"x" + GOOD[1:]
SHA256 = hashlib.sha256(GOOD).hexdigest()
ARTIFACT = Artifact(SHA256, len(GOOD))
ROOT = Path(__file__).parents[1]

Serve = Callable[[Respond], WebServer]


def says(answer: Answer) -> Respond:
    return lambda request: answer


def on_get(answer: Answer, head: Answer | None = None) -> Respond:
    """Answer HEAD as a good server does, and GET in another way."""
    good = head or Answer(body=GOOD)
    return lambda request: answer if request.method == "GET" else good


# What a source may do instead of sending the object, and what is said of it.
FAULTS: dict[str, tuple[Respond, str]] = {
    "absent": (says(Answer(404)), "does not hold it"),
    "forbidden": (says(Answer(403)), "answers 403"),
    "server error": (says(Answer(500)), "answers 500"),
    "overloaded": (says(Answer(503)), "answers 503"),
    "too many requests": (says(Answer(429)), "answers 429"),
    "no answer": (says(Answer(drop=True)), "cannot be asked"),
    "error page with status 200": (
        says(Answer(body=b"<html>sorry", headers={"Content-Type": "text/html; charset=utf-8"})),
        "answers with a web page",
    ),
    "no length": (says(Answer(body=GOOD, headers={"Content-Length": None})), "does not state the size"),
    "endless redirect": (says(Answer(302, headers={"Location": f"/{KEY}"})), "redirects in a loop"),
    "good HEAD, absent GET": (on_get(Answer(404)), "holds no"),
    "good HEAD, error on GET": (on_get(Answer(500)), "answers 500"),
    "truncated": (on_get(Answer(body=GOOD, sent=1_000_000)), "broke off"),
    "nothing after the headers": (on_get(Answer(body=GOOD, sent=0)), "broke off"),
    "encoded": (on_get(Answer(body=GOOD, headers={"Content-Encoding": "gzip"})), "encoded"),
}
DIFFERENT: dict[str, Respond] = {
    "other bytes": says(Answer(body=OTHER)),
    "shorter": says(Answer(body=GOOD[:-1])),
    "longer": says(Answer(body=GOOD + b"x")),
    "empty": says(Answer(body=b"")),
    "another digest stated": says(Answer(body=GOOD, headers={"x-amz-meta-sha256": "0" * 64})),
    "good HEAD, longer GET": on_get(Answer(body=GOOD + b"x")),
}


class Ear:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)

    def notes(self) -> dict[str, str]:
        return {event.subject: event.message for event in self.events if isinstance(event, Noted)}


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def good(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / KEY).write_bytes(GOOD)
    return DirectoryStore("good", tmp_path / "store")


class FarStore(DirectoryStore):
    """A store without links that is not on this machine, as one of rclone's."""

    local = False


@pytest.fixture
def far(good: Store, tmp_path: Path) -> Store:
    return FarStore("good", tmp_path / "store")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "place").mkdir()
    return tmp_path / "place" / KEY


def left_in(place: Path) -> list[str]:
    return sorted(os.listdir(place.parent))


# --- locked -----------------------------------------------------------------------------------------------------------


def test_a_directory_of_this_machine_is_read_before_anything_else_is_asked(
    good: Store, place: Path, ear: Ear, web_server: Serve
) -> None:
    server = web_server(says(Answer(body=GOOD)))
    assert fetch(KEY, place, [HttpStore("web", server.url), good], ARTIFACT, ear, RELEASE).source == "good"
    assert place.read_bytes() == GOOD
    assert server.requests == []


def test_the_first_source_that_has_it_gives_it(good: Store, place: Path, ear: Ear) -> None:
    assert fetch(KEY, place, [good], ARTIFACT, ear, RELEASE) == Fetched(SHA256, len(GOOD), "good")
    assert place.read_bytes() == GOOD
    assert left_in(place) == [KEY]
    started, *advanced, finished = ear.events
    assert started == Started(RELEASE, "download", len(GOOD))
    assert advanced[-1] == Advanced(RELEASE, "download", len(GOOD))
    assert isinstance(finished, Finished)
    assert (finished.release, finished.stage, finished.size) == (RELEASE, "download", len(GOOD))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_source_is_dropped_and_named_and_the_next_one_gives_it(
    fault: str, far: Store, place: Path, ear: Ear, web_server: Serve
) -> None:
    respond, reason = FAULTS[fault]
    bad = HttpStore("bad", web_server(respond).url)
    assert fetch(KEY, place, [bad, far], ARTIFACT, ear, RELEASE).source == "good"
    assert place.read_bytes() == GOOD
    assert left_in(place) == [KEY]
    assert list(ear.notes()) == ["bad"]
    assert reason in ear.notes()["bad"]


@pytest.mark.parametrize("difference", DIFFERENT)
def test_a_source_with_other_bytes_is_dropped_and_named_and_the_next_one_gives_it(
    difference: str, far: Store, place: Path, ear: Ear, web_server: Serve
) -> None:
    bad = HttpStore("bad", web_server(DIFFERENT[difference]).url)
    assert fetch(KEY, place, [bad, far], ARTIFACT, ear, RELEASE).source == "good"
    assert place.read_bytes() == GOOD
    assert "the lock has" in ear.notes()["bad"]


def test_a_source_that_refuses_or_hangs_is_dropped(far: Store, place: Path, ear: Ear) -> None:
    with silent_server() as url:
        refusing, hanging = HttpStore("refusing", refused_url()), HttpStore("hanging", url, timeout=0.3)
        assert fetch(KEY, place, [refusing, hanging, far], ARTIFACT, ear, RELEASE).source == "good"
    assert "Connection refused" in ear.notes()["refusing"]
    assert "no answer in time" in ear.notes()["hanging"]


def test_a_source_that_stops_in_the_middle_is_dropped(far: Store, place: Path, ear: Ear, web_server: Serve) -> None:
    slow = HttpStore("slow", web_server(on_get(Answer(body=GOOD, pause=30))).url, timeout=0.3)
    assert fetch(KEY, place, [slow, far], ARTIFACT, ear, RELEASE).source == "good"
    assert "no answer in time" in ear.notes()["slow"]


def test_a_host_name_that_does_not_resolve_is_dropped(far: Store, place: Path, ear: Ear) -> None:
    lost = HttpStore("lost", "http://nowhere.invalid")
    assert fetch(KEY, place, [lost, far], ARTIFACT, ear, RELEASE).source == "good"
    assert "cannot be asked" in ear.notes()["lost"]


def test_every_source_that_answers_differs(place: Path, ear: Ear, web_server: Serve) -> None:
    sources = [HttpStore(name, web_server(respond).url) for name, respond in DIFFERENT.items()]
    sources.append(HttpStore("down", refused_url()))
    with pytest.raises(ImmutableError) as caught:
        fetch(KEY, place, sources, ARTIFACT, ear, RELEASE)
    assert caught.value.exit_code == 4
    assert all(source.name in caught.value.message for source in sources)
    assert set(ear.notes()) == {source.name for source in sources}
    assert left_in(place) == []


def test_no_source_answers(place: Path, ear: Ear, web_server: Serve) -> None:
    sources = [HttpStore(name, web_server(respond).url) for name, (respond, _) in FAULTS.items()]
    with pytest.raises(DownloadError) as caught:
        fetch(KEY, place, sources, ARTIFACT, ear, RELEASE)
    assert caught.value.exit_code == 1
    for name, (_, reason) in FAULTS.items():
        assert f"{name}: " in caught.value.message
        assert reason in caught.value.message
    assert left_in(place) == []


def test_there_is_no_source(place: Path, ear: Ear) -> None:
    with pytest.raises(DownloadError, match="none is configured"):
        fetch(KEY, place, [], ARTIFACT, ear, RELEASE)
    with pytest.raises(DownloadError, match="none is configured"):
        fetch(KEY, place, [], None, ear, RELEASE)


def test_what_was_at_the_place_stays_until_the_new_bytes_are_verified(place: Path, ear: Ear, web_server: Serve) -> None:
    place.write_bytes(b"old")
    with pytest.raises(ImmutableError):
        fetch(KEY, place, [HttpStore("bad", web_server(says(Answer(body=OTHER))).url)], ARTIFACT, ear, RELEASE)
    assert place.read_bytes() == b"old"
    assert left_in(place) == [KEY]


# --- the local side ---------------------------------------------------------------------------------------------------


def test_no_space_is_noticed_before_the_download(place: Path, ear: Ear, web_server: Serve) -> None:
    size = 1 << 60
    server = web_server(says(Answer(headers={"Content-Length": str(size)})))
    with pytest.raises(RefusedError, match=r"needs 1,152,921,504,606\.8 MB, .* has") as caught:
        fetch(KEY, place, [HttpStore("big", server.url)], Artifact(SHA256, size), ear, RELEASE)
    assert caught.value.exit_code == 3
    assert server.count("GET") == 0
    assert ear.events == []
    assert left_in(place) == []


def test_a_disk_that_fills_up_meanwhile_is_no_fault_of_the_source(tmp_path: Path, web_server: Serve) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    server = web_server(on_get(Answer(body=GOOD), head=Answer(body=b"small")))
    printed = run_on_a_small_disk(
        disk,
        f"""
import os
from pathlib import Path
from neurocommand import errors
from neurocommand.download import fetch as download
from neurocommand.stores.http import HttpStore
events = []
try:
    download.fetch({KEY!r}, Path({str(disk / KEY)!r}), [HttpStore("web", {server.url!r})], None, events.append, "fsl")
except errors.RefusedError as error:
    print(error.exit_code, error.message)
print(os.listdir({str(disk)!r}), [type(event).__name__ for event in events if type(event).__name__ == "Noted"])
""",
    )
    assert printed == f"3 {disk / KEY}: No space left on device\n[] []\n"


def test_a_place_that_cannot_be_written_is_named(good: Store, tmp_path: Path, ear: Ear) -> None:
    place = tmp_path / "nowhere" / KEY
    with pytest.raises(DownloadError, match=rf"{place}: cannot be written: No such file or directory"):
        fetch(KEY, place, [good], ARTIFACT, ear, RELEASE)
    assert ear.notes() == {}


def test_an_interruption_leaves_nothing(good: Store, place: Path) -> None:
    def interrupt(event: Event) -> None:
        if isinstance(event, Advanced):
            raise KeyboardInterrupt

    for artifact in (ARTIFACT, None):
        with pytest.raises(KeyboardInterrupt):
            fetch(KEY, place, [good, good], artifact, interrupt, RELEASE)
        assert left_in(place) == []


def test_a_killed_download_leaves_nothing_under_the_name_and_the_next_one_finishes(
    good: Store, place: Path, ear: Ear
) -> None:
    program = f"""
import time
from pathlib import Path
from neurocommand import events, model
from neurocommand.download import fetch as download
from neurocommand.stores.directory import DirectoryStore
def halt(event):
    if isinstance(event, events.Advanced):
        print("half", flush=True)
        time.sleep(600)
store = DirectoryStore("good", Path({str(place.parent.parent / "store")!r}))
download.fetch({KEY!r}, Path({str(place)!r}), [store], model.Artifact({SHA256!r}, {len(GOOD)}), halt, {RELEASE!r})
"""
    argv = [sys.executable, "-c", program]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)}) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"half\n"
        child.send_signal(signal.SIGKILL)
    assert set(left_in(place)) == {f".{KEY}.partial", f".{KEY}.part"}
    fetch(KEY, place, [good], ARTIFACT, ear, RELEASE)
    assert left_in(place) == [KEY]
    assert place.read_bytes() == GOOD


# --- a release that the lock does not know ----------------------------------------------------------------------------


def test_unlocked_from_one_source_is_said(good: Store, place: Path, ear: Ear) -> None:
    assert fetch(KEY, place, [good], None, ear, RELEASE) == Fetched(SHA256, len(GOOD), "good")
    assert place.read_bytes() == GOOD
    assert ear.notes() == {RELEASE: "unlocked: taken from good; no other source to compare it with"}


def test_unlocked_from_two_sources_that_agree(good: Store, place: Path, ear: Ear, web_server: Serve) -> None:
    server = web_server(says(Answer(body=GOOD)))
    fetch(KEY, place, [good, HttpStore("web", server.url)], None, ear, RELEASE)
    assert place.read_bytes() == GOOD
    assert server.count("GET") == 1
    assert ear.notes() == {RELEASE: "unlocked: taken from good; web holds the same bytes"}


@pytest.mark.parametrize("other", [OTHER, GOOD[:-1], GOOD + b"x", b""], ids=["bytes", "shorter", "longer", "empty"])
def test_unlocked_from_two_sources_that_differ_is_refused(
    other: bytes, good: Store, place: Path, ear: Ear, web_server: Serve
) -> None:
    web = HttpStore("web", web_server(says(Answer(body=other))).url)
    with pytest.raises(ImmutableError, match=r"its sources differ: good gave .*, web ") as caught:
        fetch(KEY, place, [good, web], None, ear, RELEASE)
    assert caught.value.exit_code == 4
    assert left_in(place) == []


@pytest.mark.parametrize("fault", FAULTS)
def test_unlocked_passes_over_a_faulty_source_in_each_place(
    fault: str, good: Store, place: Path, ear: Ear, web_server: Serve
) -> None:
    respond, reason = FAULTS[fault]
    second = HttpStore("second", web_server(says(Answer(body=GOOD))).url)
    for position in range(3):
        bad = HttpStore("bad", web_server(respond).url)
        sources: list[Store] = [good, second]
        sources.insert(position, bad)
        ear.events.clear()
        assert fetch(KEY, place, sources, None, ear, RELEASE).source == "good"
        assert place.read_bytes() == GOOD
        assert ear.notes()[RELEASE] == "unlocked: taken from good; second holds the same bytes"
        # The third source is read only when one of the first two fails, so its GET may never be asked.
        if position < 2 or "bad" in ear.notes():
            assert reason in ear.notes()["bad"]


def test_unlocked_bytes_must_be_what_the_source_itself_states(place: Path, ear: Ear, web_server: Serve) -> None:
    lying = HttpStore("lying", web_server(on_get(Answer(body=GOOD), head=Answer(body=GOOD[:-1]))).url)
    with pytest.raises(DownloadError, match=r"states 3071999 bytes, .* but sent 3072000 bytes"):
        fetch(KEY, place, [lying], None, ear, RELEASE)
    stated = {"x-amz-meta-sha256": "0" * 64}
    lying = HttpStore("lying", web_server(says(Answer(body=GOOD, headers=stated))).url)
    with pytest.raises(DownloadError, match=f"sha256 {'0' * 64} but sent"):
        fetch(KEY, place, [lying], None, ear, RELEASE)
    assert left_in(place) == []


class EndlessStore(HttpStore):
    """A store that first sends without end, and then nothing."""

    asked = 0

    def stat(self, key: str) -> StoredObject | None:
        return StoredObject(key, len(GOOD))

    def get(self, key: str, path: Path, advance: Advance) -> tuple[str, int]:
        self.asked += 1
        while self.asked == 1:
            advance(1)
        raise StoreError("enough")


@pytest.mark.timeout(30)
def test_comparing_stops_when_the_first_source_fails(good: Store, place: Path, ear: Ear, web_server: Serve) -> None:
    bad = HttpStore("bad", web_server(on_get(Answer(500, pause=0.2))).url)
    endless = EndlessStore("endless", "http://127.0.0.1")
    assert fetch(KEY, place, [bad, endless, good], None, ear, RELEASE).source == "good"
    assert endless.asked == 2
    assert set(ear.notes()) == {"bad", "endless", RELEASE}


class Trickle:
    """A server that sends a byte every now and then, and says when nobody listens any more."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.left = threading.Event()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.answer, args=(self.listener.accept()[0],), daemon=True).start()

    def answer(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            asked = client.recv(65536)
            client.sendall(f"HTTP/1.1 200 OK\r\nContent-Length: {len(GOOD)}\r\nConnection: close\r\n\r\n".encode())
            while asked.startswith(b"GET"):
                client.sendall(b"x")
                if select.select([client], [], [], 0.05)[0] and not client.recv(1):
                    self.left.set()
                    return


@pytest.fixture
def trickle() -> Iterator[Trickle]:
    made = Trickle()
    yield made
    made.listener.close()


@pytest.mark.timeout(60)
def test_a_second_source_that_is_slow_is_not_waited_for(good: Store, place: Path, ear: Ear, trickle: Trickle) -> None:
    slow = HttpStore("slow", trickle.url)
    assert fetch(KEY, place, [good, slow], None, ear, RELEASE, patience=0.3).source == "good"
    assert place.read_bytes() == GOOD
    assert ear.notes() == {RELEASE: "unlocked: taken from good; it could not be compared in time, since slow is slow"}
    assert trickle.left.wait(20), "the slow source is still read"
    slow.close()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["trickling", "silent"])
def test_a_run_that_compares_ends_promptly_when_it_is_told_to(
    kind: str, good: Store, place: Path, trickle: Trickle
) -> None:
    program = f"""
import signal, sys
from pathlib import Path
from neurocommand import events
from neurocommand.download import fetch as download
signal.signal(signal.SIGINT, signal.default_int_handler)
from neurocommand.stores.directory import DirectoryStore
from neurocommand.stores.http import HttpStore
def listen(event):
    if isinstance(event, events.Advanced) and event.done == {len(GOOD)}:
        print("got", flush=True)
sources = [DirectoryStore("good", Path({str(place.parent.parent / "store")!r})), HttpStore("slow", sys.argv[1])]
sources[1].stat = sources[0].stat
try:
    download.fetch({KEY!r}, Path({str(place)!r}), sources, None, listen, {RELEASE!r})
except KeyboardInterrupt:
    sys.exit(130)
"""
    with silent_server() as silent:
        argv = [sys.executable, "-c", program, trickle.url if kind == "trickling" else silent]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"got\n"
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            began = time.monotonic()
            _, said = child.communicate(timeout=30)
            assert time.monotonic() - began < 3
    assert (child.returncode, said) == (130, b"")
    assert left_in(place) == []


@pytest.mark.parametrize("artifact", [ARTIFACT, None])
def test_what_was_fetched_is_durable(
    tmp_path: Path, good: Store, ear: Ear, artifact: Artifact | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "place").mkdir()
    calls = recorded(monkeypatch, tmp_path / "place")
    fetch(KEY, tmp_path / "place" / KEY, [good], artifact, ear, RELEASE)
    (synced, hidden), replaced, named = calls[-3:]
    assert (synced, replaced, named) == ("fsync", (f"replace by {hidden}", KEY), ("fsync", "."))
