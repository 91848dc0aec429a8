"""Settings: defaults, a file over them, and every fault of a file at its line."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import datetime
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from neurocommand import config, entries, schema
from neurocommand.config import ConfigurationError
from neurocommand.errors import UsageError
from neurocommand.layout import Root
from neurocommand.places import KEPT
from neurocommand.settings import (
    Bind,
    Budget,
    Credentials,
    CvmfsSettings,
    DirectorySettings,
    DownloadSettings,
    HttpSettings,
    OciSettings,
    RcloneSettings,
    RetentionSettings,
    S3Settings,
    WrapperSettings,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_defaults_are_what_the_schema_allows() -> None:
    text = config.bundled("defaults.yaml").read_text(encoding="utf-8")
    Draft202012Validator.check_schema(schema.published(config.SCHEMA))
    Draft202012Validator(schema.published(config.SCHEMA)).validate(yaml.safe_load(text))


def test_the_defaults_have_one_writable_store_and_public_mirrors(own_home: Path) -> None:
    found = config.load(environ={})
    assert [(type(store), store.name) for store in found.stores] == [
        (DirectorySettings, "local"),
        (HttpSettings, "nectar"),
        (HttpSettings, "aws"),
    ]
    assert found.prefix == own_home / ".local/share/neurocommand"
    assert found.state == own_home / ".local/state/neurocommand"
    assert found.root is None
    assert found.install_format == "sif"
    assert Path(found.lock).name == "apps.lock.json"


@pytest.mark.parametrize(("text", "found"), [("state: x\n", "zstd"), ("convert: {compression: gzip}\n", "gzip")])
def test_the_compression_of_sifs(text: str, found: str, tmp_path: Path) -> None:
    assert config.load(write(tmp_path / "n.yaml", text), {}).compression == found


def test_a_cvmfs_repository(tmp_path: Path) -> None:
    assert config.load(write(tmp_path / "n.yaml", "state: x\n"), {}).cvmfs is None
    found = config.load(write(tmp_path / "n.yaml", "cvmfs: {repository: x.org}\n"), {}).cvmfs
    assert found is not None
    assert found == CvmfsSettings("x.org", (), None, Path("/etc/cvmfs/keys/x.org.pub"))
    assert found.addresses == ()
    text = """cvmfs:
  repository: x.org
  servers: [http://s1/cvmfs/@fqrn@, http://s0/cvmfs/x.org/]
  stratum0: http://s0/cvmfs/@fqrn@
  public_key: keys/x.pub
  max_lag_minutes: 9
  max_age_hours: 48
  release_file: commands.txt
  configuration: etc
"""
    found = config.load(write(tmp_path / "n.yaml", text), {}).cvmfs
    assert found is not None
    assert found.addresses == ("http://s0/cvmfs/x.org", "http://s1/cvmfs/x.org")
    assert (found.public_key, found.configuration) == (tmp_path / "keys/x.pub", tmp_path / "etc")
    assert (found.lag_minutes, found.age_hours, found.release_file) == (9, 48, "commands.txt")


def test_downloads_merge_with_the_defaults(tmp_path: Path, own_home: Path) -> None:
    speeds = own_home / ".local/state/neurocommand/speeds.json"
    assert config.load(environ={}).downloads == DownloadSettings(8, True, speeds)
    path = write(tmp_path / "n.yaml", "downloads: {aria2: false}\nstate: here\n")
    assert config.load(path, {}).downloads == DownloadSettings(8, False, tmp_path / "here/speeds.json")
    path = write(tmp_path / "n.yaml", "downloads: {connections: 2}\n")
    assert config.load(path, {}).downloads == DownloadSettings(2, True, speeds)


@pytest.mark.parametrize(
    "text", ["{connections: 0}", "{connections: 65}", "{connections: x}", "{aria2: 1}", "{other: 1}"]
)
def test_downloads_that_cannot_be_meant(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"n\.yaml:1: downloads"):
        config.load(write(tmp_path / "n.yaml", f"downloads: {text}\n"), {})


def test_a_file_replaces_top_level_keys_and_merges_sections(tmp_path: Path) -> None:
    path = write(
        tmp_path / "n.yaml",
        "manifest: sub/apps.json\n"
        "stores:\n"
        "  - {name: d, kind: directory, path: store, writable: false}\n"
        "  - {name: s, kind: s3, bucket: bucket, endpoint: 'http://127.0.0.1:1', region: r, prefix: p/, profile: x}\n"
        "  - {name: a, kind: s3, bucket: bucket, anonymous: true, url: 'https://x/b/',\n"
        "     part_size: 64.0, concurrency: 2}\n"
        "  - {name: e, kind: directory, path: served, url: 'http://x/e/'}\n"
        "  - {name: h, kind: http, url: 'https://x/y/'}\n"
        "registries: [{name: r, url: '127.0.0.1:5000/n', insecure: true}]\n"
        "publish: {root: root}\n"
        "spool: /big/spool\n"
        "lock: own.lock.json\n",
    )
    found = config.load(path, {})
    assert found.manifest == str(tmp_path / "sub/apps.json")
    assert found.lock == tmp_path / "own.lock.json"
    assert found.root == tmp_path / "root"
    assert found.publish_format == "tree"
    assert found.spool == Path("/big/spool")
    assert found.stores == (
        DirectorySettings("d", tmp_path / "store", False, False),
        S3Settings("s", "bucket", "http://127.0.0.1:1", "r", "p/", "x", False, True, None, "", 8 << 20, 4),
        S3Settings("a", "bucket", None, None, "", None, True, False, None, "https://x/b", 64 << 20, 2),
        DirectorySettings("e", tmp_path / "served", True, False, None, "http://x/e"),
        HttpSettings("h", "https://x/y", (404, 410)),
    )
    assert found.registries[0].templates == entries.DEFAULT_TEMPLATES


@pytest.mark.parametrize(
    ("manifest", "lock"), [("a/my.json", "a/my.lock.json"), ("https://x/apps.json", "state/apps.lock.json")]
)
def test_a_lock_is_beside_its_manifest_unless_that_is_followed(tmp_path: Path, manifest: str, lock: str) -> None:
    path = write(tmp_path / "n.yaml", f"manifest: {manifest}\nstate: state\n")
    assert config.load(path, {}).lock == tmp_path / lock


def test_a_registry_as_a_store(tmp_path: Path) -> None:
    text = (
        "state: state\n"
        "registries: [{name: ours, url: 'ghcr.io/x', templates: ['{application}:{version}']}]\n"
        "stores:\n"
        "  - {name: my-sifs, kind: oci, url: ghcr.io/x/sif, images: ours, mode: sync}\n"
        "  - {name: near, kind: oci, url: '127.0.0.1:5000/sif', insecure: true, writable: false}\n"
    )
    environ = {"NEUROCOMMAND_MY_SIFS_USERNAME": "ci", "NEUROCOMMAND_MY_SIFS_PASSWORD": "s3cret"}
    found = config.load(write(tmp_path / "n.yaml", text), environ)
    uploads = tmp_path / "state/uploads"
    known = Credentials("ci", "s3cret")
    assert found.stores == (
        OciSettings("my-sifs", "ghcr.io/x/sif", False, found.registries[0], True, uploads / "my-sifs", known, "sync"),
        OciSettings("near", "127.0.0.1:5000/sif", True, None, False, uploads / "near"),
    )
    assert "s3cret" not in repr(found)
    with pytest.raises(UsageError, match="belong together"):
        config.load(tmp_path / "n.yaml", {"NEUROCOMMAND_NEAR_USERNAME": "ci"})


def test_a_remote_of_rclone_as_a_store(tmp_path: Path) -> None:
    text = "stores:\n  - {name: n, kind: rclone, remote: 'nectar:neurodesk/images', url: 'https://x/y/', mode: sync}\n"
    found = config.load(write(tmp_path / "n.yaml", text), {})
    assert found.stores == (RcloneSettings("n", "nectar:neurodesk/images", True, "https://x/y", "sync"),)


def test_budgets_of_registries(tmp_path: Path) -> None:
    assert [registry.budget for registry in config.load(environ={}).registries] == [
        Budget(),
        Budget(),
        Budget(100, 21600),
    ]
    text = "registries: [{name: a, url: ghcr.io/x, budget: {requests: 7}}]"
    assert config.load(write(tmp_path / "n.yaml", text), {}).registries[0].budget == Budget(7)


@pytest.mark.parametrize("images", ["dockerhub", "nobody"])
def test_referrers_stand_on_the_host_of_their_images(tmp_path: Path, images: str) -> None:
    path = write(tmp_path / "n.yaml", f"stores: [{{name: a, kind: oci, url: ghcr.io/x, images: {images}}}]")
    with pytest.raises(UsageError, match=f"images: {images} is no registry on ghcr.io"):
        config.load(path, {})


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert config.load(write(tmp_path / "n.yaml", ""), {}) == config.load(environ={})


def test_a_run_apart_keeps_everything_in_its_directory_and_deploys_nothing(tmp_path: Path) -> None:
    path = tmp_path / "neurocommand.yaml"
    path.write_text(
        "manifest: https://host/apps.json\nspool: spool\nstate: state\npublish: {root: root, format: sif}\n"
    )
    place = tmp_path / "apart"
    settings = config.load(path, {"NEUROCOMMAND_STATE": str(tmp_path / "elsewhere")}, apart=place)
    assert (settings.state, settings.spool, settings.lock) == (place, place / "spool", place / "apps.lock.json")
    assert (settings.root, settings.publish_format) == (None, "sif")
    assert settings.downloads.speeds == place / "speeds.json"
    assert settings.lock_from == tmp_path / "elsewhere/apps.lock.json"
    assert config.load(path, {}).lock_from is None


def test_the_command_line_and_the_environment_override(tmp_path: Path) -> None:
    environ = {"NEUROCOMMAND_CONFIG": str(write(tmp_path / "n.yaml", "manifest: x.json")), "NEUROCOMMAND_PREFIX": "/p"}
    found = config.load(None, environ, manifest=tmp_path / "y.json")
    assert found.manifest == str(tmp_path / "y.json")
    assert found.prefix == Path("/p")
    assert config.load(write(tmp_path / "o.yaml", "manifest: z.json"), environ).manifest == str(tmp_path / "z.json")


@pytest.mark.parametrize("how", ["owner", "link", "mode"])
def test_a_file_of_somebody_else_in_the_working_directory_is_not_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "neurocommand.yaml", "manifest: evil.json\n")
    if how == "mode":
        path.chmod(0o646)
    elif os.geteuid() != 0:
        pytest.skip("needs root, to give a file to somebody else")
    elif how == "link":
        path.rename(tmp_path / "mine.yaml")
        path.symlink_to("mine.yaml")
        os.lchown(path, 12345, 0)
    else:
        os.chown(path, 12345, 0)
    said: list[str] = []
    assert config.load(environ={}, warn=said.append) == config.load(write(tmp_path / "none.yaml", ""), {})
    assert len(said) == 1
    assert str(path) in said[0]
    assert "--config neurocommand.yaml" in said[0]
    for named, environ in ((path, {}), (None, {"NEUROCOMMAND_CONFIG": str(path)})):
        assert config.load(named, environ, warn=said.append).manifest == str(tmp_path / "evil.json")
    assert len(said) == 1


@pytest.mark.parametrize(
    "address",
    [
        "http://[::1",
        "https://",
        "http:///x",
        "http://h:port/",
        "http://h:99999/",
        "https://a b/",
        "http://a..b",
        "http://.a",
    ],
)
@pytest.mark.parametrize("kind", ["http, url", "s3, bucket: bucket, endpoint"])
def test_an_address_that_leads_nowhere_is_a_fault(tmp_path: Path, kind: str, address: str) -> None:
    path = write(tmp_path / "n.yaml", f'stores:\n- {{name: x, kind: {kind}: "{address}"}}\n')
    with pytest.raises(ConfigurationError) as caught:
        config.load(path, {})
    assert [fault.line for fault in caught.value.faults] == [2]
    assert "no address" in caught.value.message


def test_credentials_have_no_place_in_an_endpoint(tmp_path: Path) -> None:
    path = write(tmp_path / "n.yaml", "stores:\n- {name: x, kind: s3, bucket: bucket, endpoint: 'http://user:pw@h'}\n")
    with pytest.raises(ConfigurationError, match="without a user"):
        config.load(path, {})


@pytest.mark.parametrize(
    "address", ["http://[::1]:9000", "https://user:pw@h.example:443/x y", "http://127.0.0.1", "http://h_x.a."]
)
def test_an_address_that_may_lead_somewhere_is_none(tmp_path: Path, address: str) -> None:
    path = write(tmp_path / "n.yaml", f'stores: [{{name: x, kind: http, url: "{address}"}}]\n')
    assert config.load(path, {}).stores == (HttpSettings("x", address, (404, 410)),)


def test_a_file_is_found_in_the_working_directory_then_in_the_home(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = own_home / ".config/neurocommand"
    place.mkdir(parents=True)
    home = write(place / "neurocommand.yaml", "")
    assert config.find(None, {}, len) == home
    write(tmp_path / "neurocommand.yaml", "")
    assert config.find(None, {}, len) == Path("neurocommand.yaml")


def test_a_file_that_was_named_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        config.load(tmp_path / "none.yaml", {})


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: [", 1, "no YAML"),
        ("a: 'x\n", 2, "no YAML"),
        ("\x01", 0, "no YAML"),
        ("- a", 1, "must be an object"),
        ("state: s\ncolour: red", 2, "unknown key"),
        ("manifest: 5", 1, "must be a text"),
        ("manifest: a\nmanifest: b", 2, "duplicate key"),
        ("state: 2026-99-99", 1, "must be a text|no YAML"),
        ("state: !!python/object/apply:os.system [id]", 1, "no YAML|must be"),
        ("state: !!int x", 1, "no YAML: 'x' is no int"),
        ("lock: x\nstate: !!int ''", 2, "no YAML: '' is no int"),
        ("state: !!bool maybe", 1, "no YAML: 'maybe' is no bool"),
        ("state: !!timestamp x", 1, "no YAML: 'x' is no timestamp"),
        ("state: " + "[" * 5000, 0, "nested too deep"),
        ('state: "\\ud800"', 1, "a control character"),
        ("registries:\n  - name: a\n    url: x\n    templates: []", 4, "must not be empty"),
        ("stores:\n  - {name: a, kind: http, url: 'https://x', absent: [500]}", 2, "unknown: '500'"),
        ("stores:\n  - {name: a, kind: tape}", 2, "unknown: 'tape'"),
        ("stores:\n  - {name: a, kind: directory}", 2, "path is missing"),
        ("stores:\n  - {name: a, kind: s3, bucket: X}", 2, "a bucket's name"),
        ("stores:\n  - {name: a, kind: oci, url: 'https://ghcr.io/x'}", 2, "without a scheme"),
        ("stores:\n  - {name: a, kind: oci, url: ghcr.io}", 2, "without a scheme"),
        ("stores:\n  - {name: a, kind: oci, url: 'ghcr.io/-x'}", 2, "without a scheme"),
        ("stores:\n  - {name: a, kind: oci}", 2, "url"),
        ("stores:\n  - {name: a, kind: oci, url: 'ghcr.io:99999/x'}", 2, "no address"),
        ("stores:\n  - {name: a, kind: rclone}", 2, "remote"),
        ("stores:\n  - {name: a, kind: rclone, remote: '$(x):y'}", 2, "name:path"),
        ("stores:\n  - {name: a, kind: rclone, remote: 'a:b c'}", 2, "name:path"),
        ("stores:\n  - {name: a, kind: rclone, remote: 'a:b/-c'}", 2, "name:path"),
        ("stores:\n  - {name: a, kind: rclone, remote: ':local:/x'}", 2, "name:path"),
        ("stores:\n  - {name: a, kind: rclone, remote: 'a:'}", 2, "name:path"),
        ("registries:\n  - {name: a, url: x, budget: {requests: 0}}", 2, "1 to 1000000"),
        ("stores:\n  - {name: a, kind: s3, bucket: xxx, part_size: 4}", 2, "5 to 5120"),
        ("stores:\n  - {name: a, kind: s3, bucket: xxx, concurrency: 0}", 2, "1 to 64"),
        ("stores:\n  - {name: a, kind: directory, path: x, url: 'ftp://x'}", 2, "http or https address"),
        ("stores:\n  - {name: a, kind: http, url: 'file:///etc'}", 2, "http or https"),
        ("stores:\n  - {name: ../a, kind: directory, path: x}", 2, "a name uses"),
        (
            "stores:\n  - {name: a, kind: directory, path: x}\n  - {name: a, kind: directory, path: y}",
            3,
            "stands twice",
        ),
        ("registries:\n  - {name: a, url: 'https://x'}", 2, "without a scheme"),
        ("registries:\n  - name: a\n    url: x\n    templates: ['{colour}:1']", 4, "a template is"),
        ("publish: {mount_points: ['../x']}", 1, "a mount point is"),
        ("cvmfs: {repository: '../x'}", 1, "a repository's name"),
        ("cvmfs: {repository: x, servers: ['http://a;id']}", 1, "a server is the http or https address"),
        ("cvmfs: {repository: x, servers: ['http://me:pw@host/']}", 1, "a server is the http or https address"),
        ("cvmfs: {repository: x, max_lag_minutes: 0}", 1, "a number of minutes"),
        ("publish: {format: zip}", 1, "unknown: 'zip'"),
        ("convert: {compression: xz}", 1, "unknown: 'xz'"),
        ("limits: {bandwidth: 0}", 1, "a size is a number of bytes, or one with K, M, G or T"),
        ("limits: {bandwidth: 50 MB/s}", 1, "a size is a number of bytes, or one with K, M, G or T"),
        ("limits: {bandwidth: 1.5}", 1, "a size is a number of bytes, or one with K, M, G or T"),
        ("limits: {bandwidth: null}", 1, "a size is a number of bytes, or one with K, M, G or T"),
        ("install: 5", 1, "must be an object"),
        ("wrappers: {gpu: maybe}", 1, "unknown: 'maybe'"),
        ("wrappers: {colour: red}", 1, "unknown key"),
        ("wrappers: {warm_idle: 0}", 1, "1 to 604800"),
        ("wrappers:\n  pass: ['A-B']", 2, "a variable's name"),
        ("wrappers:\n  binds: [{destination: /x}]", 2, "source is missing"),
        ("wrappers:\n  binds: [{source: x}]", 2, "."),
        ("sets: [fsl]", 1, "must be an object"),
        ("sets:\n  mri: fsl", 2, "must be a list"),
        ("sets:\n  mri: []", 2, "must not be empty"),
        ("sets:\n  mri: [fsl, fsl]", 2, "twice"),
        ("sets:\n  mri: ['$(id)']", 2, "a release is application"),
        ("sets:\n  ../mri: [fsl]", 2, "a set's name"),
        ("stores: 5", 1, "must be a list"),
        ("stores: [5]", 1, "must be an object"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: " + "[*b, " * 20 + "]" * 20, 1, "too deep|unknown key"),
    ],
)
def test_faults_of_a_file(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = write(tmp_path / "n.yaml", text)
    with pytest.raises(ConfigurationError) as caught:
        config.load(path, {})
    assert caught.value.exit_code == 2
    assert [fault for fault in caught.value.faults if fault.line == line and re.search(message, fault.message)] or (
        re.search(message, caught.value.message)
    ), caught.value.message


def test_aliases_cannot_multiply_without_end(tmp_path: Path) -> None:
    levels = "\n".join(f"k{n}: &k{n} [{', '.join([f'*k{n - 1}'] * 10)}]" for n in range(1, 9))
    path = write(tmp_path / "n.yaml", f"k0: &k0 [x]\n{levels}\n")
    with pytest.raises(ConfigurationError, match="too many values"):
        config.load(path, {})


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "n.yaml"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        config.load(path, {})


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load(environ={}).root = Path("/")  # type: ignore[misc]


# --- structure that nobody expects ------------------------------------------------------------------------------------

ALL_KEYS: dict[str, Any] = {
    "manifest": "apps.json",
    "lock": "apps.lock.json",
    "state": "state",
    "spool": "spool",
    "registries": [{"name": "r", "url": "x:5000/n", "insecure": True, "templates": ["{application}:{version}"]}],
    "stores": [
        {"name": "d", "kind": "directory", "path": "store", "writable": True, "create": False, "url": "http://x"},
        {"name": "s", "kind": "s3", "bucket": "bucket", "endpoint": "http://x", "region": "r", "prefix": "p/"},
        {"name": "t", "kind": "s3", "bucket": "bucket", "url": "http://x", "part_size": 8, "concurrency": 4},
        {"name": "h", "kind": "http", "url": "https://x/y", "absent": [403, 404]},
    ],
    "install": {"prefix": "prefix", "format": "sif"},
    "publish": {"root": "root", "format": "tree", "mount_points": ["/data"]},
    "cvmfs": {
        "repository": "x.org",
        "servers": ["http://s1/cvmfs/@fqrn@"],
        "stratum0": "http://s0/cvmfs/x.org",
        "public_key": "x.pub",
        "max_lag_minutes": 9,
        "max_age_hours": 9,
        "release_file": "record.json",
        "configuration": "cvmfs",
    },
}
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(datetime.date(1000, 1, 1)),
    st.binary(max_size=4),
    st.text(max_size=8),
    st.sampled_from(
        ["", "~nobody/x", "{data}:x", "root", "root/containers", ".", "/", {}, [], {"name": 1}, [[]], [{}]]
    ),
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container of a structure with each of its keys."""
    if not isinstance(value, dict | list):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 1000), ODD), min_size=1, max_size=3))
def test_whatever_stands_where_it_does_not_belong_is_a_fault_or_a_setting(
    tmp_path: Path, changes: list[tuple[int, Any]]
) -> None:
    content = copy.deepcopy(ALL_KEYS)
    for number, value in changes:
        found = places(content)
        container, key = found[number % len(found)]
        container[key] = copy.deepcopy(value)
    path = tmp_path / "n.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(ConfigurationError, UsageError):
        config.load(path, {})


# --- places -----------------------------------------------------------------------------------------------------------


def test_what_a_root_keeps_is_what_the_layout_says() -> None:
    root = Root(Path("/r"))
    trees = {root.modules, root.modules_tcl, root.categories}
    assert {root.path / name for name in KEPT} == {root.state, root.containers, root.lmod, *trees}


STORE = "stores: [{name: a, kind: directory, path: %s}, {name: b, kind: directory, path: other, writable: false}]"


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        (STORE % "s" + "\nspool: s", "spool", "store a"),
        (STORE % "s" + "\nspool: s/x", "spool", "store a"),
        (STORE % "x/s" + "\nspool: x", "spool", "store a"),
        (STORE % "s" + "\nspool: link", "spool", "store b"),
        (STORE % "other", "store b", "store a"),
        (STORE % "p", "store a", "install.prefix"),
        (STORE % "r/containers/x", "store a", "publish.root"),
        (STORE % "p/.neurocommand/spool", "store a", "install.prefix"),
        ("spool: p", "spool", "install.prefix"),
        ("spool: r", "spool", "publish.root"),
        ("spool: r/spool", "spool", "publish.root"),
        ("spool: p/modules", "spool", "install.prefix"),
        ("spool: .", "spool", "publish.root"),
        ("publish: {root: p/containers}", "publish.root", "install.prefix"),
    ],
)
def test_places_that_stand_in_each_others_way_are_refused(tmp_path: Path, text: str, first: str, second: str) -> None:
    (tmp_path / "link").symlink_to("other")
    more = "" if "publish:" in text else "\npublish: {root: r}"
    path = write(tmp_path / "n.yaml", f"state: state\ninstall: {{prefix: p}}\n{text}{more}\n")
    with pytest.raises(ConfigurationError, match=rf"n\.yaml: {first}: .* stands in the way of {second} \(") as caught:
        config.load(path, {})
    assert caught.value.exit_code == 2


def test_places_beside_each_other_are_allowed(tmp_path: Path) -> None:
    path = write(
        tmp_path / "n.yaml",
        "state: state\ninstall: {prefix: p}\npublish: {root: r}\n"
        "stores: [{name: a, kind: directory, path: p/store}, {name: b, kind: directory, path: state/store}]",
    )
    assert config.load(path, {}).spool == tmp_path / "state/spool"


@pytest.mark.parametrize("text", ["state: ~nosuchuser/x", "publish: {root: ~nosuchuser}"])
def test_a_home_directory_that_is_not_known_is_no_bug(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match="home directory of nosuchuser is not known") as caught:
        config.load(write(tmp_path / "n.yaml", text), {})
    assert "without ~" in caught.value.hint


def test_without_a_home_its_places_are_where_nobody_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> None:
        raise KeyError(number)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.chdir(tmp_path)
    found = config.load(environ={})
    assert found.state.is_relative_to(entries.HOMELESS)
    assert found.prefix.is_relative_to(entries.HOMELESS)
    with pytest.raises(NotADirectoryError):
        found.state.mkdir(parents=True)
    assert config.load(write(tmp_path / "h.yaml", "state: ~/s/t"), {}).state == entries.HOMELESS / "s/t"
    path = write(tmp_path / "n.yaml", "state: state\nstores: []\ninstall: {prefix: p}")
    assert config.load(path, {}).prefix == tmp_path / "p"


@pytest.mark.parametrize("path", ["", ".", "/a:b", "/a\x1b[31m", "/a\nb", "/a\udcff"])
def test_what_can_be_no_root_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(UsageError) as caught:
        config.checked_root(Path(path))
    assert caught.value.hint
    assert caught.value.message.isprintable()
    if path:
        with pytest.raises(UsageError):
            config.load(environ={"NEUROCOMMAND_PREFIX": path})


def test_a_tilde_is_the_home_directory_wherever_a_root_is_named(own_home: Path) -> None:
    assert config.checked_root(Path("~/q")) == own_home / "q"
    assert config.load(environ={"NEUROCOMMAND_PREFIX": "~/x"}).prefix == own_home / "x"


def test_a_root_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.checked_root(Path("a b")) == tmp_path / "a b"


def test_the_primary_and_mirrors_that_sync_may_lose_objects(tmp_path: Path) -> None:
    stores = (
        "stores:\n  - {name: w, kind: http, url: 'https://x/y'}\n"
        "  - {name: r, kind: directory, path: r, writable: false}\n"
        "  - {name: p, kind: directory, path: p}\n"
        "  - {name: s, kind: s3, bucket: bucket, mode: sync}\n"
        "  - {name: c, kind: directory, path: c, mode: copy}\n"
    )
    assert config.load(write(tmp_path / "n.yaml", stores), {}).prunable == {"p", "s"}


@pytest.mark.parametrize(
    "primary",
    [
        "kind: directory, path: p",
        "kind: s3, bucket: bucket",
        "kind: rclone, remote: 'p:p'",
        "kind: oci, url: host/path",
    ],
)
@pytest.mark.parametrize(("mode", "may"), [("", True), (", mode: sync", True), (", mode: copy", False)])
def test_a_primary_that_is_told_to_copy_loses_nothing(tmp_path: Path, primary: str, mode: str, may: bool) -> None:
    text = f"stores:\n  - {{name: p, {primary}{mode}}}\n  - {{name: s, kind: directory, path: s, mode: sync}}\n"
    assert config.load(write(tmp_path / "n.yaml", text), {}).prunable == ({"p", "s"} if may else {"s"})


def test_limits_merge_with_the_defaults(tmp_path: Path) -> None:
    limits = config.load(write(tmp_path / "n.yaml", "limits: {transfers: 8.0}\n"), {}).limits
    assert (limits.conversions, limits.transfers, limits.releases) == (1, 8, 9)
    assert limits.bandwidth is None


@pytest.mark.parametrize(
    ("written", "rate"), [("50M", 50 << 20), ("'7'", 7), ("1000", 1000), ("4096.0", 4096), ("1g", 1 << 30)]
)
def test_a_bandwidth_is_a_number_of_bytes_or_one_with_a_unit(tmp_path: Path, written: str, rate: int) -> None:
    found = config.load(write(tmp_path / "n.yaml", f"limits: {{bandwidth: {written}}}\n"), {}).limits.bandwidth
    assert (found, type(found)) == (rate, int)


def test_retention_and_quorum(tmp_path: Path) -> None:
    text = "quorum: 2.0\nretention: {grace_days: 7, pinned: [fsl]}\n"
    found = config.load(write(tmp_path / "n.yaml", text), {})
    assert (found.quorum, found.retention) == (2, RetentionSettings(7, 10, 5, frozenset({"fsl"})))


def test_wrappers_merge_with_the_defaults_and_sets_are_read(tmp_path: Path) -> None:
    text = (
        "wrappers: {gpu: auto, warm: true, warm_idle: 60.0, pass: [FOO, BAR_*], "
        "binds: [{source: /a}, {source: /b, destination: /c, read_only: true}]}\n"
        "sets: {mri: [fsl, mrtrix3/3.0.4], 'eeg.1': [eeglab]}\n"
    )
    found = config.load(write(tmp_path / "n.yaml", text), {})
    binds = (Bind("/a", "/a"), Bind("/b", "/c", read_only=True))
    assert found.wrappers == WrapperSettings("auto", True, 60, ("FOO", "BAR_*"), binds)
    assert found.sets == (("mri", ("fsl", "mrtrix3/3.0.4")), ("eeg.1", ("eeglab",)))
    plain = config.load(write(tmp_path / "n.yaml", "wrappers: {gpu: 'on'}\n"), {})
    assert (plain.wrappers, plain.sets) == (WrapperSettings("on"), ())


def test_lmod_is_looked_for_where_it_says_first() -> None:
    found = config.lmod_directories({"LMOD_DIR": "/a/libexec", "LMOD_PKG": "/b"})
    assert found[:2] == (Path("/a/libexec"), Path("/b/libexec"))
    assert found[2:] == config.lmod_directories({})
    assert Path("/usr/share/lmod/lmod/libexec") in found
    assert config.lmod_directories() == config.lmod_directories(os.environ)
