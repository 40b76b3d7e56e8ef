"""What a client sees: seven tools, the resources of a run, and two prompts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

import loop_runner as lr
from loop_runner.mcp import run_reports, starting
from loop_runner.mcp.starting import Place
from loop_runner.mcp.tasks import Tasks

INSTRUCTIONS = (
    "loop-runner answers questions about more text than fits into a context window, and works until verifiers"
    " accept the committed answer. start_run starts a run that outlives this conversation; run_status says"
    " where it is; run_result reads it. Only `verified: true` means that the verifiers accepted the answer."
)
_STEP_S = 0.5
_MOST_WAIT_S = 45.0
_READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
_STARTS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
_STEERS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)
_STOPS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
RunId = Annotated[str, Field(description="The id that start_run or list_runs returned.")]
MaxChars = Annotated[int, Field(ge=1, le=200_000, description="At most so much of the text.")]


def server(runs: Path, *, max_runs: int = 4, model: str | None = None) -> MCPServer:
    """The server for the run folders in ``runs``."""
    place = Place(runs.absolute(), lr.LocalLauncher(max_runs), model)
    tools = _Tools(place)
    made = MCPServer(
        "loop-runner",
        version=lr.__version__,
        instructions=INSTRUCTIONS,
        extensions=[Tasks(place, tools.started)],
        log_level="WARNING",
    )
    for function, hints in (
        (tools.start_run, _STARTS),
        (tools.run_status, _READS),
        (tools.run_result, _READS),
        (tools.steer_run, _STEERS),
        (tools.stop_run, _STOPS),
        (tools.estimate, _READS),
        (tools.list_runs, _READS),
    ):
        made.add_tool(function, annotations=hints, structured_output=True)
    _add_resources(made, place)
    _add_prompts(made)
    return made


class _Tools:
    """The tools. Their docstrings are what a model reads to choose one."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def started(self, arguments: dict[str, Any]) -> lr.Run:
        """The live run of these arguments of ``start_run``; a new one if there is none."""
        given = {key: value for key, value in arguments.items() if key != "wait_s"}
        return await anyio.to_thread.run_sync(partial(starting.start, self._place, given))

    async def start_run(
        self,
        ctx: Context,
        question: Annotated[str | None, Field(description="What to answer or to do.")] = None,
        inputs: Annotated[list[str] | None, Field(description="Paths of files and folders to read.")] = None,
        task: Annotated[str | None, Field(description="Path of a task file, instead of inputs.")] = None,
        verify: Annotated[
            list[str | dict[str, Any]] | None,
            Field(description="Verifiers as in a task file; default: the answer quotes the inputs."),
        ] = None,
        budget: Annotated[dict[str, float] | None, Field(description="passes, turns, usd, wall, ...")] = None,
        model: Annotated[str | None, Field(description="Root model, as provider:name.")] = None,
        wait_s: Annotated[float, Field(ge=0, le=_MOST_WAIT_S, description="Wait so long for its end.")] = 45,
    ) -> run_reports.Report:
        """Start a run, or find the live run of the same arguments. Waits up to 45 s, then returns its id.

        The run continues when this call or this conversation ends.
        """
        given: dict[str, Any] = {"question": question, "inputs": inputs, "task": task, "verify": verify}
        given |= {"budget": budget, "model": model}
        run = await _tried(partial(self.started, given))
        return run_reports.report(await _waited(run, wait_s, ctx))

    async def run_status(self, run: RunId) -> run_reports.Report:
        """Say where a run is: its state, what it does now, what it has cost."""
        opened = await _tried(partial(_in_thread, partial(self._place.open, run)))
        return run_reports.report(await _in_thread(opened.status))

    async def run_result(
        self,
        run: RunId,
        part: Literal["answer", "citations", "verdicts", "log"] = "answer",
        max_chars: MaxChars = 20_000,
    ) -> run_reports.Part:
        """Read the answer of a run, its citations, its verdicts or its log.

        Check `verified`: an answer that is not verified was rejected, or was not judged yet.
        """
        opened = await _tried(partial(_in_thread, partial(self._place.open, run)))
        state = (await _in_thread(opened.status)).state
        text = await _tried(partial(_in_thread, partial(_part, opened, state, part)))
        return run_reports.cut(opened, state, part, text, max_chars)

    async def steer_run(
        self, run: RunId, note: Annotated[str, Field(min_length=1, max_length=10_000)]
    ) -> run_reports.Report:
        """Leave a note for the model of a run. It sees the note once, in its next message."""
        opened = await _tried(partial(_in_thread, partial(self._place.open, run)))
        await _tried(partial(_in_thread, partial(opened.note, note)))
        return run_reports.report(await _in_thread(opened.status))

    async def stop_run(self, run: RunId) -> run_reports.Report:
        """Stop a run after its current turn. What is committed stays."""
        opened = await _tried(partial(_in_thread, partial(self._place.open, run)))
        return run_reports.report(await _tried(partial(_in_thread, partial(starting.stop, opened))))

    async def estimate(self, inputs: Annotated[list[str], Field(min_length=1)]) -> run_reports.Estimate:
        """Count what a run about these files and folders would read. Sends nothing and costs nothing."""
        counted: run_reports.Estimate = await _in_thread(partial(run_reports.estimate, inputs))
        return counted

    async def list_runs(
        self,
        state: Annotated[str | None, Field(description="Only runs in this state, such as running.")] = None,
        limit: Annotated[int, Field(ge=1, le=200)] = 20,
    ) -> run_reports.Listed:
        """List the runs, the newest first."""
        states = () if state is None else (state,)
        result = await _in_thread(partial(lr.list_runs, self._place.runs, states=states))
        return run_reports.Listed(runs=[run_reports.report(status) for status in result[:limit]])


def _part(run: lr.Run, state: str, part: str) -> str:
    if part in ("citations", "verdicts") and state in ("running", "queued"):
        raise lr.ConfigError(f"the run is {state}", why=f"it has no {part} yet", hint="call run_status")
    if part == "log" and state in ("running", "queued"):
        raise lr.ConfigError(f"the run is {state}", why="its log is not complete", hint="call run_status")
    return run_reports.parts_of(run, part)


async def _waited(run: lr.Run, wait_s: float, ctx: Context) -> lr.Status:
    """Wait for the end of a run, and report progress meanwhile. A client that cancels leaves it alone."""
    with anyio.move_on_after(wait_s):
        while (status := await _in_thread(run.status)).is_active:
            message = f"pass {status.pass_number} turn {status.turn}: {status.activity or status.state}"
            turns = status.limit("turns")
            await ctx.report_progress(turns.used if turns else 0, None, message[:200])
            await anyio.sleep(_STEP_S)
    ended: lr.Status = await _in_thread(run.status)
    return ended


async def _in_thread(function: Any) -> Any:
    return await anyio.to_thread.run_sync(function)


async def _tried(function: Any) -> Any:
    """The result, or an error that a model can act on."""
    try:
        return await function()
    except lr.LoopRunnerError as error:
        raise ToolError(str(error)) from error
    except TimeoutError as error:
        raise ToolError("the run has not ended yet: call run_status") from error


# ── resources and prompts ───────────────────────────────────────────────────────────────────────────


def _add_resources(made: MCPServer, place: Place) -> None:
    for part, kind in (
        ("answer", "text/markdown"),
        ("verdicts", "application/json"),
        ("log", "text/plain"),
        ("proof", "application/json"),
    ):
        made.resource(f"loop-runner://runs/{{run}}/{part}", mime_type=kind, name=part)(_reader(place, part))

    async def diff(run: str, a: str, b: str) -> str:
        """What differs between two moments of a run (`1`, `2.3`): the answer and the files."""
        result = await _in_thread(lambda: place.open(run).diff(a, b))
        changed = [*result.answer, *(line for file in result.files for line in (file.path, *file.diff))]
        return "\n".join(changed) or "the same"

    made.resource("loop-runner://runs/{run}/diff/{a}..{b}", mime_type="text/plain", name="diff")(diff)


def _reader(place: Place, part: str) -> Any:
    async def read(run: str) -> str:
        return str(await _in_thread(lambda: run_reports.parts_of(place.open(run), part)))

    read.__doc__ = f"The {part} of a run."
    return read


def _add_prompts(made: MCPServer) -> None:
    def audit_this_repo(rules: str = "bugs, unsafe input handling, and secrets in the code") -> str:
        return (
            f"Audit this repository for {rules}. Call start_run with inputs=['.'] and a question that asks"
            " for a list of findings, each with the exact line quoted and its file. Then poll run_status,"
            " read run_result, and report only findings of a verified answer. Say so if it is not verified."
        )

    def research_these_files(question: str, files: str = ".") -> str:
        return (
            f"Answer this question from the files in {files}: {question}\nCall estimate first. Then call"
            " start_run with the question and these inputs, poll run_status until it has ended, and read"
            " run_result. Give the answer with its quotations, and say whether it is verified."
        )

    made.prompt(name="audit-this-repo", description="Audit the current repository, verified by quotations.")(
        audit_this_repo
    )
    made.prompt(name="research-these-files", description="Answer from files, with verified quotations.")(
        research_these_files
    )
