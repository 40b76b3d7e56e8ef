"""What the library costs: its import, and a run by ``lr.run`` against the path that the command takes.

The runs take turns (pairs), in one process. The processor time of this process and of its children counts:
the clock says little on a machine that others use. An import is timed in a process of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import loop_runner as lr
from bench.timing import report
from loop_runner.cli import main as command
from tests.support.tasks import ready, write_task

_RUNS = 15
_TARGET_IMPORT_MS, _TARGET_PERCENT = 40, 5
_IMPORT = """
import time
began = time.perf_counter(), time.process_time()
import loop_runner as lr
print((time.perf_counter() - began[0]) * 1000, (time.process_time() - began[1]) * 1000)
"""


def main() -> None:
    """Print the figures of this file."""
    walls, cpus = zip(*(_import() for _ in range(_RUNS)), strict=True)
    report("import loop_runner", statistics.median(walls), target=f"under {_TARGET_IMPORT_MS}")
    report("  processor time of it", statistics.median(cpus))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LOOP_RUNNER_CACHE"] = str(folder / "cache")
        os.environ["LOOP_RUNNER_STATE"] = str(folder / "state")
        _pairs(folder, write_task(folder / "task", root=[ready("42")]))


def _pairs(folder: Path, task: Path) -> None:
    def by_library(number: int) -> None:
        assert lr.run(task, run_dir=folder / f"library-{number}").verified

    def by_command(number: int) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                command(["run", str(task), "--run-dir", str(folder / f"command-{number}"), "--quiet"])
        except SystemExit as ended:
            assert ended.code in (0, None)  # noqa: PT017 - how the command ends

    shares, commands = [], []
    for number in range(_RUNS + 1):
        ways = [by_library, by_command] if number % 2 else [by_command, by_library]
        used = {way: _cpu_ms(way, number) for way in ways}
        if number:  # the first pair imports what both need
            commands.append(used[by_command])
            shares.append((used[by_library] - used[by_command]) / used[by_command] * 100)
    report("a run of one turn by the command, in this process: processor time", statistics.median(commands))
    report("  the library beyond it, pair by pair", statistics.median(shares), "%", f"< {_TARGET_PERCENT} %")


def _import() -> tuple[float, float]:
    printed = subprocess.run(
        [sys.executable, "-c", _IMPORT],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    ).stdout
    wall, cpu = map(float, printed.split())
    return wall, cpu


def _cpu_ms(way: Callable[[int], None], number: int) -> float:
    def used() -> float:
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime

    before = used()
    way(number)
    return (used() - before) * 1000
