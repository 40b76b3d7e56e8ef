"""One conversation with a model, turn by turn: of a session, of a direct pass, of a child session.

Owns the turns (ask, use the reply, keep the turn), how a conversation ends, and what the model is shown after
a turn. What differs between the three lies behind ``Host``: how requests are waited for, where cells run, and
whether a turn is committed or kept. Relies on the switchboard for replies, on ``reply_reader`` for code and
on ``transcript`` for what is sent. Never decides that the work is done: that is left to the stop hook, which
looks at what is committed.
"""

from __future__ import annotations

import re
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

from loop_runner.budget import BudgetSpentError
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import (
    SUBCALL_KINDS,
    Answer,
    Call,
    CellResult,
    Message,
    Reply,
    Request,
    RequestKind,
    StopReason,
    Turn,
    Usage,
)
from loop_runner.session import missing_code, reply_reader
from loop_runner.session.transcript import Place, Transcript
from loop_runner.task.prompts import BUILT_IN, Templates

End = Literal["ready", "blocked", "turns", "budget", "window", "no_code", "interrupted"]

MAX_WITHOUT_CODE = 3  # replies in a row; more of the same conversation would not help
_MAX_PAUSES = 20  # of one reply, in a row; after that it counts as cut
_FULL = 0.7  # of the window, before older turns are summed up
_MIN_SUMMED_UP = 3  # turns; fewer would not make it shorter
_NEARLY_FULL = 0.8  # of the window
_FENCED = re.compile(r"^(?P<ticks>`{3,})\n(?P<inside>.*)^(?P=ticks)$", re.DOTALL | re.MULTILINE)
_CHARS_PER_TOKEN = 3  # a low estimate for code, so that the window is never overrun


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ConversationSettings:
    """What stays the same over all turns of a conversation."""

    model: str
    system: str
    max_reply_tokens: int
    window_tokens: int
    kind: RequestKind = "root"
    scope: str = ""  # of a child session's requests
    temperature: float | None = None  # None: the provider's own
    sums_up: bool = False  # ``history: compact``: older turns give way to a summary when the window fills
    offers_tool: bool = False
    templates: Templates = BUILT_IN

    @property
    def room_tokens(self) -> int:
        """What a request may take of the window."""
        return self.window_tokens - self.max_reply_tokens


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a conversation resumes: at its beginning, or after the turns that are committed."""

    turns: int = 0
    is_ready: bool = False
    is_blocked: bool = False
    without_code: int = 0  # replies in a row
    stop_reason: StopReason = "end_turn"  # of the last reply


class Host(Protocol):
    """Who holds a conversation: a pass of the run, or the cell that started a child session."""

    async def wait(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """The result of a coroutine that runs on the switchboard's loop."""
        ...

    def now(self) -> float:
        """The seconds at work since some moment."""
        ...

    def turns(self) -> int:
        """The most turns that the conversation may take, as it stands now."""
        ...

    def may_begin(self, number: int) -> bool:
        """Whether turn ``number`` may begin; waits while the run is paused. False: the run is to stop."""
        ...

    def note(self) -> str:
        """What the operator adds to the message before the turn that begins; "" for nothing."""
        ...

    def is_spent(self) -> bool:
        """Whether a limit of the budget is reached."""
        ...

    def begin(self, number: int, messages: int) -> None:
        """Turn ``number`` begins; the conversation has so many messages."""
        ...

    def ordinal(self) -> int:
        """The number of turns before this one, as requests carry it."""
        ...

    def replied(self, number: int, reply: Reply) -> None:
        """Take note of the reply of turn ``number``."""
        ...

    async def run_cell(self, code: str, number: int) -> CellResult:
        """Run the code of a reply."""
        ...

    def ran(self, number: int, code: str | None, result: CellResult | None) -> CellResult | None:
        """The cell of the turn has run, or there was none; the result with all notices for the model."""
        ...

    def limits(self) -> tuple[str, dict[str, str]]:
        """A line about the sub-calls of the turn ("" for none); the limits that are nearly reached."""
        ...

    def keep(self, turn: Turn, seconds: float) -> None:
        """Commit or keep ``turn``."""
        ...

    def summed_up(self, place: Place, summary: str) -> None:
        """Keep ``summary``, which is sent in place of the turns up to ``place``."""
        ...


class Conversation:
    """Takes turns with a model, each kept before the next begins, until one of the ends."""

    _heeds_guess = True  # where no provider counts: the guess is high, so nothing over the window is sent

    def __init__(
        self,
        settings: ConversationSettings,
        host: Host,
        *,
        transcript: Transcript,
        models: Switchboard,
        pass_number: int = 0,
        resumed: Resumed = Resumed(),
    ) -> None:
        self._settings = settings
        self._host = host
        self._transcript = transcript
        self._models = models
        self._pass_number = pass_number
        self._turn = resumed.turns
        self._is_ready = resumed.is_ready
        self._is_blocked = resumed.is_blocked
        self._without_code = resumed.without_code
        self._stopped_for = resumed.stop_reason
        self.answer = Answer()  # as the last turn left it
        self.usage = Usage()  # of the conversation, in this process; sub-calls not counted
        self.unfinished_s = 0.0  # spent waiting for a reply that the budget ended
        self.spent: BudgetSpentError | None = None  # what ended it with "budget" within a turn

    async def run(self, answer: Answer) -> End:
        """Take turns until one of the ends."""
        # An earlier pass's, which was rejected. What that one was blocked by, this one has not said.
        extra = {key: value for key, value in answer.extra.items() if key != "blocked"}
        self.answer = replace(answer, is_ready=False, extra=extra)
        while not self._is_ready and not self._is_blocked:
            if (end := await self._end()) is not None:
                return end
            started = self._host.now()
            try:
                await self._take_turn(started)
            except BudgetSpentError as error:
                self.unfinished_s, self.spent = self._host.now() - started, error
                return "budget"  # before the reply: the turn has not begun
        return "blocked" if self._is_blocked else "ready"

    async def _end(self) -> End | None:
        """How the conversation ends before another turn; None: it does not."""
        if not self._host.may_begin(self._turn + 1):
            return "interrupted"
        if note := self._host.note():
            self._transcript.add_note(note)
        if self._stopped_for == "model_context_window_exceeded":
            return "window"
        if self._without_code >= MAX_WITHOUT_CODE:
            return "no_code"
        if self._turn >= self._host.turns():
            return "turns"
        if self._host.is_spent():
            return "budget"
        is_full = not self._can_sum_up() and await self._is_over(1.0)
        return "window" if is_full else None

    async def _take_turn(self, started: float) -> None:
        """One reply, what is done with it, one kept turn."""
        number = self._turn + 1
        self._host.begin(number, len(self._transcript.messages()))
        if self._can_sum_up() and await self._is_over(_FULL):
            await self._sum_up()
        reply = await self._reply()
        self._host.replied(number, reply)
        turn = await self._use(reply, number)
        self._without_code = self._without_code + 1 if self._lacks_code(turn) else 0
        self._stopped_for = reply.stop_reason
        self._host.keep(turn, self._host.now() - started)
        self._turn, self._is_ready = number, turn.answer.is_ready
        self._is_blocked = bool(turn.answer.blocked)
        self._transcript.add((self._pass_number, number), turn.reply, turn.output)

    # ── the reply ───────────────────────────────────────────────────────────────────────────────────

    async def _reply(self) -> Reply:
        """The model's reply to the conversation so far; a paused one is continued to its end."""
        messages = self._transcript.messages()
        reply = await self._ask(messages)
        for _ in range(_MAX_PAUSES):
            if reply.stop_reason != "pause_turn":
                return reply
            begun = reply.text.rstrip()  # providers refuse a last message that ends in white space
            rest = await self._ask((*messages, Message("assistant", begun)) if begun else messages)
            reply = Reply(begun + rest.text, rest.stop_reason, reply.usage + rest.usage, rest.model)
        return replace(reply, stop_reason="max_tokens") if reply.stop_reason == "pause_turn" else reply

    async def _ask(self, messages: tuple[Message, ...]) -> Reply:
        reply = await self._host.wait(self._models.complete(self._request(messages)))
        self.usage += reply.usage
        return reply

    def _request(self, messages: tuple[Message, ...]) -> Request:
        settings = self._settings
        return Request(
            model=settings.model,
            system=settings.system,
            messages=messages,
            max_output_tokens=settings.max_reply_tokens,
            kind=settings.kind,
            ordinal=self._host.ordinal(),
            scope=settings.scope,
            offers_tool=settings.offers_tool,
            temperature=settings.temperature,
        )

    # ── what is done with it ────────────────────────────────────────────────────────────────────────

    async def _use(self, reply: Reply, number: int) -> Turn:
        """Run the code of ``reply``."""
        code = code_of(reply)
        result = None if code is None else await self._host.run_cell(code, number)
        self._models.raise_fault()
        # The turn stays open: what it was answered is in the journal, and ``resume`` runs it again.
        self._models.raise_refusal()
        self.answer = self.answer if result is None else result.answer
        result = self._host.ran(number, code, result)
        output = self._observed(reply, result, number)
        end = "no_code" if result is None else result.end
        return Turn(number, reply.text, output, self.answer, code, end)

    def _lacks_code(self, turn: Turn) -> bool:
        """Whether there was nothing to run in the reply."""
        return turn.code is None

    def _observed(self, reply: Reply, result: CellResult | None, number: int) -> str:
        """What the model is shown after the turn, with the limits that may end the pass before it does."""
        subcalls, short = self._host.limits()
        is_child = self._settings.kind != "root"  # whose own requests count as sub-calls too
        if not is_child and (few := short.pop("subcalls", "")):
            subcalls = f"{subcalls} {few}; when there is none, `llm_query` raises LLMError.".lstrip()
        return observe(
            reply,
            result,
            number,
            self._host.turns(),
            self._settings.templates,
            subcalls=subcalls,
            warnings=[*short.values(), *self._window_warning()],
            is_child=is_child,
        )

    # ── the window ──────────────────────────────────────────────────────────────────────────────────

    def _window_warning(self) -> list[str]:
        settings = self._settings
        if settings.sums_up:
            return []
        return window_warning(settings.system, self._transcript.messages(), settings.room_tokens)

    def _can_sum_up(self) -> bool:
        return self._settings.sums_up and self._transcript.turns_in_full >= _MIN_SUMMED_UP

    async def _is_over(self, share: float) -> bool:
        """Whether the conversation takes more than ``share`` of the window; a guess is checked."""
        room = int(self._settings.room_tokens * share)
        request = self._request(self._transcript.messages())
        if not is_over_window(request.system, request.messages, room):
            return False
        tokens = await self._host.wait(self._models.count(request))
        return self._heeds_guess if tokens is None else tokens > room

    async def _sum_up(self) -> None:
        """Let the model sum up its turns; from now on the summary is sent in their place."""
        messages = self._transcript.messages(self._settings.templates.render("summary"))
        # Tools are part of the prefix that the provider keeps, so they are offered here too.
        request = replace(self._request(messages), kind="summary")
        reply = await self._host.wait(self._models.complete(request))
        summary = reply.text.strip() or "(no summary was given)"
        self._host.summed_up(self._transcript.summarise(summary), summary)


def run_here(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine whose waiting is done by blocking calls, on the thread that calls this.

    A run's own session needs no event loop: each of its steps waits for the one before, and Ctrl-C in the
    main thread ends whichever it waits for.
    """
    try:
        coroutine.send(None)
    except StopIteration as finished:
        result: _T = finished.value
        return result
    coroutine.close()
    msg = "a conversation on an ordinary thread waited for an event loop"
    raise RuntimeError(msg)


# ── what the model is shown ─────────────────────────────────────────────────────────────────────────


def code_of(reply: Reply) -> str | None:
    """The code to run; None when there is none, or when the reply was cut in the middle of it."""
    return None if reply.stop_reason == "max_tokens" else reply_reader.read(reply.text).code


def observe(
    reply: Reply,
    result: CellResult | None,
    turn: int,
    turns: int,
    templates: Templates = BUILT_IN,
    *,
    subcalls: str = "",
    warnings: Sequence[str] = (),
    is_child: bool = False,
) -> str:
    """The model's next message after a turn. ``result`` None: the reply held no code.

    ``subcalls``: a line about those of the turn; ``warnings``: limits that will soon end the pass,
    or the child session.
    """
    notices = [] if result is None else list(result.notices)
    if reply.stop_reason in ("refusal", "model_context_window_exceeded"):
        notices.append(f"the model stopped with {reply.stop_reason}")
    return templates.render(
        "observation",
        was_cut=reply.stop_reason == "max_tokens",
        missing="" if result is not None else missing_code.describe(reply.text),
        subcalls=subcalls,
        warnings=warnings,
        is_child=is_child,
        notices=notices,
        output=None if result is None else result.output,
        turn=turn,
        turns=turns,
    )


def printed(observation: str) -> str:
    """What a cell printed, out of what the model was shown after it; all of that if nothing is in a fence."""
    match = _FENCED.search(observation)
    return match["inside"] if match else observation


def is_over_window(system: str, messages: Sequence[Message], room_tokens: int) -> bool:
    """Whether the conversation may be longer than ``room_tokens``."""
    chars = len(system) + sum(len(message.text) for message in messages)
    return chars // _CHARS_PER_TOKEN > room_tokens


def about_subcalls(calls: Iterable[Call]) -> str:
    """One line about the sub-calls among ``calls``; "" when there are none.

    From what the journal keeps alone, so that a turn that is run again from it says the same. It says no
    seconds: a run that was killed and one that was not would differ in them.
    """
    made = [call for call in calls if call.kind in SUBCALL_KINDS and not call.is_lost]
    if not made:
        return ""
    tokens_in = sum(call.reply.usage.total_tokens - call.reply.usage.output_tokens for call in made)
    tokens_out = sum(call.reply.usage.output_tokens for call in made)
    again = sum(call.tries - 1 for call in made)
    parts = [
        f"{len(made):,}" + (f" ({again:,} sent again)" if again else ""),
        f"{tokens_in:,} tokens in, {tokens_out:,} out",
    ]
    return f"Sub-calls of this turn: {', '.join(parts)}."


def window_warning(system: str, messages: Sequence[Message], room_tokens: int) -> list[str]:
    """Says that the conversation will soon fill the window, when it will."""
    if not is_over_window(system, messages, int(room_tokens * _NEARLY_FULL)):
        return []
    return [f"this conversation nearly fills your window of {room_tokens:,} tokens"]
