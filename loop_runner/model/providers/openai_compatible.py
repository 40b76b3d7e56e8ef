"""Chat completions over HTTP: any OpenAI-compatible endpoint, and the server of ``local:``.

Owns the mapping between our records and that format, and what each failure means. Relies on httpx2. Replies
of conversations are streamed, so that no proxy cuts a long one off; sub-calls are short and come as a whole.
One try for each request: the retries are ``limiter``'s. Never logs a key.
"""

from __future__ import annotations

import asyncio
import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loop_runner import redaction
from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import (
    TryAgain,
    asked_pause_s,
    media_type,
    sendable,
)
from loop_runner.model.providers import credentials, refusals, response_body, tool_calls
from loop_runner.model.providers.chat_answer import (
    Adapted,
    Answer,
    LessRoom,
    NoChoice,
    Refused,
    add_all,
    chained,
    is_stream,
)
from loop_runner.model.providers.refusals import Dialect, Refusal
from loop_runner.records import Image, Reply, Request
from loop_runner.text import one_line

if TYPE_CHECKING:
    import httpx2

_OFFICIAL = "https://api.openai.com/v1"
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 1800.0  # a whole reply may take a model on two processors half an hour
_REPLY_S = 3600.0  # for all of one reply: a trickle must not hold up a run for days

# Waiting does not fill an account, although both come as a 429.
_NEVER_RETRIED = ("insufficient_quota", "billing_hard_limit_reached")
_MAX_CHANGES = 6  # of a request that a server refuses for its form


class OpenAICompatibleClient:
    """Asks one model at one endpoint. ``base_url`` ends with the version part (``…/v1``)."""

    takes_images = True

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
        # The official endpoint refuses the old name for its newer models; most others know only that one.
        limit_name = "max_completion_tokens" if self._base_url == _OFFICIAL else "max_tokens"
        unknown = frozenset[str]() if streams else frozenset({"stream", "stream_options"})
        self._dialect = Dialect(unknown, limit_name)
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
                why="without an address the official API is used, which refuses a request without a key",
                hint="export OPENAI_API_KEY=..., or OPENAI_BASE_URL=http://HOST:PORT/v1 for your own server",
            )
        credentials.check_network(env)
        return cls(name, base_url or _OFFICIAL, key)

    async def complete(self, request: Request) -> Reply:
        """One chat completion. Raises ``TryAgain`` for what may pass, ``ModelError`` for what will not."""
        for _ in range(_MAX_CHANGES):
            dialect = self._dialect
            try:
                return await self._complete(request, self._body(request))
            except LessRoom as error:
                request = replace(request, max_output_tokens=error.tokens)
            except Adapted:
                # A server that does not take a request's form is asked in another, now and from now on.
                if self._dialect == dialect:
                    break
        return await self._complete(request, self._body(request), may_change=False)

    async def _complete(self, request: Request, body: dict[str, Any], *, may_change: bool = True) -> Reply:
        import httpx2

        answer = Answer()
        try:
            async with (
                asyncio.timeout(self._reply_s),
                self._client().stream("POST", "/chat/completions", json=body) as response,
            ):
                if response.status_code != 200:
                    text = await response_body.start(response, response_body.MAX_ERROR_BYTES)
                    refusal = refusals.read(response.status_code, text)
                    return self._refused(refusal, request, body, response.headers, may_change=may_change)
                await self._read(response, answer, request)
        except Refused as error:
            return self._refused(error.refusal, request, body, {}, may_change=may_change)
        except response_body.TooLargeError as error:
            raise self._unusable(
                f"its reply is longer than {response_body.MAX_BYTES >> 20} MB", answer
            ) from error
        except response_body.EncodedError as error:
            raise self._unusable(
                f"its reply is compressed with {error}, which was not requested", answer
            ) from error
        except zlib.error as error:
            raise self._broken("the reply cannot be unpacked", request, answer) from error
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
        if not answer.stop_reason and answer.other:
            raise self._no_completion(f"it began with {answer.other!r}")
        if not answer.stop_reason:
            raise self._broken("the stream ended too early", request, answer)
        if answer.stop_reason == "error":
            raise self._broken("the model failed in the middle of its reply", request, answer)
        return answer.reply(self._name, request)

    async def close(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    def _client(self) -> httpx2.AsyncClient:
        import httpx2

        if self._http is None:
            # A packed reply could be a thousand times as large: none is asked for.
            headers = {"accept-encoding": "identity"}
            headers |= {"authorization": f"Bearer {self._api_key}"} if self._api_key else {}
            self._http = httpx2.AsyncClient(
                base_url=self._address,
                headers=headers,
                timeout=httpx2.Timeout(self._read_timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            )
        return self._http

    # ── what is sent ────────────────────────────────────────────────────────────────────────────────

    def _body(self, request: Request) -> dict[str, Any]:
        dialect = self._dialect
        if "tools" in dialect.unknown:
            request = replace(request, offers_tool=False)
        messages = _in_dialect(_messages(request), dialect)
        body: dict[str, Any] = {"model": self._name, "messages": messages}
        body[dialect.limit_name] = min(
            request.max_output_tokens, dialect.most_output or request.max_output_tokens
        )
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
        return {key: value for key, value in body.items() if key not in dialect.unknown} | self._extra

    # ── what comes back ─────────────────────────────────────────────────────────────────────────────

    async def _read(self, response: httpx2.Response, answer: Answer, request: Request) -> None:
        try:
            body = response_body.pieces(response)
            first = await anext(body, b"")
            if is_stream(response.headers.get("content-type", ""), first):
                await add_all(response_body.events(chained(first, body)), answer)
            else:
                text = first + b"".join([piece async for piece in body])
                answer.take(json.loads(text.decode("utf-8-sig", "replace")))
        except Refused as error:
            if not answer.has_begun:
                raise
            what = f"the stream ended with an error: {one_line(error.refusal.message, 200)}"
            raise self._broken(what, request, answer, "the stream ended with an error") from error
        except NoChoice as error:
            raise self._broken("the reply has no choices", request, answer) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            detail = one_line(str(error), 200)
            if answer.has_begun:
                raise self._broken(
                    f"the stream broke: {detail}", request, answer, "the stream broke"
                ) from error
            raise self._no_completion(f"it could not be read: {detail}") from error

    def _no_completion(self, why: str) -> ModelError:
        return ModelError(
            f"{self._base_url} answered something that is not a chat completion",
            why=why,
            hint="check OPENAI_BASE_URL: it ends with the version part, as in http://127.0.0.1:8080/v1",
            paid=True,
        )

    def _refused(
        self,
        refusal: Refusal,
        request: Request,
        body: Mapping[str, Any],
        headers: Mapping[str, str],
        *,
        may_change: bool,
    ) -> Reply:
        """The reply for a prompt over the window; raises what any other refusal means."""
        room = refusals.room_tokens(refusal)
        if may_change and room is not None and room < request.max_output_tokens:
            raise LessRoom(room)
        if may_change and (dialect := refusals.changed(self._dialect, refusal, body)):
            self._dialect = dialect
            raise Adapted
        if refusal.is_too_long:
            return Reply("", "model_context_window_exceeded", model=self._name)
        raise self._explained(refusal, headers)

    def _explained(self, refusal: Refusal, headers: Mapping[str, str]) -> ModelError:
        status, detail = refusal.status, one_line(refusal.message, 300)
        hints = {
            401: "check OPENAI_API_KEY",
            402: "settle the account with the provider",
            403: "check what the key may do",
            404: f"check that {self._base_url} has a model {self._name!r}",
            429: "wait, or lower the width; if the account's quota is spent, waiting does not help",
        }
        hint = hints.get(status, "try again later with: loop-runner resume" if status >= 500 else "")
        if 300 <= status < 400:
            elsewhere = one_line(headers.get("location", "that address"), 200)
            elsewhere = elsewhere.removesuffix("/chat/completions")
            hint = f"it sends requests elsewhere: set OPENAI_BASE_URL to {elsewhere}"
        message = f"{self._label}: {self._base_url} answered {status}: {detail}"
        if not _is_worth_a_retry(refusal):
            return ModelError(message, hint=hint, ends_run=status in (401, 402, 403, 429))
        pause = asked_pause_s(headers)
        return TryAgain(
            message,
            reason=f"{self._base_url} answered {status}",
            hint=hint,
            is_throttle=status in (429, 503, 529),
            asked_pause_s=refusals.asked_pause_s(refusal.message) if pause is None else pause,
        )

    def _unusable(self, what: str, answer: Answer) -> ModelError:
        return ModelError(
            f"{self._label}: {self._base_url} cannot be used: {what}",
            hint="check the server, and any proxy in front of it",
            paid=answer.has_begun,
        )

    def _broken(self, what: str, request: Request, answer: Answer, reason: str = "") -> TryAgain:
        return TryAgain(
            f"{self._label}: {what}",
            reason=reason or what,
            why="the part that was streamed before the fault is billed, but unusable",
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
                    "id": call_id,
                    "type": "function",
                    "function": {"name": tool_calls.TOOL, "arguments": _json(code)},
                }
                for call_id, code in call.codes()
            ]
            sent.append({"role": "assistant", "content": call.prose or None, "tool_calls": calls})
        elif open_ids and message.role == "user":
            texts = [text, *["(see the result before)"] * (len(open_ids) - 1)]
            sent += [
                {"role": "tool", "tool_call_id": call_id, "content": output}
                for call_id, output in zip(open_ids, texts, strict=True)
            ]
        else:
            sent.append({"role": message.role, "content": _content(text, message.images)})
        open_ids = call.ids if call else ()
    return sent


def _content(text: str, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    """A text as it is; with images, a list of parts."""
    if not images:
        return text
    shown = [
        {
            "type": "image_url",
            "image_url": {"url": f"data:{media_type(image)};base64,{base64.b64encode(image.data).decode()}"},
        }
        for image in images
    ]
    return [*shown, {"type": "text", "text": text}]


def _json(code: str) -> str:
    return json.dumps({"code": code}, ensure_ascii=False)


# ── one answer, whole or in pieces ──────────────────────────────────────────────────────────────────


def _in_dialect(messages: list[dict[str, Any]], dialect: Dialect) -> list[dict[str, Any]]:
    """``messages`` for a server that takes no system message, or only turns that alternate."""
    if dialect.has_system or not messages:
        return messages
    if messages[0]["role"] == "system":
        system, *messages = messages
        first = next((at for at, item in enumerate(messages) if item["role"] == "user"), None)
        if first is None:
            return [{"role": "user", "content": system["content"]}, *messages]
        joined = {**messages[first], "content": f"{system['content']}\n\n{messages[first]['content']}"}
        messages = [*messages[:first], joined, *messages[first + 1 :]]
    return _alternating(messages) if dialect.alternates else messages


def _alternating(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    joined: list[dict[str, Any]] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {**joined[-1], "content": f"{joined[-1]['content']}\n\n{message['content']}"}
        else:
            joined.append(message)
    return (
        joined
        if not joined or joined[0]["role"] == "user"
        else [{"role": "user", "content": "Begin."}, *joined]
    )


def _is_worth_a_retry(refusal: Refusal) -> bool:
    if refusal.status == 429:
        return refusal.code not in _NEVER_RETRIED and refusal.type not in _NEVER_RETRIED
    # 200: an error that names no status; 5xx: the server's own.
    return refusal.status in (200, 408, 409) or refusal.status >= 500
