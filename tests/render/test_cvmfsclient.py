"""What a CVMFS client needs, as a shell reads it (https://cvmfs.readthedocs.io/en/stable/cpt-configure.html)."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from neurocommand.render.cvmfsclient import ClientSettings, conf_name, default_local, key_name, repository_conf

GOLDEN = Path(__file__).parents[1] / "golden"
NAME = "neurodesk.test.local"
SERVERS = tuple(f"http://{host}.example.org/cvmfs/{NAME}" for host in ("s1", "s2"))
PROXIES = ("http://squid.example.org:3128|http://squid2.example.org:3128", "DIRECT")
SETTINGS = ClientSettings(NAME, SERVERS, PROXIES, geo=True, quota=20000)


def test_golden_files() -> None:
    assert repository_conf(SETTINGS) == (GOLDEN / "cvmfs.repository.conf").read_text()
    assert default_local(SETTINGS) == (GOLDEN / "cvmfs.default.local").read_text()


def test_one_machine_finds_its_way_itself() -> None:
    text = default_local(replace(SETTINGS, proxies=()))
    assert "CVMFS_CLIENT_PROFILE=single\n" in text
    assert "CVMFS_HTTP_PROXY" not in text
    assert "CVMFS_USE_GEOAPI=no\n" in repository_conf(replace(SETTINGS, geo=False))


def test_names() -> None:
    assert (key_name(NAME), conf_name(NAME)) == (f"keys/{NAME}.pub", f"config.d/{NAME}.conf")


def sourced(text: str, variable: str) -> str:
    """Return a variable after a shell has read a text."""
    script = f'. /dev/stdin; printf %s "${variable}"'
    return subprocess.run(["sh", "-c", script], input=text, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("odd", ["$(touch x)", "a;b", "a b", "it's", '"', "`id`", "a\\b", "~", "#"])
def test_a_shell_reads_every_value_as_it_is(odd: str) -> None:
    url = f"http://host/{odd}"
    text = repository_conf(replace(SETTINGS, servers=(url, url)))
    assert sourced(text, "CVMFS_SERVER_URL") == f"{url};{url}"
    assert sourced(default_local(replace(SETTINGS, proxies=(odd,))), "CVMFS_HTTP_PROXY") == odd
