"""The Swift that tests run against is a real one: it knows who asks, and refuses what moto accepts."""

from __future__ import annotations

import base64
import time
import urllib.error
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.swift import Swift, swift_server


def test_both_interfaces_show_the_same_object(swift: Swift) -> None:
    server = swift.s3()
    server.create_bucket(Bucket="both-ways")
    server.put_object(Bucket="both-ways", Key="a", Body=b"12345", Metadata={"sha256": "0" * 64})
    status, headers, body = swift.ask("GET", "both-ways/a")
    assert (status, body, headers["x-object-meta-sha256"]) == (200, b"12345", "0" * 64)
    swift.ask("PUT", "both-ways/b", body=b"67")
    assert server.get_object(Bucket="both-ways", Key="b")["Body"].read() == b"67"
    server.close()


def test_it_refuses_a_wrong_secret_and_a_wrong_checksum(swift: Swift) -> None:
    owner, stranger = swift.s3(), swift.s3(key="wrong")
    owner.create_bucket(Bucket="refusing")
    with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|AccessDenied"):
        stranger.put_object(Bucket="refusing", Key="a", Body=b"12345")
    wrong = base64.b64encode(b"0" * 32).decode()
    with pytest.raises(ClientError, match="BadDigest"):
        owner.put_object(Bucket="refusing", Key="a", Body=b"12345", ChecksumSHA256=wrong)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        Swift(swift.url, swift.directory, key="wrong").ask("GET")
    assert "Contents" not in owner.list_objects_v2(Bucket="refusing")
    owner.close()
    stranger.close()


def test_it_ends_with_the_block_that_began_it(tmp_path: Path) -> None:
    began = time.monotonic()
    with swift_server(tmp_path) as running:
        started = time.monotonic() - began
        assert running.ask("GET")[0] == 204
        assert (tmp_path / "etc").is_dir()
    assert started < 60
    with pytest.raises(urllib.error.URLError):
        running.ask("GET")
