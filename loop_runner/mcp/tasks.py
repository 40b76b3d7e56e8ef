"""The Tasks extension (SEP-2663) over run folders: for clients that declare it, a run is a task.

``start_run`` answers with a task at once, and the client asks ``tasks/get`` until it has ended. A task is a
run folder, so it survives this server, and any other server of the same folder knows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio.to_thread
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolRequestParams, RequestParams

import loop_runner as lr
from loop_runner.mcp import run_reports, starting
from loop_runner.mcp.starting import Place

TASKS = "io.modelcontextprotocol/tasks"
_POLL_MS = 2000
_WORKING = ("running", "queued", "paused", "waiting")


class TaskParams(RequestParams):
    """The parameters of every method about a task."""

    task_id: str


class Tasks(Extension):
    """Answers ``start_run`` with a task, and the methods about tasks."""

    identifier = TASKS

    def __init__(self, place: Place, start: Callable[[dict[str, Any]], Awaitable[lr.Run]]) -> None:
        self._place, self._start = place, start

    def methods(self) -> Sequence[MethodBinding]:
        """``tasks/get``, ``tasks/update`` and ``tasks/cancel``."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get),
            MethodBinding("tasks/update", TaskParams, self._update),
            MethodBinding("tasks/cancel", TaskParams, self._cancel),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        """A task for ``start_run``, if the client declared the extension; else the tool's own answer."""
        declared = ctx.session.client_capabilities
        if params.name != "start_run" or declared is None or TASKS not in (declared.extensions or {}):
            return await call_next(ctx)
        try:
            run = await self._start(dict(params.arguments or {}))
        except lr.LoopRunnerError:
            return await call_next(ctx)  # the tool run_reports it in its own form
        return {"resultType": "task", **await self._shown(run)}

    async def _get(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        run = self._of(ctx, params)
        return {"resultType": "complete", **await self._shown(run)}

    async def _update(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        self._of(ctx, params)  # a run asks its client for nothing
        return {"resultType": "complete"}

    async def _cancel(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> HandlerResult:
        run = self._of(ctx, params)
        try:
            await anyio.to_thread.run_sync(starting.stop, run)
        except lr.LoopRunnerError as error:
            raise MCPError(code=INVALID_PARAMS, message=error.message) from error
        return {"resultType": "complete"}

    def _of(self, ctx: ServerRequestContext[Any, Any], params: TaskParams) -> lr.Run:
        require_client_extension(ctx, TASKS)
        try:
            return self._place.open(params.task_id)
        except lr.LoopRunnerError as error:
            raise MCPError(code=INVALID_PARAMS, message=error.message) from error

    async def _shown(self, run: lr.Run) -> dict[str, Any]:
        status = await anyio.to_thread.run_sync(run.status)
        report = run_reports.report(status)
        created = datetime.fromtimestamp(run.folder.stat().st_ctime, UTC).isoformat()
        updated = datetime.fromtimestamp(status.last_event_at or status.at, UTC).isoformat()
        result: dict[str, Any] = {
            "taskId": run.folder.name,
            "status": _status(status.state),
            "statusMessage": report.reason or report.activity or report.state,
            "createdAt": created,
            "lastUpdatedAt": updated,
            "ttlMs": None,
            "pollIntervalMs": _POLL_MS,
        }
        if result["status"] == "completed":
            result["result"] = {
                "content": [{"type": "text", "text": report.model_dump_json()}],
                "structuredContent": report.model_dump(mode="json"),
                "isError": False,
            }
        if result["status"] == "failed":
            result["error"] = {"code": -32603, "message": report.reason or report.state}
        return result


def _status(state: str) -> str:
    if state in _WORKING:
        return "working"
    if state in ("interrupted", "cancelled"):
        return "cancelled"
    return "completed" if state in ("verified", "unverified", "blocked") else "failed"
