"""Says in which state a run is, why, and which command comes next.

The commits decide what is verified; how the last process ended comes from the trace beside the history, which
a clone does not have.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from loop_runner import text
from loop_runner.agents.sessions import STOP_FILE
from loop_runner.errors import LoopRunnerError
from loop_runner.records import Checkpoint
from loop_runner.runs import next_steps, now
from loop_runner.task import config
from loop_runner.workspace import layout
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

AN_AUDIT = "an audit"  # how the reason of an audit begins, whose answer is no text for people
_MAX_REASON_CHARS = 300
_BY_STATUS = {
    "error": "failed",
    "unverified": "unverified",
    "blocked": "blocked",
    "broken": "broken",
    "interrupted": "interrupted",
}
CRASHED = "its process ended unexpectedly (killed, or the machine stopped); what was committed is safe"
_UNKNOWN = "how its last process ended is not recorded here, as in a clone or a fork"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a run (see docs/json.md), the reason in a sentence, and commands that continue it."""

    state: str
    reason: str = ""
    steps: tuple[str, ...] = ()


def of_run(history: History, head: Checkpoint, task: config.Task, passes: int) -> Standing:
    """Where the run stands; ``passes`` are finished. What no longer is as proven is not looked for."""
    state, reason = _state(history, head, task, passes)
    try:
        steps = tuple(next_steps.for_state(history, state, reason))
    except (LoopRunnerError, OSError):  # a damaged folder: its own command says what is wrong
        steps = ()
    return Standing(state, text.one_line(reason, _MAX_REASON_CHARS), steps)


def _state(history: History, head: Checkpoint, task: config.Task, passes: int) -> tuple[str, str]:
    if history.running():
        return "running", ""
    if head.outcome == "accepted":
        return "verified", _findings(history, task)
    if (history.folder / STOP_FILE).exists():
        return (
            "cancelled",
            f"`loop-runner hook cancel` ended it; the file {STOP_FILE} in the run folder says so",
        )
    if head.turn == 0 and (missing := _blocked_by(history, head)):
        return "blocked", missing
    if head.turn == 0 and (limit := _limit(history, head, task, passes)):
        return "unverified", _unjudged(history, task) or limit
    end = now.last_end(history)
    if end is None or head.subject.startswith(("fork:", "rewind:", "retask:")) or end[0] == "verified":
        return "unfinished", _UNKNOWN if end is None else "it was changed since its last process ended"
    status, reason = end
    if status in _BY_STATUS:
        return _BY_STATUS[status], reason
    return "crashed", CRASHED


def _blocked_by(history: History, head: Checkpoint) -> str:
    """What the last two passes declared to be missing; "" where they did not."""
    for number in (head.pass_number, head.pass_number - 1):
        path = f"{layout.pass_folder(number)}/pass.json"
        with parsing(history.folder, path):
            if json.loads(history.read(path) or b"{}").get("end") != "blocked":
                return ""
    return history.answer(history.commit(head.commit).parents[-1]).blocked or "the model declared so"


def _limit(history: History, head: Checkpoint, task: config.Task, passes: int) -> str:
    """Why the run ended unverified, where the commits alone tell it; "" where they do not."""
    if passes >= task.budget.passes:
        return f"the budget of {text.plural(task.budget.passes, 'pass', 'passes')} is used up"
    path = f"{layout.pass_folder(head.pass_number)}/verdict.json"
    with parsing(history.folder, path):
        verdict = json.loads(history.read(path) or b"{}")
        if verdict.get("next", {}).get("strategy") == "stop":
            return "no progress: pass after pass ended with the same answer and the same failures"
    return ""


def _findings(history: History, task: config.Task) -> str:
    """What an audit found: its answer is verified when the findings are, which may be many."""
    findings = _of_audit(history, task, "findings")
    if findings is None:
        return ""
    unsure = len(_of_audit(history, task, "unsure") or ())
    beside = f", unsure about {text.plural(unsure, 'place')}" if unsure else ""
    if not findings:
        return f"{AN_AUDIT} that found nothing{beside}"
    count = text.plural(len(findings), "finding")
    return f"{AN_AUDIT} with {count}{beside}: the findings are verified, not the files"


def _unjudged(history: History, task: config.Task) -> str:
    """Why an audit is not complete: passes end only because places are left that were not judged."""
    places = _of_audit(history, task, "unjudged")
    if not places:
        return ""
    ((why, _),) = Counter(str(place.get("why")) for place in places).most_common(1)
    return f"{AN_AUDIT} with {text.plural(len(places), 'place')} not judged: {why}"


def _of_audit(history: History, task: config.Task, key: str) -> list[dict[str, Any]] | None:
    """A list of an audit's answer; None where the run is no audit, or its answer is no report of one."""
    if not any(isinstance(spec, dict) and "findings" in spec for spec in task.verifiers):
        return None
    try:
        entries = json.loads(history.answer().content)[key]
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    is_list = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
    return entries if is_list else None
