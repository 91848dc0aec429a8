"""Uploads to real S3 servers that go wrong: connections reset, uploaders killed, two at once, a store that is full.

Every test reads the bytes back at its end. Nobody ever sees an object under its key that is not complete.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from neurocommand import web
from neurocommand.errors import ImmutableError, NeurocommandError, StoreError, StoreFullError, TransientStoreError
from neurocommand.model import Artifact, StoredObject
from tests.conformance.cases import CephCase, MotoCase, S3Case, SwiftS3Case
from tests.proxy import Cut, Proxy
from tests.swift import Swift

KEY = "niimath_1.0.20240114_20250101.simg"
MIB = 1 << 20
PARTS = 3
NEVER = 1e12  # seconds: moto says of every upload that it was begun in 2010
ROOT = Path(__file__).parents[2]

DATA = random.Random(1).randbytes(2 * S3Case.PART + 3 * MIB)
ARTIFACT = Artifact(hashlib.sha256(DATA).hexdigest(), len(DATA))


def nothing(done: int) -> None:
    pass


@pytest.fixture(params=["moto", "swift", pytest.param("ceph", marks=pytest.mark.full)])
def case(
    request: pytest.FixtureRequest, tmp_path: Path, s3_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[S3Case]:
    """An empty bucket of a real server."""
    made: S3Case
    if request.param == "moto":
        made = MotoCase(tmp_path, request.getfixturevalue("moto_url"))
    elif request.param == "ceph":
        made = CephCase(tmp_path, request.getfixturevalue("ceph"), monkeypatch)
    else:
        made = SwiftS3Case(tmp_path, request.getfixturevalue("swift"), monkeypatch)
    yield made
    made.close()


@pytest.fixture
def proxy(case: S3Case) -> Iterator[Proxy]:
    with Proxy(case.url) as running:
        yield running


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    (tmp_path / "sent").write_bytes(DATA)
    return tmp_path / "sent"


def got(case: S3Case, tmp_path: Path) -> bytes:
    case.store.get(KEY, tmp_path / "got", nothing)
    return (tmp_path / "got").read_bytes()


def part(number: int) -> Callable[[str], bool]:
    return lambda line: re.search(rf"^PUT .*\bpartNumber={number}\b", line) is not None


# --- connections that are reset ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1000, 2 * MIB, None], ids=["head", "early", "late", "answer"])
def test_a_connection_that_is_reset_in_every_part(
    after: int | None, case: S3Case, proxy: Proxy, sent: Path, tmp_path: Path
) -> None:
    last = DATA[2 * case.PART :]
    assert after is None or after < len(last)
    proxy.cuts = [Cut(part(number + 1), after) for number in range(PARTS)]
    case.make(endpoint=proxy.url).put(KEY, sent, ARTIFACT, nothing)
    assert [cut.done for cut in proxy.cuts] == [1] * PARTS
    assert [sum(map(part(number + 1), proxy.requests)) for number in range(PARTS)] == [2] * PARTS
    assert got(case, tmp_path) == DATA
    assert case.leftovers() == []


@pytest.mark.parametrize("number", range(1, PARTS + 1))
def test_a_part_that_never_arrives(number: int, case: S3Case, proxy: Proxy, sent: Path, tmp_path: Path) -> None:
    proxy.cuts = [Cut(part(number), after=MIB, times=100)]
    store = case.make(endpoint=proxy.url, stale_after=NEVER)
    with pytest.raises(TransientStoreError, match=f"cannot take {KEY}"):
        store.put(KEY, sent, ARTIFACT, nothing)
    assert proxy.cuts[0].done > 1
    assert case.store.stat(KEY) is None
    arrived = len(case.server.list_parts(**unfinished(case)).get("Parts", []))
    assert arrived == PARTS - 1
    proxy.cuts.clear()
    proxy.requests.clear()
    store.put(KEY, sent, ARTIFACT, nothing)
    assert [part(number)(line) for line in proxy.requests if "partNumber=" in line] == [True]
    assert got(case, tmp_path) == DATA
    assert case.leftovers() == []


def unfinished(case: S3Case) -> dict[str, str]:
    (upload,) = case.server.list_multipart_uploads(Bucket=case.bucket)["Uploads"]
    return {"Bucket": case.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}


@pytest.mark.parametrize(
    ("request_line", "after"),
    [("POST /?uploads ", 0), ("POST /?uploadId=", 0), ("POST /?uploadId=", None)],
    ids=["beginning", "completing", "answer to completing"],
)
def test_a_connection_that_is_reset_around_the_parts(
    request_line: str, after: int | None, case: S3Case, proxy: Proxy, sent: Path, tmp_path: Path
) -> None:
    def meant(line: str) -> bool:
        method, _, rest = line.partition(" ")
        return f"{method} /?{rest.partition('?')[2]}".startswith(request_line)

    proxy.cuts = [Cut(meant, after)]
    case.make(endpoint=proxy.url).put(KEY, sent, ARTIFACT, nothing)
    assert proxy.cuts[0].done == 1
    assert got(case, tmp_path) == DATA


def test_a_small_object_whose_answer_is_lost(case: S3Case, proxy: Proxy, tmp_path: Path) -> None:
    small = Artifact(hashlib.sha256(b"12345").hexdigest(), 5)
    (tmp_path / "small").write_bytes(b"12345")
    proxy.cuts = [Cut(lambda line: line.startswith("PUT "), after=None)]
    store = case.make(endpoint=proxy.url)
    with pytest.raises(TransientStoreError, match=f"cannot take {KEY}"):
        store.put(KEY, tmp_path / "small", small, nothing)
    assert case.store.stat(KEY) in (None, StoredObject(KEY, 5, small.sha256))
    store.put(KEY, tmp_path / "small", small, nothing)
    assert got(case, tmp_path) == b"12345"


# --- uploaders that are killed ----------------------------------------------------------------------------------------

MANY = random.Random(2).randbytes(8 * S3Case.PART + 1)
MANY_ARTIFACT = Artifact(hashlib.sha256(MANY).hexdigest(), len(MANY))


def uploading(case: S3Case, proxy: Proxy, path: Path) -> subprocess.Popen[str]:
    """Begin to upload in another process; returns when the upload begins."""
    program = (
        f"{case.recipe_of(endpoint=proxy.url, stale_after=NEVER)}\n"
        "from neurocommand.model import Artifact\nfrom pathlib import Path\nprint('ready', flush=True)\n"
        f"store.put({KEY!r}, Path({str(path)!r}), {MANY_ARTIFACT!r}, lambda done: None)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_an_upload_that_is_killed_at_any_moment_is_gone_on_with(
    case: S3Case, proxy: Proxy, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    (tmp_path / "sent").write_bytes(MANY)
    moments, saved = random.Random(3), list[int]()
    for number in range(20 if pytestconfig.getoption("--full") else 3):
        case.store.delete(KEY)
        proxy.requests.clear()
        # so many parts are on their way; the first time so many that some of them have certainly arrived
        begun = 8 if number == 0 else moments.randint(0, 9)
        with uploading(case, proxy, tmp_path / "sent") as child:
            while proxy.count("partNumber=") < begun and child.poll() is None:
                time.sleep(0.001)
            time.sleep(moments.uniform(0, 0.05))
            child.send_signal(signal.SIGKILL)
        assert case.store.stat(KEY) in (None, StoredObject(KEY, len(MANY), MANY_ARTIFACT.sha256))
        uploads = case.server.list_multipart_uploads(Bucket=case.bucket).get("Uploads", [])
        arrived = len(case.server.list_parts(**unfinished(case)).get("Parts", [])) if uploads else 0
        proxy.requests.clear()
        case.make(endpoint=proxy.url, stale_after=NEVER).put(KEY, tmp_path / "sent", MANY_ARTIFACT, nothing)
        saved.append(9 - proxy.count("partNumber="))
        # What arrived while the uploader died is not known to be ours: up to four parts are sent at once.
        assert arrived - 4 <= saved[-1] <= arrived
        assert got(case, tmp_path) == MANY
        # One that died before it could write down what it had begun leaves an upload of nothing, until that is stale.
        left = case.leftovers()
        assert left == [] or (len(left) == 1 and "Parts" not in case.server.list_parts(**unfinished(case)))
        if left:
            case.make(stale_after=0).put(KEY, tmp_path / "sent", MANY_ARTIFACT, nothing)
            assert case.leftovers() == []
    assert max(saved) > 0, "no moment was one in which anything could be gone on with"


# --- two uploaders at once --------------------------------------------------------------------------------------------


def upload_both(case: S3Case, tmp_path: Path, contents: tuple[bytes, bytes]) -> list[NeurocommandError | None]:
    """Upload two files under one key as two machines would, both about to finish at the same time."""
    together = threading.Barrier(2)

    def upload(number: int) -> NeurocommandError | None:
        data = contents[number]
        path = tmp_path / f"sent by {number}"
        path.write_bytes(data)
        store = case.make(records=tmp_path / f"records of {number}", stale_after=NEVER)

        def advance(done: int) -> None:
            if done == len(data):
                together.wait(60)

        try:
            store.put(KEY, path, Artifact(hashlib.sha256(data).hexdigest(), len(data)), advance)
        except NeurocommandError as error:
            return error
        finally:
            store.close()
        return None

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(upload, range(2)))


@pytest.fixture
def rounds(pytestconfig: pytest.Config) -> int:
    return 10 if pytestconfig.getoption("--full") else 1


def test_two_uploaders_of_one_release_both_succeed(case: S3Case, tmp_path: Path, rounds: int) -> None:
    for _ in range(rounds):
        assert upload_both(case, tmp_path, (DATA, DATA)) == [None, None]
        assert got(case, tmp_path) == DATA
        assert case.server.list_multipart_uploads(Bucket=case.bucket).get("Uploads", []) == []
        case.store.delete(KEY)


def test_of_two_uploaders_of_other_bytes_one_is_told(case: S3Case, tmp_path: Path, rounds: int) -> None:
    """Where the server does not decide in one step both may think that they won, and the last one's bytes are there."""
    contents = (DATA, DATA[::-1])
    for _ in range(rounds):
        outcomes = upload_both(case, tmp_path, contents)
        winners = [data for data, error in zip(contents, outcomes, strict=True) if error is None]
        losers = [error for error in outcomes if error is not None]
        assert all(isinstance(error, ImmutableError) for error in losers), losers
        assert len(winners) == 1 or (not case.atomic and len(winners) == 2)
        assert got(case, tmp_path) in winners
        assert case.server.list_multipart_uploads(Bucket=case.bucket).get("Uploads", []) == []
        case.store.delete(KEY)


def test_a_damaged_object_that_somebody_else_mends_first(case: S3Case, sent: Path, tmp_path: Path) -> None:
    case.plant(KEY, b"damaged")
    mended: list[int] = []

    def advance(done: int) -> None:
        if done == len(DATA) and not mended:
            mended.append(done)
            case.make(records=tmp_path / "other", stale_after=NEVER).put(KEY, sent, ARTIFACT, nothing)

    case.make(stale_after=NEVER).put(KEY, sent, ARTIFACT, advance)
    assert mended
    assert got(case, tmp_path) == DATA
    assert case.leftovers() == []


def test_an_object_that_somebody_else_puts_first_is_not_overwritten(case: S3Case, sent: Path, tmp_path: Path) -> None:
    other = DATA[::-1]
    (tmp_path / "other").write_bytes(other)
    theirs = Artifact(hashlib.sha256(other).hexdigest(), len(other))

    def advance(done: int) -> None:
        if done == len(DATA):
            case.make(records=None, stale_after=NEVER).put(KEY, tmp_path / "other", theirs, nothing)

    with pytest.raises(ImmutableError, match=f"somebody else put another {KEY}") as caught:
        case.make(stale_after=NEVER).put(KEY, sent, ARTIFACT, advance)
    assert caught.value.exit_code == 4
    assert got(case, tmp_path) == other
    assert case.leftovers() == []


# --- a store that is full, and one that is private --------------------------------------------------------------------


@pytest.mark.parametrize("size", [5, len(DATA)], ids=["whole", "in parts"])
def test_a_store_that_is_full(size: int, swift: Swift, case: S3Case, tmp_path: Path) -> None:
    if not isinstance(case, SwiftS3Case):
        pytest.skip("only Swift is filled here")
    data = DATA[:size]
    artifact = Artifact(hashlib.sha256(data).hexdigest(), size)
    (tmp_path / "sent").write_bytes(data)
    containers = [case.bucket, f"{case.bucket}%2Bsegments"]
    for container in containers:
        swift.ask("PUT", container, {"X-Container-Meta-Quota-Bytes": "4"})
    with pytest.raises(StoreFullError, match=f"cannot take {KEY}: 400 EntityTooLarge") as caught:
        case.store.put(KEY, tmp_path / "sent", artifact, nothing)
    assert caught.value.exit_code == 3
    assert case.store.stat(KEY) is None
    assert case.leftovers() == []
    for container in containers:
        swift.ask("POST", container, {"X-Container-Meta-Quota-Bytes": ""})
    case.store.put(KEY, tmp_path / "sent", artifact, nothing)
    assert got(case, tmp_path) == data


def test_a_private_bucket_is_read_through_links_alone(case: S3Case, sent: Path) -> None:
    if isinstance(case, MotoCase):
        pytest.skip("moto lets everybody in")
    case.store.put(KEY, sent, ARTIFACT, nothing)
    store = case.make(link_seconds=2)
    link = store.link(KEY)
    assert link.expires_in == 2
    with web.Session() as client:
        assert client.get(link.url).content == DATA
        assert client.get(link.url.partition("?")[0]).status_code in (400, 401, 403)
        assert client.get(link.url.replace("Signature=", "Signature=0")).status_code == 403
        assert client.get(link.url.replace(KEY, "other_1_20250101.simg")).status_code == 403
        time.sleep(3)
        assert client.get(link.url).status_code == 403
    unsigned = case.make(anonymous=True).link(KEY)
    assert unsigned.url == f"{case.url}/{case.bucket}/images/{KEY}"
    assert unsigned.expires_in is None
    assert case.make(url="https://somewhere/else/").link(KEY).url == f"https://somewhere/else/{KEY}"


def test_a_wrong_secret_is_refused_and_says_so(case: S3Case, sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(case, MotoCase):
        pytest.skip("moto takes any secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    store = case.make()
    for ask in (lambda: store.stat(KEY), lambda: store.put(KEY, sent, ARTIFACT, nothing), lambda: [*store.list()]):
        with pytest.raises(StoreError, match="403") as caught:
            ask()
        assert "AWS_PROFILE" in caught.value.hint
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", case.credentials["AWS_SECRET_ACCESS_KEY"])
    assert case.make().stat(KEY) is None
