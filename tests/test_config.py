"""Settings: defaults, a file over them, and every fault of a file at its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from neurocommand import config, schema
from neurocommand.config import ConfigurationError, DirectorySettings, HttpSettings, S3Settings


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


def test_a_file_replaces_top_level_keys_and_merges_sections(tmp_path: Path) -> None:
    path = write(
        tmp_path / "n.yaml",
        "manifest: sub/apps.json\n"
        "stores:\n"
        "  - {name: d, kind: directory, path: store, writable: false}\n"
        "  - {name: s, kind: s3, bucket: bucket, endpoint: 'http://127.0.0.1:1', region: r, prefix: p/, profile: x}\n"
        "  - {name: a, kind: s3, bucket: bucket, anonymous: true}\n"
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
        S3Settings("s", "bucket", "http://127.0.0.1:1", "r", "p/", "x", False, True),
        S3Settings("a", "bucket", None, None, "", None, True, False),
        HttpSettings("h", "https://x/y", (404, 410)),
    )
    assert found.registries[0].templates == config.DEFAULT_TEMPLATES


@pytest.mark.parametrize(
    ("manifest", "lock"), [("a/my.json", "a/my.lock.json"), ("https://x/apps.json", "state/apps.lock.json")]
)
def test_a_lock_is_beside_its_manifest_unless_that_is_followed(tmp_path: Path, manifest: str, lock: str) -> None:
    path = write(tmp_path / "n.yaml", f"manifest: {manifest}\nstate: state\n")
    assert config.load(path, {}).lock == tmp_path / lock


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert config.load(write(tmp_path / "n.yaml", ""), {}) == config.load(environ={})


def test_the_command_line_and_the_environment_override(tmp_path: Path) -> None:
    environ = {"NEUROCOMMAND_CONFIG": str(write(tmp_path / "n.yaml", "manifest: x.json")), "NEUROCOMMAND_PREFIX": "/p"}
    found = config.load(None, environ, manifest=tmp_path / "y.json")
    assert found.manifest == str(tmp_path / "y.json")
    assert found.prefix == Path("/p")
    assert config.load(write(tmp_path / "o.yaml", "manifest: z.json"), environ).manifest == str(tmp_path / "z.json")


def test_a_file_is_found_in_the_working_directory_then_in_the_home(
    tmp_path: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = own_home / ".config/neurocommand"
    place.mkdir(parents=True)
    home = write(place / "neurocommand.yaml", "")
    assert config.find(None, {}) == home
    write(tmp_path / "neurocommand.yaml", "")
    assert config.find(None, {}) == Path("neurocommand.yaml")


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
        ("state: !!int x", 1, "no YAML"),
        ("stores:\n  - {name: a, kind: tape}", 2, "unknown: 'tape'"),
        ("stores:\n  - {name: a, kind: directory}", 2, "path is missing"),
        ("stores:\n  - {name: a, kind: s3, bucket: X}", 2, "a bucket's name"),
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
        ("publish: {format: zip}", 1, "unknown: 'zip'"),
        ("install: 5", 1, "must be an object"),
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
    import re

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
