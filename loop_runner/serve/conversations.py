"""Splits the messages of a request into the question, what came before it, and the instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_runner.serve import contents
from loop_runner.serve.fault import bad
from loop_runner.serve.questions import Attached

_SYSTEM = ("system", "developer")


@dataclass
class Conversation:
    """The last user message is the question; the rest is context."""

    question: str = ""
    instructions: list[str] = field(default_factory=list)
    earlier: list[tuple[str, str]] = field(default_factory=list)
    attached: list[Attached] = field(default_factory=list)


def split(messages: Sequence[Mapping[str, Any]], where: str) -> Conversation:
    """Split messages with ``role`` and ``content``; `Fault` when no user message has a text."""
    conversation = Conversation()
    for number, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise bad(f"`{where}[{number}].role` must be a text", where)
        text, files = contents.read(message.get("content"), f"{where}[{number}].content")
        conversation.attached += files
        if role in _SYSTEM:
            conversation.instructions += [text] if text else []
        else:
            conversation.earlier.append((role, text))
    requests = [at for at, (role, text) in enumerate(conversation.earlier) if role == "user" and text.strip()]
    if not requests:
        raise bad(f"`{where}` has no user message with a text: the last one is the question", where)
    conversation.question = conversation.earlier.pop(requests[-1])[1]
    return conversation
