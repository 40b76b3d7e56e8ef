"""Tool calls as text and back: a reply is one text everywhere, whatever shape the provider gave it.

Owns the one tool that a root model may be offered, and the fence that stands for a call of it in
``Reply.text`` and ``reply.md``:

    ```repl tool=toolu_01
    print(len(context))
    ```

The fence reads as code, shows the call's ids, and is turned back into the provider's blocks, byte for byte
the same, when the conversation is sent again. Relies on nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

TOOL = "repl"
DESCRIPTION = "Run Python code in the persistent REPL. What it prints comes back. One call in a turn."
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python code"}},
    "required": ["code"],
    "additionalProperties": False,
}

_CODE_KEYS = ("code", "source", "python", "script", "command", "input")
_CODE_TOOLS = frozenset(
    {TOOL, "python", "python3", "code", "code_interpreter", "execute", "execute_python", "run"}
)
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_OPENING = re.compile(r"(`{3,})repl tool=([A-Za-z0-9_,-]{1,600})")
_BACKTICKS = re.compile(r"`{3,}")
_TOGETHER = "pass  # ran together with the call before"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call as a provider gives it; ``arguments`` is what it parsed to, or the text that did not parse."""

    id: str
    name: str
    arguments: Mapping[str, Any] | str


@dataclass(frozen=True, slots=True)
class SpokenCall:
    """What a message's text says: prose, then code with the ids of the calls that it answers for."""

    prose: str
    ids: tuple[str, ...]
    code: str

    def codes(self) -> tuple[tuple[str, str], ...]:
        """(id, code) of each call; the first has all the code."""
        return tuple((call_id, _TOGETHER if at else self.code) for at, call_id in enumerate(self.ids))


def as_text(prose: str, calls: Sequence[ToolCall]) -> str:
    """``prose`` and the code of ``calls`` as one text; calls that hold no code are shown as JSON."""
    with_code = [(call, code) for call in calls if (code := _code(call)) is not None]
    others = [call for call in calls if _code(call) is None]
    parts = [prose.strip("\n")] if prose.strip() else []
    parts += [json.dumps({"name": call.name, "arguments": call.arguments}, default=dict) for call in others]
    if with_code:
        code = "\n".join(part for _, part in with_code)
        ids = [call.id for call, _ in with_code]
        mark = f" tool={','.join(ids)}" if all(map(_ID.fullmatch, ids)) else ""
        ticks = "`" * (max(map(len, _BACKTICKS.findall(code)), default=2) + 1)
        parts.append(f"{ticks}{TOOL}{mark}\n{code}\n{ticks}")
    return "\n\n".join(parts)


def spoken(text: str) -> SpokenCall | None:
    """The call that a message's text ends with, or None for one that is only text."""
    *lines, ticks = text.rstrip().split("\n")
    if len(ticks) < 3 or ticks.strip("`"):
        return None
    # From the end, so that the time does not depend on how many fences a model writes.
    for at in reversed(range(len(lines))):
        opening = _OPENING.fullmatch(lines[at])
        if opening is not None and opening[1] == ticks:
            ids = tuple(dict.fromkeys(part for part in opening[2].split(",") if part))
            return (
                SpokenCall("\n".join(lines[:at]).strip("\n"), ids, "\n".join(lines[at + 1 :]))
                if ids
                else None
            )
        if lines[at].startswith(ticks):
            return None
    return None


def _code(call: ToolCall) -> str | None:
    arguments = call.arguments
    if isinstance(arguments, str):  # not JSON: small models write the bare code
        return arguments if call.name.lower() in _CODE_TOOLS and arguments.strip() else None
    for key in _CODE_KEYS:
        if isinstance(code := arguments.get(key), str) and code.strip():
            return code
    return None
