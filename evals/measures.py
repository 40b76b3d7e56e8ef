"""Counts and intervals: Wilson's for proportions, a bootstrap for medians."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from evals.runner import Row

_Z = 1.959964  # 95 %
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Share:
    """``count`` of ``whole``, with Wilson's interval at 95 %."""

    count: int
    whole: int

    @property
    def value(self) -> float:
        return self.count / self.whole if self.whole else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        if not self.whole:
            return (0.0, 1.0)
        share, square = self.count / self.whole, _Z * _Z
        scale = 1 + square / self.whole
        middle = (share + square / (2 * self.whole)) / scale
        half = _Z * math.sqrt(share * (1 - share) / self.whole + square / (4 * self.whole**2)) / scale
        return (max(middle - half, 0.0), min(middle + half, 1.0))

    def __str__(self) -> str:
        if not self.whole:
            return "-"
        low, high = self.interval
        return f"{self.value:.0%} ({self.count}/{self.whole}; {low:.0%} to {high:.0%})"


@dataclass(frozen=True, slots=True)
class Median:
    """The median of some values, with a bootstrap interval at 95 %."""

    values: tuple[float, ...]

    @property
    def value(self) -> float:
        return statistics.median(self.values) if self.values else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return bootstrap(self.values, statistics.median)

    def __str__(self) -> str:
        if not self.values:
            return "-"
        low, high = self.interval
        return f"{self.value:,.0f} ({low:,.0f} to {high:,.0f})"


def bootstrap(values: Sequence[float], measure: Callable[[Sequence[float]], float]) -> tuple[float, float]:
    """The middle 95 % of ``measure`` over resamples; always the same for the same values."""
    if not values:
        return (math.nan, math.nan)
    rng = random.Random(0)
    results = sorted(measure(rng.choices(values, k=len(values))) for _ in range(_RESAMPLES))
    return (results[int(0.025 * _RESAMPLES)], results[int(0.975 * _RESAMPLES)])


@dataclass(frozen=True, slots=True)
class Summary:
    """What the attempts of one arm amount to; shares of verified answers are None if it verifies none."""

    right: Share
    verified_right: Share | None
    verified_wrong: Share | None
    unverified: Share | None
    seconds: Median
    tokens: Median
    passes: Median


def summary(rows: Sequence[Row]) -> Summary:
    """Count the attempts of one arm."""
    whole = len(rows)
    verifies = any(row.verified is not None for row in rows)

    def share(of: Iterable[bool]) -> Share | None:
        return Share(sum(of), whole) if verifies else None

    return Summary(
        Share(sum(row.is_right for row in rows), whole),
        share(row.verified is True and row.is_right for row in rows),
        share(row.verified is True and not row.is_right for row in rows),
        share(row.verified is not True for row in rows),
        Median(tuple(row.seconds for row in rows)),
        Median(tuple(float(row.tokens_in + row.tokens_out) for row in rows)),
        Median(tuple(float(row.passes) for row in rows)),
    )
