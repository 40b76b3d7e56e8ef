"""The direct path: a pass in which the model is given the texts whole and its reply is the answer.

Owns the decision whether the texts fit (``decide``), how they are shown, and the turns of such a pass, which
are commits like any others. Relies on the switchboard and the workspace. Runs no code and starts no kernel;
the stop hook and everything after it are the same as for a session.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from loop_runner.budget import BudgetSpentError, Ledger
from loop_runner.errors import ConfigError
from loop_runner.events import Event, Trace
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Answer, Inputs, Message, Reply, Request, Snapshot, TurnRecord, Usage
from loop_runner.session import conversation
from loop_runner.session.session import SessionEnd, SessionSettings
from loop_runner.task.config import SessionKind
from loop_runner.text import label
from loop_runner.workspace.workspace import Workspace

_LOW_CHARS_PER_TOKEN = 3  # no text has fewer, but for code and other alphabets
_HIGH_CHARS_PER_TOKEN = 6
_MAX_NAME_CHARS = 1000  # a name that is cut could not be cited
_THOUGHTS = re.compile(r"<(?P<tag>thinking|think)>", re.IGNORECASE)
_STATE_TOKENS = 12_000  # kept free for what a later pass is told


@dataclass(frozen=True, slots=True)
class Decision:
    """How a run's passes are held, and why."""

    kind: Literal["direct", "rlm"]
    why: str

    def to_json(self) -> bytes:
        """``session.json``."""
        return (json.dumps({"session": self.kind, "why": self.why}, indent=1) + "\n").encode()


RLM = Decision("rlm", "")


def from_json(data: bytes | None) -> Decision:
    """What ``to_json`` wrote; a run without the file is a session."""
    if not data:
        return RLM
    said = json.loads(data)
    return Decision("direct" if said["session"] == "direct" else "rlm", str(said["why"]))


def decide(
    asked: SessionKind,
    request: Callable[[], Request],
    texts: Inputs,
    *,
    room_tokens: int,
    count: Callable[[Request], int | None],
) -> Decision:
    """Whether ``texts`` fit into ``room_tokens``; ``count`` asks the provider where a guess is not enough.

    Raises ``ConfigError`` when the task insists on the direct path and they do not fit.
    """
    if asked == "rlm":
        return Decision("rlm", "the task asks for a session")
    room = room_tokens - _STATE_TOKENS
    if texts.total_bytes // _HIGH_CHARS_PER_TOKEN // 4 > room:  # not even if every character took four bytes
        tokens, how = texts.total_bytes // _HIGH_CHARS_PER_TOKEN, "by a high guess from their size"
        return _decided(asked, tokens, room, f"about {tokens:,} tokens ({how})")
    whole = request()
    chars = len(whole.system) + sum(len(message.text) for message in whole.messages)
    tokens, how = chars // _LOW_CHARS_PER_TOKEN, "at most, guessed from their length"
    if tokens > room and chars // _HIGH_CHARS_PER_TOKEN <= room and (counted := count(whole)) is not None:
        tokens, how = counted, "counted by the provider"
    return _decided(asked, tokens, room, f"{tokens:,} tokens ({how})")


def _decided(asked: SessionKind, tokens: int, room: int, size: str) -> Decision:
    if tokens <= room:
        return Decision("direct", f"the texts and the task are {size}, and {max(room, 0):,} fit")
    why = f"the texts and the task are {size}, and only {max(room, 0):,} fit"
    if asked == "direct":
        raise ConfigError(
            f"session: direct cannot work: {why}",
            why="the model would have to answer about texts that it was not given",
            hint="session: auto decides by size; session: rlm reads the texts piece by piece",
        )
    return Decision("rlm", why)


def documents(texts: Inputs) -> str:
    """All texts, each under its name, each line with its number: no line can be mistaken for another text."""
    parts = []
    for text in texts.texts:
        lines = _text(text.path).removesuffix("\n").split("\n")
        numbered = "\n".join(f"{number}| {line}" for number, line in enumerate(lines, start=1))
        parts.append(f"=== {label(text.name, _MAX_NAME_CHARS)} ===\n{numbered}\n")
    return "\n".join(parts)


def _text(path: Path) -> str:
    return path.read_bytes().decode("utf-8", "replace").removeprefix("\ufeff")


def first_message(texts: Inputs, injected: str, prompt_chars: int) -> Message:
    """Texts, prompt and state; the texts and the prompt are the same in every pass."""
    shown = documents(texts) + "\n"
    return Message("user", shown + injected, len(shown) + prompt_chars)


def without_thoughts(reply: str) -> str:
    """The answer in a reply: all of it but for the blocks of thought that it begins with.

    A block that is not closed is all thought. One that stands later is a part of the answer.
    """
    text = reply.strip()
    while match := _THOUGHTS.match(text):
        end = re.search(f"</{match['tag']}>", text, re.IGNORECASE)
        text = text[end.end() :].strip() if end else ""
    return text


class DirectPass:
    """Asks for the answer, once more when the reply was cut; every reply is committed as a turn."""

    def __init__(
        self,
        settings: SessionSettings,
        *,
        message: Message,
        turns_done: int,
        is_ready: bool,
        snapshot: Snapshot,
        models: Switchboard,
        workspace: Workspace,
        ledger: Ledger,
        trace: Trace,
        earlier: tuple[tuple[str, str], ...] = (),
        should_stop: Callable[[], bool] = lambda: False,
        first_files: Mapping[str, bytes] | None = None,
    ) -> None:
        self._settings = settings
        self._messages = [message]
        for reply, output in earlier:
            self._add(reply, output)
        self._turn = turns_done
        self._is_ready = is_ready
        self._snapshot = snapshot
        self._models = models
        self._workspace = workspace
        self._ledger = ledger
        self._trace = trace
        self._should_stop = should_stop
        self._files = dict(first_files or {})
        self.unfinished_s = 0.0  # spent waiting for a reply that the budget ended
        self.usage = Usage()  # of the conversation, in this process

    def run(self, answer: Answer) -> SessionEnd:
        """Ask until there is a whole answer or one of the ends of a session."""
        answer = replace(answer, is_ready=False)  # what an earlier pass handed in is a draft again
        while not self._is_ready:
            if self._should_stop():
                return "interrupted"
            if self._turn >= min(self._settings.turns, conversation.MAX_WITHOUT_CODE):
                return "turns"
            if self._ledger.reached_within_pass():
                return "budget"
            started = time.monotonic()
            try:
                stopped_for = self._take_turn(answer)
            except BudgetSpentError:
                self.unfinished_s = time.monotonic() - started
                return "budget"
            if stopped_for == "model_context_window_exceeded":
                return "window"
        return "ready"

    def _take_turn(self, answer: Answer) -> str:
        started = time.monotonic()
        number = self._turn + 1
        self._tell("turn_started", number, messages=len(self._messages))
        self._models.start_turn()
        self._ledger.begin_turn(self._settings.turns - number)
        reply = self._ask()
        self.usage += reply.usage
        self._tell("reply_received", number, reply.text)
        is_whole = reply.stop_reason not in ("max_tokens", "refusal", "model_context_window_exceeded")
        text = without_thoughts(reply.text)
        is_ready = is_whole and bool(text)
        again = self._settings.templates.render("direct_again", stop_reason=reply.stop_reason)
        output = "" if is_ready else again
        turn = TurnRecord(
            pass_number=self._settings.pass_number,
            number=number,
            reply=reply.text,
            code=None,
            output=output,
            end="no_code",
            answer=Answer(text, is_ready=is_ready) if text else answer,
            calls=self._workspace.journal.calls(),
            snapshot=self._snapshot,
            seconds=time.monotonic() - started,
        )
        checkpoint = self._workspace.commit_turn(turn, self._files)
        self._files = {}
        self._ledger.charge_turn(turn.seconds)
        self._turn = number
        self._is_ready = turn.answer.is_ready
        self._add(reply.text, output)
        self._tell("turn_committed", number, checkpoint.commit, ready=self._is_ready)
        for line in self._workspace.left_out():
            self._tell("notice", number, line)
        return reply.stop_reason

    def _add(self, reply: str, output: str) -> None:
        """Add a turn to the conversation. Providers refuse an empty message."""
        self._messages += [Message("assistant", reply.strip() or "(nothing)"), Message("user", output)]

    def _ask(self) -> Reply:
        return self._models.ask(
            Request(
                model=self._settings.model,
                system=self._settings.system,
                messages=tuple(self._messages),
                max_output_tokens=self._settings.max_reply_tokens,
                kind="root",
                ordinal=self._ledger.spend.turns,
            )
        )

    def _tell(self, kind: str, turn: int, detail: str = "", **data: object) -> None:
        self._trace.append(
            Event(kind, detail, self._settings.pass_number, turn, data)  # type: ignore[arg-type]
        )
