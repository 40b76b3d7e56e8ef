"""``POST /v1/messages`` and ``/count_tokens``: a question as Anthropic's API puts it.

``stop_reason`` is ``end_turn`` only for a verified answer, ``max_tokens`` for an unverified one. With
``thinking`` in the request, progress streams as ``thinking_delta``; without it, as empty text deltas.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from loop_runner.serve import bodies, contents, conversations, outcomes, streams
from loop_runner.serve.chat import refuse_unsupported, schema_of
from loop_runner.serve.desk import Desk
from loop_runner.serve.progress import line_of
from loop_runner.serve.questions import Question
from loop_runner.serve.streams import frame
from loop_runner.serve.supervisor import Tracked

_BYTES_PER_TOKEN = 4  # an estimate: every model counts in its own way


async def create(request: Request, desk: Desk) -> Response:
    """Answer one request."""
    body = await bodies.json_object(request)
    question, is_stream = question_of(body), bodies.flag(body, "stream")
    run, was_known = await desk.admit(request, "messages", body, question)
    if is_stream:
        translator = Blocks(run, is_thinking=_is_thinking(body))
        return streams.response(desk.supervisor, run, translator, is_replayed=was_known)
    if not await streams.waited_for(request, desk.supervisor, run):
        return Response(status_code=499)
    if (fault := outcomes.fault_of(run)) is not None:
        raise fault
    return JSONResponse(message(run), headers=outcomes.headers(run, is_replayed=was_known))


async def count_tokens(request: Request, _desk: Desk) -> Response:
    """Estimate the tokens of a request, at four bytes per token."""
    question = question_of(await bodies.json_object(request))
    texts = [question.text, question.instructions, *(text for _, text in question.earlier)]
    size = sum(len(text.encode()) for text in texts)
    size += sum(len(item.content or b"") for item in question.attached)
    return JSONResponse({"input_tokens": -(-size // _BYTES_PER_TOKEN)})


def question_of(body: Mapping[str, Any]) -> Question:
    """The question in a request of the messages API."""
    choice = bodies.mapping(body, "tool_choice")
    refuse_unsupported({"tool_choice": choice.get("type") if choice.get("type") != "tool" else "required"})
    result = conversations.split(bodies.objects(body.get("messages"), "messages"), "messages")
    system, files = contents.read(body.get("system"), "system")
    form = body.get("output_format") or bodies.mapping(body, "output_config").get("format") or {}
    return Question(
        model=bodies.text(body, "model"),
        text=result.question,
        instructions="\n\n".join([*([system] if system else []), *result.instructions]),
        earlier=result.earlier,
        attached=[*files, *result.attached],
        schema=schema_of(bodies.mapping({"output_format": form}, "output_format"), "output_format"),
    )


def _is_thinking(body: Mapping[str, Any]) -> bool:
    return bodies.mapping(body, "thinking").get("type") in ("enabled", "adaptive")


def message(run: Tracked) -> dict[str, Any]:
    """The object of an answer that did not stream."""
    end = run.end or {}
    result = _empty(run)
    result["content"] = [{"type": "text", "text": end.get("answer", "")}]
    return {**result, "stop_reason": _reason(run), "usage": _usage(end), "loop_runner": outcomes.about(run)}


def _empty(run: Tracked) -> dict[str, Any]:
    return {
        "id": run.record.id,
        "type": "message",
        "role": "assistant",
        "model": run.record.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _reason(run: Tracked) -> str:
    return "end_turn" if run.status == "verified" else "max_tokens"


def _usage(end: Mapping[str, Any]) -> dict[str, int]:
    usage = end.get("usage") or {}
    return {
        "input_tokens": usage.get("input_tokens", 0),
        "output_tokens": usage.get("output_tokens", 0),
        "cache_read_input_tokens": usage.get("cache_read_tokens", 0),
        "cache_creation_input_tokens": usage.get("cache_write_tokens", 0),
    }


class Blocks:
    """The frames of a streamed message. Their ``id`` is the number of the run's event."""

    ping = frame({"type": "ping"}, event="ping")

    def __init__(self, run: Tracked, *, is_thinking: bool) -> None:
        self._run, self._is_thinking = run, is_thinking
        self._number = 0

    def start(self) -> Iterator[bytes]:
        """The message, and its first block."""
        yield self._frame("message_start", message=_empty(self._run))
        first = {"type": "thinking", "thinking": "", "signature": ""} if self._is_thinking else _TEXT
        yield self._frame("content_block_start", index=0, content_block=first)

    def event(self, event: Mapping[str, Any]) -> Iterable[bytes]:
        """A line of progress."""
        self._number = event["seq"]
        line = line_of(event)
        return [self._progress(f"{line}\n")] if line else []

    def still(self, status: str) -> Iterable[bytes]:
        """That the run is alive."""
        return [self._progress(f"{status}…\n")]

    def _progress(self, line: str) -> bytes:
        thinking = {"type": "thinking_delta", "thinking": line}
        delta = thinking if self._is_thinking else {"type": "text_delta", "text": ""}
        return self._frame("content_block_delta", index=0, delta=delta)

    def end(self, run: Tracked) -> Iterator[bytes]:
        """The answer, and how far it is to be trusted; or an error."""
        if (fault := outcomes.fault_of(run)) is not None:
            yield frame(fault.body(as_anthropic=True), event="error")
            return
        end, index = run.end or {}, 0
        if self._is_thinking:
            signature = {"type": "signature_delta", "signature": run.record.id}
            yield self._frame("content_block_delta", index=0, delta=signature)
            yield self._frame("content_block_stop", index=0)
            index = 1
            yield self._frame("content_block_start", index=1, content_block=_TEXT)
        for text in outcomes.pieces(str(end.get("answer", ""))):
            delta = {"type": "text_delta", "text": text}
            yield self._frame("content_block_delta", index=index, delta=delta)
        yield self._frame("content_block_stop", index=index)
        yield self._frame(
            "message_delta",
            delta={"stop_reason": _reason(run), "stop_sequence": None},
            usage=_usage(end),
            loop_runner=outcomes.about(run),
        )
        yield self._frame("message_stop")

    def _frame(self, kind: str, **keys: Any) -> bytes:
        return frame({"type": kind, **keys}, event=kind, number=self._number)


_TEXT = {"type": "text", "text": ""}
