"""Tells how a client's process ended, from its exit code, its output and what its hooks said before.

A client's exit code 0 does not mean that the work is done, nor that its stop hook was asked. Pure functions
over text; nothing here trusts a word of what the client printed for more than choosing a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Ending = Literal[
    "done",  # the hook let it end, and it ended
    "block cap",  # the hook said no, and the client ended all the same
    "hook did not run",  # it ended without asking
    "api error",  # its provider refused or was unreachable
    "permission denials",  # it ended without asking, and was refused tools before
    "crash",  # a signal, or an exit code that is not 0
    "timed out",  # it did nothing for too long and was stopped
    "not started",  # there is no such program
]

REASONS: dict[Ending, str] = {
    "done": "the stop hook let it end",
    "block cap": "it ended although the stop hook said no (a limit of the client on blocks, or another hook)",
    "hook did not run": "it ended without asking the stop hook",
    "api error": "its model's provider refused, or could not be reached",
    "permission denials": "it was refused tools that it asked for",
    "crash": "it ended with an error",
    "timed out": "it neither stopped nor ended for too long",
    "not started": "it could not be started",
}


@dataclass(frozen=True, slots=True)
class Printed:
    """What a client printed, as far as its format is known."""

    text: str  # its last words
    is_error: bool = False
    is_api_error: bool = False
    denials: tuple[str, ...] = ()  # tools that it was refused
    session_id: str = ""


def read(output: str) -> Printed:
    """Claude's ``json`` and ``stream-json``, Codex's ``--json``, or plain text."""
    objects = list(_objects(output))
    for data in reversed(objects):
        if data.get("type") == "result":
            return _claude(data)
    if any(str(data.get("type", "")).startswith(("thread.", "turn.", "item.")) for data in objects):
        return _codex(objects)
    return Printed(output.strip())


def name(
    printed: Printed, exit_code: int | None, *, was_asked: bool, was_blocked: bool, timed_out: bool
) -> Ending:
    """``was_asked``: it asked the hook at least once; ``was_blocked``: the last answer was no."""
    if exit_code is None:
        return "not started"
    if timed_out:
        return "timed out"
    if printed.is_api_error:
        return "api error"
    if exit_code != 0 or printed.is_error:
        return "crash"
    if was_asked:
        return "block cap" if was_blocked else "done"
    return "permission denials" if printed.denials else "hook did not run"


def _objects(output: str) -> Iterable[dict[str, Any]]:
    """Each line that is a JSON object, or the whole output if it is one."""
    for part in (output, *output.splitlines()):
        if not part.lstrip().startswith("{"):
            continue
        try:
            data = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(data, dict):
            yield data
            if part is output:
                return


def _claude(data: dict[str, Any]) -> Printed:
    denials = data.get("permission_denials")
    names = [str(each.get("tool_name", "?")) for each in denials or () if isinstance(each, dict)]
    is_error = data.get("is_error") is True
    return Printed(
        text=data["result"] if isinstance(data.get("result"), str) else "",
        is_error=is_error,
        is_api_error=is_error and data.get("terminal_reason") == "api_error",
        denials=tuple(dict.fromkeys(names)),
        session_id=str(data.get("session_id", "")),
    )


def _codex(objects: list[dict[str, Any]]) -> Printed:
    texts, failed, session = [], False, ""
    for data in objects:
        item = data.get("item")
        if isinstance(item, dict) and item.get("type") == "agent_message":
            texts.append(str(item.get("text", "")))
        failed = data.get("type") == "turn.failed" or (failed and data.get("type") != "turn.completed")
        session = str(data.get("thread_id") or session)
    return Printed(texts[-1] if texts else "", failed, failed, (), session)
