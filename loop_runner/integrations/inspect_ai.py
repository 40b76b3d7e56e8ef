"""A solver of Inspect: each sample is a run, so an evaluation's score is of an answer that gates have judged.

``inspect eval task.py --model none/none`` with ``rlm_solver(model="local:coder")`` as the task's solver: a
run asks its own model and keeps its own budget; Inspect's model is not used.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspect_ai.model import ChatMessageAssistant, ModelOutput
from inspect_ai.solver import Generate, Solver, TaskState, solver

import loop_runner as lr


def _files_of(state: TaskState) -> Any:
    """The texts of a sample: ``context`` in its metadata."""
    return state.metadata.get("context") or []


@solver  # type: ignore[untyped-decorator]
def rlm_solver(
    *, runs_dir: str | Path | None = None, inputs: Callable[[TaskState], Any] = _files_of, **ask: Any
) -> Solver:
    """Answer each sample by ``lr.ask``; ``inputs(state)`` gives the texts, in any form that ``lr.ask`` takes.

    The state's ``metadata["loop_runner"]`` says whether the answer is verified, what it cost, and where the
    run is. With ``runs_dir``, run folders are kept there. Further arguments are those of ``lr.ask``.
    """

    async def solve(state: TaskState, _generate: Generate) -> TaskState:
        keys = {**ask, "run_dir": _folder(Path(runs_dir), state)} if runs_dir is not None else ask
        result = await lr.aask(state.input_text, inputs(state), **keys)
        state.messages.append(ChatMessageAssistant(content=result.answer, source="generate"))
        state.output = ModelOutput.from_content("loop-runner", result.answer, _stop_reason(result))
        state.metadata["loop_runner"] = {
            "status": result.status,
            "verified": result.verified,
            "reason": result.reason,
            "cost": result.cost,
            "commit": result.commit,
            "run": str(result.run.folder),
        }
        state.completed = True
        return state

    return solve


def _folder(runs: Path, state: TaskState) -> Path:
    """A folder for one sample of one epoch; its name holds nothing that could leave ``runs``."""
    words = re.sub(r"[^a-z0-9]+", "-", str(state.sample_id).lower()).strip("-")[:40] or "sample"
    return runs / f"{words}-{state.epoch}-{secrets.token_hex(4)}"


def _stop_reason(result: lr.Result) -> Any:
    return "stop" if result.verified else "max_tokens"
