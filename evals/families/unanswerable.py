"""Questions whose answer is not in the texts, though much that is near it is: the key is to say so."""

from __future__ import annotations

import re
from collections.abc import Callable

from evals import vocabulary
from evals.families import code, contracts, conversations, multihop, needles
from evals.questions import Key, Question, generator, half_of, hide


def make(seed: int, size: int) -> Question:
    """A question of another family without the line that answers it."""
    kind = _KINDS[seed // 2 % len(_KINDS)]
    text, texts = kind(seed, size)
    return Question("unanswerable", seed, size, text, texts, Key("absent", ()))


def _needle(seed: int, size: int) -> tuple[str, dict[str, str]]:
    rng = generator("unanswerable", seed)
    needle = needles.draw(rng, seed)
    return needle.question, {"records.txt": hide(rng, list(needle.facts[1:]), vocabulary.filler(rng), size)}


def _stranger(seed: int, size: int) -> tuple[str, dict[str, str]]:
    """A customer who never speaks, beside others with the same first or last name."""
    question = conversations.make(seed, size)
    text = "".join(question.texts.values())
    topic = generator("unanswerable", seed).choice(conversations.TOPICS)
    first, last = half_of(vocabulary.FIRST_NAMES, seed), half_of(vocabulary.LAST_NAMES, seed)
    others = half_of(vocabulary.LAST_NAMES, seed + 1)
    names = [f"{name} {surname}" for surname in [*last, *others] for name in first]
    person = next(name for name in names if name not in text)
    return topic.question.format(person), dict(question.texts)


def _constant(seed: int, size: int) -> tuple[str, dict[str, str]]:
    """A constant of another module, in a module that does not have it."""
    rng = generator("unanswerable", seed)
    names = code.eligible(seed, size)
    texts = code.surroundings(rng, rng.choice(names), size)
    for other in rng.sample(sorted(code.sources()), len(code.sources())):
        for constant in re.findall(r"^([A-Z][A-Z_]{6,}) = \d", code.read(other), re.MULTILINE):
            if not any(constant in text for text in texts.values()):
                name = rng.choice(sorted(texts))
                module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
                return f"In the module {module}, what is the value of {constant}?", texts
    raise AssertionError("every constant of the standard library is in these texts")


def _clause(seed: int, size: int) -> tuple[str, dict[str, str]]:
    question = contracts.make(seed, size)
    number = len(contracts.TERMS) + 1 + seed % 5
    return f"What does clause {number} of contract.txt settle?", dict(question.texts)


def _broken_chain(seed: int, size: int) -> tuple[str, dict[str, str]]:
    question = multihop.make(seed, size)
    missing = question.key.quotes[1]
    texts = {name: text.replace(missing + "\n", "") for name, text in question.texts.items()}
    return question.text, texts


_KINDS: tuple[Callable[[int, int], tuple[str, dict[str, str]]], ...] = (
    _needle,
    _stranger,
    _constant,
    _clause,
    _broken_chain,
)
