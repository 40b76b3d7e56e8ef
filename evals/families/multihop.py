"""Questions over three files: each file has one step, and the answer must quote the line of each step."""

from __future__ import annotations

import random

from evals import vocabulary
from evals.questions import Key, Question, generator, half_of

_STEPS = (
    (
        "{} works in team {}.",
        "Team {} has its desks in the {} building.",
        "The caretaker of the {} building is {}.",
    ),
    ("{} belongs to team {}.", "The store of team {} is in {} hall.", "The key to {} hall is kept by {}."),
)
_QUESTIONS = (
    "Who is the caretaker of the building in which the team of {} has its desks?",
    "Who keeps the key to the hall in which the store of the team of {} is?",
)


def make(seed: int, size: int) -> Question:
    """A question from a person to a team, from the team to a house, from the house to another person."""
    rng = generator("multihop", seed)
    kind = seed // 2 % len(_STEPS)
    teams, places = half_of(vocabulary.TEAMS, seed), half_of(vocabulary.PLACES, seed)[:8]
    houses = dict(zip(teams, rng.sample(places, len(teams)), strict=True))
    first, last = half_of(vocabulary.FIRST_NAMES, seed), half_of(vocabulary.LAST_NAMES, seed)
    names = [f"{name} {surname}" for name in first for surname in last]
    rng.shuffle(names)
    keepers = dict(zip(places, names, strict=False))
    person, team = names[len(places)], rng.choice(teams)
    people = {person: team} | {name: rng.choice(teams) for name in names[len(places) + 1 :]}
    facts = (people, houses, keepers)
    texts = {
        name: _shuffled(rng, [step.format(*pair) for pair in pairs.items()], size // 3)
        for name, step, pairs in zip(
            ("people.txt", "teams.txt", "houses.txt"), _STEPS[kind], facts, strict=True
        )
    }
    house = houses[team]
    pairs = ((person, team), (team, house), (house, keepers[house]))
    quotes = tuple(step.format(*pair) for step, pair in zip(_STEPS[kind], pairs, strict=True))
    question = _QUESTIONS[kind].format(person) + " Quote the line of each of the three files that proves it."
    rivals = tuple(name for place, name in keepers.items() if place != house)
    return Question("multihop", seed, size, question, texts, Key("name", (keepers[house],), rivals, quotes))


def _shuffled(rng: random.Random, facts: list[str], size: int) -> str:
    """The facts that fit, the first one always among them, and filler up to ``size``."""
    lines, room = facts[:1], size - len(facts[0]) - 1
    for fact in facts[1:]:
        if room < size // 3 and len(facts) > 20:
            break
        lines.append(fact)
        room -= len(fact) + 1
    for line in vocabulary.filler(rng):
        if room <= 0:
            break
        lines.append(line)
        room -= len(line) + 1
    rng.shuffle(lines)
    return "\n".join(lines) + "\n"
