"""``anthropic:NAME``: Anthropic's Messages API through the official SDK.

Owns the mapping between our records and the SDK's, and what each failure means. Relies on the SDK (imported
at the first request: it takes about two seconds) for keys, addresses and the stream. The SDK's own retries
are off: they are made where all calls of a provider meet (``limiter``), counted and told. Never logs a key.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, get_args

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import (
    TryAgain,
    asked_pause_s,
    guessed_tokens,
    media_type,
    reported_usage,
    sendable,
)
from loop_runner.model.providers import credentials, response_body, tool_calls
from loop_runner.model.providers.tool_calls import ToolCall
from loop_runner.records import Image, Message, Reply, Request, StopReason, Usage
from loop_runner.text import one_line

if TYPE_CHECKING:
    import anthropic
    import httpx2

_CACHE: dict[str, str] = {"type": "ephemeral"}
_STALL_S = 240.0  # without a word of the reply; the service's own signs of life do not count
_BATCH_BYTES = 2**30
_REPLY_S = 3600.0  # for all of one reply: a trickle must not hold up a run for days

# Waiting does not fill an account: these are never retried, although some of them come as a 429.
_UNPAYABLE = frozenset(
    {
        "contract_spend_limit_reached",
        "enforced_spend_limit_reached",
        "linked_organization_billing_unavailable",
        "linked_organization_spend_limit_reached",
        "organization_on_hold",
        "user_profile_billing_not_authorized",
        "user_profile_not_billable",
    }
)
_TRANSIENT = frozenset({"overloaded_error", "api_error", "timeout_error", "rate_limit_error"})
_THROTTLES = frozenset({"overloaded_error", "rate_limit_error"})


class AnthropicClient:
    """Asks one model. ``env`` holds the key and the address under the SDK's own names. Times in seconds."""

    takes_images = True

    def __init__(
        self, name: str, env: Mapping[str, str], *, stall_s: float = _STALL_S, reply_s: float = _REPLY_S
    ) -> None:
        self._name = name
        self._base_url = credentials.address(env, "ANTHROPIC_BASE_URL")
        self._api_key = credentials.key(env, "ANTHROPIC_API_KEY")
        self._auth_token = credentials.key(env, "ANTHROPIC_AUTH_TOKEN")
        credentials.check_network(env)
        self._stall_s = stall_s
        self._reply_s = reply_s
        self._takes_schemas = True
        self._opening = asyncio.Lock()
        self._sdk: anthropic.AsyncAnthropic | None = None
        if self._api_key is None and self._auth_token is None and not _has_other_credentials():
            raise ConfigError(
                f"anthropic:{name} needs a key, and the environment has none",
                why="the API refuses a request without one, so nothing was started",
                hint="export ANTHROPIC_API_KEY=..., or use a local model: loop-runner models fetch coder",
            )

    async def complete(self, request: Request) -> Reply:
        """One reply, streamed. Raises ``TryAgain`` with what a broken stream cost, or ``ModelError``."""
        sdk = await self.open()
        arguments = self.arguments(request)
        try:
            return await _Stream(self._name, self._stall_s, self._reply_s).run(sdk, arguments)
        except _SchemaRefused:
            # The schema is checked by whoever asked for it; here it is only a help.
            self._takes_schemas = False
            return await self.complete(request)

    async def count_tokens(self, request: Request) -> int:
        """How many tokens ``request`` is to this model; free of charge. Raises ``ModelError``."""
        import anthropic

        sdk = await self.open()
        arguments = self.arguments(request)
        wanted = {key: arguments[key] for key in ("model", "messages", "system", "tools") if key in arguments}
        try:
            return (await sdk.messages.count_tokens(**wanted)).input_tokens
        except anthropic.AnthropicError as error:
            raise explain(error, self._name) from error

    async def close(self) -> None:
        """Close the connections."""
        if self._sdk is not None:
            await self._sdk.close()
            self._sdk = None

    async def open(self) -> anthropic.AsyncAnthropic:
        """The SDK's client, made once."""
        async with self._opening:
            if self._sdk is None:
                # In a thread, so that other models' replies are not held up by the import.
                self._sdk = await asyncio.to_thread(self._make_sdk)
            return self._sdk

    def _make_sdk(self) -> anthropic.AsyncAnthropic:
        import anthropic

        return anthropic.AsyncAnthropic(
            api_key=self._api_key,
            auth_token=None if self._api_key else self._auth_token,
            base_url=self._base_url,
            max_retries=0,
            http_client=anthropic.DefaultAsyncHttpxClient(event_hooks={"response": [_bound]}),
        )

    # ── what is sent ────────────────────────────────────────────────────────────────────────────────

    def arguments(self, request: Request) -> dict[str, Any]:
        """``request`` as the SDK's arguments; equal beginnings of conversations become equal bytes."""
        # A conversation is sent again each turn with its old part unchanged, so it pays to keep it in the
        # provider's cache; a sub-call is sent once, and writing it there would cost a quarter more.
        is_cached = request.is_conversation
        arguments: dict[str, Any] = {"model": self._name, "max_tokens": request.max_output_tokens}
        if request.offers_tool:
            tool = {"name": tool_calls.TOOL, "description": tool_calls.DESCRIPTION}
            arguments["tools"] = [{**tool, "input_schema": tool_calls.PARAMETERS}]
            arguments["tool_choice"] = {"type": "auto", "disable_parallel_tool_use": True}
        if request.system:
            arguments["system"] = [_block(request.system, is_marked=is_cached)]
        arguments["messages"] = _messages(request, is_cached=is_cached)
        if is_cached:
            # The SDK's own way to mark the last block: the messages' bytes stay the same from turn to turn.
            arguments["cache_control"] = _CACHE
        if request.schema is not None and self._takes_schemas and (format_ := _native(request.schema)):
            arguments["output_config"] = {"format": format_}
        return arguments


async def _bound(response: httpx2.Response) -> None:
    is_of_batch = response.request.url.path.endswith("/results")  # the replies of a whole batch, line by line
    response_body.bound(response, _BATCH_BYTES if is_of_batch else response_body.MAX_BYTES)


def _messages(request: Request, *, is_cached: bool) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    open_ids: tuple[str, ...] = ()
    # Behind a worked example, if there is one: at what every pass repeats.
    first = next((at for at, item in enumerate(request.messages) if item.stable_chars), 0)
    for at, message in enumerate(request.messages):
        content: list[dict[str, Any]]
        call = (
            tool_calls.spoken(message.text) if request.offers_tool and message.role == "assistant" else None
        )
        if call is not None:
            content = [_block(call.prose)] if call.prose.strip() else []
            content += [
                {"type": "tool_use", "id": call_id, "name": tool_calls.TOOL, "input": {"code": code}}
                for call_id, code in call.codes()
            ]
        elif open_ids and message.role == "user":
            content = _results(open_ids, message.text)
        else:
            content = _blocks(message, is_marked=is_cached and at == first)
        sent.append({"role": message.role, "content": content})
        open_ids = call.ids if call else ()
    return sent


def _results(ids: tuple[str, ...], text: str) -> list[dict[str, Any]]:
    """What a tool call is answered with: the first of several gets the output."""
    texts = [text, *["(see the result before)"] * (len(ids) - 1)]
    return [
        {"type": "tool_result", "tool_use_id": call_id, "content": [_block(output)]}
        for call_id, output in zip(ids, texts, strict=True)
    ]


def _blocks(message: Message, *, is_marked: bool) -> list[dict[str, Any]]:
    """A message's text; the first is cut where what every pass repeats ends, and marked there too."""
    stable, rest = message.text[: message.stable_chars], message.text[message.stable_chars :]
    parts = [part for part in (stable, rest) if part.strip()] or [message.text]
    return [*map(_image, message.images), *(_block(part, is_marked=is_marked) for part in parts)]


def _image(image: Image) -> dict[str, Any]:
    data = base64.b64encode(image.data).decode("ascii")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type(image), "data": data}}


def _block(text: str, *, is_marked: bool = False) -> dict[str, Any]:
    # The API refuses empty text, and a refusal leaves an assistant's turn empty.
    block: dict[str, Any] = {"type": "text", "text": sendable(text) if text.strip() else "(no text)"}
    return {**block, "cache_control": _CACHE} if is_marked else block


def _native(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """``schema`` as the API's own form, or None where it cannot say the same."""
    import anthropic

    if not _is_closed(schema):
        return None
    try:
        return {"type": "json_schema", "schema": anthropic.transform_schema(dict(schema))}
    except Exception:  # noqa: BLE001 - a border: a schema that the SDK does not know is checked by us alone
        return None


def _is_closed(schema: object) -> bool:
    """Whether every object in it lists its keys: the API forbids all others, which would change it."""
    if isinstance(schema, list):
        return all(map(_is_closed, schema))
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "object" and (
        not schema.get("properties") or schema.get("additionalProperties") not in (None, False)
    ):
        return False
    return all(map(_is_closed, schema.values()))


def _has_other_credentials() -> bool:
    """Whether the SDK finds a profile or an identity where there is no key. Imports it: the slow way."""
    import anthropic

    try:
        sdk = anthropic.AsyncAnthropic()
    except anthropic.AnthropicError:
        return False
    return bool(sdk.api_key or sdk.auth_token or sdk.credentials)


# ── one try ─────────────────────────────────────────────────────────────────────────────────────────


class _SchemaRefused(Exception):  # noqa: N818 - caught a few lines above
    """The model does not take a schema; nothing was paid."""


class _Stream:
    """One streamed request."""

    def __init__(self, name: str, stall_s: float, reply_s: float) -> None:
        self._name = name
        self._stall_s = stall_s
        self._reply_s = reply_s
        self._message: Any = None

    async def run(self, sdk: anthropic.AsyncAnthropic, arguments: dict[str, Any]) -> Reply:
        """The reply. Raises ``TryAgain`` or ``ModelError``."""
        import anthropic
        import httpx2

        opening = sdk.messages.stream(**arguments)  # an argument that the SDK does not know is our mistake
        try:
            async with asyncio.timeout(self._reply_s), opening as stream:
                await self._read(stream)
        except anthropic.APIStatusError as error:
            return self._refused(error, has_schema="output_config" in arguments)
        except anthropic.AnthropicError as error:
            if self._message is not None:
                raise self._broken("the connection broke", error) from error
            raise explain(error, self._name) from error
        except httpx2.TransportError as error:
            raise self._broken("the connection broke", error) from error
        except TimeoutError as error:
            raise self._broken("the reply came too slowly", None) from error
        except Exception as error:  # a border: the SDK takes its bytes to be well formed
            raise self._broken("the stream broke", error) from error
        # A proxy that gives up closes the connection in good order, in the middle of a reply.
        if self._message is None or self._message.stop_reason is None:
            raise self._broken("the stream ended too early", None)
        return read_message(self._message)

    async def _read(self, stream: Any) -> None:
        events = aiter(stream)
        while True:
            async with asyncio.timeout(self._stall_s):
                event = await anext(events, None)
            if event is None:
                return
            if event.type == "message_start" or self._message is not None:
                self._message = stream.current_message_snapshot

    def _refused(self, error: anthropic.APIStatusError, *, has_schema: bool) -> Reply:
        """The reply for a prompt over the window; raises for everything else."""
        if self._message is not None and error.type in _TRANSIENT:
            raise self._broken(f"the stream ended with {error.type}", error) from error
        if _is_too_long(error):
            return Reply("", "model_context_window_exceeded", model=self._name)
        message = (error.api_message or "").lower()
        if error.status_code == 400 and has_schema and ("schema" in message or "output_" in message):
            raise _SchemaRefused from error
        raise explain(error, self._name) from error

    def _broken(self, what: str, error: Exception | None) -> TryAgain:
        detail = f": {type(error).__name__}: {one_line(str(error), 200)}" if error else ""
        return TryAgain(
            f"anthropic:{self._name}: {what}{detail}",
            reason=what,
            why="the part that was streamed before the fault is billed, but unusable",
            hint="check the network, then: loop-runner resume",
            is_throttle=getattr(error, "type", None) in _THROTTLES,
            usage=self._paid(),
            paid=self._message is not None,
        )

    def _paid(self) -> Usage:
        """What a broken stream cost. The output is counted at its end only: until then it is a guess."""
        if self._message is None:
            return Usage()
        usage = _usage(self._message.usage)
        written = guessed_tokens("".join(getattr(block, "text", "") for block in self._message.content))
        return Usage(
            usage.input_tokens,
            max(usage.output_tokens, written),
            usage.cache_read_tokens,
            usage.cache_write_tokens,
        )


def read_message(message: Any) -> Reply:
    """A whole message of the SDK's as our record; tool calls become fenced code."""
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [block for block in message.content if block.type == "tool_use"]
    if calls:
        # One that was cut off is not a call: it could not be answered on the next turn.
        is_whole = message.stop_reason == "tool_use"
        text = tool_calls.as_text(
            text, [ToolCall(call.id if is_whole else "", call.name, call.input) for call in calls]
        )
    # A stop reason of a newer API still comes with text that was paid for.
    known = message.stop_reason in get_args(StopReason)
    stop = cast("StopReason", message.stop_reason) if known else "end_turn"
    return Reply(text, stop, _usage(message.usage), str(message.model))


def _usage(usage: Any) -> Usage:
    return reported_usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
    )


def _is_too_long(error: anthropic.APIStatusError) -> bool:
    # There is no code for it: the only sign is the message.
    return error.status_code == 413 or (
        error.status_code == 400 and "prompt is too long" in (error.api_message or "").lower()
    )


# ── what a failure means for the user ───────────────────────────────────────────────────────────────

_STATUS: Mapping[int, tuple[str, str]] = {
    401: ("the key was refused", "check ANTHROPIC_API_KEY (or ANTHROPIC_AUTH_TOKEN)"),
    402: ("the account cannot pay", "settle the account with the provider, then: loop-runner resume"),
    403: ("the key may not do this", "check which models and workspaces the key is for"),
    404: ("there is no such model", "check the name; loop-runner models list shows the defaults"),
    429: ("over the rate limit", "wait or lower the width, then: loop-runner resume"),
    529: ("overloaded", "wait, then: loop-runner resume"),
}
_ENDS_RUN = frozenset({401, 402, 403})


def explain(error: anthropic.AnthropicError, name: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means; ``TryAgain`` where waiting may help."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _explain_status(error, name)
    if isinstance(error, anthropic.APITimeoutError):
        return TryAgain(
            f"anthropic:{name}: no answer in time",
            reason="no answer in time",
            hint="check the network, then: loop-runner resume",
            paid=True,
        )
    if isinstance(error, anthropic.APIConnectionError):
        detail = one_line(str(error.__cause__ or error), 200)
        return TryAgain(
            f"anthropic:{name}: the API cannot be reached: {detail}",
            reason="the API cannot be reached",
            hint="check the network and ANTHROPIC_BASE_URL, then: loop-runner resume",
        )
    return ModelError(f"anthropic:{name}: {type(error).__name__}: {one_line(str(error), 300)}")


def _explain_status(error: anthropic.APIStatusError, name: str) -> ModelError:
    # A spent account comes as 402, as 429 and, for some, as 400.
    status = error.status_code
    is_spent = error.error_code in _UNPAYABLE or error.type == "billing_error"
    status = 402 if is_spent else status
    what, hint = _STATUS.get(status, ("", ""))
    if not what:
        what = "the service failed" if status >= 500 else "the request was refused"
        hint = "wait, then: loop-runner resume" if status >= 500 else ""
    detail = one_line(error.api_message or error.message, 300)
    request_id = f" (request {error.request_id})" if error.request_id else ""
    message = f"anthropic:{name}: {what} (HTTP {error.status_code}): {detail}{request_id}"
    if is_spent or not _may_pass(error):
        return ModelError(message, hint=hint, ends_run=status in _ENDS_RUN)
    return TryAgain(
        message,
        reason=f"{what} (HTTP {error.status_code})",
        hint=hint,
        is_throttle=status in (429, 529) or error.type in _THROTTLES,
        asked_pause_s=asked_pause_s(error.response.headers),
    )


def _may_pass(error: anthropic.APIStatusError) -> bool:
    header: str | None = None
    with contextlib.suppress(AttributeError):
        header = error.response.headers.get("x-should-retry")
    if header in ("true", "false"):
        return header == "true"
    return error.status_code in (408, 409, 429) or error.status_code >= 500 or error.type in _TRANSIENT
