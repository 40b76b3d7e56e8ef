"""Child sessions: what ``rlm_query`` starts. Each has its own kernel and history, and the run's budget.

Owns the threads that wait for child kernels, how many of them live at once, and the folders that they work
in, which go when they end. Relies on the switchboard for replies: they are in the run's journal under the
child's scope, so a cell that is run again after a crash meets the same replies in the same places. A child is
never committed by itself: its record goes into the turn that started it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from loop_runner import scratch, text
from loop_runner.budget import BudgetSpentError
from loop_runner.errors import LoopRunnerError, ModelError
from loop_runner.events import Event
from loop_runner.kernel.kernel import Kernel
from loop_runner.records import (
    Answer,
    CellResult,
    ChildEnd,
    ChildRecord,
    ChildTurn,
    Inputs,
    InputText,
    KernelSettings,
    Message,
    Reply,
    Request,
    Snapshot,
)
from loop_runner.session.conversation import (
    MAX_WITHOUT_CODE,
    code_of,
    is_over_window,
    observe,
    window_warning,
)
from loop_runner.session.overview import Reader, describe
from loop_runner.session.subcalls import ChildTask, RunChild, Shared, SubCalls, refused

_T = TypeVar("_T")
_MAX_DRAFT_CHARS = 2000
_REASONS: dict[ChildEnd, str] = {
    "turns": "its turns were used up before it set answer['ready']",
    "window": "its conversation filled the model's window",
    "no_code": f"it wrote no code in {MAX_WITHOUT_CODE} replies in a row",
}


@dataclass(frozen=True, slots=True)
class ChildSettings:
    """What is the same for all child sessions of a run."""

    kernel: KernelSettings
    system: str
    turns: int
    max_reply_tokens: int
    window_tokens: Callable[[str], int]  # of a model
    width: int  # child sessions at once, at each depth
    is_large: bool = True  # whether the usual child's model is told sizes and lines of its texts


class Children:
    """Runs child sessions on the switchboard's loop. One for a run; ``close`` ends its threads."""

    def __init__(self, shared: Shared, settings: ChildSettings) -> None:
        self._shared = shared
        self._settings = settings
        self._levels: dict[int, _Level] = {}

    async def run(self, task: ChildTask) -> ChildRecord:
        """Run one child session to its end. Raises ``SubCallError`` only for what ends the run."""
        # Each depth has threads of its own: a child whose cell waits for children of its own holds one.
        level = self._levels.get(task.depth)
        if level is None:
            level = self._levels[task.depth] = _Level(self._settings.width, task.depth)
        async with level.room:
            return await _Child(self._shared, self._settings, self.run, level, task).run()

    def close(self) -> None:
        """Wait for the threads; call it when the switchboard is closed."""
        for level in self._levels.values():
            level.threads.shutdown()


class _Level:
    """Room for so many sessions, and a thread for each."""

    def __init__(self, width: int, depth: int) -> None:
        self.room = asyncio.Semaphore(width)
        self.threads = ThreadPoolExecutor(width, thread_name_prefix=f"child-{depth}")


class _Child:
    """One child session."""

    def __init__(
        self,
        shared: Shared,
        settings: ChildSettings,
        run_child: RunChild,
        level: _Level,
        task: ChildTask,
    ) -> None:
        self._shared = shared
        self._settings = settings
        self._level = level
        self._task = task
        self._asked = task.asked
        self._kernel: Kernel | None = None
        self._working: Future[object] | None = None  # what a thread does for us now
        self._turns: list[ChildTurn] = []
        self._answer = Answer()
        self._texts = tuple(
            (name, len(data), hashlib.sha256(data).hexdigest()) for name, data in self._asked.texts
        )
        self._scratch = scratch.make("child")
        self._folder = self._scratch.path
        self._inputs = self._task.inputs if self._asked.has_inputs else self._own_inputs()
        self._sub_calls = SubCalls(shared, run_child, self._inputs, scope=task.scope, depth=task.depth)

    async def run(self) -> ChildRecord:
        self._tell("child_started", text.one_line(self._asked.question), model=self._task.model)
        try:
            await self._in_thread(self._start)
            end, reason = await self._converse(), ""
        except ModelError as error:
            error_for_cell = refused(error)
            if error.ends_run:
                raise error_for_cell from error
            spent = isinstance(error, BudgetSpentError)
            end, reason = ("budget" if spent else "failed"), error_for_cell.message
        except LoopRunnerError as error:
            end, reason = "failed", error.message
        finally:
            await self._end()
        record = self._record(end, self._with_draft(reason or _REASONS.get(end, end)))
        self._tell("child_finished", text.one_line(record.answer.content), end=end, turns=len(self._turns))
        return record

    # ── the conversation ────────────────────────────────────────────────────────────────────────────

    async def _converse(self) -> ChildEnd:
        settings = self._settings
        turns = self._task.turns or settings.turns
        room = settings.window_tokens(self._task.model) - settings.max_reply_tokens
        messages = [Message("user", self._first_message())]
        without_code, before = 0, self._sub_calls.used()
        for number in range(1, turns + 1):
            if is_over_window(settings.system, messages, room):
                return "window"
            reply = await self._ask(tuple(messages))
            code = code_of(reply)
            without_code = 0 if code is not None else without_code + 1
            result = None if code is None else await self._run_cell(code, number)
            warnings = [*self._nearly_spent(before), *window_warning(settings.system, messages, room)]
            before = self._sub_calls.used()
            output = observe(
                reply, result, number, turns, self._shared.templates, warnings=warnings, is_child=True
            )
            end = "no_code" if result is None else result.end
            self._turns.append(ChildTurn(reply.text, code, output, end, self._sub_calls.end_turn()))
            self._tell("child_turn", text.one_line(output), turn=number, end=end)
            if self._answer.is_ready:
                return "ready"
            if reply.stop_reason == "model_context_window_exceeded":
                return "window"
            if without_code >= MAX_WITHOUT_CODE:
                return "no_code"
            messages += [Message("assistant", reply.text), Message("user", output)]
        return "turns"

    async def _ask(self, messages: tuple[Message, ...]) -> Reply:
        """The model's reply; a paused one is carried on to its end."""
        reply = await self._request(messages)
        while reply.stop_reason == "pause_turn":
            rest = await self._request((*messages, Message("assistant", reply.text)))
            reply = Reply(reply.text + rest.text, rest.stop_reason, rest.usage, rest.model)
        return reply

    def _nearly_spent(self, before: Mapping[str, float]) -> list[str]:
        """Warns of limits of the run that this session will soon reach; ``before``: its use until this turn.

        A session for a verifier gets none: it may be repeated when no turn has begun.
        """
        if self._task.kind != "child":
            return []
        return list(self._shared.ledger.nearly_reached_by(self._sub_calls.used(), before).values())

    async def _request(self, messages: tuple[Message, ...]) -> Reply:
        reply = await self._shared.models.complete(
            Request(
                model=self._task.model,
                system=self._settings.system,
                messages=messages,
                max_output_tokens=self._settings.max_reply_tokens,
                kind=self._task.kind,
                ordinal=len(self._turns),
                scope=self._task.scope,
            )
        )
        self._sub_calls.charge(self._task.model, reply.usage)
        return reply

    async def _run_cell(self, code: str, number: int) -> CellResult:
        assert self._kernel is not None
        kernel = self._kernel
        result = await self._in_thread(lambda: kernel.run_cell(code, number))
        self._shared.models.raise_refusal()  # what the cell made of it is not worth a turn
        self._answer = result.answer
        return result

    def _first_message(self) -> str:
        return self._shared.templates.render(
            "child",
            question=self._asked.question,
            inputs=describe(self._inputs, self._reader()),
        )

    def _reader(self) -> Reader | None:
        settings = self._settings
        turns = self._task.turns or settings.turns
        window = settings.window_tokens(self._task.model)
        return Reader(window, settings.kernel.shown_chars, turns) if settings.is_large else None

    # ── the kernel ──────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        """In a thread: the texts on disk, a folder to work in, a kernel."""
        workspace = self._folder / "workspace"
        workspace.mkdir()
        (self._folder / "texts").mkdir()
        for number, (_, data) in enumerate(self._asked.texts):
            self._path(number).write_bytes(data)
        self._kernel = Kernel(
            self._settings.kernel,
            self._inputs,
            workspace,
            self._sub_calls,
            self._shared.models.loop,
            is_short_lived=True,
        )
        self._kernel.start(Snapshot(), Answer())

    def _own_inputs(self) -> Inputs:
        """The texts that were handed over, with the places that the parent's texts have."""
        known = {each.name: each for each in self._task.inputs.texts}
        same = {each.sha256: each for each in self._task.inputs.texts if each.origin}
        sources = self._asked.sources or (None,) * len(self._texts)
        texts = tuple(
            InputText(
                name or "data",
                self._path(number),
                size,
                sha256,
                origin=same[sha256].origin if sha256 in same else None,
                part_of=_part_of(known, source),
            )
            for number, ((name, size, sha256), source) in enumerate(zip(self._texts, sources, strict=True))
        )
        return Inputs(texts, is_single=self._asked.is_single)

    def _path(self, number: int) -> Path:
        return self._folder / "texts" / f"{number:05d}.txt"

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        future = self._level.threads.submit(work)
        self._working = future  # type: ignore[assignment]
        return await asyncio.wrap_future(future)

    async def _end(self) -> None:
        """End the kernel and remove the folder, whatever the thread is at; whoever cancels this waits for it.

        Closing the kernel needs the loop, which must not end before.
        """
        if self._kernel is not None and self._working is not None and not self._working.done():
            self._kernel.abort()
        cleared = asyncio.wrap_future(self._level.threads.submit(self._clear_away))
        was_cancelled = False
        while not cleared.done():
            try:
                await asyncio.shield(cleared)
            except asyncio.CancelledError:
                was_cancelled = True
        if was_cancelled:
            raise asyncio.CancelledError

    def _clear_away(self) -> None:
        if self._working is not None:
            wait([self._working])
        if self._kernel is not None:
            self._kernel.close()
        self._scratch.remove()

    # ── what remains ────────────────────────────────────────────────────────────────────────────────

    def _record(self, end: ChildEnd, reason: str) -> ChildRecord:
        return ChildRecord(
            scope=self._task.scope,
            question=self._asked.question,
            texts=self._texts,
            model=self._task.model,
            turns=tuple(self._turns),
            answer=self._answer,
            end=end,
            reason="" if end == "ready" else reason,
        )

    def _with_draft(self, reason: str) -> str:
        draft = self._answer.content.strip()
        return f"{reason}; its draft: {text.cut_middle(draft, _MAX_DRAFT_CHARS)}" if draft else reason

    def _tell(self, kind: str, said: str, **data: object) -> None:
        about = {"scope": self._task.scope, "depth": self._task.depth, **data}
        self._shared.trace.append(Event(kind, said, data=about))  # type: ignore[arg-type]


def _part_of(known: Mapping[str, InputText], source: tuple[str, int] | None) -> tuple[str, int] | None:
    """The run's own text and line where a child's text begins; None where the parent knows no such text."""
    if source is None or source[0] not in known:
        return None
    name, line = source
    above = known[name].part_of  # the parent is a child itself
    return (name, line) if above is None else (above[0], above[1] + line - 1)
