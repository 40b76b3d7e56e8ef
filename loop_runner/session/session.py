"""One pass that works in code: the kernel runs the model's cells, and every turn is a commit.

Owns what a session adds to a conversation: cells, snapshots of the variables, the notices of what could not
be saved, and the commit of each turn (``PassHost`` is shared with the direct pass). Relies on
``conversation`` for the turns, the kernel for cells and ``committing`` for commits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from loop_runner import failpoints, text
from loop_runner.budget import Ledger
from loop_runner.events import EventKind, Trace
from loop_runner.kernel.deaths import KERNEL
from loop_runner.kernel.kernel import Kernel
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import (
    Answer,
    CellResult,
    Reply,
    Snapshot,
    Turn,
    Usage,
    Variable,
)
from loop_runner.session.committing import Commits
from loop_runner.session.conversation import (
    Conversation,
    End,
    about_subcalls,
    run_here,
)
from loop_runner.session.operator import Operator
from loop_runner.session.subcalls import SubCalls
from loop_runner.session.transcript import Place
from loop_runner.workspace.workspace import Workspace

SessionEnd = End

_T = TypeVar("_T")
_MAX_NAMED = 5  # variables that are named to the model when they cannot be saved


def summary_path(pass_number: int, turn: int) -> str:
    """Where the summary is found that was made after a turn."""
    return f"passes/{pass_number:04d}/turns/{turn:04d}/summary.md"


@dataclass(frozen=True, slots=True)
class RunParts:
    """What all passes of a run share."""

    workspace: Workspace
    models: Switchboard
    ledger: Ledger
    trace: Trace
    operator: Operator
    should_stop: Callable[[], bool] = lambda: False


class PassHost:
    """Holds a conversation of the run itself, on the thread of the loop: its turns are commits."""

    def __init__(
        self,
        parts: RunParts,
        pass_number: int,
        first_files: Mapping[str, bytes],
        *,
        most_turns: int | None = None,
    ) -> None:
        """``first_files`` are committed with its next turn. ``most_turns``: whatever the budget allows."""
        self._operator = parts.operator
        self._models = parts.models
        self._workspace = parts.workspace
        self._ledger = parts.ledger
        self._trace = parts.trace
        self._journal = parts.workspace.journal
        self._snapshot = parts.workspace.history.snapshot()
        self._pass_number = pass_number
        self._most_turns = most_turns
        self._commits = Commits(
            pass_number,
            workspace=parts.workspace,
            trace=parts.trace,
            charge=parts.ledger.charge_turn,
            first_files=first_files,
            operator=parts.operator,
        )
        self.now = parts.operator.clock
        self.note = parts.operator.note

    async def wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Block this thread: nothing else is to be done meanwhile."""
        return self._models.wait(coroutine)

    def turns(self) -> int:
        """What the budget allows now: the operator may change it."""
        allowed = self._ledger.budget.turns
        return allowed if self._most_turns is None else min(allowed, self._most_turns)

    def may_begin(self, number: int) -> bool:
        """Look what the operator has asked before the turn."""
        return self._operator.may_begin((self._pass_number, number))

    def is_spent(self) -> bool:
        """Whether a limit ends the pass."""
        return self._ledger.reached_within_pass() is not None

    def begin(self, number: int, messages: int) -> None:
        """Report the turn and let it count from here."""
        failpoints.passing("turn.begin")
        self._tell("turn_started", number, messages=messages)
        self._models.start_turn()
        self._ledger.begin_turn(self.turns() - number)

    def ordinal(self) -> int:
        """The turns of the whole run so far."""
        return self._ledger.spend.turns

    def replied(self, number: int, reply: Reply) -> None:
        """Report the reply."""
        failpoints.passing("turn.replied")
        self._tell("reply_received", number, reply.text, usage=asdict(reply.usage))

    async def run_cell(self, code: str, number: int) -> CellResult:
        """A direct pass runs no code."""
        raise NotImplementedError

    def ran(self, number: int, code: str | None, result: CellResult | None) -> CellResult | None:
        """Pass the kill points of a turn without a cell."""
        failpoints.passing("turn.ran")
        failpoints.passing("turn.saved")
        return result

    def limits(self) -> tuple[str, dict[str, str]]:
        """The limits that two more turns like this one would reach."""
        return "", self._ledger.nearly_reached()

    def keep(self, turn: Turn, seconds: float) -> None:
        """Commit the turn."""
        self._commits.commit(turn, seconds, self._snapshot)

    def summed_up(self, place: Place, summary: str) -> None:
        """Commit the summary with the turn that begins."""
        self._commits.add_file(summary_path(*place), summary.encode("utf-8", "replace"))
        self._tell("notice", place[1], f"the turns up to pass {place[0]} turn {place[1]} were summarised")

    def _tell(self, kind: EventKind, turn: int, detail: str = "", **data: object) -> None:
        self._trace.tell(kind, detail, (self._pass_number, turn), **data)


class SessionHost(PassHost):
    """Runs the cells of a session in the run's kernel and saves its variables after each."""

    def __init__(
        self,
        parts: RunParts,
        pass_number: int,
        first_files: Mapping[str, bytes],
        *,
        kernel: Kernel,
        sub_calls: SubCalls,
    ) -> None:
        super().__init__(parts, pass_number, first_files)
        self._kernel = kernel
        self._sub_calls = sub_calls

    async def run_cell(self, code: str, number: int) -> CellResult:
        """Run the cell; this thread waits for it."""
        self._tell("cell_started", number, code=code)
        return self._kernel.run_cell(code, number)

    def ran(self, number: int, code: str | None, result: CellResult | None) -> CellResult | None:
        """Report the cell and save its variables; its notices say what could not be saved."""
        failpoints.passing("turn.ran")
        if result is not None:
            self._tell("cell_finished", number, result.output, end=result.end, code=code)
            is_last = result.answer.is_ready or number == self.turns()
            before, self._snapshot = self._snapshot, self._kernel.snapshot(full=is_last)
            deaths = self._reported_deaths(number)
            unsaved = self._newly_unsaved(before, result.lost)
            result = replace(result, notices=(*result.notices, *deaths, *unsaved))
        failpoints.passing("turn.saved")
        return result

    def _newly_unsaved(self, before: Snapshot, lost: tuple[str, ...]) -> list[str]:
        """Notices of variables that cannot be saved or are gone, once for each state of each.

        ``lost``: names whose loss the cell's own notices report.
        """
        known = {(variable.name, variable.status, variable.is_gone) for variable in before.variables}
        new = [
            variable
            for variable in self._snapshot.variables
            if variable.status != "saved"
            and (variable.name, variable.status, variable.is_gone) not in known
            and not (variable.is_gone and variable.name in lost)
        ]
        notices = [_unsaved(variable) for variable in new[:_MAX_NAMED]]
        if (more := len(new) - _MAX_NAMED) > 0:
            notices.append(f"{more} more variables cannot be saved")
        gone = [*lost, *(variable.name for variable in new if variable.is_gone)]
        return notices + _how_to_recreate(self._workspace.made_in(gone) if gone else {})

    def limits(self) -> tuple[str, dict[str, str]]:
        """With a line about the sub-calls of the turn."""
        return about_subcalls(self._journal.calls()), self._ledger.nearly_reached()

    def keep(self, turn: Turn, seconds: float) -> None:
        """Commit the turn with its variables and child sessions."""
        self._commits.commit(turn, seconds, self._snapshot, self._sub_calls.end_turn())

    def _reported_deaths(self, turn: int) -> list[str]:
        """Report each process that ended unasked; the notices to the model of the kernel's own."""
        notices = []
        for death in self._kernel.take_deaths():
            self._tell("notice", turn, str(death), died=death.process, doing=death.doing)
            if death.process == KERNEL:
                notices.append(f"{death}; variables are as they were after the last turn that was saved")
        return notices


class Pass:
    """A conversation as the loop sees it: see ``loop.RunsPass``."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    @property
    def usage(self) -> Usage:
        """Of the conversation, in this process; sub-calls not counted."""
        return self._conversation.usage

    @property
    def unfinished_s(self) -> float:
        """Spent waiting for a reply that the budget ended."""
        return self._conversation.unfinished_s

    def run(self, answer: Answer) -> SessionEnd:
        """Take turns until one of the ends; every turn is committed before the next begins."""
        return run_here(self._conversation.run(answer))


def _unsaved(variable: Variable) -> str:
    name, reason = text.one_line(variable.name), text.one_line(variable.reason, 200)
    if variable.is_gone:
        return f"variable {name} is gone ({reason})"
    ending = ": it is lost when the kernel has to be restarted" if variable.status == "lost" else ""
    return f"variable {name} cannot be saved ({reason}){ending}"


def _how_to_recreate(made_in: Mapping[str, tuple[int, int]]) -> list[str]:
    """Where the code is that made variables which are gone."""
    calls = {name: f"`past({number}, {turn}).code`" for name, (number, turn) in made_in.items()}
    if len(calls) == 1:
        return [f"the cell that made it, to be run again if needed: {next(iter(calls.values()))}"]
    shown = ", ".join(f"{text.one_line(name)}: {call}" for name, call in list(calls.items())[:_MAX_NAMED])
    return [f"the cells that made what is lost, to be run again if needed: {shown}"] if calls else []
