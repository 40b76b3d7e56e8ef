"""Lines over sizes as SVG, with intervals: a measure of each arm, the size on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 130, 40, 50
_COLOURS = ("#0b6e99", "#b35309", "#4d7c0f", "#7e22ce", "#be123c", "#475569")
_DASHES = ("", "6 3", "2 3", "8 3 2 3", "12 4", "4 6")


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a size, with its interval."""

    size: int
    value: float
    low: float
    high: float


def plot(title: str, unit: str, series: Mapping[str, Sequence[Point]], *, top: float | None = None) -> str:
    """The SVG of some series; ``top`` is the end of the upright axis, by default the largest value."""
    points = [point for line in series.values() for point in line]
    sizes = sorted({point.size for point in points}) or [1]
    largest = top or max((point.high for point in points), default=1.0) or 1.0
    parts = [_head(title), *_axes(sizes, largest, unit)]
    for number, (name, line) in enumerate(series.items()):
        parts += _line(name, number, line, sizes, largest)
    return "\n".join([*parts, "</svg>\n"])


def _head(title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        f' font-family="sans-serif" font-size="12"><title>{escape(title)}</title>'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>'
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>'
    )


def _axes(sizes: Sequence[int], largest: float, unit: str) -> list[str]:
    parts = []
    for step in range(5):
        value = largest * step / 4
        y = _y(value, largest)
        label = f"{value:.0%}" if unit == "%" else f"{value:,.0f} {unit}"
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for size in sizes:
        x = _x(size, sizes)
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle">{named(size)}</text>'
        )
    return parts


def _line(name: str, number: int, line: Sequence[Point], sizes: Sequence[int], largest: float) -> list[str]:
    colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number % len(_DASHES)]
    shift = (number - 2.5) * 4  # so that intervals of several arms are seen side by side
    places = [(_x(point.size, sizes) + shift, _y(point.value, largest), point) for point in line]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
    parts = [f'<path d="{path}" fill="none" stroke="{colour}" stroke-dasharray="{dash}" stroke-width="2"/>']
    for x, y, point in places:
        low, high = _y(point.low, largest), _y(min(point.high, largest), largest)
        parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{colour}"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    y = _TOP + 16 + number * 20
    x = _WIDTH - _RIGHT + 14
    parts.append(f'<path d="M{x} {y - 4}h24" stroke="{colour}" stroke-dasharray="{dash}" stroke-width="2"/>')
    parts.append(f'<text x="{x + 30}" y="{y}">{escape(name)}</text>')
    return parts


def _x(size: int, sizes: Sequence[int]) -> float:
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])
    share = (math.log10(size) - first) / (last - first) if last > first else 0.5
    inner = _WIDTH - _LEFT - _RIGHT - 60
    return _LEFT + 30 + share * inner


def _y(value: float, largest: float) -> float:
    return _HEIGHT - _BOTTOM - value / largest * (_HEIGHT - _TOP - _BOTTOM)


def named(size: int) -> str:
    """A size in words: ``10 kB``, ``50 MB``."""
    return f"{size // 1_000_000} MB" if size >= 1_000_000 else f"{size // 1000} kB"
