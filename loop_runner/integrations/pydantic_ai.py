"""Runs as tools of PydanticAI agents.

``create_toolset`` starts runs in processes of their own, which outlive the agent; ``rlm_tool`` answers one
question at a time about a text that the agent never has to read. Both say whether an answer is verified.
"""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_ai import FunctionToolset, ModelRetry, Tool

import loop_runner as lr

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")
_MAX_CHARS = 20_000


def create_toolset(
    runs_dir: str | Path,
    *,
    inputs: Sequence[str | Path] = (),
    launcher: lr.Launcher | None = None,
    **task: Any,
) -> FunctionToolset[Any]:
    """Tools that start runs in ``runs_dir`` and look after them: start, status, result, note, stop.

    ``inputs`` are what every question is about; an agent can name no others. Further arguments are those of
    ``lr.Task``: ``model=``, ``verifiers=`` (default: quotations that prove the answer), ``budget=``.
    """
    tools = _RunTools(Path(runs_dir), tuple(map(str, inputs)), launcher or lr.LocalLauncher(), task)
    return FunctionToolset[Any](
        [tools.start_run, tools.run_status, tools.run_result, tools.leave_note, tools.stop_run]
    )


def rlm_tool(context: Any, *, name: str = "ask_documents", **ask: Any) -> Tool[Any]:
    """A tool that answers questions about ``context`` (what ``lr.ask`` takes as inputs), with quotations.

    Further arguments are those of ``lr.ask``. The agent waits for the answer.
    """

    async def ask_documents(question: str) -> dict[str, Any]:
        """Answer a question about documents that are too long to read, with quotations that prove it.

        Args:
            question: One self-contained question.
        """
        try:
            result = await lr.aask(question, context, **ask)
        except lr.LoopRunnerError as error:
            raise ModelRetry(error.message) from error
        return _shown(result)

    return Tool(ask_documents, name=name)


class _RunTools:
    """The tools. Each returns plain data; what an agent can correct is a ``ModelRetry``."""

    def __init__(
        self, runs: Path, inputs: Sequence[str], launcher: lr.Launcher, task: Mapping[str, Any]
    ) -> None:
        self._runs, self._inputs, self._launcher, self._task = runs, list(inputs), launcher, task

    async def start_run(self, question: str) -> dict[str, Any]:
        """Start a run that answers a question about the documents, and return its id at once.

        Args:
            question: One self-contained question.
        """
        words = "-".join(re.findall(r"[a-z0-9]+", question[:200].lower()))[:32].strip("-") or "run"
        folder = self._runs / f"{words}-{secrets.token_hex(4)}"
        keys = {
            "type": "ask",
            "verifiers": [lr.citations(answer_in_quote=True, about_question=True)],
            **self._task,
        }
        try:
            task = lr.Task(question, inputs=self._inputs, **keys)
            await asyncio.to_thread(self._launcher.start, task, folder)
        except lr.LoopRunnerError as error:
            raise ModelRetry(f"{error.message}: {error.why}") from error
        return {"run": folder.name, "state": "running"}

    async def run_status(self, run: str) -> dict[str, Any]:
        """Say what a run is doing, or how it ended.

        Args:
            run: The id that start_run returned.
        """
        status = await asyncio.to_thread(self._open(run).status)
        where = {"pass": status.pass_number, "turn": status.turn, "activity": str(status.activity)}
        is_verified = status.state == "verified"
        return {"run": run, "state": status.state, "verified": is_verified, "reason": status.reason, **where}

    async def run_result(self, run: str, wait_seconds: float = 30) -> dict[str, Any]:
        """Wait for a run to end and return its answer, with the quotations that prove it.

        Args:
            run: The id that start_run returned.
            wait_seconds: How long to wait, at most 300; a run that has not ended by then returns its state.
        """
        opened = self._open(run)
        try:
            seconds = min(max(wait_seconds, 0.0), 300.0)
            return {"run": run, **_shown(await asyncio.to_thread(opened.wait, seconds))}
        except TimeoutError:
            return await self.run_status(run)
        except lr.LoopRunnerError as error:
            return {"run": run, "state": "failed", "verified": False, "reason": error.message}

    async def leave_note(self, run: str, text: str) -> str:
        """Leave a note that the run's model reads in its next turn.

        Args:
            run: The id that start_run returned.
            text: What it should know.
        """
        return await self._request(
            lambda: self._open(run).note(text), "the model will read it in its next turn"
        )

    async def stop_run(self, run: str) -> str:
        """Stop a run after its current turn; what it has found is kept.

        Args:
            run: The id that start_run returned.
        """
        return await self._request(self._open(run).stop, "it will stop after its current turn")

    async def _request(self, ask: Any, done: str) -> str:
        try:
            await asyncio.to_thread(ask)
        except lr.LoopRunnerError as error:
            raise ModelRetry(error.message) from error
        return done

    def _open(self, run: str) -> lr.Run:
        if not _ID.fullmatch(run) or not (self._runs / run / ".git").exists():
            raise ModelRetry("there is no such run: use the id that start_run returned")
        return lr.open(self._runs / run)


def _shown(result: lr.Result) -> dict[str, Any]:
    cited = [{"name": item.name, "line": item.line, "quote": item.quote} for item in result.citations]
    shown = {"state": result.status, "verified": result.verified, "answer": result.answer[:_MAX_CHARS]}
    return {**shown, "reason": result.reason, "citations": cited}
