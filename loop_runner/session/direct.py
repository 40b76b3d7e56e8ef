"""The direct path: a pass in which the model is given the texts whole and its reply is the answer.

Owns the decision whether the texts fit (``decide``), how they are shown, and how a reply is taken as the
answer. Relies on ``conversation`` for the turns, which are commits like those of a session. Runs no code and
starts no kernel; the stop hook and everything after it are the same as for a session.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from loop_runner.errors import ConfigError
from loop_runner.records import Answer, Inputs, Message, Reply, Request, Turn
from loop_runner.session.conversation import MAX_WITHOUT_CODE, Conversation
from loop_runner.task.config import SessionKind
from loop_runner.text import label

_LOW_CHARS_PER_TOKEN = 3  # no text has fewer, but for code and other alphabets
_HIGH_CHARS_PER_TOKEN = 6
MAX_REPLIES = MAX_WITHOUT_CODE  # of a pass; more of the same conversation would not help
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
    body = json.loads(data)
    return Decision("direct" if body["session"] == "direct" else "rlm", str(body["why"]))


def decide(
    wanted: SessionKind,
    request: Callable[[], Request],
    texts: Inputs,
    *,
    room_tokens: int,
    count: Callable[[Request], int | None],
) -> Decision:
    """Whether ``texts`` fit into ``room_tokens``; ``count`` asks the provider where a guess is not enough.

    Raises ``ConfigError`` when the task insists on the direct path and they do not fit.
    """
    if wanted == "rlm":
        return Decision("rlm", "the task asks for a session")
    room = room_tokens - _STATE_TOKENS
    if texts.total_bytes // _HIGH_CHARS_PER_TOKEN // 4 > room:  # not even if every character took four bytes
        tokens, how = texts.total_bytes // _HIGH_CHARS_PER_TOKEN, "a high estimate from their size"
        return _decided(wanted, tokens, room, f"about {tokens:,} tokens ({how})")
    whole = request()
    chars = len(whole.system) + sum(len(message.text) for message in whole.messages)
    tokens, how = chars // _LOW_CHARS_PER_TOKEN, "at most, estimated from their length"
    if tokens > room and chars // _HIGH_CHARS_PER_TOKEN <= room and (counted := count(whole)) is not None:
        tokens, how = counted, "counted by the provider"
    return _decided(wanted, tokens, room, f"{tokens:,} tokens ({how})")


def _decided(wanted: SessionKind, tokens: int, room: int, size: str) -> Decision:
    if tokens <= room:
        return Decision("direct", f"the texts and the task are {size}, and {max(room, 0):,} fit")
    why = f"the texts and the task are {size}, and only {max(room, 0):,} fit"
    if wanted == "direct":
        raise ConfigError(
            f"session: direct cannot work: {why}",
            why="the model would have to answer about texts that it cannot see",
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


class DirectConversation(Conversation):
    """Takes each reply whole as the answer, and asks once more when it held none."""

    _heeds_guess = False  # the texts were found to fit when the run began, perhaps by a count

    async def _use(self, reply: Reply, number: int) -> Turn:
        is_whole = reply.stop_reason not in ("max_tokens", "refusal", "model_context_window_exceeded")
        text = without_thoughts(reply.text)
        is_ready = is_whole and bool(text)
        self._host.ran(number, None, None)
        if text:
            self.answer = Answer(text, is_ready=is_ready)
        return Turn(number, reply.text, "" if is_ready else self._again(reply), self.answer)

    def _again(self, reply: Reply) -> str:
        """What the model is shown after a reply without an answer, with the limits that may end the pass."""
        _, short = self._host.limits()
        short.pop("subcalls", None)  # there is no code that could make one
        warnings = [*short.values(), *self._window_warning()]
        render = self._settings.templates.render
        return render("direct_again", stop_reason=reply.stop_reason, warnings=warnings)

    def _lacks_code(self, turn: Turn) -> bool:
        return False  # it has no Python to run it with
