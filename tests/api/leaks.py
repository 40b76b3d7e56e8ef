"""Counts what runs leave behind in one process: threads, processes, descriptors, folders for temporary files.

``make leaks`` makes 200 runs, every tenth of them stopped, every tenth of them ended by an error;
``test_threads`` makes a few.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import loop_runner as lr
from tests.support.tasks import cell, ready, write_task


def count() -> dict[str, int]:
    """What this process has at the moment."""
    result = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    living = [pid for pid in result if _state(pid) not in ("", "Z")]
    return {
        "threads": threading.active_count(),
        "processes": len(living),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "folders": len(list(Path(tempfile.gettempdir()).glob("loop-runner*"))),
    }


def _state(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def many(folder: Path, number: int) -> None:
    """Make runs that are verified, stopped, or ended by an error."""
    good = write_task(folder / "good", root=[ready("42")])
    bad = write_task(folder / "bad", root=[])
    slow = write_task(folder / "slow", root=[cell("x = 1"), cell("import time; time.sleep(60)")])
    for at in range(number):
        kinds: dict[int, Callable[[Path], None]] = {
            3: lambda run: _stopped(slow, run),
            7: lambda run: _failed(bad, run),
        }
        kinds.get(at % 10, lambda run: _verified(good, run))(folder / f"run{at}")


def _verified(task: Path, run: Path) -> None:
    assert lr.run(task, run_dir=run).verified


def _stopped(task: Path, run: Path) -> None:
    with lr.stream(task, run_dir=run) as events:
        next(event for event in events if event.kind == "turn_committed")
    assert events.result.status == "interrupted"


def _failed(task: Path, run: Path) -> None:
    try:
        lr.run(task, run_dir=run)
    except lr.ModelError:
        return
    raise AssertionError("a script without replies cannot answer")


def main(number: int) -> int:
    """Print what is left after ``number`` runs; 1 if it is more than after the first ten."""
    own = Path(tempfile.mkdtemp(prefix="leaks-"))
    os.environ |= {"LOOP_RUNNER_STATE": str(own / "state"), "LOOP_RUNNER_CACHE": str(own / "cache")}
    os.environ["TMPDIR"] = tempfile.tempdir = str(own)
    many(own / "first", 10)
    before = count()
    many(own / "then", number)
    after = count()
    print(f"before: {before}\nafter {number} runs: {after}")
    return int(after != before)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
