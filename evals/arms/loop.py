"""The two arms of loop-runner: one pass of ``ask``, and passes until its gates accept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import loop_runner as lr
from evals.arms.arm import Attempt, Setup
from evals.halves import code_version
from evals.questions import Question


@dataclass(frozen=True, slots=True)
class Loop:
    """``lr.ask`` as it is by default, with a limit of time."""

    setup: Setup

    def missing(self) -> str:
        return ""

    def version(self) -> str:
        return f"loop-runner {lr.__version__}, code {code_version()}"

    def answer(self, question: Question, folder: Path) -> Attempt:
        return ask(self.setup, question, folder, self.setup.passes)


@dataclass(frozen=True, slots=True)
class OnePass(Loop):
    """The same with a single pass: what the loop adds is the difference."""

    def answer(self, question: Question, folder: Path) -> Attempt:
        return ask(self.setup, question, folder, 1)


def ask(setup: Setup, question: Question, folder: Path, passes: int) -> Attempt:
    """One run of loop-runner over the texts as files."""
    texts = question.write(folder / "texts")
    try:
        result = lr.ask(
            question.text,
            str(texts),
            model=setup.model,
            budget={"passes": passes, "wall": setup.limit_s},
            run_dir=folder / "run",
        )
    except lr.LoopRunnerError as error:
        return Attempt("", verified=False, error=f"{type(error).__name__}: {error}"[:300])
    usage = result.spend.usage
    tokens_in = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    reason = "" if result.verified else f"{result.status}: {result.reason}"[:300]
    return Attempt(
        result.answer, result.verified, tokens_in, usage.output_tokens, result.spend.passes, reason
    )
