"""How a run ended, read from its folder: what ``Run.wait`` returns when another process has run it."""

from __future__ import annotations

from loop_runner.errors import EnvironmentFault
from loop_runner.records import Answer, Outcome, RunStatus
from loop_runner.runs.status import Status, score_of, verdict_of
from loop_runner.text import shell
from loop_runner.workspace.history import History

_STATUS: dict[str, RunStatus] = {
    "verified": "verified",
    "different": "verified",
    "unverified": "unverified",
    "unfinished": "interrupted",
    "interrupted": "interrupted",
    "cancelled": "interrupted",
    "broken": "broken",
    "blocked": "blocked",
}


def outcome_of(status: Status) -> Outcome:
    """The outcome of a run that no process runs. Raises ``EnvironmentFault`` where an error ended it."""
    if (ended := _STATUS.get(status.state)) is None:
        raise EnvironmentFault(
            f"the run in {status.folder} ended {status.state}: {status.reason}",
            why="there is no result; what was committed is safe",
            hint=status.steps[0] if status.steps else f"see {status.log or shell(status.folder)}",
        )
    with History(status.folder) as history:
        answer = best_answer(history) if ended in ("unverified", "blocked") else history.answer()
        return Outcome(ended, answer, history.head(), status.spend, status.reason)


def best_answer(history: History) -> Answer:
    """What the pass with the best score handed in, the latest of equals."""
    head = history.head()
    last = head.pass_number if head.turn == 0 else head.pass_number - 1
    scores = {number: score_of(verdict_of(history, number)) or 0.0 for number in range(1, last + 1)}
    best = max(scores, key=lambda number: (scores[number], number), default=0)
    ended = history.newest_of(best) if best else None
    return history.answer() if ended is None else history.answer(ended.parents[-1])
