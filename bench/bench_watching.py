"""What watching costs: the status of 200 runs, and a run with the live block against one without it.

The status takes turns with `git log -1` in the same folders, the least that a script would ask of them.
The two kinds of run take turns (pairs), and the processor time of this process is compared: the clock says
little on a machine that others use.
"""

from __future__ import annotations

import io
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import loop_runner as lr
from bench.timing import report
from loop_runner.cli import live
from loop_runner.cli.display import Progress
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.tasks import cell, ready, write_task

_RUNS = 200
_REPEATS = 9
_PAIRS = 3
_TARGET_S, _TARGET_PERCENT = 0.5, 1.0


def main() -> None:
    """Print the figures of this file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LOOP_RUNNER_CACHE"] = str(folder / "cache")
        _status(folder)
        _block(folder)


def _status(folder: Path) -> None:
    task = write_task(folder / "task", root=[ready("41"), ready("42")], budget={"passes": 3})
    runs.start(config.read_task(task), folder / "one", RunContext({}))
    for number in range(_RUNS):
        shutil.copytree(folder / "one", folder / "runs" / f"{number:03d}", symlinks=True)
    first = _milliseconds(lambda: _listed(folder / "runs"))
    report(f"status of {_RUNS} runs, read for the first time", first)
    pairs = [
        (_milliseconds(lambda: _listed(folder / "runs")), _milliseconds(lambda: _git_log(folder / "runs")))
        for _ in range(_REPEATS)
    ]
    times = [status for status, _ in pairs]
    spread = f"median of {_REPEATS}, {min(times):.0f} to {max(times):.0f}"
    report(
        f"status of {_RUNS} runs",
        statistics.median(times),
        target=f"< {_TARGET_S * 1000:.0f} ms; {spread}",
    )
    report(f"`git log -1` in {_RUNS} runs", statistics.median(peer for _, peer in pairs))
    ratio = statistics.median(status / peer for status, peer in pairs)
    report("the status, of what `git log -1` takes", ratio * 100, "%", "measured in turns")


def _milliseconds(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def _listed(folder: Path) -> None:
    assert {status.state for status in lr.list_runs(folder)} == {"verified"}


def _git_log(folder: Path) -> None:
    for run in folder.iterdir():
        subprocess.run(["git", "-C", run, "log", "-1", "--format=%H"], check=True, capture_output=True)


def _block(folder: Path) -> None:
    code = "import time\nllm_batch([f'q {n}' for n in range(300)])\ntime.sleep(1)"
    task = write_task(
        folder / "busy", root=[cell(code)] * 4 + [ready("42")], sub=[{"contains": "q", "reply": "b"}]
    )
    shares = []
    for number in range(_PAIRS):
        without = _cpu_s(task, folder / f"without-{number}", has_block=False)
        with_block = _cpu_s(task, folder / f"with-{number}", has_block=True)
        shares.append((with_block[0] - without[0]) / without[1] * 100)
    own = [_own_share(task, folder / f"own-{number}") for number in range(_PAIRS)]
    report(
        "the live block itself, of the run's duration",
        statistics.median(own),
        "%",
        f"< {_TARGET_PERCENT} %; {', '.join(f'{share:.2f}' for share in own)}",
    )
    report(
        "processor time of the live block, of the run's duration",
        statistics.median(shares),
        "%",
        f"< {_TARGET_PERCENT} %; pairs: {', '.join(f'{share:.2f}' for share in shares)}",
    )


class _Measured(live.Block):
    """A block that measures its own part: the thread that draws, and the events that it takes in."""

    drawing_s = taking_s = 0.0

    def _draw(self) -> None:
        super()._draw()
        self.drawing_s = time.thread_time()

    def __call__(self, event: lr.Event) -> None:
        began = time.thread_time()
        super().__call__(event)
        self.taking_s += time.thread_time() - began


def _own_share(task: Path, folder: Path) -> float:
    """What the block itself takes of a run's duration, in per cent."""
    began = time.perf_counter()
    with _Measured(Progress(), folder, lambda: None, stream=io.StringIO()) as block:
        lr.run(task, run_dir=folder, on_event=block)
    return (block.drawing_s + block.taking_s) / (time.perf_counter() - began) * 100


def _cpu_s(task: Path, folder: Path, *, has_block: bool) -> tuple[float, float]:
    """Processor time of this process for one run, and how long the run took."""
    began, used = time.perf_counter(), time.process_time()
    progress = Progress()
    if has_block:
        with live.Block(progress, folder, lambda: None, stream=io.StringIO()) as block:
            lr.run(task, run_dir=folder, on_event=block)
    else:
        lr.run(task, run_dir=folder, on_event=progress.line)
    return time.process_time() - used, time.perf_counter() - began
