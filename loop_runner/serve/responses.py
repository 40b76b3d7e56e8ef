"""``/v1/responses``: a response is a run, and its id is the run's.

``completed`` only for a verified answer, ``incomplete`` for an unverified one, ``failed`` for a broken gate
or an error. ``previous_response_id`` forks that run with the new question.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loop_runner.serve import bodies, conversations, outcomes, response_items, streams
from loop_runner.serve.chat import refuse_unsupported, schema_of
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import bad
from loop_runner.serve.questions import Question
from loop_runner.serve.supervisor import Tracked

_CALLS = {"function_call", "custom_tool_call", "local_shell_call", "web_search_call", "mcp_call"}
_RESULTS = {"function_call_output", "custom_tool_call_output", "local_shell_call_output"}
_SILENT = {"reasoning", "code_interpreter_call", "item_reference", "compaction"}


async def create(request: Request, desk: Desk) -> Response:
    """Answer one request: at once with ``background``, as a stream, or when the run has ended."""
    body = await bodies.json_object(request)
    question, is_stream = question_of(body), bodies.flag(body, "stream")
    run, was_known = await desk.admit(request, "responses", body, question)
    if is_stream:
        return streams.response(desk.supervisor, run, response_items.Frames(run), is_replayed=was_known)
    if not question.background and not await streams.waited_for(request, desk.supervisor, run):
        return Response(status_code=499)
    return await _shown(run, is_replayed=was_known)


async def retrieve(request: Request, desk: Desk, run_id: str) -> Response:
    """The response as it is now, or its stream from behind ``starting_after``."""
    run = _response(desk, run_id)
    if request.query_params.get("stream", "false").lower() not in ("true", "1"):
        return await _shown(run)
    after = request.query_params.get("starting_after", "-1")
    if not after.lstrip("-").isdecimal() or len(after) > 12:
        raise bad("`starting_after` must be the number of an event", "starting_after")
    return streams.response(desk.supervisor, run, response_items.Frames(run, after=int(after)))


async def cancel(_request: Request, desk: Desk, run_id: str) -> Response:
    """Stop the run as one Ctrl-C does: what is committed stays."""
    run = _response(desk, run_id)
    desk.supervisor.stop(run)
    return await _shown(run)


async def remove(_request: Request, desk: Desk, run_id: str) -> Response:
    """Remove a response and its run folder."""
    run = _response(desk, run_id)
    await desk.supervisor.remove(run)
    return JSONResponse({"id": run_id, "object": "response", "deleted": True})


def _response(desk: Desk, run_id: str) -> Tracked:
    return desk.run(run_id, "response")


async def _shown(run: Tracked, *, is_replayed: bool = False) -> Response:
    output = await asyncio.to_thread(response_items.output_of, run)
    headers = outcomes.headers(run, is_replayed=is_replayed)
    return JSONResponse(response_items.response_of(run, output), headers=headers)


# ── the request ─────────────────────────────────────────────────────────────────────────────────────


def question_of(body: Mapping[str, Any]) -> Question:
    """The question in a request of the responses API."""
    refuse_unsupported(body)
    if body.get("conversation") is not None:
        raise bad("`conversation` is not kept here: use `previous_response_id`", "conversation")
    result = conversations.split(_messages(body.get("input")), "input")
    instructions = [bodies.text(body, "instructions", ""), *result.instructions]
    previous = bodies.text(body, "previous_response_id", "")
    return Question(
        model=bodies.text(body, "model", "" if previous else None),
        text=result.question,
        instructions="\n\n".join(text for text in instructions if text),
        earlier=() if previous else result.earlier,
        attached=result.attached,
        schema=schema_of(bodies.mapping(bodies.mapping(body, "text"), "format"), "text.format"),
        previous=previous,
        background=bodies.flag(body, "background"),
        metadata=bodies.metadata(body),
    )


def _messages(given: object) -> list[dict[str, Any]]:
    """The input items as messages. What a client did itself is context, as text."""
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    result = []
    for number, item in enumerate(bodies.objects(given, "input")):
        kind = item.get("type", "message")
        if kind == "message":
            result.append({"role": item.get("role"), "content": item.get("content")})
        elif kind in _CALLS:
            text = json.dumps({key: item[key] for key in item if key not in ("id", "status")})
            result.append({"role": "assistant", "content": text})
        elif kind in _RESULTS:
            output = item.get("output")
            text = output if isinstance(output, str) else json.dumps(output)
            result.append({"role": "tool", "content": text})
        elif kind not in _SILENT:
            raise bad(
                f"`input[{number}]` has the type {str(kind)[:40]!r}, which this server cannot read", "input"
            )
    return result
