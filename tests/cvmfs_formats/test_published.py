"""The chain from the master key to the root catalog: what is right is taken, each link that is broken is named."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neurocommand.cvmfs import letters
from neurocommand.cvmfs.published import Client, Published
from neurocommand.errors import (
    CvmfsBehindError,
    CvmfsDownError,
    CvmfsError,
    CvmfsExpiredError,
    CvmfsUntrustedError,
    NeurocommandError,
)
from tests.cvmfs_formats.repositories import NAME, MadeRepository, neurodesk, openssl, shared_keys, signed, stamp
from tests.servers import Answer, Respond, WebServer, refused_url, silent_server

Serve = Callable[[Respond], WebServer]


@pytest.fixture
def client(web_server: Serve) -> Iterator[Callable[..., Client]]:
    made: list[Client] = []

    def start(repository: MadeRepository, **given: Any) -> Client:
        server = web_server(repository.respond)
        key = given.pop("key", repository.keys.public)
        made.append(Client(f"{server.url}/cvmfs/{repository.name}", key, **given))
        return made[-1]

    yield start
    for one in made:
        one.close()


Start = Callable[..., Client]


def test_a_revision_that_the_master_key_vouches_for(client: Start) -> None:
    made = neurodesk()
    found = client(made, name=NAME).manifest()
    root = next(line[1:] for line in made.files[".cvmfspublished"].split(b"\n") if line.startswith(b"C"))
    assert isinstance(found, Published)
    assert (found.name, found.revision, found.ttl, found.timestamp) == (NAME, 25, 240, made.timestamp)
    assert found.root_catalog == root.decode()
    assert found.whitelist_expires == int(made.expires)


def test_the_two_files_that_change_are_not_taken_from_a_cache(web_server: Serve) -> None:
    made = neurodesk()
    server = web_server(made.respond)
    Client(f"{server.url}/cvmfs/{NAME}", made.keys.public).manifest()
    asked = {r.path.rpartition("/")[2]: r.headers.get("Cache-Control") for r in server.requests}
    assert asked[".cvmfspublished"] == asked[".cvmfswhitelist"] == "max-age=0"
    assert len(asked) == 3


def test_fields_may_stand_in_any_order_and_new_ones_are_passed_over(client: Start) -> None:
    made = neurodesk()
    lines = made.manifest_text(made.sqlite(made.root)).splitlines()
    made.publish("".join(f"{line}\n" for line in ["Qnew", "Zx", "Zy", *reversed(lines)]))
    assert client(made).manifest().revision == 25


# --- every link of the chain, broken -------------------------------------------------------------------------------


def changed(data: bytes, old: bytes, new: bytes) -> bytes:
    assert data.count(old) == 1
    return data.replace(old, new)


def other_revision(made: MadeRepository) -> None:
    made.files[".cvmfspublished"] = changed(made.files[".cvmfspublished"], b"\nS25\n", b"\nS26\n")


def other_revision_and_sha1(made: MadeRepository) -> None:
    text, rest = made.files[".cvmfspublished"].split(b"--\n", 1)
    text = changed(text, b"\nS25\n", b"\nS26\n")
    made.files[".cvmfspublished"] = text + b"--\n" + hashlib.sha1(text).hexdigest().encode() + rest[40:]


def longer_whitelist(made: MadeRepository) -> None:
    text, rest = made.files[".cvmfswhitelist"].split(b"--\n", 1)
    text = text.replace(b"E2", b"E3")
    made.files[".cvmfswhitelist"] = text + b"--\n" + hashlib.sha1(text).hexdigest().encode() + rest[40:]


def whitelist_of_another_key(made: MadeRepository) -> None:
    made.files[".cvmfswhitelist"] = signed(made.whitelist_text(), shared_keys("theirs").whitelisting)


def whitelist_signed_as_a_digest(made: MadeRepository) -> None:
    key = made.keys.place / "master.key"
    made.files[".cvmfswhitelist"] = signed(
        made.whitelist_text(), lambda text: openssl("dgst", "-sha1", "-sign", key, given=text)
    )


def whitelist_of_another_certificate(made: MadeRepository) -> None:
    text = made.whitelist_text().replace(made.keys.fingerprint, shared_keys("theirs").fingerprint)
    made.publish(whitelist=text)


def manifest_of_another_certificate(made: MadeRepository) -> None:
    text = made.manifest_text(made.sqlite(made.root))
    made.files[".cvmfspublished"] = signed(text, shared_keys("theirs").publishing)


def certificate_of_somebody_else(made: MadeRepository) -> None:
    made.certificate = made.store(shared_keys("theirs").certificate, "X")
    text = made.manifest_text(made.sqlite(made.root))
    made.files[".cvmfspublished"] = signed(text, shared_keys("theirs").publishing)


def two_certificates(made: MadeRepository) -> None:
    """Put their certificate before ours: the fingerprint and the key must be of the same one."""
    theirs = shared_keys("theirs")
    made.certificate = made.store(theirs.certificate + made.keys.certificate, "X")
    made.files[".cvmfspublished"] = signed(made.manifest_text(made.sqlite(made.root)), theirs.publishing)


def ours_then_theirs(made: MadeRepository) -> None:
    theirs = shared_keys("theirs")
    made.certificate = made.store(made.keys.certificate + theirs.certificate, "X")
    made.files[".cvmfspublished"] = signed(made.manifest_text(made.sqlite(made.root)), theirs.publishing)


def no_certificate(made: MadeRepository) -> None:
    made.certificate = made.store(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "X")
    made.publish()


def damaged_certificate(made: MadeRepository) -> None:
    path = f"data/{made.certificate[:2]}/{made.certificate[2:]}X"
    made.files[path] = made.files[path][:-1] + b"x"


def bomb_for_a_certificate(made: MadeRepository) -> None:
    made.certificate = made.store(b"0" * (1 << 24), "X")
    made.publish()


def certificate_not_compressed(made: MadeRepository) -> None:
    made.certificate = made.store(made.keys.certificate, "X", packed=False)
    made.publish()


def other_name(made: MadeRepository) -> None:
    made.publish(made.manifest_text(made.sqlite(made.root)).replace(f"N{NAME}", "Nother.test.local"))


def whitelist_of_another_name(made: MadeRepository) -> None:
    made.publish(whitelist=made.whitelist_text().replace(f"N{NAME}", "Nother.test.local"))


def without(field: str) -> Callable[[MadeRepository], None]:
    def spoil(made: MadeRepository) -> None:
        lines = made.manifest_text(made.sqlite(made.root)).splitlines()
        made.publish("".join(f"{line}\n" for line in lines if line[0] != field))

    return spoil


def with_line(line: str) -> Callable[[MadeRepository], None]:
    def spoil(made: MadeRepository) -> None:
        lines = [old for old in made.manifest_text(made.sqlite(made.root)).splitlines() if old[0] != line[0]]
        made.publish("".join(f"{one}\n" for one in [*lines, line]))

    return spoil


def twice(made: MadeRepository) -> None:
    made.publish(made.manifest_text(made.sqlite(made.root)) + "S99\n")


def file_of(name: str, content: Callable[[bytes], bytes]) -> Callable[[MadeRepository], None]:
    def spoil(made: MadeRepository) -> None:
        made.files[name] = content(made.files[name])

    return spoil


def whitelisted(text: Callable[[str], str]) -> Callable[[MadeRepository], None]:
    return lambda made: made.publish(whitelist=text(made.whitelist_text()))


BROKEN: list[tuple[Callable[[MadeRepository], None], str]] = [
    (other_revision, "\\.cvmfspublished was changed"),
    (other_revision_and_sha1, "\\.cvmfspublished is not signed by the repository's certificate"),
    (longer_whitelist, "\\.cvmfswhitelist is not signed by the key"),
    (whitelist_of_another_key, "\\.cvmfswhitelist is not signed by the key"),
    (whitelist_signed_as_a_digest, "\\.cvmfswhitelist is not signed by the key"),
    (whitelist_of_another_certificate, "is not on the whitelist"),
    (manifest_of_another_certificate, "\\.cvmfspublished is not signed"),
    (certificate_of_somebody_else, "is not on the whitelist"),
    (two_certificates, "is not on the whitelist"),
    (ours_then_theirs, "\\.cvmfspublished is not signed"),
    (no_certificate, "the certificate of the repository is none"),
    (damaged_certificate, "has other bytes than its name says"),
    (bomb_for_a_certificate, "holds more than 65536 bytes"),
    (certificate_not_compressed, "is not compressed"),
    (other_name, "\\.cvmfspublished is about 'other.test.local', not 'neurodesk.test.local'"),
    (whitelist_of_another_name, "\\.cvmfswhitelist is about 'other.test.local'"),
    *((without(field), f"the field {field} is missing") for field in "CRDSNXT"),
    (twice, "\\.cvmfspublished:12: the field S stands twice"),
    (with_line("S-1"), "S is '-1', which is no number"),
    (with_line("S" + "9" * 5000), "which is no number"),
    (with_line("S٣"), "which is no number"),
    (with_line("C" + "../" * 13 + "x"), "which is no hash"),
    (with_line("C" + "a" * 40 + "-shake128"), "which is no hash"),
    (with_line("R" + "0" * 32), "its root catalog is not that of /"),
    (file_of(".cvmfspublished", lambda data: b""), "is cut off"),
    (file_of(".cvmfspublished", lambda data: data[:100]), "is cut off"),
    (file_of(".cvmfspublished", lambda data: data[: data.index(b"--\n") + 20]), "is cut off"),
    (file_of(".cvmfspublished", lambda data: data[: data.index(b"--\n") + 44]), "has no signature"),
    (file_of(".cvmfspublished", lambda data: data[:-1]), "is not signed"),
    (file_of(".cvmfspublished", lambda data: data + b"\n"), "is not signed"),
    (file_of(".cvmfspublished", lambda data: b"\xff" * 70000), "is longer than 65536 bytes"),
    (file_of(".cvmfspublished", lambda data: b"<html>\n--\n\x1b[2J\n"), "states no SHA-1"),
    (file_of(".cvmfswhitelist", lambda data: data[:-1]), "is not signed"),
    (file_of(".cvmfswhitelist", lambda data: b"x\n--\n" + b"0" * 40 + b"\nx"), "\\.cvmfswhitelist was changed"),
    (whitelisted(lambda text: text.replace("\nE2", "\nEx")), "E is .*, which is no time"),
    (whitelisted(lambda text: text.replace("\nE2", "\nE")), "E is .*, which is no time"),
    (whitelisted(lambda text: "".join(text.splitlines(True)[:3])), "names no certificate"),
    (whitelisted(lambda text: "".join(text.splitlines(True)[:3]) + "Wcachain\n"), "asks for Wcachain"),
    (whitelisted(lambda text: text.replace("\nE", "\nF")), "the field E is missing"),
]


@pytest.mark.parametrize(("spoil", "message"), BROKEN)
def test_a_broken_link_is_refused_and_named(
    client: Start, spoil: Callable[[MadeRepository], None], message: str
) -> None:
    made = neurodesk()
    spoil(made)
    with pytest.raises(CvmfsUntrustedError, match=message) as caught:
        client(made, name=NAME).manifest()
    assert caught.value.hint
    assert str(caught.value).isprintable()


def test_an_expired_whitelist_is_told_apart(client: Start) -> None:
    made = neurodesk()
    made.expires = time.time() - 1
    made.publish()
    one = client(made)
    with pytest.raises(CvmfsExpiredError, match=f"the whitelist of {NAME} has expired") as caught:
        one.manifest()
    assert "cvmfs_server resign" in caught.value.hint
    assert one.manifest(expired=True).whitelist_expires == int(made.expires)


def test_an_expired_whitelist_must_be_signed_all_the_same(client: Start) -> None:
    made = neurodesk()
    made.expires = time.time() - 1
    whitelist_of_another_key(made)
    with pytest.raises(CvmfsUntrustedError, match="is not signed by the key"):
        client(made).manifest(expired=True)


def test_the_moment_of_expiry_is_read_as_utc() -> None:
    text = b"20261120161917\nE20261220161917\nNx\n" + b":".join([b"AB"] * 20) + b" # me\n"
    read = letters.whitelist(letters.Letter(text, "", b""))
    assert stamp(read.expires) == "20261220161917"
    assert read.expires == 1797783557  # date -u -d '2026-12-20 16:19:17' +%s
    assert read.fingerprints == {":".join(["AB"] * 20)}


def test_a_server_that_goes_back_is_refused(client: Start) -> None:
    made = neurodesk()
    one = client(made)
    one.manifest()
    made.revision = 24
    made.publish()
    with pytest.raises(CvmfsBehindError, match="went back from revision 25 to 24"):
        one.manifest()
    made.revision = 26
    made.publish()
    assert one.manifest().revision == 26


def test_two_contents_of_one_revision_are_refused(client: Start) -> None:
    made = neurodesk()
    one = client(made)
    one.manifest()
    made.directory(made.root, "/new")
    made.publish()
    with pytest.raises(CvmfsBehindError, match="two different revisions 25"):
        one.manifest()


def test_a_tag_alone_changes_the_timestamp_and_is_no_other_revision(client: Start) -> None:
    made = neurodesk()
    one = client(made)
    first = one.manifest()
    made.timestamp += 7
    made.publish()
    assert one.manifest().timestamp == first.timestamp + 7


# --- keys and servers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "No such file"), (b"", "is no public key in PEM"), (b"-----BEGIN PUBLIC KEY-----\n", "is no public key")],
)
def test_a_key_that_is_none_is_named(client: Start, tmp_path: Path, content: bytes | None, message: str) -> None:
    key = tmp_path / "x.pub"
    if content is not None:
        key.write_bytes(content)
    with pytest.raises(CvmfsError, match=message) as caught:
        client(neurodesk(), key=key).manifest()
    assert str(key) in caught.value.message
    assert caught.value.hint


def test_a_server_that_is_down_is_no_untrusted_one() -> None:
    with pytest.raises(CvmfsDownError, match="Connection refused"):
        Client(f"{refused_url()}/cvmfs/{NAME}", shared_keys().public).manifest()
    with silent_server() as url, pytest.raises(CvmfsDownError, match="no answer in time"):
        Client(url, shared_keys().public, read=0.2).manifest()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(404), "answers 404 for .cvmfswhitelist"),
        (Answer(503), "answers 503"),
        (Answer(body=b"x" * 100, sent=10), "broke off|no answer"),
        (Answer(body=b"x" * 1000, rate=100), "took more than"),
        (Answer(302, headers={"Location": "/loop"}), "redirects in a loop"),
        (Answer(drop=True), "no answer for"),
    ],
)
def test_an_answer_that_cannot_be_used(web_server: Serve, answer: Answer, message: str) -> None:
    server = web_server(lambda request: answer)
    with pytest.raises(CvmfsDownError, match=message) as caught:
        Client(server.url, shared_keys().public, read=1.0, seconds=0.3).manifest()
    assert caught.value.hint


def test_a_password_of_the_address_is_not_shown() -> None:
    url = refused_url().replace("//", "//me:secret@")
    with pytest.raises(CvmfsDownError) as caught:
        Client(url, shared_keys().public).manifest()
    assert "secret" not in caught.value.message


def test_without_openssl_the_message_names_it(client: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = neurodesk()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NeurocommandError, match="openssl: not found") as caught:
        client(made).manifest()
    assert "install openssl" in caught.value.hint
