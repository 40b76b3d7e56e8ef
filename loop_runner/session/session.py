"""One pass: a conversation in which the root model writes code and the kernel runs it.

Owns the turns: ask, read the reply, run the cell, commit. Relies on the switchboard for replies, the kernel
for cells and the workspace for commits. Never decides that the work is done: it ends when the answer is
ready, the turns are used up or a limit is reached, and the stop hook looks at what is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Literal

from loop_runner import failpoints, text
from loop_runner.budget import BudgetSpentError, Ledger
from loop_runner.events import Event, Trace
from loop_runner.kernel.deaths import KERNEL
from loop_runner.kernel.kernel import Kernel
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import (
    Answer,
    CellResult,
    Message,
    Reply,
    Request,
    Snapshot,
    StopReason,
    TurnRecord,
    Usage,
    Variable,
)
from loop_runner.session.conversation import (
    MAX_WITHOUT_CODE,
    about_subcalls,
    code_of,
    is_over_window,
    observe,
    window_warning,
)
from loop_runner.session.subcalls import SubCalls
from loop_runner.session.transcript import Transcript
from loop_runner.task.prompts import OURS, Templates
from loop_runner.workspace.workspace import Workspace

SessionEnd = Literal["ready", "turns", "budget", "window", "no_code", "interrupted"]

_FULL = 0.7  # of the window, before older turns are summed up
_MIN_SUMMED_UP = 3  # turns; fewer would not make it shorter
_MAX_TOLD = 5  # variables that are named to the model when they cannot be saved


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What stays the same over all turns of a pass."""

    pass_number: int
    model: str
    system: str
    turns: int
    max_reply_tokens: int
    window_tokens: int
    temperature: float | None = None  # None: the provider's own
    sums_up: bool = False  # ``history: compact``: older turns give way to a summary when the window fills
    offers_tool: bool = False
    templates: Templates = OURS


def summary_path(pass_number: int, turn: int) -> str:
    """Where the summary stands that was made after a turn."""
    return f"passes/{pass_number:04d}/turns/{turn:04d}/summary.md"


class Session:
    """Runs the turns of one pass, from its first or, after a crash, from the last committed one."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        transcript: Transcript,
        turns_done: int,
        is_ready: bool,
        snapshot: Snapshot,
        models: Switchboard,
        sub_calls: SubCalls,
        kernel: Kernel,
        workspace: Workspace,
        ledger: Ledger,
        trace: Trace,
        should_stop: Callable[[], bool] = lambda: False,
        first_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._transcript = transcript
        self._turn = turns_done
        self._is_ready = is_ready
        self._snapshot = snapshot
        self._models = models
        self._sub_calls = sub_calls
        self._kernel = kernel
        self._workspace = workspace
        self._ledger = ledger
        self._trace = trace
        self._should_stop = should_stop
        self._files = dict(first_files or {})
        self._answer = Answer()
        self._without_code = 0
        self._stopped_for: StopReason = "end_turn"  # of the last reply
        self.unfinished_s = 0.0  # spent waiting for a reply that the budget ended
        self.usage = Usage()  # of the conversation, in this process; sub-calls not counted

    def run(self, answer: Answer) -> SessionEnd:
        """Take turns until one of the ends; every turn is committed before the next begins."""
        self._answer = replace(answer, is_ready=False)  # what an earlier pass handed in is a draft again
        while not self._is_ready:
            if self._should_stop():
                return "interrupted"
            if self._turn >= self._settings.turns:
                return "turns"
            if self._ledger.reached_within_pass():
                return "budget"
            if self._is_window_full():
                return "window"
            if self._without_code >= MAX_WITHOUT_CODE:
                return "no_code"
            started = time.monotonic()
            try:
                self._take_turn()
            except BudgetSpentError:
                self.unfinished_s = time.monotonic() - started
                return "budget"  # before the reply: the turn has not begun
        return "ready"

    def _is_window_full(self) -> bool:
        if self._stopped_for == "model_context_window_exceeded":
            return True
        return not self._can_sum_up() and self._is_over(1.0)

    def _can_sum_up(self) -> bool:
        return self._settings.sums_up and self._transcript.turns_in_full >= _MIN_SUMMED_UP

    def _is_over(self, share: float) -> bool:
        """Whether the conversation takes more than ``share`` of the window; a guess is checked."""
        settings = self._settings
        room = int((settings.window_tokens - settings.max_reply_tokens) * share)
        request = self._request_of(self._transcript.messages())
        if not is_over_window(request.system, request.messages, room):
            return False
        tokens = self._models.count_tokens(request)
        return tokens is None or tokens > room

    def _take_turn(self) -> None:
        """One reply, one cell, one commit."""
        failpoints.passing("turn.begin")
        started = time.monotonic()
        number = self._turn + 1
        self._tell("turn_started", number, messages=len(self._transcript.messages()))
        self._models.start_turn()
        self._ledger.begin_turn(self._settings.turns - number)
        if self._can_sum_up() and self._is_over(_FULL):
            self._sum_up()
        reply = self._ask()
        failpoints.passing("turn.replied")
        self._tell("reply_received", number, reply.text, usage=asdict(reply.usage))
        code = code_of(reply)
        self._without_code = 0 if code is not None else self._without_code + 1
        self._stopped_for = reply.stop_reason
        result = None if code is None else self._kernel.run_cell(code, number)
        self._models.raise_fault()
        # The turn stays open: what it was answered is in the journal, and ``resume`` runs it again.
        self._models.raise_refusal()
        failpoints.passing("turn.ran")
        if result is not None:
            self._tell("cell_finished", number, result.output, end=result.end, code=code)
            self._answer = result.answer
            is_last = result.answer.is_ready or number == self._settings.turns
            before, self._snapshot = self._snapshot, self._kernel.snapshot(full=is_last)
            deaths = self._tell_of_deaths(number)
            unsaved = self._newly_unsaved(before, result.lost)
            result = replace(result, notices=(*result.notices, *deaths, *unsaved))
        failpoints.passing("turn.saved")
        turn = TurnRecord(
            pass_number=self._settings.pass_number,
            number=number,
            reply=reply.text,
            code=code,
            output=self._observed(reply, result, number),
            end="no_code" if result is None else result.end,
            answer=self._answer,
            calls=self._workspace.journal.calls(),
            snapshot=self._snapshot,
            seconds=time.monotonic() - started,
            children=self._sub_calls.end_turn(),
        )
        self._commit(turn)

    def _newly_unsaved(self, before: Snapshot, lost: tuple[str, ...]) -> list[str]:
        """Notices of variables that cannot be saved or are gone, once for each state of each.

        ``lost``: names whose loss the cell's own notices report.
        """
        known = {(each.name, each.status, each.is_gone) for each in before.variables}
        new = [
            each
            for each in self._snapshot.variables
            if each.status != "saved"
            and (each.name, each.status, each.is_gone) not in known
            and not (each.is_gone and each.name in lost)
        ]
        notices = [_unsaved(each) for each in new[:_MAX_TOLD]]
        if (more := len(new) - _MAX_TOLD) > 0:
            notices.append(f"{more} more variables cannot be saved")
        gone = [*lost, *(each.name for each in new if each.is_gone)]
        return notices + _how_to_recreate(self._workspace.made_in(gone) if gone else {})

    def _tell_of_deaths(self, turn: int) -> list[str]:
        """Report each process that ended unasked; what the model is told of the kernel's own."""
        notices = []
        for death in self._kernel.take_deaths():
            self._tell("notice", turn, str(death), died=death.process, doing=death.doing)
            if death.process == KERNEL:
                notices.append(f"{death}; variables are as they were after the last turn that was saved")
        return notices

    def _observed(self, reply: Reply, result: CellResult | None, number: int) -> str:
        """What the model is told after the turn, with the limits that may end the pass before it does."""
        settings, short = self._settings, self._ledger.nearly_reached()
        few = short.pop("subcalls", "")
        subcalls = [about_subcalls(self._workspace.journal.calls())]
        if few:
            subcalls.append(f"{few}; when there is none, `llm_query` raises LLMError.")
        warnings = list(short.values())
        if not settings.sums_up:
            room = settings.window_tokens - settings.max_reply_tokens
            warnings += window_warning(settings.system, self._transcript.messages(), room)
        return observe(
            reply,
            result,
            number,
            settings.turns,
            settings.templates,
            subcalls=" ".join(filter(None, subcalls)),
            warnings=warnings,
        )

    def _commit(self, turn: TurnRecord) -> None:
        unanswered = self._workspace.journal.unanswered()
        checkpoint = self._workspace.commit_turn(turn, self._files)
        failpoints.passing("turn.committed")
        self._files = {}
        self._ledger.charge_turn(turn.seconds, unanswered)
        self._turn = turn.number
        self._is_ready = turn.answer.is_ready
        self._transcript.add((turn.pass_number, turn.number), turn.reply, turn.output)
        self._tell("turn_committed", turn.number, checkpoint.commit, ready=self._is_ready)
        for line in self._workspace.left_out():
            self._tell("notice", turn.number, line)

    def _ask(self) -> Reply:
        """The root model's reply to the conversation so far; paused replies are carried on to their end."""
        messages = self._transcript.messages()
        reply = self._request(messages)
        while reply.stop_reason == "pause_turn":
            rest = self._request((*messages, Message("assistant", reply.text)))
            reply = Reply(reply.text + rest.text, rest.stop_reason, rest.usage, rest.model)
        return reply

    def _sum_up(self) -> None:
        """Let the model sum up its turns; from now on the summary is sent in their place."""
        messages = self._transcript.messages(self._settings.templates.render("summary"))
        # Tools are part of the prefix that the provider keeps, so they are offered here too.
        reply = self._models.ask(replace(self._request_of(messages), kind="summary"))
        summary = reply.text.strip() or "(no summary was given)"
        number, turn = self._transcript.summarise(summary)
        self._files[summary_path(number, turn)] = summary.encode("utf-8", "replace")
        self._tell("notice", turn, f"the turns up to pass {number} turn {turn} were summed up")

    def _request(self, messages: tuple[Message, ...]) -> Reply:
        reply = self._models.ask(self._request_of(messages))
        self.usage += reply.usage
        return reply

    def _request_of(self, messages: tuple[Message, ...]) -> Request:
        return Request(
            model=self._settings.model,
            system=self._settings.system,
            messages=messages,
            max_output_tokens=self._settings.max_reply_tokens,
            kind="root",
            ordinal=self._ledger.spend.turns,
            offers_tool=self._settings.offers_tool,
            temperature=self._settings.temperature,
        )

    def _tell(self, kind: str, turn: int, detail: str = "", **data: object) -> None:
        self._trace.append(
            Event(kind, detail, self._settings.pass_number, turn, data)  # type: ignore[arg-type]
        )


def _unsaved(variable: Variable) -> str:
    name, reason = text.one_line(variable.name), text.one_line(variable.reason, 200)
    if variable.is_gone:
        return f"variable {name} is gone ({reason})"
    ending = ": it is gone when the kernel has to be started again" if variable.status == "lost" else ""
    return f"variable {name} cannot be saved ({reason}){ending}"


def _how_to_recreate(made_in: Mapping[str, tuple[int, int]]) -> list[str]:
    """Where the code is that made variables which are gone."""
    calls = {name: f"`past({number}, {turn}).code`" for name, (number, turn) in made_in.items()}
    if len(calls) == 1:
        return [f"the cell that made it, to be run again if it is needed: {next(iter(calls.values()))}"]
    shown = ", ".join(f"{text.one_line(name)}: {call}" for name, call in list(calls.items())[:_MAX_TOLD])
    return [f"the cells that made what is gone, to be run again if it is needed: {shown}"] if calls else []
