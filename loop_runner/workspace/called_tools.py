"""What the record says of the calls of tools."""

from __future__ import annotations

from collections.abc import Sequence

from loop_runner.records import Call

TOOLS_FILE = "tools.json"  # of the run folder: what ``tools.spec`` writes
_UNKNOWN = '{"unknown":'  # begins the result of a call that may have been made


def is_made(call: Call) -> bool:
    """Whether this is a call of a tool whose result is recorded."""
    return call.kind == "tool" and not call.is_lost


def is_unknown(call: Call) -> bool:
    """Whether this is a call of a tool that may have been made, and of which no result is known."""
    return call.kind == "tool" and (call.is_lost or call.reply.text.startswith(_UNKNOWN))


def counts(calls: Sequence[Call]) -> dict[str, int]:
    """How many tools were called, and how many calls have no result; empty for a turn without any."""
    result = {"tool_calls": sum(map(is_made, calls)), "unknown": sum(map(is_unknown, calls))}
    return {name: count for name, count in result.items() if count}
