"""Counts and sums over labelled lines: every line counts, so no single line has the answer."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from evals import vocabulary
from evals.questions import Key, Question, generator, half_of

_LINE_BYTES = 74


@dataclass(frozen=True, slots=True)
class Ticket:
    """One labelled line."""

    number: int
    date: str
    label: str
    region: str
    minutes: int

    def line(self) -> str:
        return (
            f"{self.date} ticket {self.number:06} | label: {self.label} | region: {self.region}"
            f" | minutes: {self.minutes}"
        )


def make(seed: int, size: int) -> Question:
    """A question whose answer is a count, a sum or a largest value over the lines of one file."""
    rng = generator("counts", seed)
    labels = rng.sample(half_of(vocabulary.LABELS, seed), 5)
    tickets = draw(rng, labels, size)
    ask = _KINDS[seed // 2 % len(_KINDS)]
    text, value = ask(tickets, rng.choice(labels), rng.choice(vocabulary.REGIONS))
    lines = "\n".join(ticket.line() for ticket in tickets) + "\n"
    return Question("counts", seed, size, text, {"tickets.txt": lines}, Key("number", (str(value),)))


def draw(rng: random.Random, labels: list[str], size: int) -> list[Ticket]:
    """As many tickets as ``size`` bytes hold, by date."""
    count = max(size // _LINE_BYTES, 10)
    return [
        Ticket(
            number + 1,
            f"2026-{number * 12 // count + 1:02}-{rng.randrange(1, 29):02}",
            rng.choice(labels),
            rng.choice(vocabulary.REGIONS),
            rng.randrange(1, 60),
        )
        for number in range(count)
    ]


def _count(tickets: list[Ticket], label: str, region: str) -> tuple[str, int]:
    count = sum(ticket.label == label for ticket in tickets)
    return f"How many tickets have the label {label}?", count


def _sum(tickets: list[Ticket], label: str, region: str) -> tuple[str, int]:
    minutes = sum(ticket.minutes for ticket in tickets if ticket.label == label)
    return f"What is the sum of the minutes of all tickets with the label {label}?", minutes


def _both(tickets: list[Ticket], label: str, region: str) -> tuple[str, int]:
    count = sum((ticket.label, ticket.region) == (label, region) for ticket in tickets)
    return f"How many tickets have the label {label} and the region {region}?", count


def _longer(tickets: list[Ticket], label: str, region: str) -> tuple[str, int]:
    count = sum(ticket.region == region and ticket.minutes >= 30 for ticket in tickets)
    return f"How many tickets of the region {region} took 30 minutes or more?", count


def _month(tickets: list[Ticket], label: str, region: str) -> tuple[str, int]:
    count = sum(ticket.label == label and ticket.date.startswith("2026-05-") for ticket in tickets)
    return f"How many tickets with the label {label} are dated in May 2026?", count


def _not(tickets: list[Ticket], label: str, region: str) -> tuple[str, int]:
    minutes = sum(ticket.minutes for ticket in tickets if ticket.label == label and ticket.region != region)
    return (
        f"What is the sum of the minutes of tickets with the label {label} outside the region {region}?",
        minutes,
    )


_KINDS: tuple[Callable[[list[Ticket], str, str], tuple[str, int]], ...] = (
    _count,
    _sum,
    _both,
    _longer,
    _month,
    _not,
)
