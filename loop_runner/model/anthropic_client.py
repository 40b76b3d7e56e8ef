"""``anthropic:NAME``: Anthropic's Messages API through the official SDK.

Owns the mapping between our records and the SDK's, and the second try after a stream that broke. Relies on
the SDK (imported at the first request: it takes about two seconds) for keys, addresses and retries. Never
logs a key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, get_args

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import sendable
from loop_runner.records import Reply, Request, StopReason, Usage
from loop_runner.text import one_line

if TYPE_CHECKING:
    import anthropic

_MAX_RETRIES = (
    5  # the SDK's own, before the first byte: half a second doubling to eight, or what the server asks
)
_MAX_STREAM_TRIES = 3
_STREAM_PAUSE_S = 1.0
_CACHE: dict[str, str] = {"type": "ephemeral"}

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


class AnthropicClient:
    """Asks one model. ``env`` holds the key and the address under the SDK's own names."""

    def __init__(
        self,
        name: str,
        env: Mapping[str, str],
        *,
        max_retries: int = _MAX_RETRIES,
        stream_pause_s: float = _STREAM_PAUSE_S,
    ) -> None:
        self._name = name
        self._base_url = env.get("ANTHROPIC_BASE_URL") or None
        self._api_key = env.get("ANTHROPIC_API_KEY") or None
        self._auth_token = env.get("ANTHROPIC_AUTH_TOKEN") or None
        self._max_retries = max_retries
        self._stream_pause_s = stream_pause_s
        self._opening = asyncio.Lock()
        self._sdk: anthropic.AsyncAnthropic | None = None
        if self._api_key is None and self._auth_token is None and not _has_other_credentials():
            raise ConfigError(
                f"anthropic:{name} needs a key, and the environment has none",
                why="the API refuses a request without one, so nothing was started",
                hint="export ANTHROPIC_API_KEY=..., or use a local model: loop-runner models fetch coder",
            )

    async def complete(self, request: Request) -> Reply:
        """One reply, streamed. Its usage includes tries that broke in the middle: they are billed too.

        Raises ``ModelError`` after the SDK's retries, or at once where they cannot help.
        """
        sdk = await self._open()
        spent = Usage()
        for tries_left in reversed(range(_MAX_STREAM_TRIES)):
            outcome = await _Stream(self._name).run(sdk, self._arguments(request))
            if isinstance(outcome, Reply):
                return Reply(outcome.text, outcome.stop_reason, spent + outcome.usage, outcome.model)
            spent += outcome.usage
            if not tries_left:
                raise outcome.error
            await asyncio.sleep(self._stream_pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - keeps no secret
        raise AssertionError  # the last try returns or raises

    async def close(self) -> None:
        """Close the connections."""
        if self._sdk is not None:
            await self._sdk.close()
            self._sdk = None

    async def _open(self) -> anthropic.AsyncAnthropic:
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
            max_retries=self._max_retries,
            middleware=[_stop_at_spend_limits],
        )

    def _arguments(self, request: Request) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": self._name,
            "max_tokens": request.max_output_tokens,
            "messages": [_message(message.role, message.text) for message in request.messages],
        }
        if request.system:
            arguments["system"] = [{"type": "text", "text": sendable(request.system)}]
        # A root conversation is sent again each turn with its old part unchanged, so it pays to keep it in
        # the provider's cache; a sub-call is sent once, and writing it there would cost a quarter more.
        if request.kind == "root":
            if request.system:
                arguments["system"][-1]["cache_control"] = _CACHE
            arguments["messages"][0]["content"][-1]["cache_control"] = _CACHE
            # The SDK's own way to mark the last block: the messages' bytes stay the same from turn to turn.
            arguments["cache_control"] = _CACHE
        return arguments


def _message(role: str, text: str) -> dict[str, Any]:
    # The API refuses empty text, and a refusal leaves an assistant's turn empty.
    return {
        "role": role,
        "content": [{"type": "text", "text": sendable(text) if text.strip() else "(no text)"}],
    }


def _has_other_credentials() -> bool:
    """Whether the SDK finds a profile or an identity where there is no key. Imports it: the slow way."""
    import anthropic

    try:
        sdk = anthropic.AsyncAnthropic()
    except anthropic.AnthropicError:
        return False
    return bool(sdk.api_key or sdk.auth_token or sdk.credentials)


async def _stop_at_spend_limits(api_request: Any, call_next: Any) -> Any:
    """Make the SDK raise at once what it would otherwise retry: a 429 that means an empty account."""
    response = await call_next(api_request)
    if response.status_code == 429:
        await response.read()
        if _error_code(response) in _UNPAYABLE:
            response.headers["x-should-retry"] = "false"
    return response


def _error_code(response: Any) -> str | None:
    import json

    try:
        code = json.loads(response.http_response.content)["error"]["details"]["error_code"]
    except (ValueError, LookupError, TypeError):
        return None
    return code if isinstance(code, str) else None


# ── one try ─────────────────────────────────────────────────────────────────────────────────────────


class _Broken:
    """A try that failed in a way that another may not; ``usage`` is what it cost as far as was told."""

    def __init__(self, error: ModelError, usage: Usage) -> None:
        self.error = error
        self.usage = usage


class _Stream:
    """One streamed request."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._message: Any = None  # grows with the stream

    async def run(self, sdk: anthropic.AsyncAnthropic, arguments: dict[str, Any]) -> Reply | _Broken:
        """The reply, or what broke. Raises ``ModelError`` when another try cannot help."""
        import anthropic

        opening = sdk.messages.stream(**arguments)  # an argument that the SDK does not know is our mistake
        try:
            async with opening as stream:
                async for event in stream:
                    if event.type == "message_start" or self._message is not None:
                        self._message = stream.current_message_snapshot
        except anthropic.APIStatusError as error:
            if self._message is not None and error.type in _TRANSIENT:
                return self._broken(f"the stream ended with {error.type}", error)
            if _is_too_long(error):
                return Reply("", "model_context_window_exceeded", model=self._name)
            raise explain(error, self._name) from error
        except anthropic.AnthropicError as error:
            if self._message is not None:
                return self._broken("the connection broke", error)
            raise explain(error, self._name) from error
        except Exception as error:  # noqa: BLE001 - a border: the SDK takes its bytes to be well formed
            return self._broken("the stream broke", error)
        # A proxy that gives up closes the connection in good order, in the middle of a reply.
        if self._message is None or self._message.stop_reason is None:
            return self._broken("the stream ended too early", None)
        return self._reply()

    def _reply(self) -> Reply:
        text = "".join(block.text for block in self._message.content if block.type == "text")
        # A stop reason of a newer API still comes with text that was paid for.
        stop = self._message.stop_reason
        known = stop in get_args(StopReason)
        return Reply(
            text, cast("StopReason", stop) if known else "end_turn", self._usage(), str(self._message.model)
        )

    def _usage(self) -> Usage:
        if self._message is None:
            return Usage()
        usage = self._message.usage
        return Usage(
            usage.input_tokens or 0,
            usage.output_tokens or 0,
            usage.cache_read_input_tokens or 0,
            usage.cache_creation_input_tokens or 0,
        )

    def _broken(self, what: str, error: Exception | None) -> _Broken:
        detail = f": {type(error).__name__}: {one_line(str(error), 200)}" if error else ""
        return _Broken(
            ModelError(
                f"anthropic:{self._name}: {what}{detail} ({_MAX_STREAM_TRIES} tries)",
                why="what was streamed before it broke is billed, and was thrown away",
                hint="check the network, then: loop-runner resume",
                paid=True,
            ),
            self._usage(),
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
    429: ("still over the rate limit after the retries", "wait or lower the width, then: loop-runner resume"),
    529: ("still overloaded after the retries", "wait, then: loop-runner resume"),
}


def explain(error: anthropic.AnthropicError, name: str) -> ModelError:
    """The ``ModelError`` that says what ``error`` means and what to do about it."""
    import anthropic

    if isinstance(error, anthropic.APIStatusError):
        return _explain_status(error, name)
    if isinstance(error, anthropic.APITimeoutError):
        return ModelError(
            f"anthropic:{name}: no answer in time, after the retries",
            hint="check the network, then: loop-runner resume",
            paid=True,
        )
    if isinstance(error, anthropic.APIConnectionError):
        reason = one_line(str(error.__cause__ or error), 200)
        return ModelError(
            f"anthropic:{name}: the API cannot be reached: {reason}",
            hint="check the network and ANTHROPIC_BASE_URL, then: loop-runner resume",
        )
    return ModelError(f"anthropic:{name}: {type(error).__name__}: {one_line(str(error), 300)}")


def _explain_status(error: anthropic.APIStatusError, name: str) -> ModelError:
    # A spent account comes as 402, as 429 and, for some, as 400.
    status = error.status_code
    if error.error_code in _UNPAYABLE or error.type == "billing_error":
        status = 402
    what, hint = _STATUS.get(status, ("", ""))
    if not what:
        what = "the service failed, after the retries" if status >= 500 else "the request was refused"
        hint = "wait, then: loop-runner resume" if status >= 500 else ""
    said = one_line(error.api_message or error.message, 300)
    request_id = f" (request {error.request_id})" if error.request_id else ""
    message = f"anthropic:{name}: {what} (HTTP {error.status_code}): {said}{request_id}"
    return ModelError(message, hint=hint, ends_run=status in (401, 402, 403))
