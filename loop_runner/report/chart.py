"""Score, spend and cache share over the passes, as SVG: no library, no script, numbers only.

Owns the drawing. Every value is a number that was checked to be finite, so no text of a run comes in here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

_WIDTH, _HEIGHT = 720, 96
_LEFT, _RIGHT, _TOP, _BOTTOM = 8, 8, 10, 10
_MAX_POINTS = 400


@dataclass(frozen=True, slots=True)
class Panel:
    """One line of the chart. ``label`` and ``last`` are the package's own words and numbers."""

    title: str
    last: str
    svg: Markup
    about: str


def panels(passes: Sequence[Any]) -> list[Panel]:
    """A panel for each of score, spend and cache share that is known for at least one pass."""
    numbers = [entry.number for entry in passes]
    marks = [entry.outcome for entry in passes]
    scores = [entry.score for entry in passes]
    made = [
        _panel("Score", "score", numbers, scores, marks, top=1.0, unit=lambda value: f"{value:.2f}"),
        _panel("Spend", "spend", numbers, _spent(passes), marks, unit=lambda value: f"{value:.4f} USD"),
        _panel(
            "Prompt cache",
            "cache",
            numbers,
            [_share(entry.usage) for entry in passes],
            marks,
            top=1.0,
            unit=lambda value: f"{value:.0%} read from the cache",
        ),
    ]
    return [panel for panel in made if panel is not None]


def _spent(passes: Sequence[Any]) -> list[float | None]:
    """Dollars up to each pass; None from the first unknown price on."""
    spent: list[float | None] = []
    total: float | None = 0.0
    for entry in passes:
        total = None if total is None or entry.usd is None else total + entry.usd
        spent.append(total)
    return spent if any(spent) else [None] * len(spent)


def _share(usage: Any) -> float | None:
    prompt = usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return usage.cache_read_tokens / prompt if prompt and usage.cache_read_tokens else None


def _panel(
    title: str,
    kind: str,
    numbers: Sequence[int],
    values: Sequence[float | None],
    marks: Sequence[str],
    *,
    unit: Any,
    top: float | None = None,
) -> Panel | None:
    known = [
        (number, float(value), mark)
        for number, value, mark in zip(numbers, values, marks, strict=True)
        if value is not None and math.isfinite(value)
    ]
    if not known or len(numbers) < 2:
        return None
    highest = max(top or 0.0, *(value for _, value, _ in known)) or 1.0
    points = [
        (_x(number, numbers), _y(value / highest), mark)
        for number, value, mark in _thinned(known, _MAX_POINTS)
    ]
    last = unit(known[-1][1])
    about = f"{title} over {len(numbers)} passes; in pass {known[-1][0]}: {last}"
    return Panel(title, last, _svg(kind, points, about), about)


def _thinned(points: Sequence[tuple[int, float, str]], most: int) -> list[tuple[int, float, str]]:
    """At most ``most`` of them; the first and the last are kept."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(index * step)] for index in range(most)]


def _x(number: int, numbers: Sequence[int]) -> float:
    first, last = numbers[0], numbers[-1]
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (number - first) / max(last - first, 1)


def _y(share: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(max(share, 0.0), 1.0)


def _svg(kind: str, points: Sequence[tuple[float, float, str]], about: str) -> Markup:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
    base = _HEIGHT - _BOTTOM
    area = f"{points[0][0]:.1f},{base} {path} {points[-1][0]:.1f},{base}"
    dots = Markup("").join(
        Markup('<circle class="{}" cx="{}" cy="{}" r="3.5"/>').format(_class(mark), f"{x:.1f}", f"{y:.1f}")
        for x, y, mark in (points if len(points) <= 60 else points[-1:])
    )
    return Markup(
        '<svg class="chart {}" viewBox="0 0 {} {}" role="img" aria-label="{}" preserveAspectRatio="none">'
        '<line class="axis" x1="{}" y1="{}" x2="{}" y2="{}"/>'
        '<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>'
        '<polygon class="area" points="{}"/><polyline class="curve" points="{}"/>{}</svg>'
    ).format(
        *(kind, _WIDTH, _HEIGHT, about, _LEFT, base, _WIDTH - _RIGHT, base),
        *(_LEFT, _TOP, _WIDTH - _RIGHT, _TOP, area, path, dots),
    )


def _class(mark: str) -> str:
    return mark if mark in ("accepted", "rejected", "broken", "stopped") else "open"
