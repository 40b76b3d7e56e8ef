"""What there is to see of a run while it runs: the view model that every front end shows.

``RunView`` is built from events, one after another; ``status`` builds one from the end of the trace. It holds
where the run is, what it does now and since when, how far its sub-calls are, what is used of the budget and
how fast, the verdicts, and what looks wrong. Reads no file and no clock: the caller passes the time.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from loop_runner.events import Amounts, Event
from loop_runner.records import Spend
from loop_runner.runs.amounts import LIMITS, spend_from

_RATE_S = 300.0  # the window of the rates
_MIN_RATE_S = 20.0  # less than that says nothing about a rate
_SHOWN_NOTICES = 20
_CELL_LINES_CHARS = 100_000  # of a cell or its output, as far as it is kept for showing


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run does now, and for how long. The counts are of the sub-calls of this turn.

    ``kind`` is ``starting``, ``asking the model``, ``running code``, ``waiting for sub-calls``, ``saving``,
    ``verifying``, ``between passes``, ``waiting`` (for a batch or a person), ``paused``, or "" for nothing.
    """

    kind: str = ""
    seconds: float = 0.0
    answered: int = 0
    failed: int = 0
    out: int = 0

    @property
    def subcalls(self) -> int:
        """The sub-calls of this turn so far."""
        return self.answered + self.failed + self.out

    def __str__(self) -> str:
        if not self.kind:
            return ""
        calls = f"{self.answered + self.failed:,} of {self.subcalls:,} sub-calls" if self.subcalls else ""
        failed = f" ({self.failed:,} failed)" if self.failed else ""
        what = self.kind.removeprefix("waiting for sub-calls").strip() or calls
        shown = f"{what} for {duration(self.seconds)}"
        return shown + (f", {calls}{failed}" if calls and what != calls else failed)


@dataclass(frozen=True, slots=True)
class Limit:
    """What is used of a limit, by its key in a task file. ``per_minute`` is over the last minutes."""

    name: str
    used: float
    limit: float | None = None
    per_minute: float | None = None

    @property
    def share(self) -> float | None:
        """The part that is used, from 0 to 1; None where there is no limit."""
        return None if self.limit is None else 1.0 if self.limit <= 0 else min(self.used / self.limit, 1.0)

    @property
    def minutes_left(self) -> float | None:
        """How long the rest lasts at this rate; None where that is not known."""
        if self.limit is None or not self.per_minute or self.per_minute <= 0:
            return None
        return max(self.limit - self.used, 0.0) / self.per_minute

    def __str__(self) -> str:
        of = "" if self.limit is None else f" of {_amount(self.name, self.limit)}"
        rate = f" ({_amount(self.name, self.per_minute)} a minute)" if self.per_minute else ""
        return f"{_amount(self.name, self.used)}{of}{rate}"


@dataclass(frozen=True, slots=True)
class PassView:
    """A pass that ended: how, with which score, and why it was rejected."""

    number: int
    outcome: str
    reason: str = ""
    score: float | None = None
    commit: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Anomaly:
    """Something that looks wrong. ``kind`` is ``silent``, ``retries``, ``cache`` or ``same answer``."""

    kind: str
    text: str


def duration(seconds: float) -> str:
    """``3.2 s``, ``48 s``, ``3 min 20 s``, ``2 h 5 min``, ``4 d 2 h``."""
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _amount(name: str, value: float) -> str:
    """An amount of a limit, with its unit where the name of the limit does not say it."""
    if name == "usd":
        return f"{value:.4f} USD"
    return duration(value) if name == "wall" else f"{value:,.0f}"


class RunView:
    """What there is to see of a run. ``apply`` takes its events in their order."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.seq = 0
        self.pass_number = 0
        self.turn = 0
        self.committed = (0, 0)  # the last pass and turn in git; turn 0: the end of the pass
        self.about: Mapping[str, Any] = {}  # of the last start: folder, models, inputs
        self.passes: list[PassView] = []
        self.cell = ""
        self.output = ""
        self.cell_end = ""
        self.subcalls: deque[str] = deque(maxlen=_SHOWN_NOTICES)  # the last replies
        self.notices: deque[tuple[float, str]] = deque(maxlen=_SHOWN_NOTICES)
        self.notes: deque[tuple[float, str]] = deque(maxlen=_SHOWN_NOTICES)  # the operator's requests
        self.is_paused = False
        self._before_pause = ""
        self.waits_for = ""  # what a person is asked
        self.end: tuple[str, str] | None = None  # status and reason of this start
        self.first_at = self.last_at = 0.0
        self._doing: str = ""
        self._since = 0.0
        self._answered = self._failed = self._out = 0
        self._best: float | None = None  # of the passes before the first event
        self._used: Amounts = {}
        self._samples: deque[tuple[float, Amounts]] = deque(maxlen=200)
        self._signs = _Signs()
        for event in events:
            self.apply(event)

    def apply(self, event: Event) -> None:
        """Take in one event. What a damaged trace holds is left out; it never raises for it."""
        self.seq = max(event.seq, self.seq)
        if event.at:
            self._signs.heard(event, self.last_at, self._doing)
            self.first_at = self.first_at or event.at
            self.last_at = max(event.at, self.last_at)
        if event.budget:
            self._used = event.budget
            self._samples.append((event.at, event.budget))
        if event.kind in _OF_THE_RUN and (event.pass_number or event.kind == "run_started"):
            self.pass_number, self.turn = event.pass_number, event.turn
        handler = getattr(self, f"_on_{event.kind}", None)
        if handler is not None:
            handler(event)

    def activity(self, now: float) -> Activity:
        """What the run does at the time ``now`` (seconds since 1970)."""
        kind = self._doing
        if kind == "running code" and self._out:
            kind = "waiting for sub-calls"
        seconds = max(now - self._since, 0.0) if kind and self._since else 0.0
        return Activity(kind, seconds, self._answered, self._failed, self._out)

    def limits(self, now: float) -> tuple[Limit, ...]:
        """What is used of every limit, and of what has none; empty where the trace does not say."""
        used = {name: amount for name, amount in self._used.items() if name in LIMITS}
        if "wall" in used and self.end is None and self._doing:
            spent, limit = used["wall"]
            used["wall"] = (spent + self._since_budget(now), limit)
        return tuple(
            Limit(name, amount, limit, self._rate(name, now)) for name, (amount, limit) in used.items()
        )

    @property
    def spend(self) -> Spend:
        """What the last event that carries the budget says was used, committed or not."""
        return spend_from(self._used)

    @property
    def last_verdict(self) -> PassView | None:
        """The pass that ended last."""
        return self.passes[-1] if self.passes else None

    @property
    def best_score(self) -> float | None:
        """The best score of a pass."""
        scores = [self._best, *(ended.score for ended in self.passes)]
        return max((score for score in scores if score is not None), default=None)

    def anomalies(self, now: float) -> tuple[Anomaly, ...]:
        """What looks wrong at the time ``now``."""
        is_active = self.end is None and bool(self._doing)
        return self._signs.anomalies(now, self._doing if is_active else "", self.last_at)

    # ── the events ──────────────────────────────────────────────────────────────────────────────────

    def _on_run_started(self, event: Event) -> None:
        self.about, self.end = dict(event.data), None
        self.committed = (event.pass_number, event.turn)
        self._begin("starting", event)
        self._samples.clear()
        if event.budget:
            self._samples.append((event.at, event.budget))

    def _on_pass_started(self, event: Event) -> None:
        self._begin("starting", event)
        before = event.data.get("before")
        last = before.get("last") if isinstance(before, dict) else None
        if isinstance(before, dict) and isinstance(last, dict):
            self._best = _score(before.get("best_score"))
            number, reason = last.get("pass"), str(last.get("reason", ""))
            if isinstance(number, int) and number > (self.passes[-1].number if self.passes else 0):
                self.passes.append(PassView(number, "rejected", reason, _score(last.get("score"))))

    def _on_turn_started(self, event: Event) -> None:
        self._answered = self._failed = self._out = 0
        self.subcalls.clear()
        self._begin("asking the model", event)

    def _on_reply_received(self, event: Event) -> None:
        self._begin("saving", event)

    def _on_cell_started(self, event: Event) -> None:
        self.cell, self.output, self.cell_end = _kept(event.data.get("code")), "", ""
        self._begin("running code", event)

    def _on_cell_finished(self, event: Event) -> None:
        self.cell = _kept(event.data.get("code")) or self.cell
        self.output, self.cell_end = _kept(event.text), str(event.data.get("end", ""))
        self._out = 0
        self._begin("saving", event)

    def _on_turn_committed(self, event: Event) -> None:
        self.committed = (event.pass_number, event.turn)
        self._begin("saving", event)

    def _on_subcall_finished(self, event: Event) -> None:
        self._answered += 1
        self._out = max(self._out - 1, 0)
        self.subcalls.append(str(event.data.get("reply", "")))

    def _on_subcalls_progress(self, event: Event) -> None:
        counts = [event.data.get(name) for name in ("answered", "failed", "out")]
        self._answered, self._failed, self._out = (
            count if isinstance(count, int) and count >= 0 else 0 for count in counts
        )

    def _on_verifying(self, event: Event) -> None:
        self._begin("verifying", event)

    def _on_pass_ended(self, event: Event) -> None:
        verdict = event.data.get("verdict")
        score = verdict.get("score") if isinstance(verdict, dict) else None
        outcome = str(event.data.get("outcome", ""))
        self.passes.append(
            PassView(
                event.pass_number,
                outcome,
                event.text,
                1.0 if outcome == "accepted" else _score(score),
                str(event.data.get("commit", "")),
                event.at,
            )
        )
        self.turn, self.committed = 0, (event.pass_number, 0)
        self._begin("between passes", event)

    def _on_run_ended(self, event: Event) -> None:
        self.end = (str(event.data.get("status", "")), event.text)
        self._begin("", event)

    def _on_operator(self, event: Event) -> None:
        self.notes.append((event.at, event.text))

    def _on_paused(self, event: Event) -> None:
        if not self.is_paused:
            self._before_pause = self._doing
        self._begin("paused", event)
        self.is_paused = True

    def _on_resumed(self, event: Event) -> None:
        self._begin(self._before_pause or "starting", event)

    def _on_waiting(self, event: Event) -> None:
        self._begin("waiting", event)
        self.waits_for = event.text

    def _on_notice(self, event: Event) -> None:
        self.notices.append((event.at, event.text))

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────────

    def _begin(self, doing: str, event: Event) -> None:
        self._doing, self._since = doing, event.at
        if doing != "waiting":
            self.waits_for = ""
        if doing != "paused":
            self.is_paused = False

    def _since_budget(self, now: float) -> float:
        """The seconds since the budget was last recorded, while a turn is under way."""
        in_turn = self._doing not in ("", "starting", "between passes")
        at = self._samples[-1][0] if self._samples else 0.0
        return max(now - at, 0.0) if at and in_turn else 0.0

    def _rate(self, name: str, now: float) -> float | None:
        """What is used of ``name`` in a minute, over the last minutes; None where that is not known."""
        recent = [(at, used) for at, used in self._samples if at >= now - _RATE_S and name in used]
        if name in ("turns", "passes", "wall") or not recent or now - recent[0][0] < _MIN_RATE_S:
            return None
        (began, first), (_, last) = recent[0], recent[-1]
        return max(last[name][0] - first[name][0], 0.0) * 60 / (now - began)


# Those that say in which pass and turn the run is; the others may come late, from other threads.
_OF_THE_RUN = frozenset(
    {
        *("run_started", "pass_started", "turn_started", "reply_received", "cell_started", "cell_finished"),
        *("turn_committed", "verifying", "pass_ended", "run_ended"),
    }
)


def _score(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _kept(value: object) -> str:
    return value[:_CELL_LINES_CHARS] if isinstance(value, str) else ""


# ── what looks wrong ────────────────────────────────────────────────────────────────────────────────

_MIN_SILENT_S = 120.0
_USUALLY = 5  # times as long as the longest pause so far of the same activity
_STORM_S, _STORM = 60.0, 10  # so many retries within so many seconds
_CACHE_TURNS = 3  # the last ones, compared with those before
_GOOD_HIT_RATE, _BAD_HIT_RATE = 0.5, 0.1


class _Signs:
    """What tells that something is wrong."""

    def __init__(self) -> None:
        self._pauses: dict[str, float] = {}  # the longest one for each activity
        self._retries: deque[tuple[float, str]] = deque(maxlen=1000)
        self._hit_rates: deque[float] = deque(maxlen=20)
        self._answers: deque[str] = deque(maxlen=2)
        self._same: tuple[int, int] = (0, 0)

    def heard(self, event: Event, before: float, doing: str) -> None:
        """Take note of an event; ``before`` is the time of the one before it."""
        if before and doing and event.kind != "run_started":
            self._pauses[doing] = max(self._pauses.get(doing, 0.0), event.at - before)
        if event.kind == "retried":
            self._retries.append((event.at, str(event.data.get("reason", ""))))
        elif event.kind == "reply_received":
            self._replied(event.data.get("usage"))
        elif event.kind == "verifying":
            self._answered(event)

    def anomalies(self, now: float, doing: str, last_at: float) -> tuple[Anomaly, ...]:
        """What looks wrong; ``doing`` is "" for a run that is not at work."""
        signs = [self._silent(now, doing, last_at), self._storm(now), self._collapsed(), self._repeated()]
        return tuple(sign for sign in signs if sign is not None)

    def _silent(self, now: float, doing: str, last_at: float) -> Anomaly | None:
        usual = max(_USUALLY * self._pauses.get(doing, 0.0), _MIN_SILENT_S)
        if not doing or not last_at or now - last_at < usual:
            return None
        age = duration(now - last_at)
        return Anomaly("silent", f"no event for {age}, longer than usual while it is {doing}")

    def _storm(self, now: float) -> Anomaly | None:
        recent = [reason for at, reason in self._retries if at >= now - _STORM_S]
        if len(recent) < _STORM:
            return None
        return Anomaly("retries", f"{len(recent)} retries in the last minute, the last one for: {recent[-1]}")

    def _replied(self, usage: object) -> None:
        names = ("input_tokens", "cache_read_tokens", "cache_write_tokens")
        counts = [usage.get(name, 0) for name in names] if isinstance(usage, dict) else []
        if counts and all(isinstance(count, int | float) for count in counts) and sum(counts) > 0:
            self._hit_rates.append(counts[1] / sum(counts))

    def _collapsed(self) -> Anomaly | None:
        rates = list(self._hit_rates)
        before, last = rates[:-_CACHE_TURNS], rates[-_CACHE_TURNS:]
        if not before or max(before) < _GOOD_HIT_RATE or max(last) > _BAD_HIT_RATE:
            return None
        return Anomaly(
            "cache",
            f"the provider's prompt cache served {max(last):.0%} of the last {len(last)} prompts,"
            f" and {max(before):.0%} before",
        )

    def _answered(self, event: Event) -> None:
        self._answers.append(event.text.strip())
        if len(self._answers) == 2 and self._answers[0] == self._answers[1] != "":
            self._same = (self._same[0] or event.pass_number - 1, event.pass_number)
        else:
            self._same = (0, 0)

    def _repeated(self) -> Anomaly | None:
        first, last = self._same
        return Anomaly("same answer", f"passes {first} to {last} gave the same answer") if last else None


def as_dict(value: Any) -> dict[str, Any]:
    """A record of this module as JSON has it."""
    return dataclasses.asdict(value)
