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
    found = Conversation()
    for number, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise bad(f"`{where}[{number}].role` must be a text", where)
        text, files = contents.read(message.get("content"), f"{where}[{number}].content")
        found.attached += files
        if role in _SYSTEM:
            found.instructions += [text] if text else []
        else:
            found.earlier.append((role, text))
    asked = [at for at, (role, text) in enumerate(found.earlier) if role == "user" and text.strip()]
    if not asked:
        raise bad(f"`{where}` has no user message with a text: the last one is the question", where)
    found.question = found.earlier.pop(asked[-1])[1]
    return found
