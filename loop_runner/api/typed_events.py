"""The events of a run: one frozen dataclass for each kind, in the order in which they happen.

Owns their fields, from which docs/events.md is generated. An event of ``events.jsonl`` has the same data;
what an older run did not write has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from typing import Any, ClassVar, TypeAlias

from loop_runner import events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. ``kind`` says what; ``seq`` counts from 1 without gaps, also over resumes.

    ``pass_number`` and ``turn`` are 0 where they do not apply. ``text`` is for a person. docs/events.md
    lists the further fields of each kind.
    """

    kind: ClassVar[str] = ""
    seq: int = 0
    pass_number: int = 0
    turn: int = 0
    text: str = ""

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"kind": self.kind, **asdict(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run was started or resumed."""

    kind: ClassVar[str] = "run_started"
    run: str = ""
    model: str = ""
    sub_model: str = ""
    texts: int = 0
    bytes: int = 0
    session: str = ""
    session_why: str = ""
    skipped: Mapping[str, int] = field(default_factory=dict)
    first_skipped: Sequence[Sequence[str]] = ()  # path and reason
    faults: Sequence[Sequence[str]] = ()  # inputs that could not be read: path and reason
    notices: Sequence[Sequence[str]] = ()  # what is to be known of an input: path and text
    texts_not_utf8: int = 0
    bytes_not_utf8: int = 0
    prices: str = ""

    @property
    def install(self) -> str:
        """The command that installs what reads the documents among ``faults``; "" where that is no matter."""
        from loop_runner import plugins
        from loop_runner.inputs.inside.kinds import NEEDS_DOCS

        return plugins.command_for("docs") if any(NEEDS_DOCS in reason for _, reason in self.faults) else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassStarted(Event):
    """A pass begins; ``text`` is what the model is given first."""

    kind: ClassVar[str] = "pass_started"
    session: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted(Event):
    """The model is asked."""

    kind: ClassVar[str] = "turn_started"
    messages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplyReceived(Event):
    """The root model replied; ``text`` is its reply."""

    kind: ClassVar[str] = "reply_received"
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFinished(Event):
    """A code block ran; ``text`` is its output, ``end`` is ``ok``, ``raised``, ``timed_out`` or ``died``."""

    kind: ClassVar[str] = "cell_finished"
    end: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCommitted(Event):
    """A turn is in git; ``text`` is the commit."""

    kind: ClassVar[str] = "turn_committed"
    ready: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcallFinished(Event):
    """A sub-call was answered."""

    kind: ClassVar[str] = "subcall_finished"
    prompt_chars: int = 0
    reply: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubcallsProgress(Event):
    """How far many sub-calls are."""

    kind: ClassVar[str] = "subcalls_progress"
    answered: int = 0
    failed: int = 0
    out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildStarted(Event):
    """A child session begins; ``text`` is its question."""

    kind: ClassVar[str] = "child_started"
    scope: str = ""
    depth: int = 0
    model: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTurn(Event):
    """A child session took a turn."""

    kind: ClassVar[str] = "child_turn"
    scope: str = ""
    depth: int = 0
    end: str = ""
    usage: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildFinished(Event):
    """A child session ended; ``text`` is its answer."""

    kind: ClassVar[str] = "child_finished"
    scope: str = ""
    depth: int = 0
    end: str = ""
    turns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retried(Event):
    """A request to a provider is tried again."""

    kind: ClassVar[str] = "retried"
    provider: str = ""
    reason: str = ""
    failed_tries: int = 0
    pause_s: float = 0.0
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifying(Event):
    """The verifiers are asked; ``text`` is the answer."""

    kind: ClassVar[str] = "verifying"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassEnded(Event):
    """A pass is in git; ``outcome`` is ``accepted`` or ``rejected``, ``text`` why it was rejected."""

    kind: ClassVar[str] = "pass_ended"
    outcome: str = ""
    commit: str = ""
    verdict: Mapping[str, Any] = field(default_factory=dict)
    cache: Mapping[str, Any] = field(default_factory=dict)  # tokens read and written, and the hit rate


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded(Event):
    """The run ended, with the status of its result or ``error``; ``text`` says why."""

    kind: ClassVar[str] = "run_ended"
    status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something that a person may want to know; ``data`` depends on what."""

    kind: ClassVar[str] = "notice"
    data: Mapping[str, Any] = field(default_factory=dict)


KINDS: Mapping[str, type[Event]] = {
    made.kind: made
    for made in (
        *(RunStarted, PassStarted, TurnStarted, ReplyReceived, CellFinished, TurnCommitted),
        *(SubcallFinished, SubcallsProgress, ChildStarted, ChildTurn, ChildFinished, Retried),
        *(Verifying, PassEnded, RunEnded, Notice),
    )
}


_OWN = {kind: {item.name for item in fields(made)} for kind, made in KINDS.items()}


def typed(event: events.Event) -> Event:
    """The event of the library for one of the trace."""
    made = KINDS[event.kind]
    base: dict[str, Any] = {
        "seq": event.seq,
        "pass_number": event.pass_number,
        "turn": event.turn,
        "text": event.text,
    }
    given: Mapping[str, Any] = {"data": event.data} if made is Notice else event.data
    known = _OWN[event.kind]
    own = {name: value for name, value in given.items() if name in known and name not in base}
    return made(**base, **own)


OnEvent: TypeAlias = Callable[[Event], object] | None


def listening(on_event: OnEvent) -> tuple[events.Listener, ...]:
    """What gives the events of a run to ``on_event``."""
    return () if on_event is None else (partial(_tell, on_event),)


def _tell(on_event: Callable[[Event], object], event: events.Event) -> None:
    on_event(typed(event))
