"""What a user's settings add to a run: notifications, spans, and the limit on spending per day.

Puts them together at the start of a run, from the task, the user's file and the caller. A replay has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner.errors import ConfigError
from loop_runner.events import Event, Listener
from loop_runner.model import prices
from loop_runner.records import Usage
from loop_runner.runs import notify, now, preferences, trust
from loop_runner.runs.context import RunContext
from loop_runner.runs.rolling import DailyLimit
from loop_runner.task.config import Task
from loop_runner.workspace.history import History

if TYPE_CHECKING:
    from loop_runner.runs.tracing import Spans


def check(task: Task, env: Mapping[str, str]) -> None:
    """Raise ``ConfigError`` for settings or targets that cannot work, before anything is created."""
    targets = notify.parsed(task.notify)
    if absent := notify.missing(targets, env):
        raise ConfigError(
            f"`notify` names the variable {absent[0]}, which is not set",
            why="nobody would be notified",
            hint=f"export {absent[0]}=..., or remove the target",
        )
    own = preferences.of_user(env)
    if own.get("spend.usd_per_day") is not None:
        _refuse_unpriced(task)


def _refuse_unpriced(task: Task) -> None:
    price = prices.with_rates(task.prices)
    named = (task.model, task.sub_model, *task.sub_models, *task.no_progress.models)
    if unknown := [model for model in dict.fromkeys(named) if model and price(model, Usage(1, 1)) is None]:
        raise ConfigError(
            f"spend.usd_per_day is set, and there is no known price for {', '.join(unknown)}",
            why="a limit in dollars that cannot be added up would never be reached",
            hint=f"give the rate per million tokens: prices: {{{unknown[0]!r}: {{input: 1.0, output: 5.0}}}}",
        )


def daily_limit(env: Mapping[str, str]) -> DailyLimit | None:
    """The limit that the user set for all runs; None without one."""
    usd = preferences.of_user(env).get("spend.usd_per_day")
    return None if usd is None else DailyLimit(trust.state_folder(env), usd)


@contextmanager
def watched(task: Task, folder: Path, context: RunContext, history: History) -> Iterator[RunContext]:
    """``context`` with what sends messages and spans among its listeners, where the user asked for either.

    A run whose last process ended without a word is reported as crashed.
    """
    listeners: list[Listener] = []
    own = preferences.of_user(context.env).get("notify", ())
    if targets := tuple(dict.fromkeys((*notify.parsed(task.notify), *own, *context.notify))):
        notifier = notify.Notifier(str(folder), targets, context.env)
        listeners.append(notifier)
        if now.last_end(history) == ("", ""):
            notifier.crashed()
    spans = _spans(context)
    try:
        listeners += [] if spans is None else [spans]
        yield replace(context, listeners=(*context.listeners, *listeners)) if listeners else context
    finally:
        if spans is not None:
            spans.close()


def _spans(context: RunContext) -> Spans | None:
    """What sends spans, where the environment names a collector."""
    from loop_runner.runs import tracing

    if not tracing.is_wanted(context.env):
        return None
    why = tracing.missing()
    try:
        return None if why else tracing.Spans(context.env)
    except Exception as error:  # noqa: BLE001 - another package's code: a run does not depend on it
        why = f"{type(error).__name__}: {error}"
    finally:
        for listener in context.listeners if why else ():
            listener(Event("notice", f"no spans are sent to the collector: {why}"))
    return None
