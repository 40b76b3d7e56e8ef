"""Chat completions over HTTP: any OpenAI-compatible endpoint, and the server of ``local:``.

Owns the mapping between our records and that format; what a refusal means is in ``refusals``. Relies on
httpx2. Replies of conversations are streamed, so that no proxy cuts a long one off; sub-calls are short and
come as a whole. One try for each request, but for what a server does not know (a field, the system role): it
is asked again without. The retries are ``limiter``'s. Never logs a key.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model import refusals, server_sent, tool_calls
from loop_runner.model.client import TryAgain, guessed_tokens, sendable
from loop_runner.model.refusals import Dialect, Refusal
from loop_runner.model.server_sent import TooLarge
from loop_runner.model.tool_calls import ToolCall
from loop_runner.records import Reply, Request, StopReason, Usage
from loop_runner.text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx2

_OFFICIAL = "https://api.openai.com/v1"
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 1800.0  # a whole reply may take a model on two processors half an hour
_REPLY_S = 3600.0  # for all of one reply: a trickle must not hold up a run for days

_REST_S = 10.0  # for what follows the last piece: some servers leave the stream open for ever
_MOST_ADAPTATIONS = 8  # of one request

# In lower case: some servers write them in capitals. What is none of these ends a turn as "stop" does.
_STOP_REASONS: Mapping[str, StopReason] = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "model_length": "max_tokens",
    "content_filter": "refusal",
    "safety": "refusal",
    "recitation": "refusal",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
}


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
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._extra = dict(extra or {})  # further fields of the request body
        # The official endpoint refuses the old name for its newer models; other servers know only that one.
        limit = "max_completion_tokens" if self._base_url == _OFFICIAL else "max_tokens"
        left_out = frozenset[str]() if streams else frozenset({"stream", "stream_options"})
        self._dialect = Dialect(limit, left_out)
        self._read_timeout_s = read_timeout_s
        self._reply_s = reply_s
        self._http: httpx2.AsyncClient | None = None

    @classmethod
    def from_environment(cls, name: str, env: Mapping[str, str]) -> OpenAICompatibleClient:
        """The client that ``OPENAI_BASE_URL`` and ``OPENAI_API_KEY`` describe; ``ConfigError`` without."""
        base_url, key = env.get("OPENAI_BASE_URL"), env.get("OPENAI_API_KEY")
        if not base_url and not key:
            raise ConfigError(
                f"openai:{name} needs a key or an address",
                why="without an address the official one is asked, which refuses a request without a key",
                hint="export OPENAI_API_KEY=..., or OPENAI_BASE_URL=http://HOST:PORT/v1 for your own server",
            )
        return cls(name, base_url or _OFFICIAL, key)

    async def complete(self, request: Request) -> Reply:
        """One chat completion. Raises ``TryAgain`` for what may pass, ``ModelError`` for what will not."""
        limit = request.max_output_tokens
        for _ in range(_MOST_ADAPTATIONS):
            dialect = self._dialect
            body = self._body(request, dialect, limit)
            found = await self._try(body, request)
            if isinstance(found, Reply):
                return found
            refusal = found
            if found.is_too_long:
                if (room := found.room_tokens) is None or room >= limit:
                    return Reply("", "model_context_window_exceeded", model=self._name)
                limit = room
            elif found.is_filtered:
                return Reply(found.message, "refusal", model=self._name)
            else:
                # A server that does not know a field is asked without it, now and from now on.
                self._dialect = refusals.learned(self._dialect, found, body)
                if self._dialect == dialect:
                    break
        raise self._refused(refusal)

    async def _try(self, body: Mapping[str, Any], request: Request) -> Reply | Refusal:
        import httpx2

        answer = _Answer()
        try:
            async with (
                asyncio.timeout(self._reply_s),
                self._client().stream("POST", "/chat/completions", json=body) as response,
            ):
                if response.status_code != 200:
                    data = await server_sent.beginning(response.aiter_bytes(), server_sent.MAX_REFUSAL_BYTES)
                    if response.has_redirect_location:
                        raise self._redirected(response)
                    return refusals.of_response(response.status_code, data, response.headers)
                if (refusal := await self._read(response, answer, request)) is not None:
                    return refusal
        except TimeoutError as error:
            raise self._broken("the reply came too slowly", request, answer) from error
        except httpx2.ReadTimeout as error:
            # The server may still be at work on it: asking again would double that.
            raise self._unreachable(error) from error
        except (httpx2.TransportError, httpx2.DecodingError) as error:
            if answer.has_begun or isinstance(error, httpx2.DecodingError):
                raise self._broken(
                    f"the connection broke: {type(error).__name__}", request, answer
                ) from error
            raise self._unreachable(error) from error
        if not answer.is_whole:
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
            headers = {"accept-encoding": "identity"}
            if self._api_key:
                headers["authorization"] = f"Bearer {self._api_key}"
            self._http = httpx2.AsyncClient(
                base_url=self._base_url,
                headers=headers,
                timeout=httpx2.Timeout(self._read_timeout_s, connect=_CONNECT_TIMEOUT_S, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            )
        return self._http

    # ── what is sent ────────────────────────────────────────────────────────────────────────────────

    def _body(self, request: Request, dialect: Dialect, limit: int) -> dict[str, Any]:
        request = replace(request, offers_tool=request.offers_tool and dialect.knows_tools)
        body: dict[str, Any] = {"model": self._name, "messages": _messages(request, dialect)}
        body[dialect.limit_name] = min(limit, dialect.most_tokens or limit)
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
        return {key: value for key, value in body.items() if key not in dialect.left_out} | self._extra

    # ── what comes back ─────────────────────────────────────────────────────────────────────────────

    async def _read(self, response: httpx2.Response, answer: _Answer, request: Request) -> Refusal | None:
        """Fill ``answer``; the refusal, if the server put one into a 200."""
        seen: list[str] = [""]
        try:
            chunks = server_sent.within(response.aiter_bytes(), server_sent.MAX_REPLY_BYTES)
            if "text/event-stream" in response.headers.get("content-type", ""):
                await _read_stream(server_sent.events(chunks), answer, seen)
            else:
                seen[0] = b"".join([chunk async for chunk in chunks]).decode("utf-8", "replace")
                _take(seen[0], answer)
        except _Said as error:
            if not answer.has_begun:
                return refusals.of_error(error.data)
            raise self._broken_off(error, request, answer) from error
        except TooLarge as error:
            raise ModelError(
                f"{self._label}: the reply is too large: {error}",
                why="no model writes that much in one reply, and it would fill the memory",
                hint="check what answers at OPENAI_BASE_URL",
                paid=True,
            ) from error
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise self._no_completion(seen[0], request, answer) from error
        if seen[0] and not answer.has_begun:
            raise self._no_completion(seen[0], request, answer)
        return None

    def _broken_off(self, error: _Said, request: Request, answer: _Answer) -> TryAgain:
        said = refusals.of_error(error.data).message
        return TryAgain(
            f"{self._label}: the stream ended with an error: {one_line(said, 200)}",
            reason="the stream ended with an error",
            usage=answer.paid(request),
            paid=True,
        )

    def _no_completion(self, seen: str, request: Request, answer: _Answer) -> ModelError:
        if answer.has_begun:
            return TryAgain(
                f"{self._label}: the stream broke: {one_line(seen, 200)!r} is no part of a completion",
                reason="the stream broke",
                usage=answer.paid(request),
                paid=True,
            )
        return ModelError(
            f"{self._base_url} answered something that is not a chat completion",
            why=f"it began with {one_line(seen, 200)!r}",
            hint="check OPENAI_BASE_URL: it ends with the version part, as in http://127.0.0.1:8080/v1",
            paid=True,
        )

    def _redirected(self, response: httpx2.Response) -> ModelError:
        return ModelError(
            f"{self._label}: {self._base_url} answered {response.status_code}: it is somewhere else now",
            why="a key is not sent to an address that nobody named",
            hint=f"if you trust it: export OPENAI_BASE_URL for {one_line(response.headers['location'], 200)}",
            ends_run=True,
        )

    def _refused(self, refusal: Refusal) -> ModelError:
        status = refusal.status
        hints = {
            401: "check OPENAI_API_KEY",
            402: "settle the account with the provider",
            403: "check what the key may do",
            404: f"check that {self._base_url} has a model {self._name!r}",
            429: "wait, or lower the width; if the account's quota is spent, waiting does not help",
        }
        hint = hints.get(status, "try again later with: loop-runner resume" if status >= 500 else "")
        message = f"{self._label}: {self._base_url} answered {status}: {refusal.message}"
        if not refusal.is_worth_a_retry:
            return ModelError(message, hint=hint, ends_run=status in (401, 402, 403, 429))
        return TryAgain(
            message,
            reason=f"{self._base_url} answered {status}",
            hint=hint,
            is_throttle=refusal.is_throttle,
            asked_pause_s=refusal.pause_s,
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


def _messages(request: Request, dialect: Dialect) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    if request.system:
        role = "system" if dialect.knows_system else "user"
        sent.append({"role": role, "content": sendable(request.system)})
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
    return sent if dialect.knows_system and not dialect.must_alternate else _joined(sent)


def _joined(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """``messages`` with neighbours of one role joined, for templates that want the roles to alternate."""
    found: list[dict[str, Any]] = []
    for message in messages:
        is_text = message.keys() == {"role", "content"}
        last = found[-1] if found else {}
        if is_text and last.keys() == {"role", "content"} and last["role"] == message["role"]:
            found[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            found.append(message)
    return found


def _json(code: str) -> str:
    return json.dumps({"code": code}, ensure_ascii=False)


# ── one answer, whole or in pieces ──────────────────────────────────────────────────────────────────


class _Said(Exception):  # noqa: N818 - becomes a refusal or a TryAgain a few lines above
    """What the server said instead of a completion, or in the middle of a stream instead of going on."""

    def __init__(self, data: Any) -> None:
        super().__init__()
        self.data = data


async def _read_stream(events: AsyncIterator[str], answer: _Answer, seen: list[str]) -> None:
    """Add the events to ``answer`` up to the end mark; ``seen`` gets the one that is being read."""
    is_ending = False
    while True:
        try:
            async with asyncio.timeout(_REST_S if is_ending else None):
                data = await anext(events, None)
        except TimeoutError:
            if not is_ending:
                raise
            return
        if data is None:
            return
        if data.strip() == "[DONE]":
            answer.is_whole = answer.is_whole or answer.has_begun
            return
        if data.strip():
            seen[0] = data
            answer.add(json.loads(data))
        is_ending = answer.is_whole


def _take(body: str, answer: _Answer) -> None:
    """A completion that came as a whole; also one that is a stream by its form, whatever it is called."""
    if not body.lstrip("\ufeff \r\n").startswith(("data:", "event:", ":")):
        answer.take(json.loads(body.removeprefix("\ufeff")))
        return
    for line in body.replace("\r", "\n").split("\n"):
        data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
        if data == "[DONE]":
            answer.is_whole = answer.is_whole or answer.has_begun
        elif data:
            answer.add(json.loads(data))


class _Answer:
    """Collects one completion."""

    def __init__(self) -> None:
        self.has_begun = False
        self.is_whole = False
        self._stop = ""
        self._text = ""
        self._refusal = ""
        self._calls: dict[int, dict[str, str]] = {}
        self._usage: Mapping[str, Any] | None = None
        self._model = ""

    def take(self, data: Mapping[str, Any]) -> None:
        """A completion that came as a whole."""
        if "choices" not in data and _is_error(data):
            raise _Said(data)
        choice = data["choices"][0]
        if choice.get("error"):
            raise _Said(choice)
        self._add_parts(choice.get("message") or {"content": choice["text"]})
        self._stop = str(choice.get("finish_reason") or "stop").lower()
        self.is_whole = True
        self._about(data)

    def add(self, data: Mapping[str, Any]) -> None:
        """One piece of a stream."""
        if _is_error(data):
            raise _Said(data)
        for choice in data.get("choices") or ():
            if choice.get("error"):
                raise _Said(choice)
            if choice.get("index"):
                continue  # another completion, which nobody asked for
            self._add_parts(choice.get("delta") or {"content": choice.get("text")})
            self._stop = str(choice.get("finish_reason") or "").lower() or self._stop
            self.is_whole = bool(self._stop)
            self.has_begun = True
        self._about(data)

    def _add_parts(self, parts: Mapping[str, Any]) -> None:
        # A refusal comes in a field of its own, beside a content that is null.
        self._text += _content(parts.get("content"))
        self._refusal += str(parts.get("refusal") or "")
        for at, call in enumerate(parts.get("tool_calls") or ()):
            index = call.get("index")
            known = self._calls.setdefault(
                at if index is None else int(index), {"id": "", "name": "", "arguments": ""}
            )
            function = call.get("function") or {}
            known["id"] += call.get("id") or ""
            known["name"] += function.get("name") or ""
            arguments = function.get("arguments") or ""
            known["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)

    def _about(self, data: Mapping[str, Any]) -> None:
        self.has_begun = self.has_begun or self.is_whole
        self._usage = data.get("usage") or self._usage
        self._model = str(data.get("model") or self._model)

    def reply(self, name: str, request: Request) -> Reply:
        """The collected completion as our record."""
        stop: StopReason = _STOP_REASONS.get(self._stop, "end_turn")
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


def _is_error(data: Mapping[str, Any]) -> bool:
    """A body or an event that is an error; some servers say so with ``object`` alone."""
    return (
        bool(data.get("error"))
        or data.get("object") == "error"
        or ("detail" in data and "choices" not in data)
    )


def _content(content: Any) -> str:
    """The text of a content that is one, or of its parts; a part of thinking is none."""
    if isinstance(content, list):
        return "".join(_content(part.get("text")) for part in content if part.get("type", "text") == "text")
    return str(content or "")


def _usage(data: Mapping[str, Any]) -> Usage:
    # Here the cached tokens are a part of the prompt's; in our records they are counted apart.
    prompt = int(data.get("prompt_tokens") or 0)
    cached = int((data.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return Usage(prompt - cached, int(data.get("completion_tokens") or 0), cache_read_tokens=cached)
