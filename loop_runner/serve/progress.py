"""What a person reads of a run while it works: one line per event, or none. Events come from its trace."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_ENDS = {
    "ok": "ran",
    "raised": "raised an error, which the model sees",
    "timed_out": "was stopped at its time limit",
    "died": "killed the kernel, which was restarted",
}
_MAX_CHARS = 300
_READ_BYTES = 1 << 18


class Trace:
    """The events of a run from ``since`` on, read as they are written. Keeps its place, and nothing else."""

    def __init__(self, path: str, since: int = 0) -> None:
        self._path, self._since = path, since
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """The next events: some, or none if there are none yet. A line that is being written comes later."""
        try:
            with open(self._path, "rb") as file:  # noqa: PTH123
                file.seek(self._offset)
                data = file.read(_READ_BYTES)
                if b"\n" not in data and len(data) == _READ_BYTES:
                    data += file.readline()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        result = [event for line in whole.splitlines() if (event := _event(line)) is not None]
        return [event for event in result if event["seq"] > self._since]


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        result = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return result if isinstance(result, dict) and isinstance(result.get("seq"), int) else None


def line_of(event: Mapping[str, Any]) -> str:
    """One line about an event; "" where a person need not know of it."""
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    place = f"pass {event.get('pass')}"
    text = _one_line(event.get("text"))
    match event.get("kind"):
        case "run_started":
            return f"model {data.get('model')}, {data.get('texts')} texts"
        case "turn_started":
            return f"{place} turn {event.get('turn')}: asking the model"
        case "cell_finished":
            return f"{place} turn {event.get('turn')}: the code {_ENDS.get(str(data.get('end')), 'ended')}"
        case "subcalls_progress" if data.get("out"):
            return f"{place}: {data.get('answered')} sub-calls answered, {data.get('out')} to go"
        case "verifying":
            return f"{place}: verifying"
        case "pass_ended":
            why = f": {text}" if data.get("outcome") != "accepted" and text else ""
            return f"{place}: {data.get('outcome')}{why}"
        case "retried" | "notice":
            return text
    return ""


def _one_line(text: object) -> str:
    words = " ".join(str(text or "").split())
    return words if len(words) <= _MAX_CHARS else f"{words[:_MAX_CHARS]}…"
