"""Start-up of the command, a one-turn session, and a turn apart from its commit."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from bench.timing import median_ms, report
from loop_runner.events import Event
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.tasks import cell, ready, write_task

_TURNS = 40


def main() -> None:
    """Print the figures of this file."""
    here = Path(sys.executable).parent / "loop-runner"
    help_ms = median_ms(lambda: subprocess.run([here, "--help"], check=True, capture_output=True))
    bare_ms = median_ms(lambda: subprocess.run([sys.executable, "-c", "import click"], check=True))
    report("loop-runner --help, whole process", help_ms, target="under 120")
    report("  python -c 'import click', whole process", bare_ms)
    with tempfile.TemporaryDirectory() as folder:
        _one_turn(Path(folder))
        _many_turns(Path(folder))


def _one_turn(folder: Path) -> None:
    task = config.read_task(write_task(folder / "one", root=[ready("42")]))
    numbers = iter(range(1000))
    item = median_ms(lambda: runs.start(task, folder / f"run-{next(numbers)}", RunContext({})))
    report("one-turn session with script:, start to verified", item, target="under 150")


def _many_turns(folder: Path) -> None:
    """The time of a turn is what lies between the reply and the commit, taken from the trace."""
    import statistics
    import time

    marks: list[tuple[str, float]] = []

    def listen(event: Event) -> None:
        marks.append((event.kind, time.perf_counter()))

    cells = [cell(f"x{i} = {i}\nprint(x{i})") for i in range(_TURNS)]
    path = write_task(folder / "many", root=[*cells, ready("42")], budget={"turns": _TURNS + 1})
    task = config.read_task(path)
    runs.start(task, folder / "run-many", RunContext({}, (listen,)))
    requests = _gaps(marks, "turn_started", "reply_received")
    ran = _gaps(marks, "reply_received", "cell_finished")
    commits = _gaps(marks, "cell_finished", "turn_committed")
    report("  reply journalled (one fsync)", statistics.median(requests))
    report("  cell", statistics.median(ran), target="under 5, apart from the commit")
    report("  snapshot and durable commit", statistics.median(commits), target="under 40")


def _gaps(marks: list[tuple[str, float]], first: str, second: str) -> list[float]:
    begun, gaps = 0.0, []
    for kind, at in marks:
        if kind == first:
            begun = at
        elif kind == second:
            gaps.append((at - begun) * 1000)
    return gaps
