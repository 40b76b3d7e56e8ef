"""Chat completions over HTTP: any OpenAI-compatible endpoint, and the server of ``local:``.

Owns the mapping between our records and that format, and what each failure means. Relies on httpx2. Replies
of conversations are streamed, so that no proxy cuts a long one off; sub-calls are short and come as a whole.
One try for each request: the retries are ``limiter``'s. Never logs a key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from loop_runner import redaction
from loop_runner.errors import ConfigError, ModelError
from loop_runner.model import credentials, tool_calls
from loop_runner.model.client import (
    WRONG_COUNT,
    TryAgain,
    asked_pause_s,
    guessed_tokens,
    reported_usage,
    sendable,
)
from loop_runner.model.tool_calls import ToolCall
from loop_runner.records import Reply, Request, StopReason, Usage
from loop_runner.text import one_line

if TYPE_CHECKING:
    import httpx2

_OFFICIAL = "https://api.openai.com/v1"
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 1800.0  # a whole reply may take a model on two processors half an hour
_REPLY_S = 3600.0  # for all of one reply: a trickle must not hold up a run for days

_STOP_REASONS: Mapping[str, StopReason] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "content_filter": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}
# Waiting does not fill an account, although both come as a 429.
_NEVER_RETRIED = ("insufficient_quota", "billing_hard_limit_reached")
# The official name, and llama.cpp's.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error")
# Fields that not every server knows; one that refuses them is asked without.
_OPTIONAL = ("stream", "stream_options", "response_format")


class OpenAICompatibleClient:
    """Asks one model at one endpoint. ``base_url`` ends with the version part (``…/v1``)."""

    def __init__(
        self,
        name: str,
        base_url: str,
        api_key: str | None,
        *,
        label: str = "",
        extra: Mapping[str, Any] | None = None,
        streams: bool = True,
        read_timeout_s: float = _READ_TIMEOUT_S,
        reply_s: float = _REPLY_S,
    ) -> None:
        self._name = name
        self._label = label or f"openai:{name}"  # what messages call this model
        self._address = base_url.rstrip("/")
        self._base_url = redaction.without_password(self._address)  # what messages call it
        self._api_key = api_key
        self._extra = dict(extra or {})  # further fields of the request body
        self._unknown = frozenset[str]() if streams else frozenset({"stream", "stream_options"})
        self._read_timeout_s = read_timeout_s
        self._reply_s = reply_s
        self._http: httpx2.AsyncClient | None = None

    @classmethod
    def from_environment(cls, name: str, env: Mapping[str, str]) -> OpenAICompatibleClient:
        """The client that ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` describe; ``ConfigError`` without."""
        base_url, key = credentials.address(env, "OPENAI_BASE_URL"), credentials.key(env, "OPENAI_API_KEY")
        if not base_url and not key:
            raise ConfigError(
                f"openai:{name} needs a key or an address",
                why="without an address the official one is asked, which refuses a request without a key",
                hint="export OPENAI_API_KEY=..., or OPENAI_BASE_URL=http://HOST:PORT/v1 for your own server",
            )
        return cls(name, base_url or _OFFICIAL, key)

    async def complete(self, request: Request) -> Reply:
        """One chat completion. Raises ``TryAgain`` for what may pass, ``ModelError`` for what will not."""
        import httpx2

        body = self._body(request)
        answer = _Answer()
        try:
            async with (
                asyncio.timeout(self._reply_s),
                self._client().stream("POST", "/chat/completions", json=body) as response,
            ):
                if response.status_code != 200:
                    await response.aread()
                    return await self._not_200(response, body, request)
                await self._read(response, answer, request)
        except TimeoutError as error:
            raise self._broken("the reply came too slowly", request, answer) from error
        except httpx2.ReadTimeout as error:
            # The server may still be at work on it: asking again would double that.
            raise self._unreachable(error) from error
        except httpx2.TransportError as error:
            if answer.has_begun:
                raise self._broken(
                    f"the connection broke: {type(error).__name__}", request, answer
                ) from error
            raise self._unreachable(error) from error
        if not answer.stop_reason:
            raise self._broken("the stream ended too early", request, answer)
        return answer.reply(self._name, request)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        if self._http is None:
            headers = {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._http = httpx2.AsyncClient(
                base_url=self._address,
                headers=headers,
                timeout=httpx2.Timeout(self._read_timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            )
        return self._http

    # ── what is sent ────────────────────────────────────────────────────────────────────────────────

    def _body(self, request: Request) -> dict[str, Any]:
        # The official endpoint refuses the old name for its newer models; other servers know only that one.
        limit = "max_completion_tokens" if self._base_url == _OFFICIAL else "max_tokens"
        body: dict[str, Any] = {"model": self._name, "messages": _messages(request)}
        body[limit] = request.max_output_tokens
        if request.temperature is not None:
            body["temperature"] = request.temperature
        if request.offers_tool:
            function = {"name": tool_calls.TOOL, "description": tool_calls.DESCRIPTION}
            function["parameters"] = tool_calls.PARAMETERS  # type: ignore[assignment]
            body["tools"] = [{"type": "function", "function": function}]
        if request.schema is not None:
            described = {"name": "reply", "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": described}
        if request.is_conversation:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return {key: value for key, value in body.items() if key not in self._unknown} | self._extra

    # ── what comes back ─────────────────────────────────────────────────────────────────────────────

    async def _read(self, response: httpx2.Response, answer: _Answer, request: Request) -> None:
        is_stream = "text/event-stream" in response.headers.get("content-type", "")
        seen = ""
        try:
            if is_stream:
                async for seen in _events(response):
                    answer.add(json.loads(seen))
            else:
                seen = (await response.aread()).decode("utf-8", "replace")
                answer.take(json.loads(seen))
        except _Said as error:
            raise TryAgain(
                f"{self._label}: the stream ended with an error: {error}",
                reason="the stream ended with an error",
                usage=answer.paid(request),
                paid=answer.has_begun,
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            if is_stream and answer.has_begun:
                raise TryAgain(
                    f"{self._label}: the stream broke: {one_line(seen, 200)!r} is no part of a completion",
                    reason="the stream broke",
                    usage=answer.paid(request),
                    paid=True,
                ) from error
            raise ModelError(
                f"{self._base_url} answered something that is not a chat completion",
                why=f"it began with {one_line(seen, 200)!r}",
                hint="check OPENAI_BASE_URL: it ends with the version part, as in http://127.0.0.1:8080/v1",
                paid=True,
            ) from error

    async def _not_200(self, response: httpx2.Response, body: dict[str, Any], request: Request) -> Reply:
        if _is_too_long(response):
            return Reply("", "model_context_window_exceeded", model=self._name)
        said = one_line(_error_text(response), 300)
        refused = {key for key in _OPTIONAL if key in body and key in said}
        if response.status_code in (400, 422) and refused:
            # A server that does not know a field is asked without it, now and from now on.
            self._unknown |= refused | ({"stream_options"} if "stream" in refused else set())
            return await self.complete(request)
        raise self._refused(response, said)

    def _refused(self, response: httpx2.Response, said: str) -> ModelError:
        status = response.status_code
        hints = {
            401: "check OPENAI_API_KEY",
            402: "settle the account with the provider",
            403: "check what the key may do",
            404: f"check that {self._base_url} has a model {self._name!r}",
            429: "wait, or lower the width; if the account's quota is spent, waiting does not help",
        }
        hint = hints.get(status, "try again later with: loop-runner resume" if status >= 500 else "")
        message = f"{self._label}: {self._base_url} answered {status}: {said}"
        if not _is_worth_a_retry(response):
            return ModelError(message, hint=hint, ends_run=status in (401, 402, 403, 429))
        return TryAgain(
            message,
            reason=f"{self._base_url} answered {status}",
            hint=hint,
            is_throttle=status in (429, 503, 529),
            asked_pause_s=asked_pause_s(response.headers),
        )

    def _broken(self, what: str, request: Request, answer: _Answer) -> TryAgain:
        return TryAgain(
            f"{self._label}: {what}",
            reason=what,
            why="what was streamed before it broke is billed, and was thrown away",
            hint="check the network, then: loop-runner resume",
            usage=answer.paid(request),
            paid=answer.has_begun,
        )

    def _unreachable(self, error: Exception) -> ModelError:
        what = f"{self._base_url} cannot be reached: {type(error).__name__}: {error}"
        hint = "check the address and the network, then: loop-runner resume"
        if type(error).__name__ == "ReadTimeout":
            return ModelError(f"{self._label}: {what}", hint=hint, paid=True)
        # The request was out when the connection broke.
        is_out = "Read" in type(error).__name__
        return TryAgain(f"{self._label}: {what}", reason="it cannot be reached", hint=hint, paid=is_out)


def _messages(request: Request) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    if request.system:
        sent.append({"role": "system", "content": sendable(request.system)})
    open_ids: tuple[str, ...] = ()
    for message in request.messages:
        text = sendable(message.text)
        call = tool_calls.spoken(text) if request.offers_tool and message.role == "assistant" else None
        if call is not None:
            calls = [
                {
                    "id": one,
                    "type": "function",
                    "function": {"name": tool_calls.TOOL, "arguments": _json(code)},
                }
                for one, code in call.codes()
            ]
            sent.append({"role": "assistant", "content": call.prose or None, "tool_calls": calls})
        elif open_ids and message.role == "user":
            texts = [text, *["(see the result before)"] * (len(open_ids) - 1)]
            sent += [
                {"role": "tool", "tool_call_id": one, "content": said}
                for one, said in zip(open_ids, texts, strict=True)
            ]
        else:
            sent.append({"role": message.role, "content": text})
        open_ids = call.ids if call else ()
    return sent


def _json(code: str) -> str:
    return json.dumps({"code": code}, ensure_ascii=False)


# ── one answer, whole or in pieces ──────────────────────────────────────────────────────────────────


class _Said(Exception):  # noqa: N818 - becomes a TryAgain a few lines above
    """What the server said in the middle of a stream instead of going on."""


class _Answer:
    """Collects one completion."""

    def __init__(self) -> None:
        self.has_begun = False
        self.stop_reason = ""
        self._text = ""
        self._refusal = ""
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: Mapping[str, Any] | None = None
        self._model = ""

    def take(self, data: Mapping[str, Any]) -> None:
        """A completion that came as a whole."""
        choice = data["choices"][0]
        self._add_parts(choice["message"])
        self.stop_reason = choice.get("finish_reason") or "stop"
        self._about(data)

    def add(self, data: Mapping[str, Any]) -> None:
        """One piece of a stream."""
        if "error" in data:
            raise _Said(one_line(str(_as_error(data["error"]).get("message") or data["error"]), 200))
        for choice in data["choices"][:1]:
            self._add_parts(choice.get("delta") or {})
            self.stop_reason = choice.get("finish_reason") or self.stop_reason
        self._about(data)

    def _add_parts(self, parts: Mapping[str, Any]) -> None:
        # A refusal comes in a field of its own, beside a content that is null.
        self._text += str(parts.get("content") or "")
        self._refusal += str(parts.get("refusal") or "")
        for at, call in enumerate(parts.get("tool_calls") or ()):
            known = self._calls.setdefault(
                int(call.get("index", at)), {"id": "", "name": "", "arguments": ""}
            )
            function = call.get("function") or {}
            known["id"] += call.get("id") or ""
            known["name"] += function.get("name") or ""
            arguments = function.get("arguments") or ""
            known["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _about(self, data: Mapping[str, Any]) -> None:
        self.has_begun = True
        self._usage = data.get("usage") or self._usage
        self._model = str(data.get("model") or self._model)

    def reply(self, name: str, request: Request) -> Reply:
        """The collected completion as our record."""
        stop: StopReason = _STOP_REASONS.get(self.stop_reason, "end_turn")
        stop = "refusal" if self._refusal else stop
        text = self._text or self._refusal
        if self._calls:
            is_whole = stop in ("tool_use", "end_turn")
            text = tool_calls.as_text(text, [_call(each, is_whole=is_whole) for each in self._calls.values()])
        return Reply(text, stop, self.paid(request), self._model or name)

    def paid(self, request: Request) -> Usage:
        """What the server counted; where it did not, a guess: nothing that was answered is free."""
        if self._usage is not None:
            return _usage(self._usage)
        if not self.has_begun:
            return Usage()
        asked = guessed_tokens(request.system)
        asked += sum(guessed_tokens(message.text) for message in request.messages)
        said = self._text + self._refusal + "".join(each["arguments"] for each in self._calls.values())
        return Usage(asked, guessed_tokens(said))


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


async def _events(response: httpx2.Response) -> AsyncIterator[str]:
    """The data of each server-sent event up to the end mark."""
    async for line in response.aiter_lines():
        name, _, value = line.partition(":")
        if name == "data" and (data := value.strip()):
            if data == "[DONE]":
                return
            yield data


def _usage(data: Mapping[str, Any]) -> Usage:
    # Here the cached tokens are a part of the prompt's; in our records they are counted apart.
    details = data.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    usage = reported_usage(data.get("prompt_tokens"), data.get("completion_tokens"), cached)
    if usage.input_tokens == WRONG_COUNT:
        return usage
    return replace(usage, input_tokens=usage.input_tokens - max(usage.cache_read_tokens, 0))


def _as_error(error: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": str(error)}


def _error(response: httpx2.Response) -> dict[str, Any]:
    try:
        return _as_error(response.json()["error"])
    except (ValueError, LookupError, TypeError):
        return {}


def _error_text(response: httpx2.Response) -> str:
    return str(_error(response).get("message") or response.text or "nothing")


def _is_too_long(response: httpx2.Response) -> bool:
    error = _error(response)
    return response.status_code in (400, 413) and (
        error.get("code") in _TOO_LONG or error.get("type") in _TOO_LONG
    )


def _is_worth_a_retry(response: httpx2.Response) -> bool:
    if response.status_code == 429:
        error = _error(response)
        return error.get("code") not in _NEVER_RETRIED and error.get("type") not in _NEVER_RETRIED
    return response.status_code in (408, 409) or response.status_code >= 500
