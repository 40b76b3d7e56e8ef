"""Asks questions and records what came out: a line of JSON for each attempt.

Owns what a recorded attempt is, and which attempts are still to be made. A measurement that was stopped
continues where it was; attempts by another version of the code are made anew.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from evals.arms.arm import Arm, Attempt
from evals.families import FAMILIES
from evals.grading import grade, says_absent
from evals.questions import MissingTextsError, Question

_ANSWER_CHARS = 300


@dataclass(frozen=True, slots=True)
class Row:
    """One attempt and its grade."""

    arm: str
    model: str
    version: str
    family: str
    seed: int
    size: int
    is_right: bool
    verified: bool | None
    seconds: float
    tokens_in: int
    tokens_out: int
    passes: int
    answer: str
    reason: str  # why it is not right
    error: str
    load: float  # of the machine when the attempt began, over one minute
    at: int
    machine: str = ""

    @property
    def attempt(self) -> tuple[str, str, str, str, int, int]:
        """What identifies an attempt: it is made once."""
        return (self.arm, self.model, self.version, self.family, self.seed, self.size)

    @property
    def half(self) -> str:
        return "unseen" if self.seed % 2 else "tuning"


def questions(
    families: Sequence[str], seeds: Sequence[int], sizes: Sequence[int]
) -> Iterator[Question | str]:
    """The questions, all families in turn; a text says why a family is skipped."""
    skipped: set[str] = set()
    for seed in seeds:
        for size in sizes:
            for family in families:
                if family in skipped:
                    continue
                try:
                    yield FAMILIES[family](seed, size)
                except MissingTextsError as error:
                    skipped.add(family)
                    yield str(error)


def measure(
    arms: Mapping[str, Arm],
    model: str,
    drawn: Iterable[Question | str],
    path: Path,
    *,
    end: float = float("inf"),
    show: Callable[[str], object] = print,
) -> None:
    """Ask each arm each question and append the attempts to ``path``; no new one begins after ``end``."""
    done = {row.attempt for row in read(path)}
    versions = {name: arm.version() for name, arm in arms.items()}
    for question in drawn:
        if isinstance(question, str):
            show(question)
            continue
        for name, arm in arms.items():
            key = (name, model, versions[name], question.family, question.seed, question.size)
            if key in done:
                continue
            if time.monotonic() >= end:
                show("the time is over: the same command continues here")
                return
            row = attempt(name, arm, model, versions[name], question)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(row)) + "\n")
            show(line_of(row))


def attempt(name: str, arm: Arm, model: str, version: str, question: Question) -> Row:
    """One attempt, timed and graded."""
    load, began = os.getloadavg()[0], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        made = arm.answer(question, Path(folder))
        seconds = time.monotonic() - began
    result = grade(made.answer, question.key, question.text)
    return Row(
        name,
        model,
        version,
        question.family,
        question.seed,
        question.size,
        result.is_right or _is_rightly_unverified(question, made),
        made.verified,
        round(seconds, 1),
        made.tokens_in,
        made.tokens_out,
        made.passes,
        made.answer[:_ANSWER_CHARS],
        result.reason,
        made.error,
        round(load, 1),
        int(time.time()),
        machine(),
    )


def _is_rightly_unverified(question: Question, made: Attempt) -> bool:
    """Whether a question without an answer ended unverified, as it should; a failure is no such end."""
    has_ended = made.error.startswith("unverified") or says_absent(made.answer)
    return question.key.kind == "absent" and made.verified is False and has_ended


def machine() -> str:
    """What the attempts run on."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    kernel = platform.release().partition("-")[0]
    return (
        f"{os.cpu_count()} processors, {memory:.0f} GB, {platform.system()} {kernel},"
        f" Python {platform.python_version()}"
    )


def line_of(row: Row) -> str:
    """What is printed for an attempt."""
    words = {True: "verified", False: "unverified", None: "-"}[row.verified]
    name = f"{row.family} {row.seed} {row.size // 1000} kB"
    outcome = "right" if row.is_right else "wrong"
    shown = " ".join((row.answer or row.error).split())[:50]
    return f"{name:<26} {row.arm:<7} {outcome:<6} {words:<11} {row.passes} {row.seconds:>6.0f} s  {shown}"


def read(path: Path) -> list[Row]:
    """The recorded attempts; unknown fields are left out."""
    if not path.exists():
        return []
    names = {field.name for field in fields(Row)}
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return [Row(**{name: value for name, value in line.items() if name in names}) for line in lines]
