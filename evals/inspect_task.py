# mypy: ignore-errors
# inspect_ai is not installed here.
"""The questions as tasks of ``inspect_ai``: ``inspect eval evals/inspect_task.py -T family=needles``.

Adapts the generators and the grader, so that others can ask any model with their own solvers and compare.
Only ``inspect_ai`` imports this module; it needs no part of loop-runner.
"""

from __future__ import annotations

import json
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.scorer import CORRECT, INCORRECT, Score, Target, accuracy, scorer, stderr
from inspect_ai.solver import TaskState, generate

from evals import halves
from evals.families import FAMILIES
from evals.grading import grade
from evals.questions import INSTRUCTION, SIZES, Key, Question


@task
def questions(
    family: str = "needles", size: str = "10kB", half: halves.Half = "tuning", final: bool = False
) -> Task:
    """The questions of one family and size. The unseen half needs ``-T final=true`` and is recorded."""
    halves.allow(half, is_final=final, what=["inspect_ai", family, size])
    made = [FAMILIES[family](seed, SIZES[size]) for seed in halves.seeds(half)]
    return Task(
        dataset=MemoryDataset([sample(question) for question in made], name=f"{family}-{size}-{half}"),
        solver=generate(),
        scorer=exact(),
    )


def sample(question: Question) -> Sample:
    """A sample with the texts in its prompt; ``metadata`` has them apart, for solvers that read files."""
    joined = "\n".join(f"=== {name} ===\n{text}" for name, text in question.texts.items())
    key = question.key
    return Sample(
        input=f"Texts:\n{joined}\n\nQuestion: {question.text}\n\n{INSTRUCTION}",
        target=list(key.accepted) or "not in the texts",
        id=question.id,
        metadata={"question": question.text, "key": json.dumps(_plain(key)), "texts": dict(question.texts)},
    )


def _plain(key: Key) -> dict[str, Any]:
    names = ("kind", "accepted", "rivals", "quotes", "is_ordered")
    return {name: getattr(key, name) for name in names}


@scorer(metrics=[accuracy(), stderr()])
def exact() -> Any:
    """The project's own grader; the explanation says why an answer is not right."""

    async def score(state: TaskState, target: Target) -> Score:
        values = json.loads(state.metadata["key"])
        key = Key(
            **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        )
        result = grade(state.output.completion, key, state.metadata["question"])
        return Score(
            value=CORRECT if result.is_right else INCORRECT,
            answer=state.output.completion,
            explanation=result.reason,
        )

    return score
