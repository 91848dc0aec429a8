"""The contract of publishers behind a gateway: leases, and what becomes of what is outside them."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tests.cvmfs import tars
from tests.cvmfs.gateways import Publisher, serve_gateway
from tests.cvmfs.simulator import Stratum0

Two = tuple[Publisher, Publisher]


@pytest.fixture
def two(simulated: Stratum0, tmp_path: Path) -> Two:
    """Give two publishers of one gateway, whose repository has the directories a and b."""
    simulated.do("ingest", "-t", tars.write(tmp_path / "t.tar", {"a/": None, "b/": None}), "-b", "/")
    serve_gateway(simulated)
    return Publisher(tmp_path / "p1", simulated), Publisher(tmp_path / "p2", simulated)


def test_disjoint_subtrees_are_published_at_once(two: Two) -> None:
    first, second = two
    for publisher, path in ((first, "a"), (second, "b")):
        done = publisher.run("transaction", f"{publisher.name}/{path}")
        assert (done.code, "Gateway reply: ok" in done.said) == (0, True)
        (publisher.union / path / "f").write_bytes(path.encode())
    for publisher in two:
        assert "Changes submitted to repository gateway" in publisher.do("publish")
        assert not publisher.is_open
    assert first.revision == 4
    assert [first.view(f"{path}/f") is not None for path in "ab"] == [True, True]
    assert first.gateway.strays() == []


@pytest.mark.parametrize(("held", "wanted"), [("a", "a"), ("a", "a/sub"), ("", "b"), ("a/sub", "a")])
def test_an_overlapping_subtree_is_busy(two: Two, held: str, wanted: str) -> None:
    first, second = two
    assert first.run("transaction", f"{first.name}/{held}").code == 0
    done = second.run("transaction", f"{second.name}/{wanted}")
    assert (done.code, "Path busy. Time remaining = " in done.said) == (16, True)
    assert "CernVM-FS transaction error: lease path busy" in done.said
    assert not second.is_open
    first.do("abort", "-f")
    assert second.run("transaction", f"{second.name}/{wanted}").code == 0


def test_leases_are_told(two: Two) -> None:
    first, _ = two
    first.run("transaction", f"{first.name}/a")
    base = first.url.partition("/cvmfs/")[0]
    with urllib.request.urlopen(f"{base}/api/v1/leases", timeout=10) as answer:
        told = json.loads(answer.read())
    assert (told["status"], list(told["data"])) == ("ok", [f"{first.name}/a"])
    assert told["data"][f"{first.name}/a"]["path"] == f"{first.name}/a"
    with urllib.request.urlopen(f"{base}/api/v1/repos", timeout=10) as answer:
        assert list(json.loads(answer.read())["data"]) == [first.name]


@pytest.mark.parametrize(
    ("path", "code", "words"),
    [
        ("nodir/x", 2, "cannot open transaction on non-existing path /nodir"),
        ("new_repository/x", 20, "cannot open transaction on /new_repository, which is not a directory"),
    ],
)
def test_a_subtree_that_cannot_be_is_refused(two: Two, path: str, code: int, words: str) -> None:
    first, _ = two
    done = first.run("transaction", f"{first.name}/{path}")
    assert (done.code, words in done.said) == (code, True)
    assert not first.is_open
    assert first.run("transaction", first.name).code == 0


def test_a_file_outside_the_lease_is_dropped_without_a_word(two: Two) -> None:
    first, _ = two
    assert first.run("transaction", f"{first.name}/a").code == 0
    (first.union / "a/f").write_bytes(b"in")
    (first.union / "b/f").write_bytes(b"out")
    first.do("publish")
    assert (first.view("a/f") is not None, first.view("b/f")) == (True, None)
    assert not (first.union / "b/f").exists()


def test_a_lease_that_expired_loses_the_upload(two: Two) -> None:
    first, _ = two
    serve_gateway(first.gateway, longest=0)
    assert first.run("transaction", f"{first.name}/a").code == 0
    (first.union / "a/f").write_bytes(b"x")
    done = first.run("publish", first.name)
    assert (done.code, '"reason":"invalid lease"' in done.said) == (1, True)
    assert "could not submit payload. Aborting." in done.said
    first.do("abort", "-f")
    assert first.revision == 2


def test_an_ingest_leases_its_base(two: Two, tmp_path: Path) -> None:
    first, second = two
    assert second.run("transaction", f"{second.name}/b").code == 0
    tar = tars.write(tmp_path / "n.tar", {"f": b"x"})
    first.do("ingest", "-c", "-t", tar, "-b", "a/new")
    assert first.view("a/new/f") is not None
    assert "Impossible to start a transaction" in first.run("ingest", "-t", tar, "-b", "b/new", first.name).said
    done = first.run("ingest", "-d", "a/new", "-d", "a", first.name)
    assert (done.code, "Could not delete multiple paths using a gateway" in done.said) == (1, True)
    done = first.run("ingest", "-d", "a/new", "-t", tar, "-b", "a/x", first.name)
    assert (done.code, "Could not delete and add a file in the same transaction" in done.said) == (1, True)
    first.do("ingest", "-d", "a/new")
    assert first.view("a/new") is None


def test_without_a_gateway_the_path_means_nothing(simulated: Stratum0) -> None:
    assert simulated.run("transaction", f"{simulated.name}/no/such").code == 0
    (simulated.union / "f").write_bytes(b"x")
    simulated.do("publish")
    assert simulated.view("f") is not None
