"""How a run ended, as one JSON object that every API of the service presents in its own words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import loop_runner as lr

_NO_USAGE = {"input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0}


def of_run(folder: Path, report: Mapping[str, Any]) -> dict[str, Any]:
    """The end of the run in ``folder``; ``report`` is the JSON object that its last process wrote.

    ``status`` is that of the result, or ``failed`` (an error ended it), or ``crashed`` (nothing tells).
    """
    if report.get("status") == "error":
        return _failed(report)
    try:
        return _of(lr.open(folder).wait(timeout=0))
    except TimeoutError:
        return without_result("crashed", "another process has taken it over")
    except (lr.LoopRunnerError, OSError) as error:
        return without_result("crashed", str(error).splitlines()[0])


def _of(result: lr.Result) -> dict[str, Any]:
    spend = result.spend
    return {
        **result.to_dict(),
        "passes": spend.passes,
        "turns": spend.turns,
        "seconds": round(spend.seconds, 3),
    }


def _failed(report: Mapping[str, Any]) -> dict[str, Any]:
    """The end by an error; ``exit_code`` tells a wrong request (2) from a fault of machine or provider."""
    # Further lines of the hint are commands for someone at the server.
    words = [str(report.get(key, "")).partition("\n")[0] for key in ("message", "hint")]
    end = without_result("failed", "; ".join(word for word in words if word))
    return {**end, "exit_code": report.get("exit_code", 5)}


def without_result(status: str, reason: str) -> dict[str, Any]:
    """An end without an answer."""
    return {
        "status": status,
        "verified": False,
        "answer": "",
        "reason": reason,
        "verdicts": [],
        "citations": [],
        "usage": dict(_NO_USAGE),
        "cost": None,
        "commit": "",
        "passes": 0,
        "turns": 0,
        "seconds": 0.0,
    }
