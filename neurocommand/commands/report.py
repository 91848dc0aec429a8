"""Plans and outcomes as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from neurocommand.actions import Action, Adopt, Copy, Delete, Plan, Problem, Retire, Upload
from neurocommand.apply import Done, Failed, Outcome, Skipped
from neurocommand.commands.console import Console
from neurocommand.errors import printable_lines


def action_name(action: Action) -> str:
    """Return the verb of an action."""
    return type(action).__name__.lower()


def action_values(action: Action) -> dict[str, Any]:
    """Return an action as JSON values."""
    values: dict[str, Any] = {"action": action_name(action), "release": action.release.id}
    if isinstance(action, Adopt | Copy | Delete | Upload):
        values["store"] = action.store
    if isinstance(action, Copy):
        values |= {"sources": list(action.sources), "streamed": action.streamed}
    if isinstance(action, Retire):
        values["renewal"] = action.renewal
    return {**values, "reason": action.reason}


def plan_values(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON values."""
    return {
        "actions": [action_values(a) for a in plan.actions],
        "problems": [_problem_values(p) for p in plan.problems],
        "kept": [{"release": kept.release.id, "reason": kept.reason} for kept in plan.kept],
    }


def _problem_values(problem: Problem) -> dict[str, Any]:
    return {"kind": problem.kind, "subject": problem.subject, "reason": problem.reason, "fatal": problem.fatal}


def outcome_values(outcome: Outcome) -> dict[str, Any]:
    """Return an outcome as JSON values."""
    values = action_values(outcome.action)
    match outcome:
        case Done(_, detail):
            return {**values, "outcome": "done", "detail": detail}
        case Failed(_, error, fatal):
            return {**values, "outcome": "failed", "error": error.message, "hint": error.hint, "fatal": fatal}
        case Skipped(_, reason):
            return {**values, "outcome": "skipped", "error": reason}


def plan_lines(plan: Plan) -> list[str]:
    """Return a plan for people; the last line sums it up."""
    lines = []
    for action in plan.actions:
        where = f" -> {action.store}" if isinstance(action, Copy | Delete | Upload) else ""
        where += " (streamed)" if isinstance(action, Copy) and action.streamed else ""
        lines.append(printable_lines(f"{action_name(action):8} {action.release}{where}: {action.reason}"))
    for problem in plan.problems:
        lines.append(problem_text(problem))
    return [*lines, _summary(plan)]


def problem_text(problem: Problem) -> str:
    """Return a problem as one line."""
    return printable_lines(f"problem  {problem.subject}: {problem.kind}: {problem.reason}")


def _summary(plan: Plan) -> str:
    if not plan.actions and not plan.problems:
        return "nothing to do"
    return f"{count(len(plan.actions), 'action')}, {count(len(plan.problems), 'problem')}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "action"), count(2, "action")
    ('1 action', '2 actions')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Say how one action ended."""
    name = f"{outcome.action.release}: {action_name(outcome.action)}"
    match outcome:
        case Done(Upload() | Copy(), _):
            pass  # its stage has been shown with its time and bytes
        case Done(_, detail):
            console.say(f"{name}: done: {detail}")
        case Failed(_, error):
            console.complain(f"{name}: failed: {error.message}" + (f"\n  next: {error.hint}" if error.hint else ""))
        case Skipped(_, reason):
            console.complain(f"{name}: skipped: {reason}")


def exit_code(outcomes: Iterable[Outcome], problems: Sequence[Problem]) -> int:
    """Return the gravest exit code: 4 before 3 before the others, 0 when all went well."""
    codes = {outcome.error.exit_code for outcome in outcomes if isinstance(outcome, Failed) and outcome.fatal}
    codes |= {problem.exit_code for problem in problems}
    codes.discard(0)
    return next((code for code in (4, 3) if code in codes), min(codes, default=0))


def totals(outcomes: Sequence[Outcome], problems: Sequence[Problem]) -> str:
    """Return the last line of a run."""
    done, failed, skipped = (sum(isinstance(o, kind) for o in outcomes) for kind in (Done, Failed, Skipped))
    return f"{done} done, {failed} failed, {skipped} skipped, {count(len(problems), 'problem')}"
