"""``POST /v1/chat/completions``: a question as OpenAI's chat API puts it.

``finish_reason`` is ``stop`` only for a verified answer, ``length`` for an unverified one. Any other end is
an error. Progress streams as ``reasoning_content``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loop_runner.serve import bodies, conversations, outcomes, streams
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import Fault, bad
from loop_runner.serve.progress import line_of
from loop_runner.serve.questions import Question
from loop_runner.serve.streams import frame
from loop_runner.serve.supervisor import Tracked


async def create(request: Request, desk: Desk) -> Response:
    """Answer one request."""
    body = await bodies.json_object(request)
    question, is_stream = question_of(body), bodies.flag(body, "stream")
    run, was_known = await desk.admit(request, "chat", body, question)
    if is_stream:
        options = bodies.mapping(body, "stream_options")
        translator = Chunks(run, has_usage=bodies.flag(options, "include_usage"))
        return streams.response(desk.supervisor, run, translator, is_replayed=was_known)
    if not await streams.waited_for(request, desk.supervisor, run):
        return Response(status_code=499)
    if (fault := outcomes.fault_of(run)) is not None:
        raise fault
    return JSONResponse(completion(run), headers=outcomes.headers(run, is_replayed=was_known))


def question_of(body: Mapping[str, Any]) -> Question:
    """The question in a request of the chat API."""
    refuse_unsupported(body)
    result = conversations.split(bodies.objects(body.get("messages"), "messages"), "messages")
    return Question(
        model=bodies.text(body, "model"),
        text=result.question,
        instructions="\n\n".join(result.instructions),
        earlier=result.earlier,
        attached=result.attached,
        schema=schema_of(bodies.mapping(body, "response_format"), "response_format"),
        metadata=bodies.metadata(body),
    )


def refuse_unsupported(body: Mapping[str, Any]) -> None:
    """Refuse what would change the answer and cannot be done. Sampling parameters are ignored."""
    if body.get("n") not in (None, 1):
        raise bad("`n` must be 1: a run has one answer", "n")
    choice = body.get("tool_choice")
    if choice in ("required", "any") or isinstance(choice, dict):
        raise bad("`tool_choice`: a run calls no tools of the client", "tool_choice", "tools_not_supported")
    if set(body.get("modalities") or ["text"]) != {"text"}:
        raise bad("`modalities`: a run answers with text", "modalities")


def schema_of(form: Mapping[str, Any], where: str) -> Mapping[str, Any] | None:
    """The JSON Schema that the answer must fit; None for a text."""
    match form.get("type"):
        case None | "text":
            return None
        case "json_object":
            return {"type": "object"}
        case "json_schema":
            inner = form.get("json_schema", form)
            schema = inner.get("schema") if isinstance(inner, dict) else None
            if isinstance(schema, dict):
                return checked_schema(schema, where)
    raise bad(f"`{where}` must be text, json_object, or json_schema with a schema", where)


def checked_schema(schema: dict[str, Any], where: str) -> dict[str, Any]:
    """``schema``, if it is a JSON Schema."""
    from jsonschema import SchemaError
    from jsonschema.validators import validator_for

    try:
        validator_for(schema).check_schema(schema)
    except (SchemaError, RecursionError) as error:
        reason = getattr(error, "message", "it is too deep")
        raise bad(f"`{where}` has a schema that cannot be used: {reason}"[:500], where) from error
    return schema


def completion(run: Tracked) -> dict[str, Any]:
    """The object of an answer that did not stream."""
    end = run.end or {}
    message = {"role": "assistant", "content": end.get("answer", ""), "refusal": None}
    return {
        **_base(run, "chat.completion"),
        "choices": [{"index": 0, "message": message, "finish_reason": _reason(run), "logprobs": None}],
        "usage": _usage(end),
        "loop_runner": outcomes.about(run),
    }


def _base(run: Tracked, kind: str) -> dict[str, Any]:
    record = run.record
    return {"id": record.id, "object": kind, "created": int(record.created_at), "model": record.model}


def _reason(run: Tracked) -> str:
    return "stop" if run.status == "verified" else "length"


def _usage(end: Mapping[str, Any]) -> dict[str, Any]:
    total, cached, out = outcomes.usage(end)
    return {
        "prompt_tokens": total,
        "completion_tokens": out,
        "total_tokens": total + out,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


class Chunks:
    """The frames of a streamed completion. Their ``id`` is the number of the run's event."""

    ping = streams.PING

    def __init__(self, run: Tracked, *, has_usage: bool) -> None:
        self._base = _base(run, "chat.completion.chunk")
        self._has_usage = has_usage
        self._number = 0

    def start(self) -> Iterable[bytes]:
        """The role, at once."""
        return [self._chunk({"role": "assistant", "content": ""})]

    def event(self, event: Mapping[str, Any]) -> Iterable[bytes]:
        """A line of progress."""
        self._number = event["seq"]
        line = line_of(event)
        return [self._chunk({"reasoning_content": f"{line}\n"})] if line else []

    def still(self, status: str) -> Iterable[bytes]:
        """That the run is alive."""
        return [self._chunk({"reasoning_content": f"{status}…\n"})]

    def end(self, run: Tracked) -> Iterator[bytes]:
        """The answer, and how far it is to be trusted; or an error."""
        if (fault := outcomes.fault_of(run)) is not None:
            yield _error(fault)
            return
        end = run.end or {}
        for text in outcomes.pieces(str(end.get("answer", ""))):
            yield self._chunk({"content": text})
        yield self._chunk({}, _reason(run), loop_runner=outcomes.about(run))
        if self._has_usage:
            yield frame({**self._base, "choices": [], "usage": _usage(end)}, number=self._number)
        yield frame("[DONE]")

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return frame({**self._base, "choices": [choice], **more}, number=self._number)


def _error(fault: Fault) -> bytes:
    return frame(fault.body(as_anthropic=False))
