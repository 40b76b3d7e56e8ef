"""Limits that the operator changes while a run is under way: read, checked, and kept in ``budget.json``.

A change sets a limit (``20``) or adds to it (``+5``). ``budget.json`` in the run folder holds the limits that
were changed, as a task file writes them; they hold for every later start of the run, and in a fork.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from loop_runner import keys
from loop_runner.budget import Budget, Ledger
from loop_runner.errors import ConfigError
from loop_runner.keys import BadValueError
from loop_runner.text import plural

PATH = "budget.json"
Changes = Mapping[str, Mapping[str, float]]
"""A limit's name → ``{"set": amount}`` or ``{"add": amount}``."""

# Those that a run can take up at its next turn; what child sessions may do was settled when it began.
NAMES = ("passes", "turns", "tokens", "tokens_in", "tokens_out", "usd", "wall", "subcalls", "tool_calls")
_FIELDS = {"wall": "wall_s"}
_ADDED = re.compile(r"\+(.+)", re.DOTALL)


def changes(given: Mapping[str, Any]) -> Changes:
    """What ``given`` changes: a number, a text such as ``"20"``, ``"2h"``, or ``"+5"`` to add.

    Raises ``ConfigError`` for an unknown limit and for an amount that the limit cannot take.
    """
    result = {name: _change(name, value) for name, value in given.items() if value is not None}
    if not result:
        raise ConfigError(
            "no limit is named",
            why="a change of the budget has to say which limit changes",
            hint=f"name one or more: {', '.join(f'--{_flag(name)}' for name in NAMES)}",
        )
    return result


def changed(budget: Budget, wanted: Changes, spent: Mapping[str, float]) -> Budget:
    """``budget`` with the changes ``wanted``. ``spent`` is what is used of each limit, by its field.

    Raises ``ConfigError`` when a limit would be below what is spent, or has nothing to add to.
    """
    values: dict[str, Any] = {}
    for name, change in wanted.items():
        if name not in NAMES:
            raise _unknown(name)
        field = _FIELDS.get(name, name)
        limit = _new_limit(name, getattr(budget, field), change)
        if limit < (used := spent.get(field, 0)):
            raise ConfigError(
                f"the limit `{name}` cannot become {limit:g}: {used:g} are spent already",
                why="the run would end at once, and what is spent cannot be taken back",
                hint="give more than that, or end the run with `loop-runner stop`",
            )
        values[field] = limit
    return replace(budget, **values)


def to_json(limits: Mapping[str, Any], budget: Budget, wanted: Changes) -> dict[str, Any]:
    """``limits`` of ``budget.json`` with those that ``wanted`` names, as ``budget`` has them now."""
    new = {name: getattr(budget, _FIELDS.get(name, name)) for name in wanted}
    return dict(sorted({**limits, **new}.items()))


def from_json(data: bytes | None) -> dict[str, Any]:
    """The limits that ``budget.json`` holds."""
    limits = json.loads(data)["limits"] if data else {}
    return {name: limits[name] for name in NAMES if name in limits}


def overrides(data: bytes | None) -> tuple[tuple[str, Any], ...]:
    """The limits of ``budget.json`` as (dotted key, value) for ``parse_task``."""
    return tuple((f"budget.{name}", value) for name, value in from_json(data).items())


def describe(wanted: Changes) -> str:
    """``passes +5, usd 10``."""
    signs = {"add": "+", "set": ""}
    parts = [f"{name} {signs[how]}{amount:g}" for name, c in wanted.items() for how, amount in c.items()]
    return ", ".join(parts)


def describe_limits(budget: Budget) -> str:
    """Every limit, in a sentence for the model that works under them."""
    further = [
        (budget.tokens, f"{plural(budget.tokens or 0, 'token')} in and out"),
        (budget.tokens_in, f"{plural(budget.tokens_in or 0, 'token')} in"),
        (budget.tokens_out, f"{plural(budget.tokens_out or 0, 'token')} out"),
        (budget.usd, _counted(budget.usd or 0, "US dollar")),
        (budget.wall_s, _counted(budget.wall_s or 0, "second")),
        (budget.subcalls, plural(budget.subcalls or 0, "sub-call")),
        (budget.tool_calls, plural(budget.tool_calls or 0, "tool call")),
    ]
    given = [words for limit, words in further if limit is not None]
    children = (
        f"child sessions of {plural(budget.child_turns, 'turn')}" if budget.depth else "no child sessions"
    )
    passes = plural(budget.passes, "pass", "passes")
    limits = f"; the run may use {', '.join(given)}" if given else "; there is no limit on tokens or time"
    return f"A pass has {plural(budget.turns, 'turn')}, the run {passes}, with {children}{limits}."


def describe_left(ledger: Ledger) -> str:
    """What is left of the limits, in one line for the model."""
    budget, spent = ledger.budget, ledger.settled()
    passes = max(budget.passes - spent.passes - 1, 0)  # without the one that runs, as in ``Ledger.left``
    parts = [f"{passes or 'no'} {'pass' if passes < 2 else 'passes'} after this one"]
    tokens_out = spent.usage.output_tokens
    tokens = (
        (budget.tokens, spent.usage.total_tokens, "token"),
        (budget.tokens_in, spent.usage.total_tokens - tokens_out, "input token"),
        (budget.tokens_out, tokens_out, "output token"),
    )
    parts += [plural(max(limit - used, 0), what) for limit, used, what in tokens if limit is not None]
    if budget.usd is not None and spent.usd is not None:
        parts.append(f"{max(budget.usd - spent.usd, 0):.2f} US dollars")
    if budget.wall_s is not None:
        parts.append(f"{max(budget.wall_s - spent.seconds, 0):.0f} s")
    if budget.subcalls is not None:
        parts.append(plural(max(budget.subcalls - spent.subcalls, 0), "sub-call"))
    if budget.tool_calls is not None:
        parts.append(plural(max(budget.tool_calls - spent.tool_calls, 0), "tool call"))
    return ", ".join(parts)


def _counted(number: float, noun: str) -> str:
    return f"{number:g} {noun if number == 1 else noun + 's'}"


def _change(name: str, value: Any) -> Mapping[str, float]:
    if name not in NAMES:
        raise _unknown(name)
    text = value.strip() if isinstance(value, str) else value
    match = _ADDED.fullmatch(text) if isinstance(text, str) else None
    amount = _amount(name, value, _number(match[1].strip() if match else text))
    return {"add": amount} if match else {"set": amount}


def _number(value: Any) -> Any:
    """A number that was written as a text; everything else as it is."""
    if isinstance(value, str):
        for read in (int, float):
            try:
                return read(value)
            except ValueError:
                continue
    return value


def _amount(name: str, given: Any, value: Any) -> float:
    takes = keys.keys_of(Budget)[name].takes
    assert isinstance(takes, keys.Value)
    try:
        amount: float = takes(value)
        expected = "" if math.isfinite(amount) else "a number that is not infinite"
    except BadValueError as error:
        amount, expected = 0, str(error)
    if expected:
        raise ConfigError(
            f"the limit `{name}` cannot be {given!r:.60}",
            why=f"it takes {expected}",
            hint=f"for example: --{_flag(name)} {'+30m' if name == 'wall' else '+5'}",
        )
    return amount


def _new_limit(name: str, now: float | None, change: Mapping[str, float]) -> float:
    if "set" in change:
        return _amount(name, change["set"], change["set"])
    if now is None:
        raise ConfigError(
            f"the run has no limit `{name}`, so nothing can be added to it",
            why="without a limit, it may use as much as it needs",
            hint=f"leave it out, or set a limit: --{_flag(name)} AMOUNT",
        )
    return now + _amount(name, change["add"], change["add"])


def _unknown(name: str) -> ConfigError:
    return ConfigError(
        f"a run has no limit {name!r:.60} that can be changed while it is under way",
        why="a limit that is not known would change nothing",
        hint=f"known: {', '.join(NAMES)}",
    )


def _flag(name: str) -> str:
    return name.replace("_", "-")
