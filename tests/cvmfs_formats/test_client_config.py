"""``client-config``: printed, put in place, and what stands there already is left alone."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cvmfs_formats.repositories import NAME, shared_keys

CONF, KEY, LOCAL = f"config.d/{NAME}.conf", f"keys/{NAME}.pub", "default.local"


def run(path: Path, *words: str, section: str | None = None) -> tuple[int, str, str]:
    if section is None:
        section = f"{{repository: {NAME}, servers: ['http://s1/cvmfs/@fqrn@'], public_key: {shared_keys().public}}}"
    (path / "n.yaml").write_text(f"state: state\n{f'cvmfs: {section}' if section else ''}\n")
    done = subprocess.run(
        [sys.executable, "-m", "neurocommand", "--config", "n.yaml", "client-config", *words],
        cwd=path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        umask=0o077,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert "a bug in" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def states(path: Path, *words: str) -> dict[str, str]:
    code, out, _ = run(path, *words, "--json")
    assert code == 0
    found: dict[str, Any] = json.loads(out)
    return {file["name"]: file["state"] for file in found["files"]}


def test_everything_is_printed(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path)
    assert code == 0
    assert f"# --- /etc/cvmfs/{KEY}\n-----BEGIN PUBLIC KEY-----\n" in out
    assert f"CVMFS_SERVER_URL=http://s1/cvmfs/{NAME}\n" in out
    assert "CVMFS_USE_GEOAPI=no\n" in out
    assert "CVMFS_CLIENT_PROFILE=single\n" in out
    assert set(states(tmp_path).values()) == {"printed"}


def test_files_are_put_in_place_for_everybody_to_read(tmp_path: Path) -> None:
    target = tmp_path / "etc" / "cvmfs"
    assert states(tmp_path, "--output", str(target), "--dry-run") == {KEY: "new", CONF: "new", LOCAL: "new"}
    assert not target.exists()
    code, out, _ = run(tmp_path, "--output", "etc/cvmfs", "--proxy", "http://squid:3128", "--proxy", "DIRECT", "--geo")
    assert code == 0
    assert out == "".join(f"etc/cvmfs/{name}: written\n" for name in (KEY, CONF, LOCAL))
    assert (target / KEY).read_bytes() == shared_keys().public.read_bytes()
    assert "CVMFS_USE_GEOAPI=yes\n" in (target / CONF).read_text()
    assert "CVMFS_HTTP_PROXY='http://squid:3128;DIRECT'\n" in (target / LOCAL).read_text()
    for name in (KEY, CONF, LOCAL):
        assert stat.S_IMODE(os.stat(target / name).st_mode) == 0o644
    assert stat.S_IMODE(os.stat(target / "keys").st_mode) == 0o755


def test_what_says_something_else_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "cvmfs"
    target.mkdir()
    (target / LOCAL).write_text("CVMFS_HTTP_PROXY=mine\n")
    code, _, err = run(tmp_path, "--output", str(target))
    assert code == 3
    assert f"{LOCAL}: says something else, so nothing was written" in err
    assert "--force" in err
    assert os.listdir(target) == [LOCAL]
    assert states(tmp_path, "--output", str(target), "--dry-run")[LOCAL] == "differs"
    assert states(tmp_path, "--output", str(target), "--force") == {KEY: "written", CONF: "written", LOCAL: "replaced"}
    assert set(states(tmp_path, "--output", str(target)).values()) == {"unchanged"}


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "cvmfs"
    target.mkdir()
    (target / LOCAL).symlink_to(tmp_path / "elsewhere")
    assert run(tmp_path, "--output", str(target))[0] == 3
    assert states(tmp_path, "--output", str(target), "--force")[LOCAL] == "replaced"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("words", "section", "code", "message"),
    [
        ((), "", 2, "no servers of a CVMFS repository are known"),
        ((), f"{{repository: {NAME}}}", 2, "cvmfs.servers"),
        (("--proxy", "http://x"), None, 2, "is no proxy"),
        (("--proxy", "http://x:1;id"), None, 2, "is no proxy"),
        (("--quota", "1"), None, 2, "quota"),
        ((), f"{{repository: {NAME}, servers: ['http://s1/x'], public_key: no.pub}}", 1, "no.pub: No such file"),
        ((), f"{{repository: {NAME}, servers: ['http://s1/x'], public_key: n.yaml}}", 1, "is no public key"),
        (("--output", "n.yaml/x"), None, 1, "n.yaml"),
    ],
)
def test_what_cannot_be_done_is_told(
    tmp_path: Path, words: tuple[str, ...], section: str | None, code: int, message: str
) -> None:
    found, _, err = run(tmp_path, *words, section=section)
    assert found == code
    assert message in err
    assert "next: " in err or "Usage:" in err


def test_a_directory_in_the_place_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "cvmfs" / LOCAL).mkdir(parents=True)
    code, _, err = run(tmp_path, "--output", "cvmfs", "--force")
    assert code == 1
    assert "Is a directory" in err
    assert "next: something else stands in its place" in err
