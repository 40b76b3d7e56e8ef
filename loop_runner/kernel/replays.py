"""Which variables that cannot be written are made again by running cells, and what that takes. On the host.

Owns the verdicts: the same cells are tried once only. Whether a variable is ``replay`` or ``lost`` follows
from the cells of the run, the replies they got and the saved variables, all of which are committed, so that a
run that was restarted says the same. Relies on ``checker`` to plan and to try; never runs or parses a cell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from loop_runner.kernel.checker import Checker, as_run
from loop_runner.kernel.lm_handler import Delegate, Delegation, SubModel
from loop_runner.records import CellEnd, CellLog, PastCell, Snapshot, Variable

_CPU_SHARE = 12  # of what a cell may take: 10 seconds of work as things are set
_OPEN_PASS = 1_000_000  # in the place of a pass number: the kernel does not know it
_AGAIN = "if the kernel has to be started again, the cells that made it are run again"


class NoCells:
    """The log of a run that has no cells yet."""

    def cells(self) -> Sequence[PastCell]:
        """None."""
        return ()

    def replies(self, cell: PastCell) -> Sequence[tuple[str, str]]:
        """Never asked for."""
        raise KeyError(cell)


class Replays:
    """Tries and keeps in mind what can be made again. Not thread-safe, but for ``recorder``."""

    def __init__(self, checker: Checker, sub_model: SubModel, timeout_s: float) -> None:
        self.recorder = (
            RecordingDelegate(sub_model) if isinstance(sub_model, Delegate) else Recorder(sub_model)
        )
        self._checker = checker
        self._cpu_s = timeout_s / _CPU_SHARE
        self.wall_s = timeout_s / 2  # what making all of them again at a start may take
        self._log: CellLog = NoCells()
        self._open: list[PastCell] = []  # cells that the log does not have yet
        self._replies: dict[PastCell, Sequence[tuple[str, str]]] = {}
        self._is_saved = False
        self._tried: tuple[str, dict[str, str]] = "", {}  # what was tried last, as JSON; and what came of it

    def begin(self, log: CellLog) -> None:
        """``log`` has all cells of the run."""
        self._log = log
        self._open, self._replies, self._is_saved = [], {}, False

    def cell_begins(self) -> None:
        """What was saved is in the log by now."""
        if self._is_saved:
            self.begin(self._log)

    def cell_ended(self, code: str, number: int, end: CellEnd) -> None:
        """A cell ran. It counts from here on, in the log or not."""
        cell = PastCell(_OPEN_PASS + len(self._open), number, code, end)
        self._open.append(cell)
        self._replies[cell] = self.recorder.take()

    def went_back(self) -> None:
        """The kernel is as it was last saved: what ran since then did nothing."""
        if not self._is_saved:
            self.begin(self._log)

    def saved(self) -> None:
        """The variables as the cells left them were handed out, to be committed with the cells."""
        self._is_saved = True

    # ── asked by the kernel ─────────────────────────────────────────────────────────────────────────

    def mark(self, taken: Snapshot, before: Snapshot, unchanged: set[str], names: set[str]) -> Snapshot:
        """``taken``, where what can be made again is no longer called lost.

        What was lost in ``before`` stays so until it is bound anew (``unchanged``: names that are not): after
        a restart it would not be there at all. ``names``: those that there are.
        """
        given_up = {
            each.name: each for each in before.variables if each.status == "lost" and each.name in unchanged
        }
        variables = [
            given_up.get(each.name, each) if each.status == "lost" else each for each in taken.variables
        ]
        wanted = [
            each.name
            for each in variables
            if each.status == "lost" and each.name in names and each.name not in given_up
        ]
        if wanted:
            failed = self._failures(wanted, taken)
            variables = [
                _marked(each, failed[each.name]) if each.name in failed else each for each in variables
            ]
        return replace(taken, variables=tuple(variables))

    def groups(self, snapshot: Snapshot) -> tuple[list[dict[str, Any]], dict[str, str]]:
        """What a kernel needs to make the ``replay`` variables of ``snapshot``; what is hopeless, and why."""
        wanted = [each.name for each in snapshot.variables if each.status == "replay"]
        if not wanted:
            return [], {}
        cells = self._cells()
        found = self._checker.plan(cells, wanted)
        if isinstance(found, str):
            return [], dict.fromkeys(wanted, found)
        hopeless = {name: group["why"] for group in found if group["why"] for name in group["names"]}
        return [self._whole(group, cells) for group in found if not group["why"]], hopeless

    def _failures(self, wanted: list[str], taken: Snapshot) -> dict[str, str]:
        """Each name of ``wanted`` with the reason why it cannot be made again; "" when it can."""
        cells = self._cells()
        found = self._checker.plan(cells, wanted)
        if isinstance(found, str):
            return dict.fromkeys(wanted, found)
        key = json.dumps(found)
        if key != self._tried[0]:
            self._tried = key, self._try_all(found, cells, taken)
        return self._tried[1]

    def _try_all(
        self, groups: list[dict[str, Any]], cells: Sequence[PastCell], taken: Snapshot
    ) -> dict[str, str]:
        """As ``_failures``. One that ends the process is left out of the next try."""
        verdicts = {name: str(group["why"]) for group in groups for name in group["names"]}
        while left := [group for group in groups if not verdicts[group["names"][0]]]:
            near = {name for group in left for one_try in group["tries"] for name in one_try["near"]}
            near = {each.blob for each in taken.variables if each.blob and each.name in near}
            blobs = [blob for name, blob in taken.blobs.items() if name in near]
            failed = self._checker.try_blobs(
                blobs, self._cpu_s, groups=[self._whole(group, cells) for group in left]
            )
            if not failed:
                break
            known = {name: why for name, why in failed.items() if name in verdicts}
            # Anything else: the blobs alone do load, so that it is the trial as a whole that failed.
            verdicts |= known or {
                name: next(iter(failed.values())) for group in left for name in group["names"]
            }
            for group in left:
                why = next((verdicts[name] for name in group["names"] if verdicts[name]), "")
                verdicts |= dict.fromkeys(group["names"], why)
        return verdicts

    # ── cells ───────────────────────────────────────────────────────────────────────────────────────

    def _cells(self) -> list[PastCell]:
        return [*self._log.cells(), *self._open]

    def _whole(self, group: Mapping[str, Any], cells: Sequence[PastCell]) -> dict[str, Any]:
        """``group`` with the cells in it, in the place of their positions, and the replies that they got."""
        return {
            "names": group["names"],
            "tries": [
                {**one_try, "cells": [self._with_replies(cells[at]) for at in one_try["cells"]]}
                for one_try in group["tries"]
            ],
        }

    def _with_replies(self, cell: PastCell) -> list[object]:
        replies = self._replies[cell] if cell in self._replies else self._log.replies(cell)
        return [cell.number, as_run(cell.code), cell.end, [list(pair) for pair in replies]]


def _marked(variable: Variable, why: str) -> Variable:
    if why:
        return replace(variable, reason=f"{variable.reason}; it cannot be made again: {why}")
    return replace(variable, status="replay", reason=f"{variable.reason}; {_AGAIN}")


class Recorder:
    """Passes sub-calls on and keeps what was answered during a cell."""

    def __init__(self, sub_model: SubModel) -> None:
        self._sub_model = sub_model
        self._answers: dict[str, list[str]] = {}

    async def query(self, prompt: str) -> str:
        """As the sub-model's."""
        answers = self._answers.setdefault(prompt, [])
        place = len(answers)  # identical prompts count in the order in which they were asked
        answers.append("")
        reply = answers[place] = await self._sub_model.query(prompt)
        return reply

    def take(self) -> tuple[tuple[str, str], ...]:
        """What was answered since the last call, in an order that does not depend on who was quicker."""
        answers, self._answers = self._answers, {}
        return tuple((prompt, reply) for prompt in sorted(answers) for reply in answers[prompt] if reply)


class RecordingDelegate(Recorder):
    """A ``Recorder`` of a sub-model that can do more.

    What else it answers is not kept: a cell that asked for a schema, another model, a child session, a
    check or a past turn is not run again.
    """

    def __init__(self, sub_model: Delegate) -> None:
        super().__init__(sub_model)
        self._delegate = sub_model

    async def query_as(self, prompt: str, schema: Mapping[str, Any] | None, model: str) -> str:
        """As the sub-model's."""
        return await self._delegate.query_as(prompt, schema, model)

    async def session(self, task: Delegation) -> tuple[str, str]:
        """As the sub-model's."""
        return await self._delegate.session(task)

    async def past(self, pass_number: int, turn: int) -> str:
        """As the sub-model's."""
        return await self._delegate.past(pass_number, turn)

    async def check(self, content: str) -> str:
        """As the sub-model's."""
        return await self._delegate.check(content)

    def left(self) -> Mapping[str, int | float | None]:
        """As the sub-model's."""
        return self._delegate.left()
