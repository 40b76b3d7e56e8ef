"""Conversations in which the latest statement wins, beside people with similar names."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

from evals import vocabulary
from evals.questions import Key, Question, generator, half_of


@dataclass(frozen=True, slots=True)
class Topic:
    """Something that a customer states and changes, the question about it, and the values it can have."""

    first: str
    change: str
    question: str
    values: tuple[str, ...]


TOPICS = (
    Topic(
        "Please deliver it on {}.",
        "I have to change that: {} suits me better.",
        "On which weekday does {} want the delivery in the end?",
        tuple(vocabulary.WEEKDAYS),
    ),
    Topic(
        "I would like the {} model.",
        "On second thought I prefer {}.",
        "Which colour of the model does {} want in the end?",
        ("green", "grey", "blue", "red", "white", "black"),
    ),
    Topic(
        "Send the parcel to our office in {}.",
        "We are moving, so it has to go to {} instead.",
        "To which town should the parcel of {} be sent in the end?",
        tuple(vocabulary.PLACES[:12]),
    ),
    Topic(
        "We need seats in the {} row.",
        "Correction: it must be the {} row.",
        "In which row does {} want the seats in the end?",
        ("first", "third", "fifth", "seventh", "ninth", "eleventh"),
    ),
)
_SMALL_TALK = (
    "Thank you for waiting.",
    "The weather has been kind to us this week.",
    "I will read that again later.",
    "Could you repeat the opening hours?",
    "My colleague sends greetings.",
    "That is good to hear.",
    "The line is not very clear today.",
    "I have made a note of it.",
)


def make(seed: int, size: int) -> Question:
    """A question about the last of three statements of one person, in dated conversations of many."""
    rng = generator("conversations", seed)
    topic = TOPICS[seed // 2 % len(TOPICS)]
    first, last = half_of(vocabulary.FIRST_NAMES, seed), half_of(vocabulary.LAST_NAMES, seed)
    person = f"{rng.choice(first)} {rng.choice(last)}"
    values = rng.sample(topic.values, 3)
    days = sorted(rng.sample(range(40, 330), 3))
    talks = [_talk(rng, person, day, _statement(topic, at, values)) for at, day in enumerate(days)]
    talks += [_other(rng, topic, first, last, person) for _ in range(5)]
    room = size - sum(map(len, talks))
    while room > 0:
        talks.append(_other(rng, rng.choice(TOPICS), first, last, person))
        room -= len(talks[-1])
    rng.shuffle(talks)
    key = Key("name", (values[2],), tuple(values[:2]))
    return Question("conversations", seed, size, topic.question.format(person), _files(talks), key)


def _statement(topic: Topic, at: int, values: list[str]) -> list[str]:
    if at == 0:
        return [topic.first.format(values[0])]
    # The earlier value is named once more, beside the new one.
    return [f"You have {values[at - 1]} for me at the moment.", topic.change.format(values[at])]


def _other(rng: random.Random, topic: Topic, first: list[str], last: list[str], person: str) -> str:
    """Another customer, often of the same first or last name."""
    own_first, own_last = person.split()
    name = f"{rng.choice([own_first, *first])} {rng.choice([own_last, *last])}"
    while name == person:
        name = f"{rng.choice(first)} {rng.choice(last)}"
    values = rng.sample(topic.values, 2)
    return _talk(rng, name, rng.randrange(1, 360), _statement(topic, rng.randrange(2), values))


def _talk(rng: random.Random, person: str, day: int, statement: list[str]) -> str:
    talk = rng.sample(_SMALL_TALK, 4)
    lines = [f"Date: {date(2026, 1, 1) + timedelta(days=day)}", f"Customer: {person}"]
    lines += [f"Agent: {talk[0]}", f"Customer: {talk[1]}"]
    lines += [f"Customer: {line}" for line in statement]
    lines += [f"Agent: {talk[2]}", f"Customer: {talk[3]}"]
    return "\n".join(lines) + "\n\n"


def _files(talks: list[str], per_file: int = 40) -> dict[str, str]:
    return {
        f"talks/{at // per_file + 1:04}.txt": "".join(talks[at : at + per_file])
        for at in range(0, len(talks), per_file)
    }
