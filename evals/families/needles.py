"""Confusable needles: near-identical facts, of which one is right under a stated condition."""

from __future__ import annotations

import random
from dataclasses import dataclass

from evals import vocabulary
from evals.questions import Key, Question, generator, half_of, hide


@dataclass(frozen=True, slots=True)
class Device:
    """A kind of device, a measure of it, and the conditions under which the measure differs."""

    noun: str
    measure: str
    unit: str
    conditions: tuple[str, ...]


DEVICES = (
    Device("pump", "maximum pressure", "kPa", ("in winter mode", "in summer mode", "during a start")),
    Device(
        "pump", "flow limit", "litres per minute", ("with one filter", "with two filters", "without a filter")
    ),
    Device("kiln", "holding time", "minutes", ("for stoneware", "for porcelain", "for earthenware")),
    Device("lift", "load limit", "kg", ("with the doors open", "in service mode", "in normal mode")),
    Device("relay", "switching delay", "ms", ("under firmware 4", "under firmware 5", "under firmware 6")),
    Device("boiler", "set point", "degrees", ("at night", "by day", "during frost")),
    Device("antenna", "output power", "watts", ("on the upper band", "on the lower band", "on standby")),
    Device("press", "cycle limit", "strokes per hour", ("with steel dies", "with brass dies", "when idle")),
)


@dataclass(frozen=True, slots=True)
class Needle:
    """The fact that is asked for, and those that are nearly it."""

    question: str
    value: int
    facts: tuple[str, ...]  # the first is the right one


def make(seed: int, size: int) -> Question:
    """A question about one of some twenty facts that differ in the device, the place or the condition."""
    rng = generator("needles", seed)
    needle = draw(rng, seed)
    text = hide(rng, list(needle.facts), vocabulary.filler(rng), size)
    return Question(
        "needles", seed, size, needle.question, {"records.txt": text}, Key("number", (str(needle.value),))
    )


def draw(rng: random.Random, seed: int) -> Needle:
    """The facts of a question: each combination of two devices, two places and three conditions."""
    device = rng.choice(DEVICES)
    place = rng.choice(half_of(vocabulary.PLACES, seed))
    places = (place, vocabulary.neighbour(place))
    number = rng.randrange(12, 98)
    names = [f"{device.noun} K-{number}", f"{device.noun} K-{_swapped(number)}"]
    values = rng.sample(range(110, 990), 12)
    condition = rng.choice(device.conditions)
    cases = [(name, place, state) for name in names for place in places for state in device.conditions]
    right = (names[0], places[0], condition)
    cases.sort(key=lambda case: case != right)
    facts = tuple(
        f"The {device.measure} of {name} at {place} {state} is {value} {device.unit}."
        for (name, place, state), value in zip(cases, values, strict=True)
    )
    question = f"What is the {device.measure} of {names[0]} at {places[0]} {condition}, in {device.unit}?"
    return Needle(question, values[0], facts)


def _swapped(number: int) -> int:
    """A number that is easily taken for ``number``."""
    swapped = number % 10 * 10 + number // 10
    return swapped if swapped != number else number + 1
