"""Child sessions: what ``rlm_query`` starts. Each has its own kernel and history, and the run's budget.

Owns the threads that wait for child kernels, how many of them live at once, and the folders that they work
in, which go when they end. Relies on the switchboard for replies: they are in the run's journal under the
child's scope, so a cell that is run again after a crash meets the same replies in the same places. A child is
never committed by itself: its record goes into the turn that started it.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from loop_runner import scratch, text
from loop_runner.errors import LoopRunnerError, ModelError
from loop_runner.events import EventKind
from loop_runner.kernel.kernel import Kernel
from loop_runner.records import (
    Answer,
    CellResult,
    ChildEnd,
    ChildRecord,
    ChildTurn,
    Inputs,
    InputText,
    Reply,
    Snapshot,
    Turn,
    Usage,
)
from loop_runner.session.child_tally import Tally
from loop_runner.session.conversation import MAX_WITHOUT_CODE, Conversation, ConversationSettings
from loop_runner.session.overview import Reader, describe
from loop_runner.session.subcalls import ChildTask, RunChild, Shared, SubCalls, refused
from loop_runner.session.transcript import Place, Transcript
from loop_runner.task.config import History
from loop_runner.task.kernel_settings import KernelSettings

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
    tools: tuple[Mapping[str, Any], ...] = ()  # of the task, as a kernel is given them
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
        self._delegation = task.delegation
        self._kernel: Kernel | None = None
        self._working: Future[object] | None = None  # what a thread does for us now
        self._turns: list[ChildTurn] = []
        self._answer = Answer()
        self._texts = tuple(
            (name, len(data), hashlib.sha256(data).hexdigest()) for name, data in self._delegation.texts
        )
        self._scratch = scratch.make("child")
        self._folder = self._scratch.path
        self._inputs = self._task.inputs if self._delegation.has_inputs else self._own_inputs()
        self._used = Usage()  # by the turn that is under way
        self._tally = Tally(shared.ledger)
        self._sub_calls = SubCalls(
            shared,
            run_child,
            lambda: self._inputs,
            scope=task.scope,
            depth=task.depth,
            on_reply=self._tally.add,
        )

    async def run(self) -> ChildRecord:
        self._tell("child_started", text.one_line(self._delegation.question), model=self._task.model)
        try:
            await self._in_thread(self._start)
            end, reason = await self._converse()
        except ModelError as error:
            error_for_cell = refused(error)
            if error.ends_run:
                raise error_for_cell from error
            end, reason = "failed", error_for_cell.message
        except LoopRunnerError as error:
            end, reason = "failed", error.message
        finally:
            await self._end()
        record = self._record(end, self._with_draft(reason or _REASONS.get(end, end)))
        self._tell("child_finished", text.one_line(record.answer.content), end=end, turns=len(self._turns))
        return record

    # ── the conversation ────────────────────────────────────────────────────────────────────────────

    async def _converse(self) -> tuple[ChildEnd, str]:
        """How the conversation ended, and the reason where a limit of the budget ended it."""
        transcript = Transcript(History(), templates=self._shared.templates)
        transcript.begin_pass(self._first_message())
        settings = ConversationSettings(
            model=self._task.model,
            system=self._settings.system,
            max_reply_tokens=self._settings.max_reply_tokens,
            window_tokens=self._settings.window_tokens(self._task.model),
            kind=self._task.kind,
            scope=self._task.scope,
            templates=self._shared.templates,
        )
        conversation = Conversation(settings, self, transcript=transcript, models=self._shared.models)
        end = await conversation.run(Answer())
        self._answer = conversation.answer
        assert end != "interrupted"  # the switchboard ends what a child session waits for
        if conversation.spent is None:
            return end, f"it is blocked: {self._answer.blocked}" if end == "blocked" else ""
        error_for_cell = refused(conversation.spent)
        if conversation.spent.ends_run:
            raise error_for_cell from conversation.spent
        return end, error_for_cell.message

    # What the engine asks of a child session: see ``conversation.Host``.

    async def wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """It runs on the same loop."""
        return await coroutine

    def now(self) -> float:
        """Nothing is charged for the time of a child session; the turn that started it is."""
        return 0.0

    def turns(self) -> int:
        """What the call, or the budget of the run as it began, allows."""
        return self._most_turns

    def may_begin(self, number: int) -> bool:
        """The switchboard stops it: it sends nothing more."""
        return True

    def note(self) -> str:
        """The operator speaks to the run's own model."""
        return ""

    def is_spent(self) -> bool:
        """The ledger refuses its next request. A served one passes, so that a repeated turn is the same."""
        return False

    def begin(self, number: int, messages: int) -> None:
        """A turn of a child session is a part of the run's turn."""

    def ordinal(self) -> int:
        """The turns of this session so far."""
        return len(self._turns)

    def replied(self, number: int, reply: Reply) -> None:
        """Count what the reply used."""
        self._used += reply.usage
        self._tally.add(self._task.model, reply.usage, self._task.kind)

    async def run_cell(self, code: str, number: int) -> CellResult:
        """Run the cell in a thread of this depth."""
        assert self._kernel is not None
        kernel = self._kernel
        return await self._in_thread(lambda: kernel.run_cell(code, number))

    def ran(self, number: int, code: str | None, result: CellResult | None) -> CellResult | None:
        """Report each process that ended unasked. The variables are saved nowhere."""
        for death in self._kernel.take_deaths() if self._kernel is not None else ():
            self._tell("notice", str(death), died=death.process, doing=death.doing)
        return result

    def limits(self) -> tuple[str, dict[str, str]]:
        """The limits that two more turns of this session would reach."""
        return "", self._tally.nearly_reached()

    def keep(self, turn: Turn, seconds: float) -> None:
        """Keep the turn for the record of the session."""
        children = self._sub_calls.end_turn()
        self._turns.append(ChildTurn(turn.reply, turn.code, turn.output, turn.end, children))
        self._answer, used, self._used = turn.answer, self._used, Usage()
        shown = text.one_line(turn.output)
        self._tell("child_turn", shown, turn=turn.number, end=turn.end, usage=asdict(used))

    def summed_up(self, place: Place, summary: str) -> None:
        """A child session keeps its turns whole."""

    def _first_message(self) -> str:
        return self._shared.templates.render(
            "child",
            question=self._delegation.question,
            inputs=describe(self._inputs, self._reader()),
        )

    def _reader(self) -> Reader | None:
        settings = self._settings
        window = settings.window_tokens(self._task.model)
        return Reader(window, settings.kernel.shown_chars, self._most_turns) if settings.is_large else None

    @property
    def _most_turns(self) -> int:
        return self._task.turns or self._settings.turns

    # ── the kernel ──────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        """In a thread: the texts on disk, a folder to work in, a kernel."""
        workspace = self._folder / "workspace"
        workspace.mkdir()
        (self._folder / "texts").mkdir()
        for number, (_, data) in enumerate(self._delegation.texts):
            self._path(number).write_bytes(data)
        self._kernel = Kernel(
            self._settings.kernel,
            self._inputs,
            workspace,
            self._sub_calls,
            self._shared.models.loop,
            is_short_lived=True,
            tools=self._settings.tools,
        )
        self._kernel.start(Snapshot(), Answer())

    def _own_inputs(self) -> Inputs:
        """The texts that were handed over, with the places that the parent's texts have."""
        known = {item.name: item for item in self._task.inputs.texts}
        same = {item.sha256: item for item in self._task.inputs.texts if item.origin}
        sources = self._delegation.sources or (None,) * len(self._texts)
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
        return Inputs(texts, is_single=self._delegation.is_single)

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
            question=self._delegation.question,
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

    def _tell(self, kind: EventKind, shown: str, **data: object) -> None:
        self._shared.trace.tell(kind, shown, scope=self._task.scope, depth=self._task.depth, **data)


def _part_of(known: Mapping[str, InputText], source: tuple[str, int] | None) -> tuple[str, int] | None:
    """The run's own text and line where a child's text begins; None where the parent knows no such text."""
    if source is None or source[0] not in known:
        return None
    name, line = source
    above = known[name].part_of  # the parent is a child itself
    return (name, line) if above is None else (above[0], above[1] + line - 1)
