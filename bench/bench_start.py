"""How long a one-turn run takes to start and end, as a process and inside one, in tiers A and B.

Each figure is a median, with the processor time of the process and its children beside it: the clock says
little on a machine that others use. ``BENCH_PEERS`` names a Python that has ``dspy``; its ``RLM``, with
its interpreter in the same process (no sandbox, no commit), then takes turns with ours.
"""

from __future__ import annotations

import itertools
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.timing import report
from tests.support.machines import path_without
from tests.support.tasks import ready, write_task

_RUNS = 11
_TARGET_MS, _TARGET_INSIDE_MS = 350, 100
# Runs the task ten times in one process and prints the milliseconds of each run but the first.
_INSIDE = """
import sys, time
from pathlib import Path
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
task = config.read_task(Path(sys.argv[1]))
for number in range(10):
    started = time.perf_counter()
    runs.start(task, Path(sys.argv[2]) / str(number), RunContext({}))
    if number:
        print((time.perf_counter() - started) * 1000)
"""
_PEER = """
import dspy
from dspy.primitives.local_interpreter import LocalInterpreter
class Scripted(dspy.BaseLM):
    def __call__(self, prompt=None, messages=None, **_):
        code = "SUBMIT(answer='42')"
        cell = f"[[ ## code ## ]]\\n```python\\n{code}\\n```"
        return [f"[[ ## reasoning ## ]]\\nx\\n\\n{cell}\\n\\n[[ ## completed ## ]]"]
dspy.configure(lm=Scripted("scripted/x", cache=False), adapter=dspy.ChatAdapter())
import time
for _ in range(10):
    started = time.perf_counter()
    assert dspy.RLM("query -> answer", interpreter_factory=LocalInterpreter)(query="q").answer == "42"
    print((time.perf_counter() - started) * 1000)
"""


def main() -> None:
    """Print the figures of this file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = write_task(folder / "task", root=[ready("42")])
        numbers = itertools.count()
        without = path_without(["bwrap"], folder / "path")
        for tier, path in (("A", os.environ["PATH"]), ("B", without)):
            env = {**os.environ, "PATH": path, "LOOP_RUNNER_CACHE": str(folder / f"cache-{tier}")}
            env.pop("PYTHONDONTWRITEBYTECODE", None)  # warm: nothing is compiled

            def own_hook(env: dict[str, str] = env) -> None:
                argv = [str(Path(sys.executable).with_name("loop-runner")), "run", str(task), "--run-dir"]
                subprocess.run(
                    [*argv, str(folder / f"run-{next(numbers)}")], env=env, check=True, capture_output=True
                )

            first, _ = _measured(own_hook)
            report(f"tier {tier}: first run of the machine, which tries the sandbox", first)
            _pairs(f"tier {tier}: run of one turn, whole process, warm", own_hook, f"under {_TARGET_MS}")
            inside = _inside([sys.executable, "-c", _INSIDE, str(task), str(folder / f"in-{tier}")], env)
            report(
                f"tier {tier}: run of one turn, in a process that runs",
                inside,
                "ms",
                f"under {_TARGET_INSIDE_MS}",
            )


def _pairs(what: str, own: Callable[[], None], target: str) -> None:
    """Ours and the peer in turn, so that both see the same machine."""
    peer = os.environ.get("BENCH_PEERS")
    took, cpus, others, ratios = [], [], [], []
    for _ in range(_RUNS):
        wall, cpu = _measured(own)
        took.append(wall)
        cpus.append(cpu)
        if peer:
            argv = [peer, "-c", _PEER]
            others.append(_measured(partial(subprocess.run, argv, check=True, capture_output=True))[0])
            ratios.append(wall / others[-1])
    report(what, statistics.median(took), "ms", target)
    report("  processor time of it, with git and the kernel", statistics.median(cpus))
    if peer:
        report("  dspy.RLM, ten runs in a whole process", statistics.median(others))
        report("  ours to dspy.RLM's, pair by pair", statistics.median(ratios), "x")
        report("  dspy.RLM, a run in a process that runs", _inside([peer, "-c", _PEER], dict(os.environ)))


def _inside(argv: list[str], env: dict[str, str]) -> float:
    env = {**env, "PYTHONPATH": str(Path(__file__).parents[1])}
    printed = subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout
    return statistics.median(map(float, printed.split()))


def _measured(action: Callable[[], object]) -> tuple[float, float]:
    """Milliseconds on the clock, and of processor time of the children that ended meanwhile."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    action()
    wall = (time.perf_counter() - started) * 1000
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
