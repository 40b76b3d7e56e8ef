"""Chat completions over HTTP: any OpenAI-compatible endpoint, and the server of ``local:``.

Owns the mapping between our records and that format, and the retries of this client. Relies on httpx2. Reads
whole replies, no streams. Never logs a key.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from loop_runner.errors import ConfigError, ModelError
from loop_runner.model.client import sendable
from loop_runner.records import Reply, Request, StopReason, Usage
from loop_runner.text import one_line

if TYPE_CHECKING:
    import httpx2

_OFFICIAL = "https://api.openai.com/v1"
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 1800.0  # a reply comes as a whole, and a model on two processors may think for half an hour
_MAX_TRIES = 6
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LONGEST_ASKED_PAUSE_S = 600.0  # what a server may ask for with retry-after

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
        max_tries: int = _MAX_TRIES,
        first_pause_s: float = _FIRST_PAUSE_S,
    ) -> None:
        self._name = name
        self._label = label or f"openai:{name}"  # what messages call this model
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._extra = dict(extra or {})  # further fields of the request body
        self._max_tries = max_tries
        self._first_pause_s = first_pause_s
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
        """One chat completion. Raises ``ModelError`` after the retries, or at once where they cannot help."""
        import httpx2

        body = self._body(request)
        for tries_left in reversed(range(self._max_tries)):
            try:
                response = await self._client().post("/chat/completions", json=body)
            except httpx2.TransportError as error:
                # After a read time-out the server may still be at work on it: asking again would double that.
                if not tries_left or isinstance(error, httpx2.ReadTimeout):
                    raise self._unreachable(error) from error
                await asyncio.sleep(self._pause_s(tries_left))
                continue
            if response.status_code == 200:
                return self._reply(response)
            if _is_too_long(response):
                return Reply("", "model_context_window_exceeded", model=self._name)
            if not tries_left or not _is_worth_a_retry(response):
                raise self._refused(response)
            await asyncio.sleep(_asked_pause_s(response) or self._pause_s(tries_left))
        raise AssertionError  # the last try returns or raises

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
                base_url=self._base_url,
                headers=headers,
                timeout=httpx2.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, pool=None),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            )
        return self._http

    def _body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": message.role, "content": sendable(message.text)} for message in request.messages]
        if request.system:
            messages.insert(0, {"role": "system", "content": sendable(request.system)})
        # The official endpoint refuses the old name for its newer models; other servers know only that one.
        limit = "max_completion_tokens" if self._base_url == _OFFICIAL else "max_tokens"
        return {"model": self._name, "messages": messages, limit: request.max_output_tokens, **self._extra}

    def _reply(self, response: httpx2.Response) -> Reply:
        try:
            data = response.json()
            choice = data["choices"][0]
            # A refusal comes in a field of its own, beside a content that is null.
            text = choice["message"].get("content") or choice["message"].get("refusal") or ""
            stop = _STOP_REASONS.get(choice.get("finish_reason") or "stop", "end_turn")
            stop = "refusal" if choice["message"].get("refusal") else stop
            return Reply(
                str(text), stop, _usage(data.get("usage") or {}), str(data.get("model") or self._name)
            )
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ModelError(
                f"{self._base_url} answered something that is not a chat completion",
                why=f"it began with {one_line(response.text, 200)!r}",
                hint="check OPENAI_BASE_URL: it ends with the version part, as in http://127.0.0.1:8080/v1",
                paid=True,
            ) from error

    def _refused(self, response: httpx2.Response) -> ModelError:
        status = response.status_code
        said = one_line(_error_text(response), 300)
        hints = {
            401: "check OPENAI_API_KEY",
            402: "settle the account with the provider",
            403: "check what the key may do",
            404: f"check that {self._base_url} has a model {self._name!r}",
            429: "wait, or lower the width; if the account's quota is spent, waiting does not help",
        }
        hint = hints.get(status, "try again later with: loop-runner resume" if status >= 500 else "")
        return ModelError(
            f"{self._label}: {self._base_url} answered {status}: {said}",
            hint=hint,
            ends_run=status in (401, 402, 403) or (status == 429 and not _is_worth_a_retry(response)),
        )

    def _unreachable(self, error: Exception) -> ModelError:
        return ModelError(
            f"{self._label}: {self._base_url} cannot be reached: {type(error).__name__}: {error}",
            hint="check the address and the network, then: loop-runner resume",
            paid="Read" in type(error).__name__,  # the request was out when the connection broke
        )

    def _pause_s(self, tries_left: int) -> float:
        tried = self._max_tries - tries_left - 1
        pause = min(self._first_pause_s * 2**tried, _LONGEST_PAUSE_S)
        return float(pause * random.uniform(0.75, 1.0))  # noqa: S311 - spreads retries, keeps no secret


def _usage(data: Mapping[str, Any]) -> Usage:
    # Here the cached tokens are a part of the prompt's; in our records they are counted apart.
    prompt = int(data.get("prompt_tokens") or 0)
    cached = int((data.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    return Usage(prompt - cached, int(data.get("completion_tokens") or 0), cache_read_tokens=cached)


def _error(response: httpx2.Response) -> dict[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, LookupError, TypeError):
        return {}
    return cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": str(error)}


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


def _asked_pause_s(response: httpx2.Response) -> float | None:
    try:
        asked = float(response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return min(max(asked, 0.0), _LONGEST_ASKED_PAUSE_S)
