"""What a store knows of a job, and the money of the fleet: plain data with a JSON form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Self

JobStatus = Literal[
    "waiting", "running", "verified", "unverified", "blocked", "broken", "interrupted", "poison", "stopped"
]

ENDED: tuple[JobStatus, ...] = ("verified", "unverified", "blocked", "broken", "poison", "stopped")
RETRIED: tuple[JobStatus, ...] = (  # by `fleet retry --failed`
    "unverified",
    "blocked",
    "broken",
    "poison",
    "stopped",
)
STOPPED = "stopped with `fleet stop`"


@dataclass(frozen=True, slots=True)
class JobState:
    """One job as the store knows it. Amounts are US dollars; ``beat`` grows with each renewal of a lease.

    ``worker`` holds the lease while ``status`` is ``running``; ``crashes`` lists the workers that were lost.
    ``is_paused``, ``is_stopped`` and ``notes`` are requests of a person, which the worker takes.
    """

    status: JobStatus = "waiting"
    digest: str = ""  # of the job's values
    worker: str = ""
    beat: int = 0
    ttl_s: float = 0.0
    reserved_usd: float = 0.0
    spent_usd: float = 0.0
    tokens: int = 0
    passes: int = 0
    turns: int = 0
    attempts: int = 0
    crashes: tuple[str, ...] = ()
    reason: str = ""
    commit: str = ""
    is_paused: bool = False
    is_stopped: bool = False
    notes: tuple[str, ...] = ()  # that the run does not have yet

    @property
    def has_ended(self) -> bool:
        """Whether no worker takes the job without ``fleet retry``."""
        return self.status in ENDED

    def beaten(self, **changes: Any) -> Self:
        """The state after one more renewal by its worker."""
        return replace(self, beat=self.beat + 1, **changes)

    def stopped(self) -> JobState | None:
        """The state after a request to stop: a job that runs is ended by its worker. None: it has ended."""
        if self.has_ended:
            return None
        if self.status == "running":
            return replace(self, is_stopped=True)
        return replace(self, status="stopped", is_stopped=True, is_paused=False, reason=STOPPED)

    def with_note(self, text: str) -> JobState | None:
        """The state with one more note for the model. None: the job has ended, so no model would see it."""
        return None if self.has_ended else replace(self, notes=(*self.notes, text))

    def with_requests_of(self, other: JobState, given: int) -> Self:
        """This state with the requests that ``other`` has, but the first ``given`` notes of it."""
        return replace(
            self, is_paused=other.is_paused, is_stopped=other.is_stopped, notes=other.notes[given:]
        )

    def to_json(self) -> bytes:
        """One line, keys in the order of the fields."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ``ValueError`` for bytes that ``to_json`` did not write."""
        try:
            result = json.loads(data)
            known = {name: result[name] for name in cls.__slots__ if name in result}
            lists = {key: tuple(result.get(key, ())) for key in ("crashes", "notes")}
            state = cls(**known | lists)
            state._check()
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        return state

    def _check(self) -> None:
        numbers = (self.beat, self.ttl_s, self.reserved_usd, self.spent_usd, self.tokens, self.attempts)
        if not all(isinstance(number, int | float) and 0 <= number < float("inf") for number in numbers):
            msg = "a number is negative or none"
            raise ValueError(msg)
        texts = (self.status, self.worker, self.reason, *self.crashes, *self.notes)
        if not all(isinstance(text, str) for text in texts):
            msg = "a text is none"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Money:
    """What the jobs of a fleet have cost, and what is held back for those that run. US dollars."""

    spent_usd: float = 0.0
    reserved_usd: float = 0.0

    @classmethod
    def of(cls, states: Iterable[JobState]) -> Self:
        """The sum over ``states``."""
        held = list(states)
        return cls(sum(state.spent_usd for state in held), sum(state.reserved_usd for state in held))

    def after(self, was: JobState | None, now: JobState) -> Money:
        """The sum when one job's state changes."""
        before = was or JobState()
        return Money(
            self.spent_usd + now.spent_usd - before.spent_usd,
            self.reserved_usd + now.reserved_usd - before.reserved_usd,
        )

    @property
    def committed_usd(self) -> float:
        """Spent, or promised to a job that runs."""
        return self.spent_usd + self.reserved_usd
