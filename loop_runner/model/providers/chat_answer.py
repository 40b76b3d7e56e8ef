"""One answer of a chat completions server, whole or in pieces, made into a ``Reply``.

Reads what servers of this form send, wrong counts and missing fields included. Sends nothing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loop_runner.model.client import (
    WRONG_COUNT,
    guessed_tokens,
    reported_usage,
)
from loop_runner.model.providers import refusals, response_body, tool_calls
from loop_runner.model.providers.refusals import Refusal
from loop_runner.model.providers.tool_calls import ToolCall
from loop_runner.records import Reply, Request, StopReason, Usage
from loop_runner.text import one_line

if TYPE_CHECKING:
    pass


_REST_S = 10.0  # for what follows the last piece of a stream
_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "max_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "model_length": "max_tokens",
    "safety": "refusal",
    "recitation": "refusal",
    "blocklist": "refusal",
    "prohibited_content": "refusal",
}


class Refused(Exception):  # noqa: N818 - becomes a ModelError above
    """A reply with status 200, or a piece of it, is an error."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Adapted(Exception):  # noqa: N818 - caught above
    """The server asked for another form of the request, which is known now."""


class LessRoom(Exception):  # noqa: N818 - caught above
    """The prompt leaves room for a shorter reply."""

    def __init__(self, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens


class NoChoice(Exception):  # noqa: N818 - becomes a TryAgain above
    """A completion without a choice in it."""


class Answer:
    """Collects one completion."""

    def __init__(self) -> None:
        self.has_begun = False
        self.other = ""  # what came in the place of a completion
        self.stop_reason = ""
        self._text = ""
        self._refusal = ""
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: Mapping[str, Any] | None = None
        self._model = ""

    def take(self, data: Any) -> None:
        """A completion that came as a whole."""
        if isinstance(data, list) and data:
            data = data[0]
        if refusals.is_error(data):
            raise Refused(refusals.of_json(200, data))
        if data.get("choices", ()) in (None, []):
            self._about(data)
            raise NoChoice
        choice = data["choices"][0]
        if refusals.is_error(choice):
            raise Refused(refusals.of_json(200, choice))
        self._add_parts(choice.get("message") or {"content": choice["text"]})
        self.stop_reason = str(choice.get("finish_reason") or "stop")
        self._about(data)

    def add(self, data: Any) -> None:
        """One piece of a stream, or its end mark."""
        if data is response_body.DONE:
            # Some servers give no reason for the end; with the mark, it is one all the same.
            self.stop_reason = self.stop_reason or ("stop" if self.has_begun else "")
            return
        if data is None or data == {}:
            return  # a sign of life
        if refusals.is_error(data):
            raise Refused(refusals.of_json(200, data))
        choices = [item for item in data.get("choices") or () if not item.get("index")]
        if not (choices or self.has_begun or self.other or data.keys() & {"choices", "usage", "id", "model"}):
            self.other = one_line(json.dumps(data), 200)
        for choice in choices[:1]:
            if refusals.is_error(choice):
                raise Refused(refusals.of_json(200, choice))
            self._add_parts(choice.get("delta") or choice.get("message") or {"content": choice.get("text")})
            self.stop_reason = str(choice.get("finish_reason") or self.stop_reason)
        self._about(data)

    def _add_parts(self, parts: Mapping[str, Any]) -> None:
        # A refusal comes in a field of its own, beside a content that is null.
        self._text += _text_of(parts.get("content"))
        self._refusal += _text_of(parts.get("refusal"))
        for at, call in enumerate(parts.get("tool_calls") or ()):
            index = call.get("index")
            known = self._calls.setdefault(
                index if isinstance(index, int) else at, {"id": "", "name": "", "arguments": ""}
            )
            function = call.get("function") or {}
            known["id"] += str(call.get("id") or "")
            known["name"] += str(function.get("name") or "")
            arguments = function.get("arguments") or ""
            known["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _about(self, data: Mapping[str, Any]) -> None:
        self.has_begun = True
        usage = data.get("usage")
        self._usage = usage if isinstance(usage, Mapping) and usage else self._usage
        self._model = str(data.get("model") or self._model)

    def reply(self, name: str, request: Request) -> Reply:
        """The collected completion as our record."""
        stop: StopReason = _STOP_REASONS.get(self.stop_reason.lower(), "end_turn")
        stop = "refusal" if self._refusal else stop
        text = self._text or self._refusal
        if self._calls:
            is_whole = stop in ("tool_use", "end_turn")
            text = tool_calls.as_text(text, [_call(call, is_whole=is_whole) for call in self._calls.values()])
        return Reply(text, stop, self.paid(request), self._model or name)

    def paid(self, request: Request) -> Usage:
        """What the server counted; where it did not, a guess: nothing that was answered is free."""
        if self._usage is not None:
            return _usage(self._usage)
        if not self.has_begun:
            return Usage()
        prompt_tokens = guessed_tokens(request.system)
        prompt_tokens += sum(guessed_tokens(message.text) for message in request.messages)
        written = self._text + self._refusal + "".join(call["arguments"] for call in self._calls.values())
        return Usage(prompt_tokens, guessed_tokens(written))


def _call(call: Mapping[str, str], *, is_whole: bool) -> ToolCall:
    try:
        arguments = json.loads(call["arguments"], strict=False)
    except ValueError:
        arguments = call["arguments"]
    return ToolCall(
        call["id"] if is_whole else "",
        call["name"],
        arguments if isinstance(arguments, dict) else call["arguments"],
    )


def _text_of(content: Any) -> str:
    """The text of a content: itself, or the texts of its parts."""
    if isinstance(content, list):
        return "".join(_text_of(part.get("text") if isinstance(part, dict) else part) for part in content)
    return content if isinstance(content, str) else ""


def is_stream(kind: str, first: bytes) -> bool:
    """Whether a body is a stream of events: by its type, or where that is wrong by how it begins."""
    if "text/event-stream" in kind:
        return not first.lstrip().startswith((b"{", b"["))
    return first.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"data:", b"event:", b": "))


async def add_all(events: AsyncIterator[Any], answer: Answer) -> None:
    """Add the events of a stream; some servers leave it open behind the last piece."""
    while True:
        try:
            async with asyncio.timeout(_REST_S if answer.stop_reason else None):
                answer.add(await anext(events))
        except StopAsyncIteration:
            return
        except TimeoutError:
            if not answer.stop_reason:
                raise
            return


async def chained(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """``first``, and then all of ``rest``."""
    yield first
    async for piece in rest:
        yield piece


def _usage(data: Mapping[str, Any]) -> Usage:
    # Here the cached tokens are a part of the prompt's; in our records they are counted apart.
    details = data.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    usage = reported_usage(data.get("prompt_tokens"), data.get("completion_tokens"), cached)
    if usage.input_tokens == WRONG_COUNT:
        return usage
    return replace(usage, input_tokens=usage.input_tokens - max(usage.cache_read_tokens, 0))
