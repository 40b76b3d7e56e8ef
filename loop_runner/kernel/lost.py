"""Lost variables: as a start of the kernel lists them, and in older records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from loop_runner.records import Variable

_RERUN = "; if the kernel has to be started again, the cells that made it are run again"


def as_lost(variable: Variable) -> Variable:
    """``variable``, or its lost form where an earlier version would have recreated it by running cells."""
    if variable.status != "replay":
        return variable
    return replace(variable, status="lost", reason=variable.reason.removesuffix(_RERUN))


def row(variable: Variable) -> dict[str, Any]:
    """The row of a variable that a restart loses: its value is gone, so only its name is known."""
    return {
        "name": variable.name,
        "type": "?",
        "size": 0,
        "preview": "",
        "status": "lost",
        "reason": variable.reason,
        "blob": -1,
    }
