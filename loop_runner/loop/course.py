"""The course of a run: how its passes ended, and what the next one does about it.

Owns the one decision on the next step. It is made when a pass ends, for ``verdict.json``, and after a restart
from the committed verdicts alone. Reads the workspace; ``progress`` holds the rules. Writes nothing.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from loop_runner.loop import reentry, stalling
from loop_runner.loop.stalling import PassState, Step
from loop_runner.records import Answer, Block
from loop_runner.task.config import Task
from loop_runner.verify import proof
from loop_runner.workspace.workspace import Workspace


class Course:
    """How the passes under the current prompt and verifiers ended; a fork may have changed either."""

    def __init__(self, task: Task, workspace: Workspace, root: str) -> None:
        self._task = task
        self._workspace = workspace
        self._root = root
        self._ended: list[PassState] = []
        self._decided: dict[int, Step] = {}  # by the number of passes before it

    @cached_property
    def first_pass(self) -> int:
        """The first pass that was judged under the current prompt and verifiers."""
        return reentry.first_pass_of_task(self._workspace)

    def step(self, number: int) -> Step:
        """What pass ``number`` does about the passes before it."""
        return self._next_step(self._states(number))

    def notes(self, number: int) -> list[str]:
        """What pass ``number`` is shown about the course of the run."""
        return stalling.notes(self._states(number))

    def lessons(self, number: int) -> list[str]:
        """What made earlier passes worse."""
        return stalling.lessons(self._states(number))

    def before(self, number: int) -> dict[str, Any]:
        """How the pass before ``number`` ended and the best score so far; empty before the second pass."""
        if not (states := self._states(number)):
            return {}
        last = states[-1]
        return {
            "last": {"pass": last.number, "score": last.score, "reason": last.reason},
            "best_score": max(state.score for state in states),
        }

    def judge(self, number: int, decision: Block, verdict: dict[str, Any]) -> int | None:
        """Add the course to the ``verdict`` of a pass; the pass whose files are to be restored, if any."""
        state = stalling.state_of(
            number,
            decision,
            files=self._workspace.history.files_hash(),
            answer=proof.sha256(self._workspace.history.read("answer.md") or b""),
        )
        states = [*self._states(number), state]
        step = self._next_step(states)
        worse_than = stalling.regression(states)
        rolls_back = worse_than is not None and self._task.on_regression == "rollback"
        restores = step.from_pass if step.kind == "restart" else worse_than if rolls_back else None
        verdict["state"] = stalling.as_json(state)
        verdict["next"] = {"strategy": step.kind, "equal_passes": step.equal}
        if worse_than is not None:
            verdict["next"]["worse_than_pass"] = worse_than
        if restores is not None:
            verdict["next"]["from_pass"] = restores
        return restores

    def best_answer(self) -> Answer:
        """What the pass with the best score handed in, the latest of equals."""
        head = self._workspace.head()
        best: tuple[float, int] | None = None
        for number in range(self.first_pass, head.pass_number + (head.turn == 0)):
            score = float(reentry.verdict(self._workspace, number).get("score", 0.0))
            best = max(best or (score, number), (score, number))
        return self._workspace.answer() if best is None else self._workspace.handed_in(best[1])

    def _next_step(self, states: list[PassState]) -> Step:
        """The step after ``states``: decided once, when the last of them ends or the run starts again."""
        if len(states) not in self._decided:
            step = stalling.next_step(states, self._task.no_progress, self._root)
            self._decided[len(states)] = step
        return self._decided[len(states)]

    def _states(self, number: int) -> list[PassState]:
        """How the passes before ``number`` ended, from their committed verdicts, each read once."""
        for ended in range(self.first_pass + len(self._ended), number):
            self._ended.append(stalling.from_verdict(ended, reentry.verdict(self._workspace, ended)))
        return self._ended[: max(number - self.first_pass, 0)]
