"""Manifests that must be refused: each with the line and words of the fault that a curator has to see."""

from __future__ import annotations

import json
from typing import Any

GOOD: dict[str, Any] = {
    "fsl": {
        "apps": {
            "fsl 6.0.4": {"version": "20210105", "exec": ""},
            "fsleyesGUI-fsl 6.0.4": {"version": "20210105", "exec": "fsleyes"},
        },
        "categories": ["diffusion imaging"],
    }
}


def text(value: Any) -> str:
    return json.dumps(value, indent=1)


def entry(label: str = "fsl 6.0.4", **members: Any) -> str:
    """Return a manifest of one entry, which stands on line 4; its members follow from line 5."""
    return text({"fsl": {"apps": {label: {"version": "20210105", "exec": "", **members}}, "categories": []}})


def group(name: str = "fsl", **members: Any) -> str:
    """Return a manifest of one group, which stands on line 2."""
    return text({name: {"apps": {}, "categories": [], **members}})


def entries(**apps: Any) -> str:
    return text({"fsl": {"apps": apps, "categories": []}})


RETIRING: dict[str, Any] = {"categories": [], "x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x"}}}}


def deprecating(notice: dict[str, str]) -> str:
    """Return a manifest that deprecates its release; the notice's second member stands on line 14."""
    return text(
        {
            "fsl": {
                "apps": {"fsl 1": {"version": "20210105", "exec": ""}},
                "categories": [],
                "x-neurocommand": {"deprecated": {"fsl_1_20210105": notice}},
            }
        }
    )


# name: (text, line of the fault, what its message says)
CASES: dict[str, tuple[str | bytes, int, str]] = {
    # no JSON
    "empty": ("", 1, "ends too early"),
    "blank": (" \n\n ", 3, "ends too early"),
    "html": ("<!DOCTYPE html>\n<html>", 1, "expected a value"),
    "truncated": ('{\n "fsl": {\n', 3, "expected a key"),
    "trailing comma": ('{\n "a": 1,\n}', 3, "expected a key"),
    "missing colon": ('{\n "a" 1}', 2, "expected ':'"),
    "missing comma": ('{\n "a": [1\n 2]}', 3, "expected ',' or ']'"),
    "single quotes": ("{\n 'a': 1}", 2, "expected a key"),
    "comment": ('{\n // fsl\n "a": 1}', 2, "expected a key"),
    "two values": ("{}\n{}", 2, "after the end"),
    "not a number": ('{"a": NaN}', 1, "expected a value"),
    "infinity": ('{"a": -Infinity}', 1, "expected a value"),
    "raw newline in a text": ('{"a": "x\ny"}', 1, "does not end on its line"),
    "bad escape": ('{"a": "\\x"}', 1, "invalid escape"),
    "half a surrogate": ('{"a": "\\ud800"}', 1, "surrogate"),
    "huge number": ('{"a": ' + "9" * 5000 + "}", 1, "digits"),
    "deep nesting": ("[" * 100_000, 1, "nested deeper"),
    "deep objects": ('{"a":' * 5000 + "1" + "}" * 5000, 1, "nested deeper"),
    "NUL": (b'{\n "a\0b": 1}', 2, "NUL"),
    "not UTF-8": (b'{\n "a": "\xff\xfe"}', 2, "not UTF-8"),
    "UTF-16": (text(GOOD).encode("utf-16"), 1, ""),
    # duplicate keys and twins
    "duplicate group": (
        '{\n "a": {"apps": {}, "categories": []},\n "a": {"apps": {}, "categories": []}}',
        3,
        "duplicate",
    ),
    "duplicate label": (
        '{"fsl": {"apps": {\n"fsl 1": {"version": "20210105", "exec": ""},\n"fsl 1": {"version": "20210106", '
        '"exec": ""}}, "categories": []}}',
        3,
        "duplicate key (first on line 2)",
    ),
    "duplicate member": (
        '{"fsl": {"apps": {"fsl 1": {\n"version": "20210105",\n"version": "1"}}, "categories": []}}',
        3,
        "dup",
    ),
    "escaped duplicate": ('{\n "a": {"apps": {}, "categories": []},\n "\\u0061": 1}', 3, "duplicate"),
    "labels equal but for case": (
        text(
            {
                "fsl": {"apps": {"fsl 6a": {"version": "20210105", "exec": ""}}, "categories": []},
                "gsl": {"apps": {"fsl 6A": {"version": "20210105", "exec": ""}}, "categories": []},
            }
        ),
        13,
        "stands on line 4 too",
    ),
    "one release in two groups, on one line": (
        '{"small":{"apps":{"small 1.0":{"version":"20260101","exec":""}},"categories":[]},'
        '"other":{"apps":{"small 1.0":{"version":"20260101","exec":""}},"categories":[]}}',
        1,
        "stands on line 1 too, as small 1.0, in group small",
    ),
    "labels equal but for case, on one line": (
        '{"fsl":{"apps":{"fsl 1.0A":{"version":"20260101","exec":""},"fsl 1.0a":{"version":"20260101","exec":""}},'
        '"categories":[]}}',
        1,
        "stands on line 1 too, as fsl 1.0A",
    ),
    # wrong types
    "a list": ("[]", 1, "must be an object"),
    "a text": ('"fsl"', 1, "must be an object"),
    "group is a text": ('{\n "fsl": "x"}', 2, "must be an object"),
    "apps is a list": (group(apps=[]), 3, "must be an object"),
    "categories is a text": (group(categories="body"), 4, "must be a list"),
    "category is a number": (group(categories=[1]), 5, "unknown"),
    "entry is null": (entries(**{"fsl 1": None}), 4, "must be an object"),
    "date is a number": (entry(version=20210105), 5, "must be a text"),
    "exec is null": (entry(exec=None), 6, "must be a text"),
    "visibility is a text": (entry(show_in_menu="no"), 7, "must be true or false"),
    "options are a text": (entry(apptainer_args="--nv"), 7, "must be a list"),
    # missing and unknown keys
    "no categories": ('{\n "fsl": {"apps": {}}}', 2, "categories is missing"),
    "no apps": ('{\n "fsl": {"categories": []}}', 2, "apps is missing"),
    "no version": (entries(**{"fsl 1": {"exec": ""}}), 4, "version is missing"),
    "unknown key of an entry": (entry(image="x"), 7, "unknown key"),
    "unknown key of a group": (group(color="red"), 5, "unknown key"),
    # names
    "path escape in a group": (group("../../etc"), 2, "a group's name"),
    "absolute group": (group("/etc"), 2, "a group's name"),
    "upper case group": (group("FSL"), 2, "a group's name"),
    "path escape in a label": (entry("../fsl 6.0.4"), 4, "a label is"),
    "path escape in a version": (entry("fsl ../6"), 4, "a label is"),
    "version with a dot first": (entry("fsl .6"), 4, "a label is"),
    "version with an underscore": (entry("fsl 6_0"), 4, "a label is"),
    "label without version": (entry("fsl"), 4, "a label is"),
    "label with shell metacharacters": (entry("fsl$(id) 6.0.4"), 4, "a label is"),
    "label with a quote": (entry('fsl" 6.0.4'), 4, "a label is"),
    "label with Lua": (entry("fsl]]os.exit() 6.0.4"), 4, "a label is"),
    "label with a newline": (entry("fsl\n 6.0.4"), 4, "a control character"),
    "label with an escape": (entry("fsl\x1b[31m 6.0.4"), 4, "a control character"),
    "label with a right-to-left mark": (entry("fsl\u202e 6.0.4"), 4, "a control character"),
    "Cyrillic label": (entry("fѕl 6.0.4"), 4, "a label is"),
    "release with upper case": (entry("FSL 6.0.4"), 4, "application 'FSL'"),
    "endless label": (entry("f" * 300 + " 6.0.4"), 4, "a label is"),
    "exec with metacharacters": (entry("gui-fsl 6.0.4", exec="fsleyes; rm -rf ~"), 6, "exec is empty"),
    "exec with a substitution": (entry("gui-fsl 6.0.4", exec="$(id)"), 6, "exec is empty"),
    "exec with a newline": (entry("gui-fsl 6.0.4", exec="a\nb"), 6, "a control character"),
    "option with metacharacters": (entry(apptainer_args=["--bind=$(id)"]), 8, "a runtime option"),
    "option that is none": (entry(apptainer_args=["exec"]), 8, "a runtime option"),
    # dates
    "short date": (entry(version="2021"), 5, "YYYYMMDD"),
    "date with dashes": (entry(version="2021-01-05"), 5, "YYYYMMDD"),
    "no such day": (entry(version="20210231"), 5, "is no date"),
    "no such month": (entry(version="20211305"), 5, "is no date"),
    "Arabic digits": (entry(version="٢٠٢١٠١٠٥"), 5, "YYYYMMDD"),
    "date with a newline": (entry(version="20210105\n"), 5, "a control character"),
    # categories
    "unknown category": (group(categories=["difusion imaging"]), 5, "did you mean 'diffusion imaging'?"),
    "category with a path": (group(categories=["../../x"]), 5, "unknown"),
    "category twice": (group(categories=["body", "body"]), 4, "twice"),
    # launchers
    "launcher of nothing": (
        entries(**{"gui-fsl 1": {"version": "20210105", "exec": "x"}}),
        4,
        "no release of this group",
    ),
    "launcher with another date": (
        entries(**{"fsl 1": {"version": "20210105", "exec": ""}, "gui-fsl 1": {"version": "20210106", "exec": "x"}}),
        9,
        "build date 20210106 is not that of fsl 1",
    ),
    "launcher without a dash": (entries(**{"fsl 1": {"version": "20210105", "exec": "x"}}), 4, "a launcher is"),
    # x-neurocommand
    "retired and live": (
        text(
            {
                "fsl": {
                    "apps": {"fsl 1": {"version": "20210105", "exec": ""}},
                    "categories": [],
                    "x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x"}}},
                }
            }
        ),
        12,
        "both live and retired",
    ),
    "retired and live in another group": (
        text(
            {
                "fsl": {"apps": {"fsl 1": {"version": "20210105", "exec": ""}}, "categories": []},
                "gsl": {
                    "apps": {},
                    "categories": [],
                    "x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x"}}},
                },
            }
        ),
        16,
        "both live and retired",
    ),
    "retired in two groups": (
        text({name: {**RETIRING, "apps": {}} for name in ("fsl", "gsl")}),
        17,
        "stands on line 6 too, in group fsl",
    ),
    "retired for itself": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x", "successor": "fsl_1_20210105"}}}}),
        9,
        "the release itself",
    ),
    "retired on no day": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_99999999": {"reason": "x"}}}}),
        7,
        "is no date",
    ),
    "retired without a reason": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {}}}}),
        7,
        "reason is missing",
    ),
    "retired for an empty reason": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": ""}}}}),
        8,
        "must not be empty",
    ),
    "retired by a path": (group(**{"x-neurocommand": {"retired": {"../x": {"reason": "x"}}}}), 7, "named by its id"),
    "successor is a path": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x", "successor": "../x"}}}}),
        9,
        "named by its id",
    ),
    "unknown extra key": (group(**{"x-neurocommand": {"colour": 1}}), 6, "unknown key"),
    "retired since no day": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x", "since": "2021-02-31"}}}}),
        9,
        "2021-02-31 is no date",
    ),
    "retired since a day that is written otherwise": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x", "since": "31.1.2021"}}}}),
        9,
        "a day is written YYYY-MM-DD",
    ),
    "retired for a reason with an escape": (
        group(**{"x-neurocommand": {"retired": {"fsl_1_20210105": {"reason": "x\x1b[31m"}}}}),
        8,
        "a control character",
    ),
    "deprecated but not live": (
        group(**{"x-neurocommand": {"deprecated": {"fsl_1_20210105": {"reason": "x"}}}}),
        7,
        "not live in this group",
    ),
    "deprecated by a path": (
        group(**{"x-neurocommand": {"deprecated": {"../x": {"reason": "x"}}}}),
        7,
        "named by its id",
    ),
    "deprecated without a reason": (
        group(**{"x-neurocommand": {"deprecated": {"fsl_1_20210105": {"since": "2021-01-01"}}}}),
        7,
        "reason is missing",
    ),
    "deprecated for a reason with a line break": (
        group(**{"x-neurocommand": {"deprecated": {"fsl_1_20210105": {"reason": "x\nrm -rf ~"}}}}),
        8,
        "a control character",
    ),
    "deprecated since no day": (deprecating({"reason": "x", "since": "2021-13-01"}), 14, "2021-13-01 is no date"),
    "deprecated for itself": (
        deprecating({"reason": "x", "successor": "fsl_1_20210105"}),
        14,
        "the release itself",
    ),
    "deprecated in another group": (
        text(
            {
                "fsl": {"apps": {"fsl 1": {"version": "20210105", "exec": ""}}, "categories": []},
                "gsl": {
                    "apps": {},
                    "categories": [],
                    "x-neurocommand": {"deprecated": {"fsl_1_20210105": {"reason": "x"}}},
                },
            }
        ),
        16,
        "not live in this group",
    ),
    "a default that is no version": (
        group(**{"x-neurocommand": {"default": "6.0"}}),
        6,
        "6.0 is no version of this group",
    ),
    "a default that is a path": (group(**{"x-neurocommand": {"default": "../6.0"}}), 6, "the default is a version"),
    "a default that is a number": (group(**{"x-neurocommand": {"default": 6}}), 6, "must be a text"),
    "about is a text": (group(**{"x-neurocommand": {"about": "x"}}), 6, "must be an object"),
    "about with an unknown key": (group(**{"x-neurocommand": {"about": {"colour": "red"}}}), 7, "unknown key"),
    "an address that is none": (
        group(**{"x-neurocommand": {"about": {"url": "javascript:x"}}}),
        7,
        "begins with https",
    ),
    "a description with a line break": (
        group(**{"x-neurocommand": {"about": {"description": "x\n]]os.exit()"}}}),
        7,
        "a control character",
    ),
    "an endless citation": (group(**{"x-neurocommand": {"about": {"citation": "x" * 501}}}), 7, "too long"),
    "keywords are a text": (group(**{"x-neurocommand": {"about": {"keywords": "x"}}}), 7, "must be a list"),
}
