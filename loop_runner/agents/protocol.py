"""What five agent clients send to a stop hook and what they want back, told apart by the payload.

Owns the field names of every client and the portable answer. Imports the standard library only: this is on
the way of every stop of every session of the user, active loop or not. Never raises for what it is sent.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

PORTABLE_KEYS = ("decision", "reason", "continue", "stopReason", "suppressOutput", "systemMessage")
"""What Claude Code and Codex both take; Codex ends the turn for any other key."""

CLIENTS = ("claude", "codex", "gemini", "cursor", "copilot")


class Event(NamedTuple):
    """One message of a client to a hook."""

    client: str  # one of CLIENTS
    kind: str  # "stop", "start" (of a session) or "other", which is never answered with a block
    session_id: str  # "" when the client names none
    cwd: str
    last_message: str | None  # None: the client does not say
    is_continuing: bool  # it continues because a hook blocked before; unreliable


class Decision(NamedTuple):
    """What the hook answers. ``reason`` None: the client may end. ``notice`` is for the person only."""

    reason: str | None = None
    notice: str = ""


ALLOW = Decision()


def read(payload: bytes) -> Event | None:
    """The event in ``payload``; None when it is not one of a client that we know."""
    try:
        data = json.loads(payload.decode("utf-8-sig", "replace"))  # Cursor may begin with a byte order mark
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    client = _client(data)
    if client is None:
        return None
    return Event(
        client,
        _kind(client, data),
        _text(data, "session_id", "sessionId", "conversation_id") or "",
        _text(data, "cwd") or "",
        _text(data, "last_assistant_message", "prompt_response"),
        data.get("stop_hook_active") is True or _is_positive(data.get("loop_count")),
    )


def write(client: str, decision: Decision) -> dict[str, str]:
    """What ``client`` is to read on standard output; ``{}`` lets it end."""
    if decision.reason is None:
        has_notice = decision.notice and client in {"claude", "codex", "gemini"}
        return {"systemMessage": decision.notice} if has_notice else {}
    reason = decision.reason or "The work is not accepted yet."  # Codex fails open for an empty reason
    if client == "cursor":
        return {"followup_message": reason}
    answer = {"decision": "deny" if client == "gemini" else "block", "reason": reason}
    if decision.notice and client in {"claude", "codex", "gemini"}:
        answer["systemMessage"] = decision.notice
    return answer


def _client(data: dict[str, Any]) -> str | None:
    name = data.get("hook_event_name")
    if name == "AfterAgent":
        return "gemini"
    if "loop_count" in data or "conversation_id" in data:
        return "cursor"
    if ("sessionId" in data and "stopReason" in data) or ("session_id" in data and "stop_reason" in data):
        return "copilot"
    if name in {"Stop", "SubagentStop"}:
        return "codex" if "turn_id" in data and "model" in data else "claude"
    if name == "SessionStart":
        return "claude"
    return None


def _kind(client: str, data: dict[str, Any]) -> str:
    if data.get("hook_event_name") == "SessionStart":
        return "start"
    if data.get("hook_event_name") == "SubagentStop" or "agent_id" in data:
        return "other"  # a part of the session ends, not the session
    if client == "cursor" and data.get("status", "completed") != "completed":
        return "other"  # the person pressed stop, or the request failed: no reason to go on by itself
    return "stop"


def _text(data: dict[str, Any], *names: str) -> str | None:
    return next((data[name] for name in names if isinstance(data.get(name), str)), None)


def _is_positive(value: object) -> bool:
    return isinstance(value, int) and value > 0
