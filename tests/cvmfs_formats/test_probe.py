"""``status --probe`` against servers on loopback (requirement N29): what is down, stale or missing is named."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cvmfs_formats.repositories import NAME, MadeRepository, neurodesk, shared_keys
from tests.servers import Answer, Respond, WebServer, refused_url, silent_server

Serve = Callable[[Respond], WebServer]
RELEASES = ("fsl_6.0_20260101", "niimath_1.0_20260102")
LABELS = {"fsl": ("fsl 6.0", "20260101"), "niimath": ("niimath 1.0", "20260102")}


@dataclass
class Site:
    """A configuration with a store that holds both releases, and what the probe says of it."""

    path: Path

    def configure(self, servers: Sequence[str], more: str = "", stores: Sequence[str] = ("local",)) -> None:
        groups = {
            name: {"apps": {label: {"version": date, "exec": ""}}, "categories": ["body"]}
            for name, (label, date) in LABELS.items()
        }
        (self.path / "apps.json").write_text(json.dumps(groups))
        for store in stores:
            (self.path / store).mkdir(exist_ok=True)
            for release in RELEASES:
                (self.path / store / f"{release}.simg").write_bytes(b"sif")
        kinds = ", ".join(f"{{name: {store}, kind: directory, path: {store}}}" for store in stores)
        (self.path / "n.yaml").write_text(
            f"manifest: apps.json\nstate: state\nregistries: []\nstores: [{kinds}]\ncvmfs:\n  repository: {NAME}\n"
            f"  servers: {json.dumps(list(servers))}\n  public_key: {shared_keys().public}\n{more}"
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "neurocommand", "--config", "n.yaml", "status", "--probe", *words],
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "a bug in" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def json(self, *words: str) -> tuple[int, dict[str, Any]]:
        code, out, _ = self.run("--json", *words)
        return code, json.loads(out)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def address(server: WebServer) -> str:
    return f"{server.url}/cvmfs/{NAME}"


def replica(made: MadeRepository) -> MadeRepository:
    return copy.deepcopy(made)


def object_of(made: MadeRepository, content: bytes) -> str:
    return next(path for path in made.files if path == f"data/{made.store(content)[:2]}/{made.store(content)[2:]}")


def test_all_good(site: Site, web_server: Serve) -> None:
    made = neurodesk(RELEASES)
    servers = [web_server(made.respond), web_server(replica(made).respond)]
    site.configure([address(server) for server in servers])
    code, found = site.json()
    assert code == 0
    assert [(s["server"], s["state"], s["revision"]) for s in found["servers"]] == [
        (address(server), "ok", 25) for server in servers
    ]
    assert all(60 <= s["age_seconds"] < 3600 and s["milliseconds"] >= 0 for s in found["servers"])
    assert (found["missing"], found["live"]) == ([], 2)
    code, out, _ = site.run()
    assert code == 0
    assert f"{address(servers[0])}: ok, revision 25, signed " in out
    assert "2 servers, 0 of them not as it should be; 2 live releases, 0 missing somewhere\n" in out


def test_one_down_one_stale_one_without_a_release(site: Site, web_server: Serve) -> None:
    """The acceptance of N29: three named failures."""
    old = neurodesk(RELEASES[:1])
    old.revision = 24
    old.publish()
    made = neurodesk(RELEASES)
    made.timestamp = int(time.time()) - 4 * 3600
    made.publish()
    without = replica(made)
    del without.files[object_of(made, f'{{"release": "{RELEASES[1]}"}}'.encode())]
    down = f"{refused_url()}/cvmfs/{NAME}"
    first, second, third = (web_server(one.respond) for one in (made, old, without))
    site.configure([address(first), down, address(second), address(third)])
    code, found = site.json()
    assert code == 1
    assert [s["state"] for s in found["servers"]] == ["ok", "down", "stale", "ok"]
    assert all(s["next"] for s in found["servers"] if s["failing"])
    assert [(m["release"], m["where"]) for m in found["missing"]] == [(RELEASES[1], address(third))]
    code, out, _ = site.run()
    assert code == 1
    assert f"{down}: down: " in out
    assert "Connection refused" in out
    assert "stale, revision 24" in out
    assert "has revision 24, but there is 25, signed 4.0 h ago" in out
    assert f"{RELEASES[1]}: missing on {address(third)}: lacks the object data/" in out


def test_a_release_that_is_in_no_catalog_is_named_once(site: Site, web_server: Serve) -> None:
    made = neurodesk(RELEASES[:1])
    site.configure([address(web_server(made.respond)), address(web_server(replica(made).respond))])
    code, found = site.json()
    assert code == 1
    assert [(m["release"], m["where"]) for m in found["missing"]] == [(RELEASES[1], "")]


def test_a_server_that_misses_the_latest_for_minutes_only_is_no_failure(site: Site, web_server: Serve) -> None:
    old = neurodesk(RELEASES)
    old.revision = 24
    old.publish()
    site.configure([address(web_server(neurodesk(RELEASES).respond)), address(web_server(old.respond))])
    code, found = site.json()
    assert (code, [s["state"] for s in found["servers"]]) == (0, ["ok", "behind"])
    site.configure([address(web_server(old.respond))], "  max_age_hours: 1\n")
    old.timestamp -= 7200
    old.publish()
    code, found = site.json()
    assert (code, [s["state"] for s in found["servers"]]) == (1, ["stale"])


def test_signatures_whitelists_and_two_publishers(site: Site, web_server: Serve) -> None:
    made = neurodesk(RELEASES)
    split = replica(made)
    split.directory(split.root, "/other")
    split.publish()
    expired, expiring, theirs = (neurodesk(RELEASES) for _ in range(3))
    expired.expires = time.time() - 60
    expired.publish()
    expiring.expires = time.time() + 3.5 * 86400
    expiring.publish()
    theirs = neurodesk(RELEASES, keys=shared_keys("theirs"))
    site.configure([address(web_server(one.respond)) for one in (made, split, expired, expiring, theirs)])
    code, found = site.json()
    assert code == 1
    assert [s["state"] for s in found["servers"]] == [
        *("ok", "split", "whitelist expired", "whitelist expires in 3 days", "bad signature"),
    ]
    assert [s["failing"] for s in found["servers"]] == [False, True, True, False, True]


def test_a_server_that_says_nothing_is_given_up(site: Site, web_server: Serve) -> None:
    made = neurodesk(RELEASES)
    trickle = web_server(lambda request: Answer(body=b"x" * 60000, rate=500))
    with silent_server() as silent:
        site.configure([address(web_server(made.respond)), silent, f"{trickle.url}/x"])
        started = time.monotonic()
        code, found = site.json("--timeout", "2")
        assert time.monotonic() - started < 40
    assert (code, [s["state"] for s in found["servers"]]) == (1, ["ok", "down", "down"])


def test_neurodesks_own_layout_and_another_stratum_0(site: Site, web_server: Serve) -> None:
    made = neurodesk(RELEASES)
    copied = replica(made)
    del copied.files[object_of(made, b"niimath\n")]
    first, second = web_server(made.respond), web_server(copied.respond)
    site.configure([f"{second.url}/cvmfs/@fqrn@"], f"  stratum0: {address(first)}\n  release_file: commands.txt\n")
    code, found = site.json()
    assert code == 1
    assert [s["server"] for s in found["servers"]] == [address(first), address(second)]
    assert {(m["release"], m["where"]) for m in found["missing"]} == {(name, address(second)) for name in RELEASES}


def test_only_a_known_stratum_0_has_the_last_word(site: Site, web_server: Serve) -> None:
    ahead = neurodesk(RELEASES)
    ahead.revision = 26
    ahead.publish()
    first, second = web_server(neurodesk(RELEASES).respond), web_server(ahead.respond)
    site.configure([address(first), address(second)])
    assert [s["state"] for s in site.json()[1]["servers"]] == ["behind", "ok"]
    site.configure([address(second)], f"  stratum0: {address(first)}\n")
    code, found = site.json()
    assert (code, [s["state"] for s in found["servers"]]) == (1, ["ok", "split"])


def test_where_the_stratum_0_is_down_the_newest_counts(site: Site, web_server: Serve) -> None:
    site.configure([f"{refused_url()}/x", address(web_server(neurodesk(RELEASES).respond))])
    code, found = site.json()
    assert (code, [s["state"] for s in found["servers"]], found["missing"]) == (1, ["down", "ok"], [])


def test_stores_that_lack_what_another_one_has(site: Site, web_server: Serve) -> None:
    site.configure([address(web_server(neurodesk(RELEASES).respond))], stores=("one", "two"))
    (site.path / "two" / f"{RELEASES[0]}.simg").unlink()
    code, found = site.json()
    assert code == 1
    assert [(m["release"], m["where"]) for m in found["missing"]] == [(RELEASES[0], "the store two")]


def test_a_release_that_no_store_holds_is_not_live(site: Site, web_server: Serve) -> None:
    site.configure([address(web_server(neurodesk(RELEASES[:1]).respond))])
    (site.path / "local" / f"{RELEASES[1]}.simg").unlink()
    code, found = site.json()
    assert (code, found["live"]) == (0, 1)


@pytest.mark.parametrize(
    ("section", "code", "message", "hint"),
    [
        ("", 2, "no CVMFS repository to probe", "cvmfs.repository"),
        ("cvmfs: {repository: x.org}", 2, "no server of x.org is named", "cvmfs.servers"),
        ("publish: {repository: x.org, cvmfs_configuration: /no}", 1, "publishes no CVMFS repository x.org", "mkfs"),
        ("cvmfs: {repository: x.org, servers: ['REFUSED'], public_key: no.pub}", 1, "", ""),
    ],
)
def test_what_cannot_be_probed(site: Site, section: str, code: int, message: str, hint: str) -> None:
    section = section.replace("REFUSED", refused_url())
    site.configure([])
    text = (site.path / "n.yaml").read_text().partition("cvmfs:")[0]
    (site.path / "n.yaml").write_text(f"{text}{section}\n")
    found, _, err = site.run()
    assert found == code
    assert message in err
    assert hint in err


def test_a_publisher_probes_its_own_stratum_0(site: Site, web_server: Serve) -> None:
    made = neurodesk(RELEASES)
    server = web_server(made.respond)
    conf = site.path / "cvmfs" / "repositories.d" / NAME / "server.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"CVMFS_USER=me\nCVMFS_STRATUM0={address(server)}\nCVMFS_UPSTREAM_STORAGE=local,/a,/b\n")
    (site.path / "cvmfs" / "keys").mkdir()
    (site.path / "cvmfs" / "keys" / f"{NAME}.pub").write_bytes(made.keys.public.read_bytes())
    site.configure([])
    text = (site.path / "n.yaml").read_text().partition("cvmfs:")[0]
    section = f"publish: {{repository: {NAME}, root: root, cvmfs_configuration: {site.path}/cvmfs}}"
    (site.path / "n.yaml").write_text(f"{text}{section}\n")
    code, found = site.json()
    assert code == 0
    assert [(s["server"], s["state"]) for s in found["servers"]] == [(address(server), "ok")]


def test_a_missing_key_fails_the_run(site: Site, web_server: Serve) -> None:
    site.configure([address(web_server(neurodesk(RELEASES).respond))])
    text = (site.path / "n.yaml").read_text().replace(str(shared_keys().public), "no.pub")
    (site.path / "n.yaml").write_text(text)
    code, _, err = site.run()
    assert code == 1
    assert "no.pub: No such file" in err
    assert "set cvmfs.public_key" in err
