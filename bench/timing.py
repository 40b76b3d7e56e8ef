"""The little that every measurement shares."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable


def median_ms(action: Callable[[], object], repeats: int = 20) -> float:
    """Median wall time of ``action`` in milliseconds, after one run that is not counted."""
    action()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000


def report(what: str, value: float, unit: str = "ms", target: str = "") -> None:
    """One line: what was measured, the figure, the target it is held against."""
    print(f"{what:<58} {value:>10.1f} {unit:<4} {target}", flush=True)
