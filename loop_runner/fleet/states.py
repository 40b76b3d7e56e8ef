"""What a store knows of a job, and the money of the fleet: plain data with a JSON form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

JobStatus = Literal[
    "waiting", "running", "verified", "unverified", "blocked", "broken", "interrupted", "poison"
]

ENDED: tuple[JobStatus, ...] = ("verified", "unverified", "blocked", "broken", "poison")
RETRIED: tuple[JobStatus, ...] = ("unverified", "blocked", "broken", "poison")  # by `fleet retry --failed`


@dataclass(frozen=True, slots=True)
class JobState:
    """One job as the store knows it. Amounts are US dollars; ``beat`` grows with each renewal of a lease.

    ``worker`` holds the lease while ``status`` is ``running``; ``crashes`` lists the workers that were lost.
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

    @property
    def has_ended(self) -> bool:
        """Whether no worker takes the job without ``fleet retry``."""
        return self.status in ENDED

    def beaten(self, **changes: Any) -> Self:
        """The state after one more renewal by its worker."""
        return replace(self, beat=self.beat + 1, **changes)

    def to_json(self) -> bytes:
        """One line, keys in the order of the fields."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace") + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Raises ``ValueError`` for bytes that ``to_json`` did not write."""
        try:
            result = json.loads(data)
            known = {item.name: result[item.name] for item in fields(cls) if item.name in result}
            state = cls(**known | {"crashes": tuple(result.get("crashes", ()))})
            state._check()
        except (TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        return state

    def _check(self) -> None:
        numbers = (self.beat, self.ttl_s, self.reserved_usd, self.spent_usd, self.tokens, self.attempts)
        if not all(isinstance(number, int | float) and 0 <= number < float("inf") for number in numbers):
            msg = "a number is negative or none"
            raise ValueError(msg)
        if not all(isinstance(text, str) for text in (self.status, self.worker, self.reason, *self.crashes)):
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
