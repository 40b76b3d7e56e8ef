"""Sub-calls of a run, side by side with other packages where they can do it.

The environment variable BENCH_PEERS names a Python that has ``rlms`` and ``dspy``; without it only our own
figures are printed. Compile the checkout first (``python -m compileall loop_runner``), as an installer does.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from bench.timing import report
from loop_runner.events import Event
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.tasks import cell, write_task

_LATENCY_S = 0.05
_REPEATS = 7  # the first of them may meet a processor that has slept


def main() -> None:
    """Print the figures of this file."""
    with tempfile.TemporaryDirectory() as folder:
        _batch(Path(folder), 1000, 64, "at most 1.05 x ideal")
        _batch(Path(folder), 10_000, 512, "at most 1.15 x ideal")
        _overhead(Path(folder))
        _memory(Path(folder))
        _children(Path(folder), 100)
    _peers()


def _batch(folder: Path, count: int, width: int, target: str) -> None:
    ideal = -(-count // width) * _LATENCY_S
    walls = [
        _cell_seconds(folder, f"llm_batch(list(map(str, range({count}))))", width, _LATENCY_S)
        for _ in range(_REPEATS)
    ]
    wall = statistics.median(walls)
    what = f"llm_batch, {count:,} calls of 50 ms at width {width}"
    report(what, wall * 1000, target=f"{wall / ideal:.3f} x ideal ({ideal * 1000:.0f} ms); {target}")


def _overhead(folder: Path) -> None:
    code = "for n in range(1000): llm_query(str(n))"
    item = statistics.median(_cell_seconds(folder, code, 32, 0.0) for _ in range(_REPEATS))
    report("llm_query, one after another, each (journalled, fsync)", item, target="")
    many = statistics.median(
        _cell_seconds(folder, "llm_batch(list(map(str, range(5000))))", 512, 0.0) for _ in range(_REPEATS)
    )
    report("llm_batch of calls without latency, each", many / 5, target="under 0.5")


def _memory(folder: Path) -> None:
    """Resident memory of the host while 1,000 calls are out, against the same run with one."""
    grown = [_peak_kb(folder, 1000), _peak_kb(folder, 1)]
    report("host memory for a call that is out", (grown[0] - grown[1]) / 1000, "kB", "under 100")


def _children(folder: Path, count: int) -> None:
    wall = _cell_seconds(
        folder,
        f"got = rlm_batch([('How many words?', 'w ' * n) for n in range({count})])\nassert all(got), got",
        512,
        0.0,
        child_width=count,
    )
    report(f"{count} child sessions at once, model without latency", wall * 1000, target="under 5,000")


_CHILD = [cell("n = len(context.split())\nprint(n)"), cell("FINAL(f'{n} words')")]
_numbers = iter(range(10_000))


def _task(folder: Path, code: str, width: int, latency_s: float, **keys: Any) -> config.Task:
    place = folder / f"task-{next(_numbers)}"
    path = write_task(place, root=[cell(f"{code}\nFINAL('42')")], width=width, **keys)
    script = yaml.safe_load((place / "script.yaml").read_text())
    script |= {"sub": [{"reply": "ok"}], "child": [{"replies": _CHILD}]}
    if latency_s:
        script["latency_s"] = latency_s
    (place / "script.yaml").write_text(yaml.safe_dump(script))
    return config.read_task(path)


def _cell_seconds(folder: Path, code: str, width: int, latency_s: float, **keys: Any) -> float:
    """Wall time inside the cell that runs ``code``, taken by the cell itself."""
    timed = f"import time\n_t = time.perf_counter()\n{code}\nprint('seconds', time.perf_counter() - _t)"
    events: list[Event] = []
    task = _task(folder, timed, width, latency_s, **keys)
    outcome = runs.start(task, folder / f"run-{next(_numbers)}", RunContext({}, (events.append,)))
    shown = next(event.text for event in events if event.kind == "cell_finished")
    assert outcome.status == "verified", shown
    return float(shown.rpartition("seconds ")[2])


def _peak_kb(folder: Path, count: int) -> int:
    """Peak resident memory (kB) of a process that runs a batch of ``count`` calls, all out at once."""
    task = _task(folder, f"llm_batch(list(map(str, range({count}))))", 1024, 1.0)
    path = folder / f"run-{next(_numbers)}"
    command = [
        sys.executable,
        "-m",
        "loop_runner",
        "run",
        task.base_dir / "task.yaml",
        "--run-dir",
        path,
        "-q",
    ]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL)
    status = Path(f"/proc/{process.pid}/status")
    peak = 0
    # What wait4 says would begin with the size of this process, which is the larger one by now.
    while process.poll() is None:
        output = dict(line.split(":", 1) for line in status.read_text().splitlines())
        peak = max(peak, int(output.get("VmHWM", "0 kB").split()[0]))
        time.sleep(0.01)
    assert process.returncode == 0
    return peak


def _peers() -> None:
    python = os.environ.get("BENCH_PEERS")
    if not python:
        report("rlms, dspy: set BENCH_PEERS to a Python that has them", 0, "-")
        return
    program = Path(__file__).with_name("peers.py")
    subprocess.run([python, program], check=True)


if __name__ == "__main__":
    main()
