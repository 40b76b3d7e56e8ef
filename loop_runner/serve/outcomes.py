"""How the state of a run looks in every API: the ``loop_runner`` object, the headers, and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loop_runner.serve.fault import Fault
from loop_runner.serve.supervisor import Tracked

ANSWERED = frozenset({"verified", "unverified", "blocked"})  # ends that have an answer, verified or not
_SHOWN = (
    *("status", "verified", "reason", "commit", "verdicts", "citations", "cost"),
    *("passes", "turns", "seconds"),
)


def about(run: Tracked) -> dict[str, Any]:
    """The ``loop_runner`` object: what the run's status is, and what supports it."""
    if run.end is None:
        return {"run": run.record.id, "status": run.status, "verified": False}
    return {"run": run.record.id} | {key: run.end.get(key) for key in _SHOWN}


def headers(run: Tracked, *, is_replayed: bool = False) -> dict[str, str]:
    """The headers that every response about a run carries."""
    result = {
        "x-loop-runner-run": run.record.id,
        "x-loop-runner-status": run.status,
        "x-loop-runner-commit": str((run.end or {}).get("commit", "")),
    }
    return result | ({"idempotency-replayed": "true"} if is_replayed else {})


def fault_of(run: Tracked) -> Fault | None:
    """The error that an ended run is; None for one with an answer."""
    end = run.end or {}
    status = str(end.get("status", ""))
    if status in ANSWERED:
        return None
    number, code = _number_and_code(status, end)
    message = f"{_WORDS.get(status, 'the run ended without an answer')}: {end.get('reason', '')}"
    return Fault(number, code, message, headers=headers(run), extra={"loop_runner": about(run)})


def _number_and_code(status: str, end: Mapping[str, Any]) -> tuple[int, str]:
    if status == "failed" and end.get("exit_code") == 2:
        return 400, "invalid_run"
    return _CODES.get(status, (500, "run_crashed"))


_CODES = {
    "broken": (502, "gate_broken"),
    "failed": (502, "run_failed"),
    "cancelled": (409, "run_cancelled"),
    "crashed": (500, "run_crashed"),
}
_WORDS = {
    "broken": "a verifier could not be run, so the answer was not judged",
    "failed": "an error ended the run",
    "cancelled": "the run was cancelled",
    "crashed": "the run's process ended without a word",
}


def usage(end: Mapping[str, Any]) -> tuple[int, int, int]:
    """Tokens in (all of them), of these from a cache, and out."""
    counts = end.get("usage") or {}
    cached = int(counts.get("cache_read_tokens", 0))
    total = int(counts.get("input_tokens", 0)) + cached + int(counts.get("cache_write_tokens", 0))
    return total, cached, int(counts.get("output_tokens", 0))


def pieces(text: str, size: int = 2000) -> list[str]:
    """``text`` in pieces, as a stream sends it."""
    return [text[at : at + size] for at in range(0, len(text), size)]
