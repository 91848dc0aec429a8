"""apps.json: what is read, and every fault at its line."""

from __future__ import annotations

import contextlib
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from neurocommand import manifesttext, schema
from neurocommand.errors import Fault, FaultsError, UsageError
from neurocommand.manifest import Declaration, Manifest
from neurocommand.model import About, Notice, Release
from tests import hostile

VALIDATOR = Draft202012Validator(schema.published("apps.schema.json"))


def read(value: Any, **options: bool) -> Manifest:
    return manifesttext.parse(json.dumps(value), "apps.json", **options)


@pytest.mark.parametrize(
    ("edition", "groups", "releases", "launchers", "warnings"),
    [
        ("neurodesk-2026-08", 228, 384, 120, ["irkernel: the group is empty"]),
        ("neurodesk-2025-06", 104, 199, 80, ["mrtrix3src latest version: build date 'latest' is no date"]),
    ],
)
def test_published_manifests_are_accepted(
    published: Path, edition: str, groups: int, releases: int, launchers: int, warnings: list[str]
) -> None:
    text = (published / edition / "apps.json").read_text(encoding="utf-8")
    found = manifesttext.parse(text, "apps.json")
    assert (len(found.groups), len(found.declarations), len(found.launchers)) == (groups, releases, launchers)
    assert [f"{fault.where}: {fault.message}" for fault in found.warnings] == warnings


@pytest.mark.parametrize("name", list(hostile.CASES))
def test_hostile_manifests(name: str) -> None:
    source, line, message = hostile.CASES[name]
    data = source.encode() if isinstance(source, str) else source
    with pytest.raises(FaultsError) as caught:
        manifesttext.parse(manifesttext.jsontext.decode(data, "apps.json"), "apps.json")
    errors = [fault for fault in caught.value.faults if not fault.warning]
    assert [fault for fault in errors if fault.line == line and message in fault.message], caught.value.message


def test_every_fault_is_reported_at_once_in_order() -> None:
    text = (
        '{"fsl": {"apps": {\n"fsl 1": {"version": "2021", "exec": ""},\n"FSL 2": {"version": "20210105", "exec": ""},\n'
        '"a-fsl 3": {"version": "20210105", "exec": "x"}},\n"categories": ["nose"]},\n'
        '"B": {"apps": {}, "categories": []}}'
    )
    with pytest.raises(FaultsError) as caught:
        manifesttext.parse(text, "dir/apps.json")
    assert [fault.line for fault in caught.value.faults] == [2, 3, 4, 5, 6]
    assert caught.value.message.splitlines()[0].startswith("dir/apps.json:2: fsl 1 version: '2021': the build date")


def test_a_twin_is_reported_once() -> None:
    with pytest.raises(FaultsError) as caught:
        manifesttext.parse(hostile.CASES["one release in two groups, on one line"][0], "apps.json")  # type: ignore[arg-type]
    assert len(caught.value.faults) == 1


def test_unknown_keys_of_a_followed_manifest_are_warnings() -> None:
    value = {"fsl": {**hostile.GOOD["fsl"], "novel": 1}, "$schema": "x"}
    with pytest.raises(FaultsError):
        read(value)
    followed = read(value, maintained=False)
    assert [fault.message for fault in followed.warnings] == ["unknown key"]
    assert len(followed.declarations) == 1


def test_a_followed_manifest_still_has_names_checked() -> None:
    with pytest.raises(FaultsError):
        read({"../x": {"apps": {}, "categories": []}}, maintained=False)


def test_visibility_hides_only_when_false_and_an_entry_overrides_its_group() -> None:
    entry = {"version": "20210105", "exec": ""}
    found = read(
        {
            "a": {
                "show_in_applist": False,
                "apps": {"a 1": entry, "a 2": {**entry, "show_in_applist": True}},
                "categories": [],
            },
            "b": {"apps": {"b 1": {**entry, "show_in_menu": False}}, "categories": []},
        }
    )
    assert [(d.show_in_menu, d.show_in_applist) for d in found.declarations] == [
        (True, False),
        (True, True),
        (False, True),
    ]


def test_launchers_belong_to_a_release() -> None:
    found = read(hostile.GOOD)
    assert found.launchers[0].release == found.declarations[0].release == Release("fsl", "6.0.4", "20210105")
    assert found.launchers[0].command == "fsleyes"


def test_a_launcher_may_come_before_its_release() -> None:
    group = hostile.GOOD["fsl"]
    turned = {"fsl": {**group, "apps": dict(reversed(group["apps"].items()))}}
    assert len(read(turned).launchers) == 1


def test_a_dash_in_the_name_of_a_foreign_group_is_told() -> None:
    found = read({"x": {"apps": {"a-b 1": {"version": "20210105", "exec": ""}}, "categories": []}})
    assert "a release by its empty exec" in found.warnings[0].message


def test_retirements_are_read() -> None:
    extra = {
        "retired": {
            "fsl_5.0_20200101": {"reason": "faulty", "successor": "fsl_6.0.4_20210105"},
            "fsl_4.0_20190101": {"reason": "old"},
        }
    }
    found = read({"fsl": {**hostile.GOOD["fsl"], "x-neurocommand": extra}})
    assert [(r.release.id, r.reason, str(r.successor)) for r in found.retirements] == [
        ("fsl_5.0_20200101", "faulty", "fsl_6.0.4_20210105"),
        ("fsl_4.0_20190101", "old", "None"),
    ]


def test_a_successor_that_is_not_in_the_manifest_is_told() -> None:
    extra = {"retired": {"fsl_5.0_20200101": {"reason": "old", "successor": "fsl_9_20210105"}}}
    (warning,) = read({"fsl": {**hostile.GOOD["fsl"], "x-neurocommand": extra}}).warnings
    assert "fsl_9_20210105 is not in this manifest" in warning.message


def told(**extra: Any) -> Manifest:
    return read({"fsl": {**hostile.GOOD["fsl"], "x-neurocommand": extra}})


def test_what_people_say_of_an_application_is_read() -> None:
    about = {"description": "D", "url": "https://x", "licence": "MIT", "citation": "C", "keywords": ["a", "b"]}
    (declaration,) = told(about=about, doi={"fsl_6.0.4_20210105": "10.1234/x"}).declarations
    assert declaration.about == About("D", "https://x", "MIT", "C", ("a", "b"))
    assert declaration.doi == "10.1234/x"
    (plain,) = told().declarations
    assert (plain.about, plain.doi, plain.deprecation, plain.revision) == (About(), "", None, "")
    assert plain.revised("base") == "base"
    assert declaration.revised("base") == f"base-{declaration.revision}" != plain.revised("base")
    assert len(declaration.revision) == 8


def test_deprecations_are_read() -> None:
    notice = {"reason": "old", "successor": "fsl_9_20210105", "since": "2026-01-31"}
    found = told(deprecated={"fsl_6.0.4_20210105": notice})
    assert found.declarations[0].deprecation == Notice("old", Release("fsl", "9", "20210105"), "2026-01-31")
    assert "fsl_9_20210105 is not in this manifest" in found.warnings[0].message
    assert found.defaults.deprecated == {Release("fsl", "6.0.4", "20210105")}


def test_the_day_of_a_retirement_is_read() -> None:
    (retirement,) = told(retired={"fsl_5.0_20200101": {"reason": "old", "since": "2026-01-31"}}).retirements
    assert retirement.notice == Notice("old", None, "2026-01-31")


@pytest.mark.parametrize(
    ("policy", "deprecated", "expected"),
    [
        ("", (), "10.0"),
        ("highest", (), "10.0"),
        ("newest", (), "2.0"),
        ("9.0", (), "9.0"),
        ("9.0", ("9.0",), "9.0"),
        ("", ("10.0",), "9.0"),
        ("newest", ("2.0",), "9.0"),
        ("highest", ("10.0", "9.0", "2.0"), "10.0"),
    ],
)
def test_the_default_version(policy: str, deprecated: tuple[str, ...], expected: str) -> None:
    days = {"10.0": "20200101", "9.0": "20230101", "2.0": "20240101"}
    extra: dict[str, Any] = {"default": policy} if policy else {}
    extra["deprecated"] = {f"fsl_{version}_{days[version]}": {"reason": "old"} for version in deprecated}
    apps = {f"fsl {version}": {"version": day, "exec": ""} for version, day in days.items()}
    found = read({"fsl": {"apps": apps, "categories": [], "x-neurocommand": extra}})
    assert found.choose("fsl").release.version == expected
    assert found.default_policies == ({"fsl": policy} if policy else {})
    # what is deployed is asked, not what is declared
    gone = Release("fsl", "11.0", "20250101")
    others = [gone, *(d.release for d in found.declarations)]
    assert found.defaults.among(others) == (gone if policy != "9.0" else Release("fsl", "9.0", "20230101"))


ENTRY = '{"version":"20210105","exec":""}'


@pytest.mark.parametrize(
    ("text", "first", "count"),
    [
        ("[" + "0," * 300_000 + "0]", "more than 100000 values", 1),
        ("{" + '"a":0,' * 300_000 + '"a":0}', "more than 100000 values", 101),
        ('["' + "x" * 1_000_000 + '"]', "does not end", 1),
        ('["' + "\\n" * 1_000_000 + '"]', "does not end", 1),
        (
            '{"fsl":{"categories":[],"apps":{' + ",".join(f'"fsl {n}":{{}}' for n in range(90_000)) + "}}}",
            "missing",
            101,
        ),
        ("{" + ",".join(f'"A{n}":0' for n in range(90_000)) + "}", "a group's name", 101),
        (
            '{"fsl":{"apps":{},"categories":[' + ",".join(f'{{"a":{n}}}' for n in range(45_000)) + "]}}",
            "unknown",
            101,
        ),
        ('{"fsl":{"apps":{},"categories":["' + "x" * 60_000 + '"]}}', "unknown", 2),
    ],
    ids=["values", "duplicates", "string", "escapes", "entries", "groups", "categories", "long category"],
)
def test_a_text_that_is_no_manifest_is_refused_soon(text: str, first: str, count: int) -> None:
    began = time.process_time()
    with pytest.raises(FaultsError) as caught:
        manifesttext.parse(text, "apps.json")
    assert time.process_time() - began < 10
    assert any(first in fault.message for fault in caught.value.faults)
    assert len(caught.value.faults) == count
    if count > 100:
        assert re.fullmatch(r"and [0-9]+ more", caught.value.faults[-1].message)


def test_of_very_many_faults_the_errors_are_shown() -> None:
    novel = ",".join(f'"novel{n}":0' for n in range(200))
    text = f'{{"fsl":{{{novel},"apps":{{"fsl 1":{ENTRY}}},"categories":[]}},\n"gsl":{{"apps":5,"categories":[]}}}}'
    with pytest.raises(FaultsError) as caught:
        manifesttext.parse(text, "apps.json", maintained=False)
    assert [fault.message for fault in caught.value.faults] == ["must be an object", "and 200 more"]
    followed = manifesttext.parse(text.replace('"apps":5', '"apps":{}'), "apps.json", maintained=False)
    assert len(followed.warnings) == 101
    assert followed.warnings[-1].message.endswith("more")


def several() -> Manifest:
    entry = {"version": "20210105", "exec": ""}
    return read(
        {
            "fsl": {"apps": {"fsl 6.0.10": entry, "fsl 6.0.9": entry}, "categories": []},
            "fslpy": {"apps": {"fslpy 1": entry}, "categories": []},
        }
    )


@pytest.mark.parametrize(
    ("argument", "release"),
    [
        ("fsl", "fsl_6.0.10_20210105"),
        ("fsl/6.0.9", "fsl_6.0.9_20210105"),
        ("fsl_6.0.9_20210105", "fsl_6.0.9_20210105"),
    ],
)
def test_a_release_is_chosen_by_application_version_or_id(argument: str, release: str) -> None:
    assert several().choose(argument).release.id == release


@pytest.mark.parametrize(
    ("argument", "hint"),
    [("fsl/7", "fsl/6.0.10, fsl/6.0.9"), ("fls", "fsl"), ("zzz", "neurocommand list"), ("fsl\x1b/7", "fsl")],
)
def test_a_release_that_is_not_there_names_its_neighbours(argument: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        several().choose(argument)
    assert hint in caught.value.hint
    assert "\x1b" not in caught.value.message


def test_a_manifest_is_reduced_to_what_was_asked_for() -> None:
    assert [d.release.id for d in several().only(["fslpy", "fsl/6.0.9"]).declarations] == [
        "fsl_6.0.9_20210105",
        "fslpy_1_20210105",
    ]
    assert several().only([]) == several()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
near_manifests = st.dictionaries(
    st.sampled_from(["fsl", "$schema", "A"]) | st.text(max_size=3),
    st.fixed_dictionaries(
        {},
        optional={
            "apps": st.dictionaries(
                st.sampled_from(["fsl 1", "gui-fsl 1", "FSL 1", "x"]) | st.text(max_size=4),
                json_values
                | st.fixed_dictionaries(
                    {"version": st.sampled_from(["20210105", "latest", "x"]), "exec": st.sampled_from(["", "x", "$"])}
                ),
            )
            | json_values,
            "categories": st.lists(st.sampled_from(["body", "nose"])) | json_values,
            "x-neurocommand": json_values,
        },
    )
    | json_values,
)


@given(near_manifests | json_values)
def test_any_json_gives_a_manifest_or_located_faults(value: Any) -> None:
    text = json.dumps(value, indent=0)
    with contextlib.suppress(FaultsError):
        found = manifesttext.parse(text, "apps.json")
        assert all(fault.warning for fault in found.warnings)
        return
    with pytest.raises(FaultsError) as caught:
        manifesttext.parse(text, "apps.json")
    faults: tuple[Fault, ...] = caught.value.faults
    assert all(0 < fault.line <= text.count("\n") + 1 for fault in faults)
    assert any(not fault.warning for fault in faults)


@given(near_manifests)
def test_what_the_published_schema_refuses_is_refused(value: Any) -> None:
    if not VALIDATOR.is_valid(value):
        with pytest.raises(FaultsError):
            manifesttext.parse(json.dumps(value), "apps.json")


def test_the_schema_is_a_valid_schema_and_accepts_the_published_manifests(published: Path) -> None:
    Draft202012Validator.check_schema(schema.published("apps.schema.json"))
    for edition in ("neurodesk-2026-08", "neurodesk-2025-06"):
        Draft202012Validator(schema.published("apps.schema.json")).validate(
            json.loads((published / edition / "apps.json").read_text())
        )


def test_dois_are_read_for_releases_that_live_or_not() -> None:
    group = {**hostile.GOOD["fsl"], "x-neurocommand": {"doi": {"fsl_5.0_20200101": "10.5281/zenodo.1"}}}
    assert read({"fsl": group}).dois == {Release("fsl", "5.0", "20200101"): "10.5281/zenodo.1"}
    for doi in ({"fsl_5.0_20200101": "https://doi.org/10.5281/x"}, {"fsl": "10.5281/x"}):
        with pytest.raises(FaultsError):
            read({"fsl": {**hostile.GOOD["fsl"], "x-neurocommand": {"doi": doi}}})


def test_commands_that_are_exposed_though_they_are_excluded() -> None:
    def declared(extra: dict[str, Any]) -> Declaration:
        return read({"fsl": {**hostile.GOOD["fsl"], "x-neurocommand": extra}}).declarations[0]

    found = declared({"expose": ["python3", "git"]})
    assert found.expose == ("git", "python3")
    assert found.revised("base") == declared({"expose": ["git", "python3"]}).revised("base")
    assert len({declared(extra).revised("base") for extra in ({}, {"expose": ["git"]}, {"expose": ["python3"]})}) == 3
    assert declared({"expose": []}).revised("base") == "base"
    for names in (["../sh"], ["a b"], ["-x"], [""], [1], "git", ["git", "git"]):
        with pytest.raises(FaultsError):
            declared({"expose": names})
