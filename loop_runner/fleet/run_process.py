"""The process that runs one job: ``loop-runner run`` or ``resume``, in a session of its own.

Owns the command, the permit and how its end is read. Nothing of a run is in the worker's process, so no crash
of a kernel or of a run takes a worker down.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import loop_runner as lr
from loop_runner import LoopRunnerError
from loop_runner.fleet.fleet_file import Fleet
from loop_runner.fleet.jobs import Job
from loop_runner.fleet.states import ENDED, JobState
from loop_runner.fleet.template import as_yaml
from loop_runner.process import PERMIT, permit_until

_STOP_S = 20.0
_STATUS = {0: "verified", 1: "verified", 3: "unverified", 4: "broken", 2: "broken", 130: "interrupted"}
_MAX_REASON = 500


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended: its exit code, and the JSON object that it printed, if it did."""

    code: int
    outcome: Mapping[str, Any]
    errors: str

    @property
    def is_crash(self) -> bool:
        """Whether neither an outcome nor a message for people came of it."""
        return self.code not in _STATUS

    @property
    def reason(self) -> str:
        """Why it ended like this, in one text."""
        words = self.outcome.get("reason") or self.outcome.get("message") or self.errors.strip()
        return str(words or f"exit code {self.code}")[:_MAX_REASON]

    def changes(self) -> dict[str, Any]:
        """What the end changes in the state of the job."""
        given = self.outcome.get("status")
        status = given if given in ENDED else _STATUS.get(self.code, "interrupted")
        return {"status": status, "reason": "" if status == "verified" else self.reason}


class RunProcess:
    """One job at work."""

    def __init__(self, job: Job, run: Path, process: subprocess.Popen[bytes], files: _Files) -> None:
        self._job = job
        self._run = run
        self._process = process
        self._files = files

    @classmethod
    def start(cls, fleet: Fleet, job: Job, run: Path, folder: Path, *, tries: int, until: int) -> Self:
        """Run the job in ``run``, or continue what is there. ``tries``: how often it was begun, with this."""
        files = _Files.of(folder, job)
        task = fleet.task_of(job)
        files.task.write_text(as_yaml(task), encoding="utf-8")
        files.permit_until(until)
        command = _resume(task, run, tries) if (run / ".git").exists() else _begin(files.task, run)
        with files.output.open("wb") as output, files.errors.open("wb") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "loop_runner", *command, "-q", "--json"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                cwd=fleet.folder,
                env={**os.environ, PERMIT: str(files.permit)},
                start_new_session=True,
            )
        return cls(job, run, process, files)

    def permit(self, until: int) -> None:
        """Let it send requests until that moment of the boot clock."""
        self._files.permit_until(until)

    def give(self, note: str) -> bool:
        """Give the run a note for its model; False while the run cannot take it yet."""
        try:
            lr.open(self._run).note(note)
        except LoopRunnerError:
            return False
        return True

    def poll(self) -> Ended | None:
        """How it ended; None while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return Ended(code, self._files.outcome(), self._files.errors.read_text("utf-8", "replace")[-4000:])

    def wait(self) -> Ended:
        """Wait for the end, and kill it when it does not come."""
        end = time.monotonic() + _STOP_S
        while (ended := self.poll()) is None:
            if time.monotonic() > end:
                self.kill()
            time.sleep(0.05)
        return ended

    def stop(self) -> None:
        """Ask it to stop, as Ctrl-C does."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def run_or_none(self) -> Path | None:
        """The run folder, once it has a commit."""
        return self._run if self.commit() else None

    def commit(self) -> str:
        """The commit that the run is at; "" before the first."""
        head = self._run / ".git" / "refs" / "heads" / "main"
        try:
            return head.read_text().strip()
        except OSError:
            return "packed" if (self._run / ".git" / "packed-refs").exists() else ""

    def has_new_pass(self, commit: str) -> bool:
        """Whether a pass has ended since ``commit``."""
        now = self.commit()
        if not now or now == commit:
            return False
        passes = sum(1 for path in (self._run / "passes").glob("*/verdict.json") if path.is_file())
        is_new = passes > self._files.passes
        self._files.passes = passes
        return is_new

    def progress(self) -> dict[str, Any]:
        """What the run has come to, for the state of the job."""
        if not self.commit():
            return {}
        try:
            run = lr.open(self._run)
            usage, cost = run.usage, run.cost
        except LoopRunnerError:
            return {}
        result = {"tokens": usage.input_tokens + usage.output_tokens, "commit": self.commit()}
        folders = sorted(self._run.glob("passes/*/turns/*"))
        if folders:
            result |= {"passes": int(folders[-1].parent.parent.name), "turns": len(folders)}
        return result if cost is None else result | {"spent_usd": cost}

    def result(self, state: JobState) -> bytes:
        """One line of the results: nothing in it depends on the worker or on time."""
        outcome = self._files.outcome()
        matched = {
            "job": self._job.name,
            "status": state.status,
            "answer": outcome.get("answer", ""),
            "reason": state.reason,
            "passes": state.passes,
            "turns": state.turns,
            "tokens": state.tokens,
            "usd": state.spent_usd,
            "values": dict(self._job.values),
        }
        return json.dumps(matched, ensure_ascii=False).encode("utf-8", "replace")


@dataclass(slots=True)
class _Files:
    """What a worker keeps about one job, beside the run folder."""

    task: Path
    permit: Path
    output: Path
    errors: Path
    passes: int = 0

    @classmethod
    def of(cls, folder: Path, job: Job) -> Self:
        own = folder / "jobs" / job.name
        own.mkdir(parents=True, exist_ok=True)
        return cls(own / "task.yaml", own / "permit", own / "output.json", own / "errors.txt")

    def permit_until(self, moment: int) -> None:
        permit_until(self.permit, moment)

    def outcome(self) -> Mapping[str, Any]:
        try:
            result = json.loads(self.output.read_bytes() or b"{}")
        except (OSError, ValueError, RecursionError):
            return {}
        return result if isinstance(result, dict) else {}


def _begin(task: Path, run: Path) -> list[str]:
    return ["run", str(task), "--run-dir", str(run)]


def _resume(task: Mapping[str, Any], run: Path, tries: int) -> list[str]:
    base = task["task_dir"]
    budget = task.get("budget") or {}
    more = []
    if tries > 1 and isinstance(passes := budget.get("passes", 10), int):
        more = ["--set", f"budget.passes={passes * tries}"]
    return ["resume", str(run), "--trust", "--inputs", base, "--set", f"task_dir={base}", *more]
