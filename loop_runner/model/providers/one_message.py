"""A conversation as one message, for a program that takes a prompt and keeps no conversation.

Owns the marks around the model's earlier replies. What was sent before is never changed, only added to, so
that a provider finds the beginning in its cache. No text of an input can contain the mark of its own prompt.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from loop_runner.model.client import sendable
from loop_runner.records import Request

_RULE = (
    "The conversation so far comes as one message. Your earlier replies are inside <{mark}> elements; what "
    "follows each of them is the answer to it. Write your next reply only, without such an element."
)
_TEXT_ONLY = "You have no tools here: reply with text only."
_SCHEMA = "Reply with one JSON value that fits this JSON schema, and with nothing else:\n{schema}"


@dataclass(frozen=True, slots=True)
class OneMessage:
    """What a program is given for a request: instructions, and the parts of one message in their order."""

    system: str
    parts: tuple[str, ...]


def of(request: Request) -> OneMessage:
    """``request`` for a program without conversations."""
    mark = _mark(request)
    parts = [
        sendable(message.text) if message.role == "user" else f"<{mark}>\n{sendable(message.text)}\n</{mark}>"
        for message in request.messages
    ]
    if request.schema is not None:
        parts.append(_SCHEMA.format(schema=json.dumps(dict(request.schema), ensure_ascii=False)))
    # The rule is there from the first turn on: the instructions of a conversation never change.
    rule = _RULE.format(mark=mark) if request.is_conversation or len(parts) > 1 else ""
    return OneMessage("\n\n".join(filter(None, (sendable(request.system), rule, _TEXT_ONLY))), tuple(parts))


def _mark(request: Request) -> str:
    """The same in every turn of a conversation. It is a hash of the beginning, which cannot contain it."""
    beginning = f"{request.system}\0{request.messages[0].text if request.messages else ''}"
    return f"reply-{hashlib.sha256(sendable(beginning).encode()).hexdigest()[:12]}"
