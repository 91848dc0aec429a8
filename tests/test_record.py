"""The record: reads back, and what is none is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from neurocommand import record
from neurocommand.errors import FaultsError
from neurocommand.model import DeployRecord, Notice, Release

RECORD = DeployRecord(
    Release("fsl", "6.0.4", "20210105"),
    "a" * 64,
    5,
    "tree",
    ("@run", "fslmaths"),
    ("diffusion imaging",),
    "0123456789ab",
)


def test_a_record_reads_back() -> None:
    assert record.parse(record.render(RECORD), "record.json") == RECORD


@pytest.mark.parametrize(
    "notice",
    [Notice("x"), Notice('wrong "results"', Release("fsl", "6.0.5", "20220101"), "2026-01-31")],
)
def test_a_withdrawn_one_is_of_another_version(notice: Notice) -> None:
    withdrawn = replace(RECORD, withdrawn=notice)
    text = record.render(withdrawn)
    assert json.loads(text)["record"] == 2
    assert record.parse(text, "record.json") == withdrawn


@pytest.mark.parametrize(
    ("withdrawn", "message"),
    [
        (None, "wrong type"),
        ({}, "withdrawn has the members"),
        ({"reason": "x", "successor": "", "since": 1}, "all texts"),
        ({"reason": "x", "successor": "../x", "since": ""}, "release id"),
        ({"reason": "x", "successor": "", "since": "", "more": ""}, "withdrawn has the members"),
    ],
)
def test_what_is_no_withdrawal(withdrawn: Any, message: str) -> None:
    text = json.dumps({**json.loads(record.render(RECORD)), "record": 2, "withdrawn": withdrawn})
    with pytest.raises(FaultsError, match=message):
        record.parse(text, "record.json")


def test_a_live_record_has_no_withdrawal_and_a_withdrawn_one_has() -> None:
    live = json.loads(record.render(RECORD))
    withdrawn = json.loads(record.render(replace(RECORD, withdrawn=Notice("x"))))
    for value in ({**live, "record": 2}, {**withdrawn, "record": 1}):
        with pytest.raises(FaultsError, match="members"):
            record.parse(json.dumps(value), "record.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"release": "../x"}, "release id"),
        ({"release": 1}, "wrong type"),
        ({"size": True}, "wrong type"),
        ({"size": -1}, "bytes"),
        ({"format": "zip"}, "tree or sif"),
        ({"commands": ["../../etc/passwd"]}, "names"),
        ({"commands": [1]}, "names"),
        ({"categories": [".."]}, "names"),
        ({"sha256": "x"}, "hexadecimal"),
        ({"more": 1}, "members"),
    ],
)
def test_what_is_no_record(change: dict[str, Any], message: str) -> None:
    text = json.dumps({**json.loads(record.render(RECORD)), **change})
    with pytest.raises(FaultsError, match=message):
        record.parse(text, "record.json")


def test_a_record_of_another_version_is_unknown_not_faulty() -> None:
    text = json.dumps({"record": 3, "what": "ever"})
    with pytest.raises(record.UnknownRecordError, match="version 3") as caught:
        record.parse(text, "record.json")
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "[]", "null", "{}"])
def test_other_texts_are_no_record(text: str) -> None:
    with pytest.raises(FaultsError):
        record.parse(text, "record.json")
