"""``/v1/runs``: runs in loop-runner's own words. A run starts in the background; its events tell the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import loop_runner as lr
from loop_runner.serve import bodies, dashboard, guard, outcomes, steering_requests, streams
from loop_runner.serve.chat import checked_schema
from loop_runner.serve.contents import read
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import bad, missing
from loop_runner.serve.questions import Question
from loop_runner.serve.streams import frame
from loop_runner.serve.supervisor import Tracked

_SHOWN_FILES = ("answer.md", "answer.json", "proof.json", "workspace", "passes")


async def create(request: Request, desk: Desk) -> Response:
    """Start a run, and answer with it at once."""
    body = await bodies.json_object(request)
    run, was_known = await desk.admit(request, "runs", body, _question(body))
    headers = outcomes.headers(run, is_replayed=was_known) | {"location": f"/v1/runs/{run.record.id}"}
    return JSONResponse(_shown(run), 200 if was_known else 201, headers)


def _question(body: Mapping[str, Any]) -> Question:
    files = body.get("files") or []
    if not isinstance(files, list) or not all(isinstance(item, str) for item in files):
        raise bad("`files` must be a list of ids of uploads", "files")
    parts = [{"type": "file", "file_id": item} for item in files]
    context = [{"type": "document", "source": {"type": "text", "data": bodies.text(body, "context", "")}}]
    _, attached = read([*parts, *(context if body.get("context") is not None else [])], "files")
    return Question(
        model=bodies.text(body, "model", "ask"),
        text=bodies.text(body, "question"),
        instructions=bodies.text(body, "instructions", ""),
        attached=attached,
        schema=checked_schema(schema, "schema") if (schema := bodies.mapping(body, "schema")) else None,
        previous=bodies.text(body, "continues", ""),
        background=bodies.flag(body, "background", default=True),
        budget=bodies.mapping(body, "budget"),
        metadata=bodies.metadata(body),
    )


async def listed(request: Request, desk: Desk) -> Response:
    """The caller's runs, the newest first; ``state`` filters, ``limit`` cuts (100)."""
    limit, state = request.query_params.get("limit", "100"), request.query_params.get("state")
    if not limit.isdecimal() or not 0 < int(limit[:6]) <= 1000:
        raise bad("`limit` must be a number from 1 to 1000", "limit")
    result = [
        run for run in desk.supervisor.of_credential(guard.credential.get()) if state in (None, run.status)
    ]
    return JSONResponse(
        {"object": "list", "data": [_shown(run, is_short=True) for run in result[: int(limit)]]}
    )


async def retrieve(_request: Request, desk: Desk, run_id: str) -> Response:
    """One run, with its answer once it has one."""
    run = desk.run(run_id)
    return JSONResponse(_shown(run), headers=outcomes.headers(run))


def _shown(run: Tracked, *, is_short: bool = False) -> dict[str, Any]:
    record = run.record
    result: dict[str, Any] = {
        "id": record.id,
        "object": "run",
        "created_at": record.created_at,
        "model": record.model,
        "question": record.question[:200] if is_short else record.question,
        "state": run.status,
        "is_live": run.is_live,
        "background": record.background,
        "continues": record.previous or None,
        "metadata": dict(record.metadata),
    }
    if not is_short:
        result |= {"answer": (run.end or {}).get("answer"), "loop_runner": outcomes.about(run)}
    return result


# ── events ──────────────────────────────────────────────────────────────────────────────────────────


async def events(request: Request, desk: Desk, run_id: str) -> Response:
    """The events of a run from behind ``Last-Event-ID`` (or ``since``), to its end."""
    run = desk.run(run_id)
    since = request.headers.get("last-event-id") or request.query_params.get("since") or "0"
    if not since.isdecimal() or len(since) > 12:
        raise bad("`Last-Event-ID` must be the number of an event", "Last-Event-ID")
    return streams.response(desk.supervisor, run, _Events(run, int(since)))


class _Events:
    """The trace as it is, each event under its number; ``end`` carries the run."""

    ping = streams.PING

    def __init__(self, run: Tracked, since: int) -> None:
        self._run, self._since = run, since

    def start(self) -> Iterable[bytes]:
        """An open connection."""
        return [b": open\n\n"]

    def event(self, event: Mapping[str, Any]) -> Iterable[bytes]:
        """The event itself."""
        if event["seq"] <= self._since:
            return []
        return [frame(event, event=str(event.get("kind", "")), number=event["seq"])]

    def still(self, status: str) -> Iterable[bytes]:
        """The state of the run, without a number: it is no event."""
        return [frame({"state": status}, event="alive")]

    def end(self, run: Tracked) -> Iterable[bytes]:
        """The run as it ended."""
        return [frame(_shown(run), event="end")]


async def report(_request: Request, desk: Desk, run_id: str) -> Response:
    """The report of a run as one HTML file, of what is committed so far."""
    return await dashboard.report(desk.run(run_id))


async def artifact(_request: Request, desk: Desk, run_id: str, path: str) -> Response:
    """A committed file of the run's workspace, which no browser is to interpret."""
    run = desk.run(run_id)
    if path.partition("/")[0] not in _SHOWN_FILES:
        raise missing("file")
    data = await asyncio.to_thread(_read, run, path)
    return Response(
        data, media_type="application/octet-stream", headers={"content-disposition": "attachment"}
    )


def _read(run: Tracked, path: str) -> bytes:
    try:
        return lr.open(run.folder).read(path)
    except lr.LoopRunnerError as error:
        raise missing("file") from error


# ── control ─────────────────────────────────────────────────────────────────────────────────────────


async def pause(_request: Request, desk: Desk, run_id: str) -> Response:
    """Pause at the next commit."""
    run = desk.run(run_id)
    steering_requests.pause(desk, run)
    return JSONResponse(_shown(run), 202)


async def resume(_request: Request, desk: Desk, run_id: str) -> Response:
    """Continue a paused run, or one that ended without a verified answer."""
    run = desk.run(run_id)
    steering_requests.resume(desk, run)
    return JSONResponse(_shown(run), 202)


async def stop(_request: Request, desk: Desk, run_id: str) -> Response:
    """Stop as one Ctrl-C does."""
    run = desk.run(run_id)
    steering_requests.stop(desk, run)
    return JSONResponse(_shown(run), 202)


async def budget(request: Request, desk: Desk, run_id: str) -> Response:
    """Change limits: of an active run from its next turn on, of one that has ended by continuing it."""
    run = desk.run(run_id)
    await steering_requests.budget(desk, run, await bodies.json_object(request))
    return JSONResponse(_shown(run), 202)


async def note(request: Request, desk: Desk, run_id: str) -> Response:
    """Leave a note for the model: it sees the note once, in its next message."""
    run = desk.run(run_id)
    await steering_requests.note(run, bodies.text(await bodies.json_object(request), "text"))
    return JSONResponse(_shown(run), 202)


async def approve(_request: Request, desk: Desk, run_id: str) -> Response:
    """Approve the answer that a `human` verifier asks about."""
    run = desk.run(run_id)
    await steering_requests.approve(run)
    return JSONResponse(_shown(run), 202)


async def reject(request: Request, desk: Desk, run_id: str) -> Response:
    """Reject it; the next pass is shown why."""
    run = desk.run(run_id)
    await steering_requests.reject(run, bodies.text(await bodies.json_object(request), "why"))
    return JSONResponse(_shown(run), 202)


async def remove(_request: Request, desk: Desk, run_id: str) -> Response:
    """Remove a run that is not active, with its folder."""
    await desk.supervisor.remove(desk.run(run_id))
    return JSONResponse({"id": run_id, "object": "run", "deleted": True})
