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
from loop_runner.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened. ``kind`` says what; ``seq`` counts from 1 without gaps, also over resumes.

    ``pass_number`` and ``turn`` are 0 where they do not apply. ``text`` is for a person. ``at`` is in seconds
    since 1970. ``budget`` has what is used of each limit, and the limit (None: no limit); it is empty where
    that was not recorded. docs/events.md lists the further fields of each kind.
    """

    kind: ClassVar[str] = ""
    seq: int = 0
    pass_number: int = 0
    turn: int = 0
    text: str = ""
    at: float = 0.0
    budget: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {"kind": self.kind, **asdict(self)}

    def to_line(self) -> dict[str, Any]:
        """As ``events.jsonl`` has it (docs/json.md): further fields are in ``data``."""
        event = untyped(self)
        line = {
            "at": event.at,
            "kind": event.kind,
            "pass": event.pass_number,
            "turn": event.turn,
            "text": event.text,
            "data": dict(event.data),
            "seq": event.seq,
        }
        return {**line, "budget": event.budget} if event.budget else line


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStarted(Event):
    """A run was started or resumed."""

    kind: ClassVar[str] = "run_started"
    run: str = ""
    model: str = ""
    sub_model: str = ""
    texts: int = 0
    bytes: int = 0
    images: int = 0  # inputs without a text, which a model can be shown
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
    """A pass begins; ``text`` is what the model is given first, ``before`` how the last pass ended."""

    kind: ClassVar[str] = "pass_started"
    session: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)


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
class CellStarted(Event):
    """A code block begins to run."""

    kind: ClassVar[str] = "cell_started"
    code: str = ""


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
class ToolFinished(Event):
    """A call of a tool ended; ``failed``: it gave no value."""

    kind: ClassVar[str] = "tool_finished"
    tool: str = ""
    arguments: str = ""
    result: str = ""
    failed: bool = False
    seconds: float = 0.0


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
class OperatorRequest(Event):
    """A request of the operator was answered; ``text`` says what came of it.

    ``request`` is ``note``, ``pause``, ``resume``, ``stop``, ``budget``, ``prompt``, ``approve`` or
    ``reject``. ``done`` is false for one that was refused. ``again``: an earlier process had taken it.
    """

    kind: ClassVar[str] = "operator"
    id: str = ""
    request: str = ""
    done: bool = True
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """Nothing new is started until the operator resumes the run, or stops it."""

    kind: ClassVar[str] = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(Event):
    """The run continues after a pause."""

    kind: ClassVar[str] = "resumed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting(Event):
    """The run waits for a person's decision; ``text`` is the question, ``verifier`` what asks it."""

    kind: ClassVar[str] = "waiting"
    verifier: str = ""


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
        *(RunStarted, PassStarted, TurnStarted, ReplyReceived, CellStarted, CellFinished, TurnCommitted),
        *(SubcallFinished, SubcallsProgress, ToolFinished, ChildStarted, ChildTurn, ChildFinished, Retried),
        *(OperatorRequest, Paused, Resumed, Waiting),
        *(Verifying, PassEnded, RunEnded, Notice),
    )
}


_OWN = {kind: {item.name for item in fields(made)} for kind, made in KINDS.items()}


def typed(event: events.Event) -> Event:
    """The event of the library for one of the trace. A kind that only a newer version knows is a notice."""
    made = KINDS.get(event.kind, Notice)
    base: dict[str, Any] = {name: getattr(event, name) for name in _BASE}
    if made is Notice:
        is_known = event.kind == Notice.kind
        return Notice(**base, data=event.data if is_known else {**event.data, "kind": event.kind})
    known = _OWN[event.kind] - _BASE
    return made(**base, **{name: value for name, value in event.data.items() if name in known})


def untyped(event: Event) -> events.Event:
    """The event of the trace for one of the library."""
    base = {name: getattr(event, name) for name in _BASE}
    if isinstance(event, Notice):
        return events.Event("notice", **base, data=event.data)
    data = {item.name: getattr(event, item.name) for item in fields(event) if item.name not in _BASE}
    return events.Event(event.kind, **base, data=data)  # type: ignore[arg-type]


_BASE = frozenset(item.name for item in fields(Event))


OnEvent: TypeAlias = Callable[[Event], object] | None


def listening(on_event: OnEvent) -> tuple[events.Listener, ...]:
    """What gives the events of a run to ``on_event``."""
    if on_event is None:
        return ()
    if not callable(on_event):
        raise ConfigError(
            f"on_event is a function that takes an event, not {on_event!r:.80}",
            why="nobody would hear of the run",
            hint="for example on_event=print",
        )
    return (partial(_tell, on_event),)


def _tell(on_event: Callable[[Event], object], event: events.Event) -> None:
    on_event(typed(event))
