"""Knows which command continues a run, for the way in which it ended.

Every line is a command that can be typed as it is, with its paths quoted; words behind ``#`` are for the
reader, and a shell ignores them. Relies on what is committed and on the flags of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner.budget import Budget
from loop_runner.errors import LoopRunnerError, ModelError
from loop_runner.loop.stalling import NO_PROGRESS
from loop_runner.model import prices
from loop_runner.records import Outcome, Spend
from loop_runner.runs import origin
from loop_runner.runs.amounts import frozen_limits
from loop_runner.task import config
from loop_runner.text import shell
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIXED = "  # once what it names is fixed"


@dataclass(frozen=True, slots=True)
class Given:
    """The options of this ``resume`` alone, which the next command has to repeat."""

    settings: tuple[tuple[str, Any], ...] = ()  # dotted key and value
    inputs: Path | None = None


NOTHING = Given()


def after(outcome: Outcome, folder: Path, given: Given = NOTHING) -> list[str]:
    """What to type after a run that ended in ``outcome``."""
    with History(folder) as history:
        return for_state(history, outcome.status, outcome.reason, given)


def for_state(history: History, state: str, reason: str, given: Given = NOTHING) -> list[str]:
    """What to type for a run in ``state`` (a ``RunStatus``, ``crashed``, ``failed`` or ``cancelled``)."""
    folder = history.folder
    log = shell("loop-runner", "log", folder)
    if state == "verified":
        first = min((entry.checkpoint.pass_number for entry in history.passes()), default=0)
        return [shell("loop-runner", "show", folder, first), log] if first else [log]
    if state == "running":
        return [shell("loop-runner", "log", folder, "--follow")]
    if state == "blocked":
        return [f"{_resume(history, given)}  # once what is missing is there", log]
    if state == "broken":
        return [_resume(history, given, _accepting(history)) + _FIXED, log]
    if state == "cancelled":
        return [f"{shell('rm', folder / 'STOP')} && {_resume(history, given)}", log]
    if state == "unverified":
        return [_resume(history, _with_room(history, reason, given)), log]
    return [_resume(history, given), log]


def after_error(
    error: LoopRunnerError, folder: Path, env: Mapping[str, str], given: Given = NOTHING
) -> list[str]:
    """What to type after ``error`` ended a run; nothing where the folder holds no run."""
    if not (folder / ".git").is_dir():
        return []
    with History(folder) as history:
        lines = [_resume(history, given) + _FIXED]
        if isinstance(error, ModelError) and (model := _other_model(history, given, env)):
            kept = tuple((key, value) for key, value in given.settings if key not in ("model", "sub_model"))
            lines.append(_resume(history, Given((*kept, ("model", model)), given.inputs)))
        return lines


def _other_model(history: History, given: Given, env: Mapping[str, str]) -> str:
    """The model that this machine offers by itself, where the run asks another one."""
    from loop_runner.model import registry

    try:
        offered = registry.default_model(env)
    except LoopRunnerError:
        return ""
    return "" if offered == _task(history, given).model else offered


def _accepting(history: History) -> str:
    """The flag that takes the checks as they are now: they are pinned, so a repaired one is another one."""
    source = origin.of_run(history.folder, history.read)
    return "--retask" if source is not None and source.file.is_file() else "--repin"


def _resume(history: History, given: Given, *flags: str) -> str:
    words: list[str] = ["loop-runner", "resume", str(history.folder), *flags]
    for key, value in given.settings:
        words += ["--set", f"{key}={_as_yaml(value)}"]
    if given.inputs is not None:
        words += ["--inputs", str(given.inputs)]
    return shell(*words)


def _as_yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────


def _with_room(history: History, reason: str, given: Given) -> Given:
    """``given`` with every limit raised that would end the run again at once."""
    task = _task(history, given)
    spent = _spent(history, task)
    raised = dict(raised_limits(task.budget, spent))
    if reason.startswith(NO_PROGRESS):
        raised["no_progress.passes"] = max(2 * task.no_progress.passes, spent["passes"] + 1, 2)
    kept = tuple((key, value) for key, value in given.settings if key not in raised)
    return Given((*kept, *raised.items()), given.inputs)


def _task(history: History, given: Given) -> config.Task:
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
        settings = (*frozen_limits(history.folder, history.read), *given.settings)
        return config.parse_task(source, label="task.yaml", base_dir=history.folder, overrides=settings)


def _spent(history: History, task: config.Task) -> Mapping[str, float]:
    """What counts for each limit, by its key."""
    spend, dropped = history.spend(prices.with_rates(task.prices)), history.dropped()
    both: Sequence[Spend] = (spend, dropped, history.unmet(prices.with_rates(task.prices)))
    tokens_out = sum(part.usage.output_tokens for part in both)
    tokens = sum(part.usage.total_tokens for part in both)
    return {
        "passes": spend.passes,
        "tokens": tokens,
        "tokens_in": tokens - tokens_out,
        "tokens_out": tokens_out,
        "usd": sum(part.usd or part.known_usd or 0.0 for part in both),
        "wall": sum(part.seconds for part in both),
        "subcalls": sum(part.subcalls for part in both),
    }


def raised_limits(budget: Budget, spent: Mapping[str, float]) -> Iterator[tuple[str, Any]]:
    """A value for each limit of ``budget`` that is reached, twice what is spent."""
    for key, used in spent.items():
        limit = budget.wall_s if key == "wall" else getattr(budget, key)
        if limit is None or used < limit:
            continue
        twice = 2 * max(used, limit)
        if key == "usd":
            yield f"budget.{key}", round(max(twice, 0.01), 4)
        else:
            yield f"budget.{key}", max(round(twice + 0.5), 1)
