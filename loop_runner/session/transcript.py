"""The conversation of a session as it is sent: what was told, said and answered, whole or shortened.

Owns the order of messages, what `history:` leaves of older turns, and that no two messages of one speaker
follow each other (strict chat templates refuse that). A pure function of what is committed, so a session that
continues after a crash sends the same bytes. Relies on ``prompts``; asks no model and writes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loop_runner.records import Message
from loop_runner.task.config import History
from loop_runner.task.prompts import BUILT_IN, Templates

Place = tuple[int, int]
"""Pass and turn."""

_NO_REPLY = "(nothing)"
_CUT_CHARS = 600  # what is left of an older output


@dataclass(frozen=True, slots=True)
class _PassPrompt:
    """The first message of a pass."""

    text: str
    stable_chars: int


@dataclass(slots=True)
class _Exchange:
    """One turn. ``summary`` stands for it and for all before it."""

    place: Place
    reply: str
    output: str
    summary: str | None = None


@dataclass(frozen=True, slots=True)
class _Note:
    """What the operator said before the turn that follows."""

    text: str


class Transcript:
    """Grows by passes and turns; gives the messages of the next request."""

    def __init__(
        self, history: History, example: Sequence[Message] = (), templates: Templates = BUILT_IN
    ) -> None:
        self._history = history
        self._templates = templates
        self._example = tuple(example)
        self._steps: list[_PassPrompt | _Exchange | _Note] = []

    def begin_pass(self, text: str, stable_chars: int = 0) -> None:
        """A pass begins with ``text``; its first ``stable_chars`` are the same in every pass."""
        self._steps.append(_PassPrompt(text, stable_chars))

    def add(self, place: Place, reply: str, output: str, summary: str | None = None) -> None:
        """One committed turn, with the summary that was made after it, if there is one."""
        self._steps.append(_Exchange(place, reply, output, summary))

    def add_note(self, text: str) -> None:
        """Add ``text`` to the message that the model sees next: nothing before it changes."""
        self._steps.append(_Note(text))

    def summarise(self, summary: str) -> Place:
        """``summary`` stands for all turns so far; gives the place of the last of them."""
        last = self._exchanges()[-1]
        last.summary = summary
        return last.place

    @property
    def turns_in_full(self) -> int:
        """How many turns no summary stands for."""
        exchanges = self._exchanges()
        known = [at for at, exchange in enumerate(exchanges) if exchange.summary is not None]
        return len(exchanges) - (known[-1] + 1 if known else 0)

    def messages(self, ask: str = "") -> tuple[Message, ...]:
        """The messages of the next request; ``ask`` is added to the last of them."""
        listed = [*self._example, *self._own_messages()]
        if ask:
            listed.append(Message("user", ask))
        return _merged(listed)

    def _exchanges(self) -> list[_Exchange]:
        return [step for step in self._steps if isinstance(step, _Exchange)]

    def _own_messages(self) -> list[Message]:
        messages: list[Message] = []
        steps = self._steps
        summaries = [
            at for at, step in enumerate(steps) if isinstance(step, _Exchange) and step.summary is not None
        ]
        if summaries:
            messages += self._summed_up(summaries[-1])
            steps = steps[summaries[-1] + 1 :]
        cut = self._cut(sum(isinstance(step, _Exchange) for step in steps))
        turn = 0
        for step in steps:
            if isinstance(step, _PassPrompt | _Note):
                messages.append(Message("user", step.text, getattr(step, "stable_chars", 0)))
                continue
            output = self._shortened(step) if turn < cut else step.output
            messages += [Message("assistant", replied(step.reply)), Message("user", output)]
            turn += 1
        return messages

    def _summed_up(self, at: int) -> list[Message]:
        """The first message, the summary, and what the last turn that it stands for printed."""
        prompts = [step for step in self._steps[:at] if isinstance(step, _PassPrompt)]
        last = self._steps[at]
        assert isinstance(last, _Exchange)
        passes = [prompts[-1].text] if len(prompts) > 1 else []
        note = self._templates.render("summed_up", turn=last.place[1])
        return [
            Message("user", prompts[0].text, prompts[0].stable_chars),
            Message("assistant", last.summary or ""),
            Message("user", "\n\n".join([note, *passes, last.output])),
        ]

    def _cut(self, turns: int) -> int:
        """How many of ``turns`` are shortened: in steps, so that each keeps the cache warm for N turns."""
        if self._history.mode != "window":
            return 0
        whole = self._history.turns
        return max((turns // whole - 1) * whole, 0)

    def _shortened(self, step: _Exchange) -> str:
        if len(step.output) <= 2 * _CUT_CHARS:
            return step.output
        render = self._templates.render
        return render("cut_output", turn=step.place[1], output=step.output, chars=_CUT_CHARS)


def replied(reply: str) -> str:
    """A reply as it is sent back to its model: providers refuse a message without text."""
    return reply if reply.strip() else _NO_REPLY


def _merged(messages: Sequence[Message]) -> tuple[Message, ...]:
    merged: list[Message] = []
    for message in messages:
        if merged and merged[-1].role == message.role:
            before = merged.pop()
            text = f"{before.text.rstrip()}\n\n{message.text}"
            merged.append(Message(message.role, text, before.stable_chars))
        else:
            merged.append(message)
    return tuple(merged)
