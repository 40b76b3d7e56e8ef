"""The types of task: what each is for, and the gates of a task that names none.

Plain data. The prompts of a type are in ``prompts/types/TYPE/``, what ``loop-runner init`` writes in
``examples/starters/TYPE/``. See docs/task-types.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

_RETRIEVED = {
    "regex": r"(?i)retrieved\D{0,20}\d{4}-\d{2}-\d{2}",
    "name": "the report says when the pages were retrieved, as: Retrieved 2026-03-09",
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
        TaskType(
            "synthesis",
            "one answer over the verified answers of a fleet",
            ({"citations": {"min": 2}},),
            has_starter=False,
        ),
        TaskType("custom", "anything else: your prompt, your gates"),
        TaskType(
            "ask",
            "one question with a short answer (`loop-runner ask`)",
            ({"citations": {"answer_in_quote": True, "derived": True, "about_question": True}},),
            has_starter=False,
        ),
    )
}


def is_on_web(tools: Iterable[Mapping[str, Any]]) -> bool:
    """Whether entries of ``tools:`` search the web or fetch pages of it."""
    return any("fetch" in tool or "search" in tool for tool in tools)


def gates_of(type_name: str, tools: Iterable[Mapping[str, Any]]) -> tuple[str | Mapping[str, Any], ...]:
    """The gates of a task that names none; research on the web has a date of retrieval, too."""
    gates = TYPES[type_name].verifiers
    return (*gates, _RETRIEVED) if type_name == "research" and is_on_web(tools) else gates
