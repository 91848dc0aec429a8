"""server.conf of a publisher; what it says must be safe, since cvmfs_server pastes it into a shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurocommand.cvmfs import repository
from neurocommand.cvmfs.repository import Repository
from neurocommand.errors import CvmfsError

NAME = "neurodesk.test.local"
# as `cvmfs_server mkfs` writes it
CONF = f"""# Created by cvmfs_server.
CVMFS_CREATOR_VERSION=143
CVMFS_REPOSITORY_NAME={NAME}
CVMFS_REPOSITORY_TYPE=stratum0
CVMFS_USER=publisher
CVMFS_UNION_DIR=/cvmfs/{NAME}
CVMFS_SPOOL_DIR=/var/spool/cvmfs/{NAME}
CVMFS_STRATUM0=http://localhost/cvmfs/{NAME}
CVMFS_UPSTREAM_STORAGE=local,/srv/cvmfs/{NAME}/data/txn,/srv/cvmfs/{NAME}
CVMFS_AUTO_TAG_TIMESPAN=""
CVMFS_HASH_ALGORITHM=sha1
"""


def written(place: Path, text: str, *, key: bool = True) -> Path:
    file = place / "repositories.d" / NAME / "server.conf"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    (place / "keys").mkdir()
    if key:
        (place / "keys" / f"{NAME}.pub").write_text("key")
    return place


def test_what_mkfs_wrote_is_read(tmp_path: Path) -> None:
    assert repository.read(NAME, written(tmp_path, CONF)) == Repository(
        name=NAME,
        mount=Path(f"/cvmfs/{NAME}"),
        spool=Path(f"/var/spool/cvmfs/{NAME}"),
        url=f"http://localhost/cvmfs/{NAME}",
        public_key=tmp_path / "keys" / f"{NAME}.pub",
        owner="publisher",
        upstream=f"local,/srv/cvmfs/{NAME}/data/txn,/srv/cvmfs/{NAME}",
    )


@pytest.mark.parametrize(
    ("line", "owner"),
    [
        ('CVMFS_USER="me"', "me"),
        ("CVMFS_USER='me'", "me"),
        ("export CVMFS_USER=me", "me"),
        ("  CVMFS_USER=me # who", "me"),
        ("#CVMFS_USER=me", "publisher"),
        ("CVMFS_USER2=me", "publisher"),
    ],
)
def test_values_are_read_as_a_shell_reads_them(tmp_path: Path, line: str, owner: str) -> None:
    assert repository.read(NAME, written(tmp_path, f"{CONF}{line}\n")).owner == owner


@pytest.mark.parametrize(
    "line",
    [
        "CVMFS_USER='a;b'",
        "CVMFS_USER=$(id)",
        "CVMFS_USER=a b",
        "CVMFS_USER=-x",
        "CVMFS_USER='a",
        "CVMFS_USER=",
        "CVMFS_UNION_DIR=relative",
        "CVMFS_UNION_DIR=/cvmfs/../etc",
        "CVMFS_UNION_DIR='/cvmfs/a b'",
        "CVMFS_UNION_DIR=/cvmfs/*",
        "CVMFS_SPOOL_DIR=/var/`id`",
        "CVMFS_STRATUM0=ftp://x",
        "CVMFS_STRATUM0='http://x/;id'",
        "CVMFS_STRATUM0=http://me:pw@x/",
        "CVMFS_UPSTREAM_STORAGE='local,/a;id,/b'",
        "CVMFS_UPSTREAM_STORAGE=$X",
    ],
)
def test_what_is_not_safe_in_a_shell_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(CvmfsError, match="not safe") as caught:
        repository.read(NAME, written(tmp_path, f"{CONF}{line}\n"))
    assert line.partition("=")[0] in caught.value.message
    assert "unquoted" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONF.replace("CVMFS_STRATUM0", "X"), "says nothing of CVMFS_STRATUM0"),
        (CONF.replace("stratum0\n", "stratum1\n"), "is a replica here"),
        (CONF.replace(f"NAME={NAME}", "NAME=other"), "is about other"),
        ("x" * (1 << 20) + "y", "is larger than"),
        ("\0\xff", "says nothing of CVMFS_STRATUM0"),
    ],
)
def test_a_file_that_is_not_as_it_should_be(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CvmfsError, match=message) as caught:
        repository.read(NAME, written(tmp_path, text))
    assert caught.value.hint


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(CvmfsError, match="publishes no CVMFS repository") as caught:
        repository.read(NAME, tmp_path)
    assert f"cvmfs_server mkfs {NAME}" in caught.value.hint
    with pytest.raises(CvmfsError, match=r"neurodesk\.test\.local\.pub: is missing"):
        repository.read(NAME, written(tmp_path, CONF, key=False))


@pytest.mark.parametrize("name", ["", "-o", "a/b", "..", "a b", "a;b", "é", "x" * 61, "a\n", ".hidden"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(CvmfsError, match="is no name of a CVMFS repository"):
        repository.read(name, tmp_path)


@pytest.mark.parametrize("url", ["http://s1.org/cvmfs/x", "https://s1:8000/cvmfs/x.y/"])
def test_addresses(url: str) -> None:
    assert repository.checked_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["s1.org/cvmfs", "http://", "http://a b/", "http://x/$(id)", "http://x/../y", "http://x?y"]
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(CvmfsError, match="is no address"):
        repository.checked_url(url)
