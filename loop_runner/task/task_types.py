"""The types of task: what each is for, and the gates of a task that names none.

Plain data. The prompts of a type are in ``prompts/types/TYPE/``, what ``loop-runner init`` writes in
``examples/starters/TYPE/``. See docs/task-types.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class TaskType:
    """One type; ``verifiers`` stand in a task file that has none of its own."""

    name: str
    about: str  # one line
    verifiers: tuple[str | Mapping[str, Any], ...] = ()
    has_starter: bool = True


_DATED = {
    "regex": r"(?m)^\d{4}(-\d{2}(-\d{2})?)?: \S",
    "name": "an entry begins with its date, as 2024-03-09: ",
}

TYPES: Mapping[str, TaskType] = {
    known.name: known
    for known in (
        TaskType("research", "a literature review: every claim with quotes", ({"citations": {"min": 5}},)),
        TaskType(
            "legal",
            "the clauses of one contract against prior agreements",
            ({"citations": {"min": 2, "none": "allowed"}},),
        ),
        TaskType("support", "answers about long conversations", ({"citations": {"min": 1}},)),
        TaskType(
            "audit",
            "a codebase against rules in plain words",
            ({"citations": {"min": 1, "none": "allowed"}},),
        ),
        TaskType("timeline", "the order of events, from mixed notes", ({"citations": {"min": 3}}, _DATED)),
        TaskType("extract", "JSON by a schema from many documents", ({"schema": "schema.json"},)),
        TaskType("custom", "anything else: your prompt, your gates"),
        TaskType(
            "ask",
            "one question with a short answer (`loop-runner ask`)",
            ({"citations": {"answer_in_quote": True, "derived": True}},),
            has_starter=False,
        ),
    )
}
