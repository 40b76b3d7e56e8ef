"""Whether a run gets anywhere: equal passes, passes that made it worse, and what follows from either.

Everything is decided from what the passes' verdicts say, which is committed, so that a run that is killed and
resumed decides the same. Pure functions over plain data: nothing here reads git, asks a model or writes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loop_runner.records import Block, Rejected, VerifierReport
from loop_runner.task.config import NoProgress
from loop_runner.text import one_line, plural

Kind = Literal["go", "prompt", "model", "temperature", "restart", "stop"]

NO_PROGRESS = "no progress"  # how the reason of a run that got nowhere begins

_TEMPERATURE = 1.0
_MAX_LESSONS = 5
_MAX_ANSWER_LINES = 50
_WITH_TEMPERATURE = ("openai:", "local:")  # providers that take one


@dataclass(frozen=True, slots=True)
class PassState:
    """What a finished pass left behind."""

    number: int
    score: float
    files: str  # hash of the model's files and the answer
    answer: str  # hash of the answer alone
    failures: str  # hash of what failed
    reason: str  # first line of what the next pass was told
    restored: int | None = None  # the pass whose files were restored after it; 0: the beginning


@dataclass(frozen=True, slots=True)
class Step:
    """What the next pass does about the passes before it."""

    kind: Kind = "go"
    equal: int = 0  # passes in a row that ended the same
    model: str = ""
    temperature: float | None = None
    from_pass: int | None = None  # with "restart": whose files it begins with; 0: the beginning


def state_of(
    number: int, decision: Block, *, files: str, answer: str, restored: int | None = None
) -> PassState:
    """The state of a rejected pass. ``files`` and ``answer`` are hashes of the committed bytes."""
    return PassState(
        number,
        decision.score,
        _hash([files, answer]),
        answer,
        _hash(_failures(decision)),
        one_line(headline(decision.reason), 200),
        restored,
    )


def as_json(state: PassState) -> dict[str, Any]:
    """For ``verdict.json``."""
    return {"files": state.files, "answer": state.answer, "failures": state.failures}


def from_verdict(number: int, verdict: Mapping[str, Any]) -> PassState:
    """The state that ``verdict.json`` of a pass tells; one of an older run equals no other."""
    state = verdict.get("state", {})
    unique = f"pass {number}"
    return PassState(
        number,
        float(verdict.get("score", 0.0)),
        str(state.get("files", unique)),
        str(state.get("answer", unique)),
        str(state.get("failures", unique)),
        one_line(headline(str(verdict.get("reason", ""))), 200),
        verdict.get("next", {}).get("from_pass"),
    )


def next_step(passes: Sequence[PassState], settings: NoProgress, root: str) -> Step:
    """What to do after ``passes`` (all of the run, the oldest first): nothing new, a strategy, or stop."""
    if not passes:
        return Step()
    # The same files say it surely. The same answer alone, beside notes that went on changing, says it later.
    same = _streak([(item.files, item.failures) for item in passes])
    same_answer = _streak([(item.answer, item.failures) for item in passes])
    level = max(same - settings.passes, same_answer - 2 * settings.passes)
    equal = same if same >= settings.passes else same_answer
    if level < 0:
        return Step("go", equal)
    steps = _strategies(settings, root)
    if level >= len(steps):
        return Step("stop", equal)
    step = steps[level]
    from_pass = _another(passes) if step.kind == "restart" else None
    return Step(step.kind, equal, step.model, step.temperature, from_pass)


def regression(passes: Sequence[PassState]) -> int | None:
    """The best pass before the last one, when the last one scored below it; else None."""
    *before, last = passes
    best = max(before, key=lambda item: (item.score, item.number), default=None)
    return best.number if best is not None and last.score < best.score else None


def lessons(passes: Sequence[PassState]) -> list[str]:
    """One line for each pass that scored below an earlier one: what it was rejected for."""
    sentences, best = [], None
    for item in passes:
        if best is not None and item.score < best.score:
            sentences.append(
                f"pass {item.number} scored {item.score:.2f}, below the {best.score:.2f} of pass"
                f" {best.number}: {item.reason}"
            )
        else:
            best = item
    return sentences[-_MAX_LESSONS:]


def headline(reason: str) -> str:
    """The first failure in ``reason``; the line above it only counts."""
    lines = [line for line in reason.split("\n") if line.strip()]
    return next((line for line in lines if line.startswith("Failed: ")), lines[0] if lines else "")


def headlines(reason: str) -> str:
    """Every failure in ``reason``, in one line."""
    failed = [line for line in reason.split("\n") if line.startswith("Failed: ")]
    return "; ".join(failed[:1] + [line.removeprefix("Failed: ") for line in failed[1:]]) or headline(reason)


def problem(verdict: Mapping[str, Any], answer: str) -> str | None:
    """What was wrong with ``answer`` by ``verdict.json``, to be compared with other passes; None: nothing.

    Two wrong answers to one question are the same failure, so the answer and all numbers count as equal. What
    a model wrote in a judgement differs by chance and does not count.
    """
    if verdict.get("decision") == "allow":
        return None
    failed = [report for report in _rejected(verdict.get("reports", ())) if report.get("verifier")]
    if not failed:
        return _without(answer, str(verdict.get("reason", "")))
    return _hash(
        [
            [str(report["verifier"]), "" if "votes" in report.get("record", {}) else _why(report, answer)]
            for report in failed
        ]
    )


def _rejected(reports: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rejecting reports; of a group, those of its members."""
    leaves = [leaf for report in reports for leaf in (report.get("members") or (report,))]
    return [leaf for leaf in leaves if leaf.get("verdict") == "rejected"]


def _why(report: Mapping[str, Any], answer: str) -> str:
    return _without(answer, f"{report.get('reason', '')}\n{report.get('evidence', '')}")


def _without(answer: str, words: str) -> str:
    """``words`` without what the answer says, without numbers and line breaks."""
    for line in dict.fromkeys((answer, *answer.split("\n")[:_MAX_ANSWER_LINES])):
        if line.strip():
            words = re.sub(rf"(?<!\w){re.escape(line.strip())}(?!\w)", "…", words)
    return " ".join(re.sub(r"[0-9]+(?:[.,][0-9]+)*", "#", words).split())


def notes(passes: Sequence[PassState]) -> list[str]:
    """What the next pass is told about its own course, in our words."""
    sentences = []
    if passes and passes[-1].restored is not None:
        at = passes[-1].restored
        what = f"as pass {at} left them" if at else "as they were at the very beginning"
        then = next((item.reason for item in passes if item.number == at), "")
        failed = f" The check of that pass reported: {then!r}" if then else ""
        sentences.append(f"Your files, variables and answer were restored: they are {what}.{failed}")
    return sentences


def stop_reason(step: Step) -> str:
    """Why a run without progress ended."""
    return (
        f"{NO_PROGRESS}: {plural(step.equal, 'pass', 'passes')} in a row ended with the same answer and "
        "the same failures, and every other strategy was tried"
    )


def _strategies(settings: NoProgress, root: str) -> list[Step]:
    steps: list[Step] = []
    for kind in settings.then:
        if kind == "model" and settings.models:
            steps += [Step("model", model=model) for model in settings.models if model != root]
        elif kind == "model" and root.startswith(_WITH_TEMPERATURE):
            steps.append(Step("temperature", temperature=_TEMPERATURE))
        elif kind in ("prompt", "restart"):
            steps.append(Step(kind))  # type: ignore[arg-type]
    return steps


def _another(passes: Sequence[PassState]) -> int:
    """The best-scored pass that ended differently from the last one; 0 (the beginning) when there is none."""
    last = passes[-1]
    others = [item for item in passes if item.files != last.files]
    best = max(others, key=lambda item: (item.score, item.number), default=None)
    return 0 if best is None else best.number


def _streak(keys: Sequence[object]) -> int:
    count = 0
    for key in reversed(keys):
        if key != keys[-1]:
            break
        count += 1
    return count


def _failures(decision: Block) -> list[object]:
    """What failed: names, and scores but for those that models gave, which differ by chance."""
    if not decision.reports:
        return [decision.reason]
    return [
        [leaf.verifier, None if "votes" in leaf.verdict.record else round(leaf.verdict.score, 2)]
        for leaf in _leaves(decision.reports)
        if isinstance(leaf.verdict, Rejected)
    ]


def _leaves(reports: Sequence[VerifierReport]) -> list[VerifierReport]:
    return [leaf for report in reports for leaf in (_leaves(report.members) if report.members else [report])]


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
