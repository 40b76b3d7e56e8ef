"""One pass: a conversation in which the root model writes code and the kernel runs it.

Owns the turns: ask, read the reply, run the cell, commit. Relies on the switchboard for replies, the kernel
for cells and the workspace for commits. Never decides that the work is done: it ends when the answer is
ready, the turns are used up or a limit is reached, and the stop hook looks at what is committed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from loop_runner import failpoints, prompts, reply_reader, text
from loop_runner.budget import Ledger
from loop_runner.errors import ModelError
from loop_runner.events import Event, Trace
from loop_runner.kernel.kernel import Kernel
from loop_runner.kernel.lm_handler import SubCallError
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Answer, CellResult, Message, Reply, Request, Snapshot, StopReason, TurnRecord
from loop_runner.workspace.workspace import Workspace

SessionEnd = Literal["ready", "turns", "budget", "window", "no_code", "interrupted"]

_MAX_TOLD = 5  # variables that are named to the model when they cannot be saved
_CHARS_PER_TOKEN = 3  # a low estimate for code, so that the window is never overrun
_MAX_WITHOUT_CODE = 3  # replies in a row; more of the same conversation would not help


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """What stays the same over all turns of a pass."""

    pass_number: int
    model: str
    system: str
    turns: int
    max_reply_tokens: int
    window_tokens: int


class SubCalls:
    """What ``llm_query`` reaches: the sub-model, under the run's budget and journal."""

    def __init__(
        self, models: Switchboard, ledger: Ledger, *, model: str, max_reply_tokens: int, trace: Trace
    ) -> None:
        self._models = models
        self._ledger = ledger
        self._model = model
        self._max_reply_tokens = max_reply_tokens
        self._trace = trace

    async def query(self, prompt: str) -> str:
        """One sub-call. Raises ``SubCallError`` when the budget or the provider refuses it."""
        if limit := self._ledger.subcalls_reached():
            raise SubCallError(f"no sub-call was made: the budget of {limit} is used up")
        request = Request(
            model=self._model,
            messages=(Message("user", prompt),),
            max_output_tokens=self._max_reply_tokens,
            kind="sub",
        )
        try:
            reply = await self._models.complete(request)
        except ModelError as error:
            raise SubCallError(f"the sub-model did not answer: {error.message}") from error
        self._trace.append(
            Event("subcall_finished", data={"prompt_chars": len(prompt), "reply": text.one_line(reply.text)})
        )
        if not reply.text:
            raise SubCallError(f"the sub-model gave no text (it stopped with {reply.stop_reason})")
        return reply.text


class Session:
    """Runs the turns of one pass, from its first or, after a crash, from the last committed one."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        messages: Sequence[Message],
        turns_done: int,
        is_ready: bool,
        snapshot: Snapshot,
        models: Switchboard,
        kernel: Kernel,
        workspace: Workspace,
        ledger: Ledger,
        trace: Trace,
        should_stop: Callable[[], bool] = lambda: False,
        first_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._messages = list(messages)
        self._turn = turns_done
        self._is_ready = is_ready
        self._snapshot = snapshot
        self._models = models
        self._kernel = kernel
        self._workspace = workspace
        self._ledger = ledger
        self._trace = trace
        self._should_stop = should_stop
        self._files = dict(first_files or {})
        self._answer = Answer()
        self._without_code = 0
        self._stopped_for: StopReason = "end_turn"  # of the last reply

    def run(self, answer: Answer) -> SessionEnd:
        """Take turns until one of the ends; every turn is committed before the next begins."""
        self._answer = answer
        while not self._is_ready:
            if self._should_stop():
                return "interrupted"
            if self._turn >= self._settings.turns:
                return "turns"
            if self._ledger.reached_within_pass():
                return "budget"
            if self._is_window_full():
                return "window"
            if self._without_code >= _MAX_WITHOUT_CODE:
                return "no_code"
            self._take_turn()
        return "ready"

    def _is_window_full(self) -> bool:
        if self._stopped_for == "model_context_window_exceeded":
            return True
        chars = len(self._settings.system) + sum(len(message.text) for message in self._messages)
        room = self._settings.window_tokens - self._settings.max_reply_tokens
        return chars // _CHARS_PER_TOKEN > room

    def _take_turn(self) -> None:
        """One reply, one cell, one commit."""
        failpoints.passing("turn.begin")
        started = time.monotonic()
        number = self._turn + 1
        self._tell("turn_started", number, messages=len(self._messages))
        self._models.start_turn()
        reply = self._ask()
        failpoints.passing("turn.replied")
        self._tell("reply_received", number, reply.text)
        code = None if reply.stop_reason == "max_tokens" else reply_reader.read(reply.text).code
        self._without_code = 0 if code is not None else self._without_code + 1
        self._stopped_for = reply.stop_reason
        result = None if code is None else self._kernel.run_cell(code, number)
        self._models.raise_fault()
        failpoints.passing("turn.ran")
        if result is not None:
            self._tell("cell_finished", number, result.output, end=result.end, code=code)
            self._answer = result.answer
            is_last = result.answer.is_ready or number == self._settings.turns
            before, self._snapshot = self._snapshot, self._kernel.snapshot(full=is_last)
            result = replace(result, notices=(*result.notices, *_newly_unsaved(before, self._snapshot)))
        failpoints.passing("turn.saved")
        turn = TurnRecord(
            pass_number=self._settings.pass_number,
            number=number,
            reply=reply.text,
            code=code,
            output=self._observe(number, reply, result),
            end="no_code" if result is None else result.end,
            answer=self._answer,
            calls=self._workspace.journal.calls(),
            snapshot=self._snapshot,
            seconds=time.monotonic() - started,
        )
        self._commit(turn)

    def _commit(self, turn: TurnRecord) -> None:
        unanswered = self._workspace.journal.unanswered()
        checkpoint = self._workspace.commit_turn(turn, self._files)
        failpoints.passing("turn.committed")
        self._files = {}
        self._ledger.charge_turn(turn.seconds, unanswered)
        self._turn = turn.number
        self._is_ready = turn.answer.is_ready
        self._messages += [Message("assistant", turn.reply), Message("user", turn.output)]
        self._tell("turn_committed", turn.number, checkpoint.commit, ready=self._is_ready)

    def _ask(self) -> Reply:
        """The root model's reply to the conversation so far; paused replies are carried on to their end."""
        reply = self._request(tuple(self._messages))
        while reply.stop_reason == "pause_turn":
            rest = self._request((*self._messages, Message("assistant", reply.text)))
            reply = Reply(reply.text + rest.text, rest.stop_reason, rest.usage, rest.model)
        return reply

    def _request(self, messages: tuple[Message, ...]) -> Reply:
        return self._models.ask(
            Request(
                model=self._settings.model,
                system=self._settings.system,
                messages=messages,
                max_output_tokens=self._settings.max_reply_tokens,
                kind="root",
                ordinal=self._ledger.spend.turns,
            )
        )

    def _observe(self, number: int, reply: Reply, result: CellResult | None) -> str:
        notices = [] if result is None else list(result.notices)
        if reply.stop_reason in ("refusal", "model_context_window_exceeded"):
            notices.append(f"the model stopped with {reply.stop_reason}")
        return prompts.render(
            "observation",
            was_cut=reply.stop_reason == "max_tokens",
            notices=notices,
            output=None if result is None else result.output,
            turn=number,
            turns=self._settings.turns,
        )

    def _tell(self, kind: str, turn: int, detail: str = "", **data: object) -> None:
        self._trace.append(
            Event(kind, detail, self._settings.pass_number, turn, data)  # type: ignore[arg-type]
        )


def _newly_unsaved(before: Snapshot, now: Snapshot) -> list[str]:
    """What the model is told of variables that could not be saved, once for each and each status."""
    known = {(each.name, each.status) for each in before.variables}
    new = [each for each in now.variables if each.status != "saved" and (each.name, each.status) not in known]
    told = [
        f"variable {text.one_line(each.name)} cannot be saved ({text.one_line(each.reason, 200)})"
        + (": it is gone when the kernel has to be started again" if each.status == "lost" else "")
        for each in new[:_MAX_TOLD]
    ]
    more = len(new) - _MAX_TOLD
    return [*told, f"{more} more variables cannot be saved"] if more > 0 else told
