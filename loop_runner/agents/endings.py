"""Tells how a client's process ended, from its exit code, its output and what its hooks said before.

A client's exit code 0 does not mean that the work is done, nor that its stop hook was asked. What it says
of its spend is written down as what it says; nobody here can check it. Pure functions
over text; nothing here trusts a word of what the client printed for more than choosing a name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from loop_runner.records import Usage

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
    "block cap": "it ended although the stop hook blocked it (the client limits blocks, or another hook)",
    "hook did not run": "it ended without asking the stop hook",
    "api error": "its model's provider refused, or could not be reached",
    "permission denials": "it was refused tools that it asked for",
    "crash": "it ended with an error",
    "timed out": "it neither stopped nor ended for too long",
    "not started": "it could not be started",
}


@dataclass(frozen=True, slots=True)
class Reported:
    """What a client says that it spent with one model. ``usd`` None: it names no dollars."""

    usage: Usage
    usd: float | None = None
    model: str = ""  # as the client calls it; "" when it does not say


@dataclass(frozen=True, slots=True)
class Printed:
    """What a client printed, as far as its format is known."""

    text: str  # its last words
    is_error: bool = False
    is_api_error: bool = False
    denials: tuple[str, ...] = ()  # tools that it was refused
    session_id: str = ""
    spent: tuple[Reported, ...] = ()  # empty: it does not say


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
    printed: Printed, exit_code: int | None, *, hook_ran: bool, was_blocked: bool, timed_out: bool
) -> Ending:
    """``hook_ran``: it asked the hook at least once; ``was_blocked``: the last answer was no."""
    if exit_code is None:
        return "not started"
    if timed_out:
        return "timed out"
    if printed.is_api_error:
        return "api error"
    if exit_code != 0 or printed.is_error:
        return "crash"
    if hook_ran:
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
    names = [str(denial.get("tool_name", "?")) for denial in denials or () if isinstance(denial, dict)]
    is_error = data.get("is_error") is True
    return Printed(
        text=data["result"] if isinstance(data.get("result"), str) else "",
        is_error=is_error,
        is_api_error=is_error and data.get("terminal_reason") == "api_error",
        denials=tuple(dict.fromkeys(names)),
        session_id=str(data.get("session_id", "")),
        spent=_claude_spent(data),
    )


def _claude_spent(data: dict[str, Any]) -> tuple[Reported, ...]:
    """By model where the sums agree; ``usage`` leaves out what helpers of the agent's used."""
    total = _dollars(data.get("total_cost_usd"))
    by_model = data.get("modelUsage")
    reports = [
        Reported(_usage(report, _CLAUDE_MODEL_KEYS), _dollars(report.get("costUSD")), str(name)[:200])
        for name, report in (by_model.items() if isinstance(by_model, dict) else ())
        if isinstance(report, dict)
    ]
    if (
        reports
        and total is not None
        and abs(sum(report.usd or 0.0 for report in reports) - total) <= 1e-6 + total / 1000
    ):
        return tuple(reports)
    usage = data.get("usage")
    if total is None and not isinstance(usage, dict):
        return ()
    name = reports[0].model if len(reports) == 1 else ""
    return (Reported(_usage(usage if isinstance(usage, dict) else {}, _CLAUDE_KEYS), total, name),)


# input, output, read from the cache, written to it
_CLAUDE_KEYS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_CLAUDE_MODEL_KEYS = ("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens")


def _usage(data: dict[str, Any], keys: tuple[str, str, str, str]) -> Usage:
    return Usage(*(_count(data.get(key)) for key in keys))


def _count(value: object) -> int:
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 50
    return int(str(value)) if is_count else 0


def _dollars(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    dollars = float(str(value)) if is_number else -1.0
    return dollars if 0 <= dollars < math.inf else None


def _codex(objects: list[dict[str, Any]]) -> Printed:
    texts, failed, session = [], False, ""
    spent: tuple[Reported, ...] = ()
    for data in objects:
        usage = data.get("usage")
        if data.get("type") == "turn.completed" and isinstance(usage, dict):
            spent = (Reported(_codex_usage(usage)),)  # of the whole session so far
        item = data.get("item")
        if isinstance(item, dict) and item.get("type") == "agent_message":
            texts.append(str(item.get("text", "")))
        failed = data.get("type") == "turn.failed" or (failed and data.get("type") != "turn.completed")
        session = str(data.get("thread_id") or session)
    return Printed(texts[-1] if texts else "", failed, failed, (), session, spent)


def _codex_usage(data: dict[str, Any]) -> Usage:
    cached = _count(data.get("cached_input_tokens"))
    whole = _count(data.get("input_tokens"))
    return Usage(max(whole - cached, 0), _count(data.get("output_tokens")), min(cached, whole))
