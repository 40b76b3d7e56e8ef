"""``claude-cli:MODEL``: one reply of the user's logged-in Claude Code, without its tools and settings.

Owns the options and what the lines of ``--output-format stream-json`` mean. The client's own retries are off,
because they are ``limiter``'s. ``claude-cli:default`` asks the model that the client chooses.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, get_args

from loop_runner.errors import ModelError
from loop_runner.model.client import TryAgain, reported_usage
from loop_runner.model.providers import client_program, one_message
from loop_runner.model.providers.client_program import Ended, Lines
from loop_runner.records import Reply, Request, StopReason, Usage
from loop_runner.text import one_line

_SYSTEM_FILE = "system.md"
_OPTIONS = (
    *("-p", "--verbose", "--input-format", "stream-json", "--output-format", "stream-json"),
    # No tools, MCP servers, hooks, skills, memory or settings of the user and the folder; the login stays.
    *("--tools", "", "--strict-mcp-config", "--setting-sources", "", "--safe-mode", "--no-chrome"),
    *("--disable-slash-commands", "--no-session-persistence", "--system-prompt-file", _SYSTEM_FILE),
)
_QUIET = {
    "CLAUDE_CODE_MAX_RETRIES": "0",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
}
_NO_ACCOUNT = ("authentication_failed", "billing_error", "oauth_org_not_allowed")
_ENDS_RUN = (401, 402, 403)
_SLOW_DOWN = (429, 503, 529)
_TOO_LONG = "prompt is too long"


class ClaudeCliClient:
    """Starts the client once for each request. Several run at a time."""

    width = client_program.WIDTH

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self._label, self._model = f"claude-cli:{name}", () if name == "default" else ("--model", name)
        self._program = client_program.path_of("claude", env, "install Claude Code")
        self._env = env

    async def complete(self, request: Request) -> Reply:
        """The reply. Raises ``TryAgain`` for what may pass, ``ModelError`` for what will not."""
        message = one_message.of(request)
        limit = {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(request.max_output_tokens)}
        ended = await client_program.run(
            (self._program, *_OPTIONS, *self._model),
            env=client_program.environment(self._env, {**_QUIET, **limit}),
            stdin=_line(message.parts),
            files={_SYSTEM_FILE: message.system},
            label=self._label,
            is_last=_is_result,
        )
        return self._reply(ended)

    async def close(self) -> None:
        """Nothing is left open: a cancelled request ends its process."""

    def _reply(self, ended: Ended) -> Reply:
        result = next((event for event in ended.events if _is_result(event)), None)
        if result is None:
            raise self._without_result(ended)
        usage = _usage(result.get("usage"))
        if not result.get("is_error"):
            text = _text(ended.events) or _string(result.get("result"))
            return Reply(text, _stop_reason(result), usage, _model(ended.events))
        if _TOO_LONG in _string(result.get("result")).lower():
            return Reply("", "model_context_window_exceeded", usage)
        if (text := _text(ended.events)) and _fault(ended.events) == "max_output_tokens":
            return Reply(text, "max_tokens", usage, _model(ended.events))
        raise self._refused(result, ended.events, usage)

    def _without_result(self, ended: Ended) -> ModelError:
        message = f"{self._label}: the client gave no reply: {ended.last_error()}"
        if ended.exit_code is None or ended.exit_code < 0 or ended.events:
            return TryAgain(message, reason="the client gave no reply", paid=bool(ended.events))
        return ModelError(message, hint="update Claude Code: claude update")

    def _refused(self, result: Mapping[str, Any], events: Lines, usage: Usage) -> ModelError:
        status, fault, limit = result.get("api_error_status"), _fault(events), _limit(events)
        message = f"{self._label}: {one_line(_string(result.get('result')) or fault, 300)}"
        if status in _ENDS_RUN or fault in _NO_ACCOUNT:
            return ModelError(message, hint="log in: claude auth login", ends_run=True)
        if limit is not None or status in _SLOW_DOWN or fault == "rate_limit":
            reason = "the account's limit is reached" if limit is not None else "rate limit"
            hint = "wait until the limit of the account is reset, then: loop-runner resume"
            return TryAgain(message, reason=reason, hint=hint, is_throttle=True, asked_pause_s=limit or None)
        if status is None or status >= 500 or status in (408, 409):
            return TryAgain(message, reason=fault or "the client could not ask its provider", usage=usage)
        return ModelError(
            message, hint="check the name of the model; `claude-cli:default` is the client's own"
        )


def _line(parts: tuple[str, ...]) -> str:
    """The message as the client reads it: a block for each part, the last one the end of what is cached."""
    content: list[dict[str, Any]] = [{"type": "text", "text": part} for part in parts]
    content[-1]["cache_control"] = {"type": "ephemeral"}
    message = {"type": "user", "message": {"role": "user", "content": content}, "parent_tool_use_id": None}
    return json.dumps(message) + "\n"


def _is_result(event: Mapping[str, Any]) -> bool:
    return event.get("type") == "result"


def _messages(events: Lines) -> list[Mapping[str, Any]]:
    """What the model wrote, without what the client writes in its place."""
    selected = (event for event in events if event.get("type") == "assistant")
    written = (event.get("message") for event in selected if not event.get("is_api_error_message"))
    return [item for item in written if isinstance(item, dict) and item.get("model") != "<synthetic>"]


def _text(events: Lines) -> str:
    blocks = [block for message in _messages(events) for block in message.get("content") or ()]
    selected = (block for block in blocks if isinstance(block, dict) and block.get("type") == "text")
    return "".join(_string(block.get("text")) for block in selected)


def _model(events: Lines) -> str:
    return next((_string(message.get("model")) for message in _messages(events)), "")


def _fault(events: Lines) -> str:
    """The client's own word for what went wrong."""
    faults = (_string(event.get("error")) for event in events if event.get("type") == "assistant")
    return next(filter(None, faults), "")


def _limit(events: Lines) -> float | None:
    """Seconds until a limit of the account is reset (0: unknown); None when none was reached."""
    infos = (event.get("rate_limit_info") for event in events if event.get("type") == "rate_limit_event")
    rejected = [info for info in infos if isinstance(info, dict) and info.get("status") == "rejected"]
    if not rejected:
        return None
    resets_at = rejected[-1].get("resetsAt")
    return max(float(resets_at) - time.time(), 0.0) if isinstance(resets_at, int | float) else 0.0


def _stop_reason(result: Mapping[str, Any]) -> StopReason:
    given = result.get("stop_reason")
    return next((reason for reason in get_args(StopReason) if reason == given), "end_turn")


def _usage(given: object) -> Usage:
    usage = given if isinstance(given, dict) else {}
    names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return reported_usage(*(usage.get(name) for name in names))


def _string(value: object) -> str:
    return value if isinstance(value, str) else ""
