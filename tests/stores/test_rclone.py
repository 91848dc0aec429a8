"""The store of kind rclone beyond the contract: what reaches a shell, what is believed and cleaned, how it fails."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurocommand.errors import ImmutableError, StoreError, TransientStoreError
from neurocommand.files import digest_of
from neurocommand.model import Artifact, StoredObject
from neurocommand.stores import rclonenames
from neurocommand.stores.rclone import RcloneStore
from neurocommand.stores.rclonenames import Entry
from neurocommand.stores.rcloneprogram import Rclone
from tests.servers import Answer, WebServer
from tests.swift import Swift

KEY = "small_1.0_20250101.simg"
MIB = 1 << 20


def nothing(done: int) -> None:
    pass


def file_of(path: Path, data: bytes) -> tuple[Path, Artifact]:
    path.write_bytes(data)
    return path, Artifact(*digest_of(path))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a remote on this machine."""
    (tmp_path / "rclone.conf").write_text("[remote]\ntype = local\n")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    (tmp_path / "kept").mkdir()
    return tmp_path / "kept"


def store_in(kept: Path, **settings: float) -> RcloneStore:
    return RcloneStore("rclone", f"remote:{kept}", **settings)  # type: ignore[arg-type]


# --- the shell --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "remote",
    ["remote:$(touch PWNED)", "remote:`touch PWNED`", 'remote:"', "remote:a b", "remote:a;b", "remote:", ":local:/x"],
)
def test_what_is_no_plain_remote_is_refused(remote: str) -> None:
    with pytest.raises(StoreError, match="is no remote"):
        RcloneStore("rclone", remote)


@pytest.mark.parametrize("word", ["$(touch PWNED)", "a b", "'", "\n", "", "é", "a;b", "a&b", ">x"])
def test_no_word_that_a_shell_could_read_reaches_it(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="is not handed to rclone"):
        Rclone("rclone", "remote:x").run("what", "lsjson", word)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_any_name_is_sent_and_received(kept: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    odd = tmp_path / "a $(touch PWNED) 'b' \"c\"\n; é"
    odd.mkdir()
    path, artifact = file_of(odd / "sent", b"12345" * MIB)
    store = store_in(kept)
    store.put(KEY, path, artifact, nothing)
    assert store.get(KEY, odd / "got", nothing) == (artifact.sha256, artifact.size)
    assert not list(Path.cwd().glob("PWNED"))
    # rclone-python prints with a handler of its own
    assert capfd.readouterr() == ("", "")


def test_without_rclone_it_says_what_to_do(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(StoreError, match="needs rclone, which is not on PATH") as caught:
        store_in(kept).stat(KEY)
    assert "rclone.org/install" in caught.value.hint


# --- what is believed -------------------------------------------------------------------------------------------------


def test_a_digest_is_not_believed_of_an_object_that_was_replaced(kept: Path, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", b"12345")
    store = store_in(kept)
    store.put(KEY, path, artifact, nothing)
    assert store.stat(KEY) == StoredObject(KEY, 5, artifact.sha256)
    assert list(store.list()) == [StoredObject(KEY, 5, artifact.sha256)]
    (kept / KEY).write_bytes(b"abcde")
    assert store.stat(KEY) == StoredObject(KEY, 5, None)
    store.put(KEY, path, artifact, nothing)
    assert store.stat(KEY) == StoredObject(KEY, 5, artifact.sha256)
    assert len(list((kept / ".sha256" / KEY).iterdir())) == 1
    store.delete(KEY)
    assert [found.name for found in kept.rglob("*") if found.is_file()] == []


def test_a_directory_that_is_not_there_is_not_taken_for_an_empty_one(kept: Path) -> None:
    kept.rmdir()
    for ask in (lambda: store_in(kept).stat(KEY), lambda: list(store_in(kept).list())):
        with pytest.raises(StoreError, match="directory not found") as caught:
            ask()
        assert "rclone mkdir" in caught.value.hint


def test_somebody_else_who_puts_other_bytes_meanwhile_was_first(kept: Path, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", os.urandom(3 * MIB))

    def intrude(done: int) -> None:
        (kept / KEY).write_bytes(b"other")

    with pytest.raises(ImmutableError, match="somebody else put 5 bytes"):
        store_in(kept).put(KEY, path, artifact, intrude)
    assert (kept / KEY).read_bytes() == b"other"
    assert not list(kept.glob(".partial/*"))


# --- what is cleaned --------------------------------------------------------------------------------------------------


def test_only_what_is_old_enough_is_a_leftover(kept: Path, tmp_path: Path) -> None:
    path, artifact = file_of(tmp_path / "sent", b"12345")
    (kept / ".partial").mkdir()
    names = {"old": f"{KEY}.00", "young": f"{KEY}.01", "another's": f"other_{KEY}.00"}
    for name in names.values():
        (kept / ".partial" / name).write_bytes(b"x")
    for name in (names["old"], names["another's"]):
        os.utime(kept / ".partial" / name, (1, 1))
    store_in(kept, stale_after=3600).put(KEY, path, artifact, nothing)
    assert sorted(found.name for found in (kept / ".partial").iterdir()) == sorted([names["young"], names["another's"]])


def test_segments_are_old_when_the_newest_of_their_upload_is() -> None:
    listed = (Entry("a/0", 1, 5), Entry("a/1", 1, 20), Entry("b/0", 1, 5), Entry("b/1", 1, 10))
    assert rclonenames.old_segments(listed, 10) == ("b/0", "b/1")


def test_segments_of_killed_puts_go_and_those_of_objects_stay(
    swift: Swift, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = f"auth = {swift.auth_url}\nauth_version = 1\nuser = {swift.user}\nkey = {swift.key}\nchunk_size = 512Ki\n"
    (tmp_path / "rclone.conf").write_text(f"[remote]\ntype = swift\n{login}")
    monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
    other = f"other_{KEY}"
    for container in ("killed", "killed_segments"):
        swift.ask("PUT", container)
    for name in (f"images/{KEY}/2026-01-01-000000-x/00000000", f"images/{other}/2026-01-01-000000-x/00000000"):
        swift.ask("PUT", f"killed_segments/{name}", body=b"left")
    store = RcloneStore("rclone", "remote:killed/images", stale_after=0)
    path, artifact = file_of(tmp_path / "sent", os.urandom(MIB))
    for _ in range(2):
        store.put(KEY, path, artifact, nothing)
        left = [name.split("/")[1] for name in swift.ask("GET", "killed_segments")[2].decode().split()]
        assert left == [other, KEY, KEY]
        assert store.get(KEY, tmp_path / "got", nothing) == (artifact.sha256, artifact.size)
    young = f"killed_segments/images/{KEY}/2026-01-01-000000-y/00000000"
    swift.ask("PUT", young, body=b"on its way")
    # by Swift's clock, whatever ours says
    monkeypatch.setattr("time.time_ns", lambda now=time.time_ns: now() + 2 * 86400 * 10**9)
    RcloneStore("rclone", "remote:killed/images").put(KEY, path, artifact, nothing)
    assert swift.ask("GET", young)[2] == b"on its way"


# --- answers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "{}", "[1]", '[{"Path": "a"}]', '[{"Path": "a", "Size": "1", "ModTime": "x"}]'])
def test_what_is_no_listing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        rclonenames.entries(text)


def test_times_are_read_as_rclone_writes_them() -> None:
    zones = ("2026-11-20T21:39:09.000000001Z", "2026-11-21T08:39:09.000000001+11:00")
    assert len({rclonenames.nanoseconds(text) for text in zones}) == 1
    assert rclonenames.nanoseconds(zones[0]) % 10**9 == 1


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A Swift that lets in, and then says 503 to everything."""

    def respond(request: object) -> Answer:
        if "/auth" in request.path:  # type: ignore[attr-defined]
            return Answer(200, headers={"X-Storage-Url": f"{server.url}/v1/a", "X-Auth-Token": "t"})
        return Answer(503)

    with WebServer(respond) as server:
        settings = f"type = swift\nauth = {server.url}/auth/v1.0\nauth_version = 1\nuser = u\nkey = s3cret\n"
        (tmp_path / "rclone.conf").write_text(f"[remote]\n{settings}")
        monkeypatch.setenv("RCLONE_CONFIG", str(tmp_path / "rclone.conf"))
        yield server


def test_a_server_that_is_down_may_be_asked_again(broken: WebServer) -> None:
    with pytest.raises(TransientStoreError) as caught:
        RcloneStore("rclone", "remote:c").stat(KEY)
    assert "s3cret" not in caught.value.message


def test_a_remote_that_is_not_configured_is_named(kept: Path) -> None:
    with pytest.raises(StoreError, match="didn't find section in config file") as caught:
        RcloneStore("rclone", "nobody:c").stat(KEY)
    assert not isinstance(caught.value, TransientStoreError)


def test_hashes_are_of_the_bytes(kept: Path, tmp_path: Path) -> None:
    (kept / KEY).write_bytes(b"12345")
    sha256 = hashlib.sha256(b"12345").hexdigest()
    assert store_in(kept).get(KEY, tmp_path / "got", nothing) == (sha256, 5)
