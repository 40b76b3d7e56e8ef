"""Calls of Python tools: one after another in a running process, and many at once; with the journal."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from bench.timing import median_ms, report
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.tasks import cell, write_task

_TOOLS = """
import asyncio

def once(value: int) -> int:
    return value

def again(value: int) -> int:
    return value

async def wait(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds
"""
_CELL = """
import time

def per_call(tool):
    tool(-1)
    seconds = []
    for number in range(200):
        started = time.perf_counter()
        tool(number)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds)[100] * 1000

print('once', per_call(once))
print('again', per_call(again))
wait(0.0)
started = time.perf_counter()
tool_batch(wait, [0.05] * 1000)
print('many', time.perf_counter() - started)
FINAL('42')
"""
_IDEAL_S = 1000 * 0.05 / 64


def main() -> None:
    """Print the figures of this file."""
    with tempfile.TemporaryDirectory() as folder:
        flush = _flush_ms(Path(folder))
        report("one flush to this disk (fsync)", flush)
        limits = {"calls": 10_000, "width": 64}
        tools = [
            {"python": "tools.py:once", **limits},
            {"python": "tools.py:again", "idempotent": True, **limits},
            {"python": "tools.py:wait", "idempotent": True, **limits},
        ]
        task = write_task(Path(folder) / "task", root=[cell(_CELL)], tools=tools)
        (Path(folder) / "task/tools.py").write_text(_TOOLS)
        runs.start(config.read_task(task), Path(folder) / "run", RunContext({"PATH": os.environ["PATH"]}))
        output = (Path(folder) / "run/passes/0001/turns/0001/output.txt").read_text()
    result = {name: float(value) for name, value in re.findall(r"^(\w+) ([\d.]+)$", output, re.MULTILINE)}
    report("a call of a Python tool (idempotent: one flush)", result["again"], target="under 2")
    report("a call that may not be made twice (two flushes)", result["once"], target="under 2")
    report("  without the flushes", result["once"] - 2 * flush)
    ratio = result["many"] / _IDEAL_S
    report("1,000 calls of 50 ms, width 64: times the ideal", ratio, unit="", target="at most 1.1")


def _flush_ms(folder: Path) -> float:
    with (folder / "flushed").open("ab", buffering=0) as file:

        def flush() -> None:
            file.write(b"x" * 400)
            os.fsync(file.fileno())

        return median_ms(flush, 100)


if __name__ == "__main__":
    main()
