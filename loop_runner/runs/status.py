"""Where a run is: its state with the reason, what it spent, its answer, and what is under way.

Reads the run folder without its lock, also while another process continues it. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loop_runner import text
from loop_runner.errors import EnvironmentFault, LoopRunnerError
from loop_runner.model import prices
from loop_runner.records import Spend
from loop_runner.runs import now, standing
from loop_runner.task import config
from loop_runner.verify import proven
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)  # its files say what no file of loop-runner says
_MAX_REASON_CHARS = 200


@dataclass(frozen=True, slots=True)
class Status:
    """A run at this moment. ``state`` is one of those in docs/json.md; ``steps`` are commands to continue it.

    ``different`` names what is no longer as it was verified; ``under_way`` is None unless it is running.
    ``dropped`` was spent before a rewind, ``uncommitted`` since the last commit.
    """

    folder: Path
    state: str
    reason: str = ""
    steps: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    pid: int | None = None
    pass_number: int = 0
    turn: int = 0
    answer: str = ""
    in_flight: int = 0
    unknown_calls: tuple[str, ...] = ()  # of tools: they may have happened, and no result is known
    under_way: Mapping[str, Any] | None = None
    spend: Spend = field(default_factory=lambda: Spend(usd=None))
    dropped: Spend = field(default_factory=Spend)
    uncommitted: Spend = field(default_factory=Spend)


def of_run(folder: Path) -> Status:
    """The status of the run in ``folder``."""
    with History(folder) as history:
        head, running = history.head(), history.running()
        task = _task(history)
        price = prices.with_rates(task.prices)
        spend = history.spend(price)
        at = standing.of_run(history, head, task, spend.passes)
        different = tuple(proven.state_faults(history)) if at.state == "verified" else ()
        return Status(
            folder,
            "different" if different else at.state,
            reason=at.reason,
            steps=at.steps,
            different=different,
            pid=running.pid if running else None,
            pass_number=head.pass_number,
            turn=head.turn,
            answer=history.answer().content,
            in_flight=history.in_flight(),
            unknown_calls=_unknown_calls(history),
            under_way=now.of_run(history) if running else None,
            spend=spend,
            dropped=history.dropped(),
            uncommitted=history.unmet(price),
        )


def _unknown_calls(history: History) -> tuple[str, ...]:
    """Each as it was called."""
    calls = history.unknown_tool_calls()
    return tuple(
        text.one_line(f"{call.model.removeprefix('tool:')}({call.prompt})", _MAX_REASON_CHARS)
        for call in calls
    )


def of_any(folder: Path) -> Status:
    """The status of one run among others: one that cannot be read does not hide the rest."""
    try:
        return of_run(folder)
    except EnvironmentFault:
        raise  # no git: none of them can be read
    except LoopRunnerError as error:
        reason = error.message
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
    return Status(folder, "unreadable", text.one_line(reason, _MAX_REASON_CHARS))


def _task(history: History) -> config.Task:
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
        return config.parse_task(source, label="task.yaml", base_dir=history.folder)
