"""The families of questions, by name. Each makes a question of a seed and a size."""

from __future__ import annotations

from collections.abc import Callable

from evals.families import (
    code,
    contracts,
    conversations,
    counts,
    glosses,
    multihop,
    needles,
    traps,
    unanswerable,
)
from evals.questions import Question

FAMILIES: dict[str, Callable[[int, int], Question]] = {
    "needles": needles.make,
    "counts": counts.make,
    "glosses": glosses.make,
    "conversations": conversations.make,
    "multihop": multihop.make,
    "contracts": contracts.make,
    "code": code.make,
    "unanswerable": unanswerable.make,
    "traps": traps.make,
}
NEEDS_JUDGEMENT = frozenset(
    {"glosses"}
)  # the label is not in the text; every other key follows from the texts
