"""What is served over HTTP: signatures, objects and catalogs, read by a small reader of its own."""

from __future__ import annotations

import hashlib
import re
import sqlite3
import stat
import subprocess
import time
import urllib.request
import zlib
from pathlib import Path
from typing import Any

from tests.cvmfs import tars
from tests.cvmfs.simulator import Stratum0


def get(stratum: Stratum0, name: str) -> bytes:
    request = urllib.request.Request(f"{stratum.url}/{name}", headers={"Cache-Control": "max-age=0"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return bytes(answer.read())


def get_object(stratum: Stratum0, name: str) -> bytes:
    """Return an object whose bytes have the hash that is its name."""
    stored = get(stratum, f"data/{name[:2]}/{name[2:]}")
    assert hashlib.sha1(stored).hexdigest() == name[:40]
    return zlib.decompress(stored)


def split(text: bytes) -> tuple[list[str], str, bytes]:
    """Return the lines, the hash and the signature of a signed text whose hash is right."""
    signed, _, tail = text.partition(b"\n--\n")
    digest, _, signature = tail.partition(b"\n")
    assert hashlib.sha1(signed + b"\n").hexdigest() == digest.decode()
    assert len(signature) == 256
    return signed.decode().split("\n"), digest.decode(), signature


def openssl(*argv: str | Path, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *map(str, argv)], input=data, capture_output=True, check=True).stdout


def read_catalog(stratum: Stratum0, tmp_path: Path, digest: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return the tables of a catalog."""
    place = tmp_path / f"{digest}.sqlite"
    place.write_bytes(get_object(stratum, f"{digest}C"))
    database = sqlite3.connect(place)
    try:
        columns = "name, hash, size, mode, mtime, flags, symlink, uid, gid, md5path_1, md5path_2, parent_1, parent_2"
        return {
            "catalog": database.execute(f"SELECT {columns} FROM catalog").fetchall(),
            "nested": database.execute("SELECT path, sha1, size FROM nested_catalogs").fetchall(),
            "properties": database.execute("SELECT key, value FROM properties").fetchall(),
            "statistics": database.execute("SELECT counter, value FROM statistics").fetchall(),
        }
    finally:
        database.close()


def test_the_chain_from_the_master_key_to_the_manifest_holds(stratum: Stratum0, tmp_path: Path) -> None:
    lines, digest, signature = split(get(stratum, ".cvmfswhitelist"))
    (tmp_path / "signature").write_bytes(signature)
    recovered: list[str | Path] = [
        "pkeyutl",
        "-verifyrecover",
        "-pubin",
        "-inkey",
        stratum.public_key,
        "-in",
        tmp_path / "signature",
    ]
    assert openssl(*recovered).decode().strip() == digest
    assert lines[1] > f"E{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"
    assert lines[2] == f"N{stratum.name}"
    text, digest, signature = split(get(stratum, ".cvmfspublished"))
    fields = {line[0]: line[1:] for line in text}
    assert set("CBRDSGANXHTM") <= set(fields)
    assert (fields["N"], fields["S"], fields["R"]) == (stratum.name, "1", hashlib.md5(b"").hexdigest())
    certificate = get_object(stratum, f"{fields['X']}X")
    fingerprint = hashlib.sha1(openssl("x509", "-outform", "der", data=certificate)).hexdigest().upper()
    assert ":".join(fingerprint[place : place + 2] for place in range(0, 40, 2)) in [line[:59] for line in lines]
    (tmp_path / "key").write_bytes(openssl("x509", "-pubkey", "-noout", data=certificate))
    (tmp_path / "signature").write_bytes(signature)
    verify: list[str | Path] = ["dgst", "-sha1", "-verify", tmp_path / "key", "-signature", tmp_path / "signature"]
    assert openssl(*verify, data=digest.encode()).strip() == b"Verified OK"
    assert get_object(stratum, f"{fields['H']}H").startswith(b"SQLite format 3")
    assert get_object(stratum, f"{fields['M']}M").startswith(b"{")
    assert re.fullmatch("[0-9a-f]{40}", fields["Y"]), "of .cvmfsreflog; that of a new repository is another one"


def test_catalogs_say_what_was_ingested(stratum: Stratum0, tmp_path: Path) -> None:
    members = [(tars.header(name), data or b"") for name, data in tars.release("tool_1", tool=b"one\n" * 100).items()]
    members += [(tars.header("containers/tool_1/link", type=b"2", linkname="tool"), b"")]
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", members), "-b", "/")
    fields = stratum.served()
    root = read_catalog(stratum, tmp_path, fields["C"])
    properties = dict(root["properties"])
    assert (properties["revision"], properties["schema"][:3]) == ("2", "2.5")
    by_name = {row[0]: row for row in root["catalog"]}
    assert {"", "containers", "tool_1", "new_repository"} == set(by_name)
    assert int(by_name["tool_1"][5]) & 3 == 3
    ((path, digest, size),) = root["nested"]
    assert path == "/containers/tool_1"
    nested = read_catalog(stratum, tmp_path, str(digest))
    assert len(get_object(stratum, f"{digest}C")) == size
    assert dict(nested["properties"])["root_prefix"] == "/containers/tool_1"
    rows = {row[0]: row for row in nested["catalog"]}
    assert set(rows) == {"tool_1", ".cvmfscatalog", "tool", "link"}
    assert int(rows["tool_1"][5]) & 33 == 33
    _, stored, size, mode, mtime, flags, *_ = rows["tool"]
    assert (size, stat.S_ISREG(mode), stat.S_IMODE(mode), mtime, flags & 12) == (400, True, 0o644, tars.TIME, 4)
    assert get_object(stratum, bytes(stored).hex()) == b"one\n" * 100
    assert rows["link"][6] == "tool"
    assert int(rows["link"][5]) & 12 == 12
    assert rows["tool"][11:13] == rows["tool_1"][9:11]
    key = hashlib.md5(b"/containers/tool_1/tool").digest()
    assert rows["tool"][9] == int.from_bytes(key[:8], "little", signed=True)
    assert dict(nested["statistics"])["self_regular"] == 2


def test_a_catalog_that_did_not_change_keeps_its_hash(stratum: Stratum0, tmp_path: Path) -> None:
    stratum.do("ingest", "-t", tars.write(tmp_path / "a.tar", tars.release("a")), "-b", "/")
    before = read_catalog(stratum, tmp_path, stratum.served()["C"])["nested"]
    stratum.do("ingest", "-t", tars.write(tmp_path / "b.tar", tars.release("b")), "-b", "/")
    after = read_catalog(stratum, tmp_path, stratum.served()["C"])["nested"]
    assert before[0] in after
    assert len(after) == 2


def test_check_finds_what_is_missing_or_corrupt(stratum: Stratum0, tmp_path: Path) -> None:
    stratum.do("ingest", "-t", tars.write(tmp_path / "t.tar", {"d/f": b"bytes\n"}), "-b", "/")
    rows = read_catalog(stratum, tmp_path, stratum.served()["C"])["catalog"]
    name = next(bytes(row[1]).hex() for row in rows if row[0] == "f")
    place = stratum.storage / "data" / name[:2] / name[2:]
    data = place.read_bytes()
    place.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    done = stratum.run("check", "-i", stratum.name)
    assert (done.code, "mismatch of file name and content hash" in done.said) == (1, True)
    place.unlink()
    done = stratum.run("check", stratum.name)
    assert (done.code, f"data chunk {name}" in done.said, "missing" in done.said) == (1, True, True)
    assert stratum.run("check", "-c", stratum.name).code == 0
    place.write_bytes(data)
    assert stratum.run("check", "-i", stratum.name).code == 0


def test_the_oracle_is_what_is_served(simulated: Stratum0, tmp_path: Path) -> None:
    simulated.do("ingest", "-t", tars.write(tmp_path / "t.tar", {"d/f": b"bytes\n"}), "-b", "/")
    seen = simulated.view("/d/f")
    assert seen is not None
    assert seen.data == get_object(simulated, seen.entry.stored) == b"bytes\n"
    assert simulated.view("/d/f", revision=1) is None
    assert (simulated.checkout(tmp_path / "out") / "d/f").read_bytes() == b"bytes\n"
    assert simulated.strays() == []
    (simulated.union / "d/stray").write_bytes(b"")
    assert "d/stray" in simulated.strays()


def test_automatic_tags_are_told_apart(tmp_path: Path) -> None:
    with Stratum0.make(tmp_path / "host", "a.test", "-z") as stratum:
        for _ in range(3):
            stratum.do("transaction")
            assert "Using auto tag 'generic" in stratum.do("publish")
        names = [line.split()[0] for line in stratum.do("tag", "-l", "-x").splitlines()]
        assert len([name for name in names if name.startswith("generic")]) == 3


def test_a_repository_without_gc_refuses_it(tmp_path: Path) -> None:
    with Stratum0.make(tmp_path / "host", "a.test", "-g") as stratum:
        done = stratum.run("gc", "-f", stratum.name)
        assert (done.code, "Garbage Collection is not enabled for a.test" in done.said) == (1, True)
        assert "wiped out!" in stratum.run("rmfs", "-f", "a.test").said
        assert stratum.run("list").said == ""
