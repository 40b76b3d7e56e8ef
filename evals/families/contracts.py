"""Clauses of a contract that conflict with earlier agreements, in other words and with other terms."""

from __future__ import annotations

import random
from dataclasses import dataclass

from evals import vocabulary
from evals.questions import Key, Question, generator, half_of


@dataclass(frozen=True, slots=True)
class Term:
    """A matter that an agreement settles: how the contract and how an agreement puts it.

    ``values`` are pairs: the contract's words and the agreement's words for the same thing.
    """

    title: str
    contract: str
    agreement: str
    values: tuple[tuple[str, str], ...]


TERMS = (
    Term(
        "Payment",
        "Invoices are payable within {} of receipt.",
        "The buyer has {} from receipt to settle an invoice.",
        (("14 days", "two weeks"), ("28 days", "four weeks"), ("one year", "twelve months")),
    ),
    Term(
        "Termination",
        "Either party may terminate with {} notice.",
        "To end the relationship, a party informs the other {} ahead.",
        (("3 months'", "a quarter of a year"), ("6 months'", "half a year"), ("12 months'", "one year")),
    ),
    Term(
        "Liability",
        "Liability is limited to {} per event.",
        "For any one event, neither party owes more than {}.",
        (
            ("EUR 10,000", "ten thousand euros"),
            ("EUR 50,000", "fifty thousand euros"),
            ("EUR 1,000", "a thousand euros"),
        ),
    ),
    Term(
        "Law",
        "This contract is governed by the law of {}.",
        "Disputes are decided under {} law.",
        (("Denmark", "Danish"), ("Sweden", "Swedish"), ("Portugal", "Portuguese")),
    ),
    Term(
        "Warranty",
        "The goods are under warranty for {}.",
        "Faults that appear within {} are repaired free of charge.",
        (("24 months", "two years"), ("36 months", "three years"), ("18 months", "a year and a half")),
    ),
    Term(
        "Delivery",
        "Delivery takes place {}.",
        "The seller hands over the goods {}.",
        (("every week", "weekly"), ("every month", "monthly"), ("every three months", "quarterly")),
    ),
    Term(
        "Audit",
        "The buyer may inspect the books {} a year.",
        "Access to the books is granted {} in twelve months.",
        (("once", "a single time"), ("twice", "two times"), ("four times", "on four occasions")),
    ),
    Term(
        "Confidentiality",
        "Confidentiality ends {} after the contract.",
        "Secrets are kept for {} beyond the end.",
        (("5 years", "half a decade"), ("10 years", "a decade"), ("2 years", "twenty-four months")),
    ),
)


def make(seed: int, size: int) -> Question:
    """Which clauses conflict, which agreement one clause conflicts with, or whether one does."""
    rng = generator("contracts", seed)
    terms = rng.sample(TERMS, len(TERMS))
    places = rng.sample(half_of(vocabulary.PLACES, seed), len(terms))
    conflicts = sorted(rng.sample(range(len(terms)), 3))
    clauses, agreements = [], {}
    for at, (term, place) in enumerate(zip(terms, places, strict=True)):
        first, second = rng.sample(term.values, 2)
        clauses.append(f"{at + 1}. {term.title}. {term.contract.format(first[0])}")
        earlier = (second if at in conflicts else first)[1]
        agreements[place] = f"{term.title}. {term.agreement.format(earlier)}"
    text, key = _ask(seed, rng, conflicts, places)
    texts = {"contract.txt": "\n".join(clauses) + "\n"}
    room = max(size - len(texts["contract.txt"]), 0) // len(agreements)
    for place, clause in agreements.items():
        texts[f"agreements/{place.lower()}.txt"] = _agreement(rng, place, clause, room)
    return Question("contracts", seed, size, text, texts, key)


def _ask(seed: int, rng: random.Random, conflicts: list[int], places: list[str]) -> tuple[str, Key]:
    kind = seed // 2 % 3
    if kind == 0:
        numbers = tuple(str(at + 1) for at in conflicts)
        text = "Which clauses of contract.txt contradict an earlier agreement? List their numbers."
        return text, Key("list", numbers)
    if kind == 1:
        at = rng.choice(conflicts)
        text = f"Which agreement does clause {at + 1} of contract.txt contradict? Name its town."
        return text, Key("name", (places[at],), tuple(place for place in places if place != places[at]))
    at = rng.randrange(len(places))
    text = f"Does clause {at + 1} of contract.txt contradict an earlier agreement? Answer yes or no."
    return text, Key("yes_no", ("yes" if at in conflicts else "no",))


def _agreement(rng: random.Random, place: str, clause: str, room: int) -> str:
    lines = [f"Agreement of {place}", ""]
    room -= len(lines[0]) + len(clause) + 3
    for line in vocabulary.filler(rng):
        if room <= 0:
            break
        lines.append(line)
        room -= len(line) + 1
    lines.insert(rng.randrange(2, len(lines) + 1), clause)
    return "\n".join(lines) + "\n"
