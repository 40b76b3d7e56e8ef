"""The parts of the page of a run, as texts: functions of what there is to see, and nothing else.

What a model or an input wrote is escaped, and none of it is markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.text import Text

import loop_runner as lr
from loop_runner import text

_STYLES = {"accepted": "bold green", "rejected": "yellow", "broken": "red", "stopped": "dim"}
_MARKS = {"accepted": "✓", "rejected": "✗", "broken": "!", "stopped": "-"}
_STATES = {
    "running": "bold green",
    "verified": "bold green",
    "queued": "cyan",
    "paused": "cyan",
    "waiting": "magenta",
}
_MAX_LINES = 400
_SHOWN_VARIABLES = 200


def safe(value: object, style: str = "") -> Text:
    """``value`` as it can be shown."""
    return Text(text.escape_controls(str(value)), style=style)


def together(*parts: Text | str) -> Text:
    """Lines, one below another."""
    return Text("\n").join(part if isinstance(part, Text) else safe(part) for part in parts)


def state_style(state: str) -> str:
    """The colour of a state; the word itself says it where there is no colour."""
    return _STATES.get(state, "yellow")


def head(status: lr.Status, view: lr.RunView, now: float) -> Text:
    """The run, its state, where it is and what it does."""
    limits = {limit.name: limit for limit in view.limits(now) or status.limits}
    places = [
        f"{name} {number}"
        + (f" of {limit.limit:g}" if (limit := limits.get(f"{name}es")) and limit.limit else "")
        for name, number in (("pass", view.pass_number or status.pass_number),)
        if number
    ]
    if view.turn:
        limit = limits.get("turns")
        places.append(f"turn {view.turn}" + (f" of {limit.limit:g}" if limit and limit.limit else ""))
    activity = str(view.activity(now)) if status.is_active else status.reason
    line = Text.assemble(
        (text.escape_controls(status.folder.name), "bold"),
        "  ",
        (status.state, state_style(status.state)),
        "  ",
        text.escape_controls(" · ".join([*places, activity]).strip(" ·")),
    )
    signs = [safe(f"look: {sign.text}", "red") for sign in (view.anomalies(now) if status.is_active else ())]
    waits = [safe(f"waits for you: {view.waits_for}", "magenta")] if view.waits_for else []
    return together(line, *signs, *waits)


def strip(passes: Sequence[Any], width: int) -> Text:
    """A mark for each pass, coloured by its verdict; the newest where not all fit."""
    room = max(width - 10, 10)
    shown = passes[-room:]
    line = Text("passes ")
    if len(shown) < len(passes):
        line.append("…")
    for ended in shown:
        line.append(_MARKS.get(ended.outcome, "?"), _STYLES.get(ended.outcome, "red"))
    return line if passes else Text("no pass has ended yet", "dim")


def budget(limits: Iterable[Any]) -> Text:
    """A bar for each limit."""
    lines = [
        Text(f"{limit.name:<9} {text.bar(limit.share)} {limit}", "yellow" if limit.share >= 0.8 else "")
        for limit in limits
        if limit.share is not None
    ]
    return together(*lines)


def now_part(view: lr.RunView, now: float) -> Text:
    """The cell that runs or ran last, its output, and the sub-calls."""
    activity = view.activity(now)
    calls: list[Text | str] = []
    if activity.subcalls:
        share = (activity.answered + activity.failed) / activity.subcalls
        failed = f", {activity.failed:,} failed" if activity.failed else ""
        calls = [
            Text(
                f"sub-calls {text.bar(share)} {activity.answered:,} of {activity.subcalls:,}{failed}", "bold"
            )
        ]
        calls += [safe(f"  {reply}", "dim") for reply in list(view.subcalls)[-5:]]
    cell = (
        [Text("code", "bold"), safe(_cut(view.cell))] if view.cell else [Text("no code has run yet", "dim")]
    )
    end = "" if view.cell_end in ("", "ok") else f" ({view.cell_end})"
    printed = [Text(f"output{end}", "bold"), safe(_cut(view.output))] if view.output else []
    return together(*calls, *cell, *printed)


def passes_part(passes: Sequence[Any]) -> Text:
    """Every pass, the newest first, with its verdict and reason."""
    lines: list[Text] = []
    for ended in reversed(passes):
        score = "" if ended.score is None else f", score {ended.score:g}"
        lines.append(safe(f"pass {ended.number}: {ended.outcome}{score}", _STYLES.get(ended.outcome, "red")))
        lines += [safe(f"  {line}") for line in ended.reason.splitlines()[:8] if line.strip()]
    return together(*lines) if lines else Text("no pass has ended yet", "dim")


def variables_part(variables: Sequence[Any], before: Mapping[str, Any]) -> Text:
    """The variables with their sizes; ``*`` for one that the last turn changed, ``+`` for a new one."""
    lines = []
    for variable in variables[:_SHOWN_VARIABLES]:
        old = before.get(variable.name)
        mark = " " if not before else "+" if old is None else " " if old == variable else "*"
        saved = "" if variable.status == "saved" else f"  {variable.status}: {variable.reason}"
        what = f"{mark} {text.one_line(variable.name, 30):<20} {text.one_line(variable.type, 16):<10}"
        line = f"{what} {_size(variable.size):>9}  {text.one_line(variable.preview, 60)}{saved}"
        lines.append(safe(line, "bold" if mark in "*+" else ""))
    if (more := len(variables) - _SHOWN_VARIABLES) > 0:
        lines.append(Text(f"and {more:,} more", "dim"))
    return together(*lines) if lines else Text("no variables yet", "dim")


def answer_part(answer: str, citations: Sequence[Any]) -> Text:
    """The committed answer, and its citations with the quoted line."""
    lines = [safe(_cut(answer.strip())) if answer.strip() else Text("no answer yet", "dim")]
    if citations:
        lines.append(Text("\ncitations", "bold"))
    for citation in citations:
        result = "found" if citation.ok else f"NOT FOUND: {citation.reason}"
        lines.append(safe(f"{citation.where}  {result}", "green" if citation.ok else "red"))
        lines.append(safe(f"  {text.one_line(citation.quote, 300)}", "dim"))
    return together(*lines)


def notes_part(view: lr.RunView) -> Text:
    """What the operator asked, and the notices of the run, the newest first."""
    lines = [safe(f"you: {what}", "cyan") for _, what in reversed(view.notes)]
    lines += [safe(what) for _, what in reversed(view.notices)]
    return together(*lines) if lines else Text("no notes and no notices", "dim")


def _cut(value: str) -> str:
    lines = value.splitlines()
    if len(lines) <= _MAX_LINES:
        return value
    return "\n".join([*lines[:_MAX_LINES], f"… {len(lines) - _MAX_LINES:,} more lines"])


def _size(count: int) -> str:
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"
