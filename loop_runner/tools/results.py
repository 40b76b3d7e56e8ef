"""The result of a call as text, as the journal keeps it and the model's process reads it.

One JSON object with one key first: ``value`` (what the tool returned), ``error`` (why there is none) or
``unknown`` (the call may have been made, and nobody knows what came of it).
"""

from __future__ import annotations

import json
from typing import Any

from loop_runner.records import Reply

MAX_RESULT_BYTES = 16 * 1024 * 1024
MAX_ARGUMENT_BYTES = 1024 * 1024
_MAX_MESSAGE_CHARS = 4000


def value(result: Any, **more: Any) -> Reply:
    """What the tool returned. ``ValueError`` when it is no JSON or too large."""
    text = json.dumps({"value": result, **more}, ensure_ascii=False, allow_nan=False)
    if len(text) > MAX_RESULT_BYTES:
        raise ValueError(
            f"its result is {len(text):,} characters long, and at most {MAX_RESULT_BYTES:,} are taken"
        )
    return Reply(text)


def error(message: str) -> Reply:
    """Why there is no value."""
    return Reply(json.dumps({"error": _cut(message)}, ensure_ascii=False))


def unknown(message: str) -> Reply:
    """The call may have been made."""
    return Reply(json.dumps({"unknown": _cut(message)}, ensure_ascii=False))


def failed(message: str, *, is_idempotent: bool) -> Reply:
    """A call that began and did not end: only one that may be repeated simply failed."""
    return error(message) if is_idempotent else unknown(f"{message}; the call may have happened")


def _cut(message: str) -> str:
    message = message.encode("utf-8", "replace").decode()
    if len(message) <= _MAX_MESSAGE_CHARS:
        return message
    half = _MAX_MESSAGE_CHARS // 2
    return f"{message[:half]} […] {message[-half:]}"
