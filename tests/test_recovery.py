"""The ladder after a run that did not end: every state that can be found, climbed to its end."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from neurocommand import recovery
from neurocommand.recovery import Abort, Close, Foreign, Found, Mount, Next, Publication, Ready, Tag, Transaction, Wait

SECOND = 10**9
OURS = Publication("t", "why", 4, ("a_1_20260101",), (("containers/a_1_20260101/record.json", "0" * 64),), 100 * SECOND)
SEEN = replace(OURS, transaction="7-101")
TRANSACTIONS = {
    "ours, written down": (Transaction("7-101", 101 * SECOND, "root", empty=False), SEEN),
    "ours, not written down": (Transaction("7-101", 101 * SECOND, "root", empty=True), OURS),
    "of somebody, with work in it": (Transaction("8-102", 102 * SECOND, "jane", empty=False), OURS),
    "of somebody, after ours": (Transaction("8-102", 102 * SECOND, "jane", empty=True), SEEN),
    "of somebody, much later": (Transaction("8-102", 161 * SECOND, "jane", empty=True), OURS),
    "of somebody, before": (Transaction("8-102", 99 * SECOND, "jane", empty=True), OURS),
    "of somebody, nothing of ours under way": (Transaction("8-102", 99 * SECOND, "jane", empty=True), None),
}


@pytest.mark.parametrize(("transaction", "publication"), TRANSACTIONS.values(), ids=TRANSACTIONS.keys())
def test_whose_a_transaction_is(transaction: Transaction, publication: Publication | None) -> None:
    ours = transaction.identity == "7-101"
    assert recovery.is_ours(transaction, publication) is ours
    for public, tagged, mounted in itertools.product((False, True), repeat=3):
        found = Found(publication, public, tagged, transaction=transaction, mounted=mounted)
        step = recovery.following(found)
        if ours:
            assert step == (Abort(publication) if mounted and publication else Mount())
        else:
            assert step == Foreign(transaction), "it is never touched"


def carried_out(step: Next, found: Found) -> Found:
    """Return how a repository is found after a step that succeeded."""
    match step:
        case Wait():
            return replace(found, publishing=False)
        case Mount():
            return replace(found, mounted=True)
        case Abort():
            return replace(found, transaction=None)
        case Tag():
            return replace(found, tagged=True)
        case Close():
            return replace(found, publication=None)
        case _:
            raise AssertionError(step)


def test_from_every_state_the_ladder_leads_to_its_end_or_to_somebody_else() -> None:
    transactions = (None, *(one for one, _ in TRANSACTIONS.values()))
    for publication, public, tagged, publishing, transaction, mounted in itertools.product(
        (None, OURS, SEEN), (False, True), (False, True), (False, True), transactions, (False, True)
    ):
        found = Found(publication, public, tagged, publishing, transaction, mounted)
        steps: list[Next] = []
        while not isinstance(step := recovery.following(found), Ready | Foreign):
            assert not isinstance(step, Tag) or found.public
            assert not isinstance(step, Close) or step.public == found.public
            steps.append(step)
            assert len(steps) < 7, steps
            found = carried_out(step, found)
        if isinstance(step, Ready):
            assert (found.publication, found.transaction, found.publishing, found.mounted) == (None, None, False, True)
            assert publication is None or not public or tagged or any(isinstance(one, Tag) for one in steps)
        else:
            assert not any(isinstance(one, Abort) for one in steps)
