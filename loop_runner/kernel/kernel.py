"""The kernel as the session sees it: start, run a cell, take a snapshot, close.

Owns one kernel process at a time and replaces it when it is gone: a cell that hangs, crashes or breaks the
protocol costs that cell only. Relies on ``kernel_process`` for one life of it and on ``report`` to check its
frames. The model's code never makes it raise; it never unpickles, and never trusts an unchecked frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from loop_runner import failpoints, scratch
from loop_runner.errors import EnvironmentFault, KernelError, LoopRunnerError
from loop_runner.kernel import report
from loop_runner.kernel.checker import Checker
from loop_runner.kernel.cleaning import redacted, secret_in, without_secrets
from loop_runner.kernel.deaths import CHECKER, KERNEL, Death, Deaths
from loop_runner.kernel.inside import wire
from loop_runner.kernel.inside.names import label
from loop_runner.kernel.kernel_process import KernelDiedError, KernelProcess
from loop_runner.kernel.launch import INSIDE, interpreter, kernel_command, preloaded
from loop_runner.kernel.lm_handler import LmHandler, SubModel
from loop_runner.kernel.lost import as_lost, row
from loop_runner.kernel.quota import Quota
from loop_runner.records import Answer, CellEnd, CellResult, Inputs, Snapshot, Variable
from loop_runner.sandbox.probe import SandboxReport, forget, probe, require_tier
from loop_runner.sandbox.wrap import Launch, Limits, wrap
from loop_runner.task.kernel_settings import KernelSettings

START_TIMEOUT_S = 30.0
_LEAST_SAVE_S = 2.0  # a short time limit for cells does not apply to saving their variables
MAX_SNAPSHOT_BYTES = 960 * 1024 * 1024
MAX_FILE_BYTES = 1024 * 1024 * 1024  # one file that the model's code writes
_WAIT_CHECK_S = 0.1  # how often the clock is read while a sub-call is open
_NAMES_IN_NOTICE = 20
_MAX_GONE = 1000  # lost names that are tracked; a cell can make a million in a moment
_TRIALS = 10  # how often a snapshot is retaken without a name that does not load
_QUOTA_CHECK_S = 1.0  # how often the workspace is checked while a cell runs
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Life:
    """A running process and the handler of its sub-calls."""

    process: KernelProcess
    handler: LmHandler

    def close(self) -> None:
        self.process.close()
        self.handler.close()


class _TimeOutError(Exception):
    """The kernel did not answer in time."""


class Kernel:
    """Keeps the model's variables in a process of its own. Not thread-safe: one session uses it."""

    def __init__(
        self,
        settings: KernelSettings,
        inputs: Inputs,
        workspace: Path,
        sub_model: SubModel | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        is_short_lived: bool = False,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Without ``sub_model`` and ``loop``, ``connect`` must be called before ``start``.

        ``is_short_lived``: no snapshot will be requested, so nothing is prepared for one. ``tools``: as
        ``ToolSpec.for_kernel`` describes them.
        """
        self._settings = settings
        self._is_short_lived = is_short_lived
        self._is_aborted = False
        self._given: Callable[[], Inputs] = lambda: inputs
        self._growing: tuple[Path, ...] = ()
        self._tools = list(tools)
        self._workspace = workspace
        self._private: scratch.Scratch | None = None
        self._life: _Life | None = None
        self._last = Snapshot()  # the last one returned or started with: a restart goes back to it
        self._answer = Answer()
        self._names: set[str] = set()
        self.python = ""  # version of Python that the kernel runs under, once it has started
        self._quota = Quota(workspace)
        self._loaded: set[str] = set()  # SHA-256 of blobs that are known to load
        self._deaths = Deaths()
        self._checker = Checker(
            self._launch, lambda: self._start_header(Snapshot(), is_trial=True), self._deaths
        )
        if sub_model is not None and loop is not None:
            self.connect(sub_model, loop)

    def connect(self, sub_model: SubModel, loop: asyncio.AbstractEventLoop) -> None:
        """Set the handler of the cells' sub-calls, and the loop that it runs on."""
        self._loop = loop
        self._sub_model = sub_model

    def follow(self, given: Callable[[], Inputs], folder: Path) -> None:
        """Take the inputs from ``given`` from now on: pages that come later lie in ``folder``."""
        self._given, self._growing = given, (folder,)
        self._checker.close()  # a process that waits was not given the folder

    def warm(self) -> None:
        """Start a process that ``start`` takes over, without waiting for it; ``start`` reports faults."""
        with contextlib.suppress(LoopRunnerError, OSError):
            self._checker.warm()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def sandbox(self) -> SandboxReport:
        """The model code's sandbox; ``EnvironmentFault`` when it is weaker than the settings require."""
        observed = probe(interpreter(self._settings))
        require_tier(observed, self._settings.require_tier)
        return observed

    # ── the session's four operations ───────────────────────────────────────────────────────────────────

    def start(self, snapshot: Snapshot, answer: Answer) -> tuple[Variable, ...]:
        """Start afresh from ``snapshot``; returns the variables of it that could not be restored.

        A snapshot that kills or hangs the kernel is dropped as a whole. Raises ``KernelError`` when not even
        an
        empty kernel starts.
        """
        failpoints.passing("kernel.start")
        return self._start(snapshot, answer)

    def _start(self, snapshot: Snapshot, answer: Answer) -> tuple[Variable, ...]:
        self._end_life()
        snapshot = replace(snapshot, variables=tuple(map(as_lost, snapshot.variables)))
        self._last, self._answer = snapshot, replace(answer, is_ready=False)
        try:
            failed = self._begin_life(snapshot)
        except (KernelDiedError, _TimeOutError, wire.WireError) as error:
            self._deaths.add(KERNEL, "starting with the saved variables", error)
            if forget():  # the sandbox may have refused it, so try once more with what works now
                self._checker.close()
                return self._start(snapshot, answer)
            failed = self._begin_empty(snapshot, f"loading it ended the kernel: {error}")
        everything = failed.get("", "")
        self._loaded = {
            saved.blob
            for saved in snapshot.variables
            if saved.blob and not (everything or saved.name in failed)
        } - {saved.blob for saved in snapshot.variables if saved.name in failed}
        return tuple(
            replace(
                variable,
                status="lost",
                reason=failed.get(variable.name) or variable.reason or everything,
                blob="",
            )
            for variable in snapshot.variables
            if variable.status == "lost" or variable.name in failed or everything
        )

    def run_cell(self, code: str, number: int) -> CellResult:
        """Run one cell. One that hangs or kills the kernel has an ordinary result; the kernel restarts."""
        return redacted(self._run_cell(code, number))

    def _run_cell(self, code: str, number: int) -> CellResult:
        life = self._running()
        slack = self._quota.slack()
        started = time.monotonic()
        waited_before = life.handler.clock.seconds()
        try:
            if not self._is_short_lived:
                self._checker.warm()  # it starts while the cell runs
            life.process.send({"type": "cell", "number": number}, code.encode("utf-8", "replace"))
            frame, stopped = self._await_cell(life, started, waited_before, slack)
            done = self._checked(life, lambda: report.read_done(frame, number))
        except (KernelDiedError, _TimeOutError) as error:
            return self._cell_lost(life, error, started, waited_before)
        seconds = time.monotonic() - started - (life.handler.clock.seconds() - waited_before)
        return self._cell_done(life, done, max(seconds, 0.0), stopped)

    def snapshot(self, *, full: bool = False) -> Snapshot:
        """All current variables. If saving ends the kernel: the last saved ones, the others as lost.

        ``full``: write everything again, including what the cells cannot have touched.
        """
        safe = self._last
        try:
            taken = self._tried(self._take(full=full), full=full)
        except (KernelDiedError, _TimeOutError) as error:
            self._deaths.add(KERNEL, "saving the variables", error)
            self._last = safe
            taken = self._snapshot_lost(error)
        self._loaded |= taken.blobs.keys()
        self._last = taken
        return without_secrets(taken)

    def _take(self, *, full: bool, unloadable: Mapping[str, str] | None = None) -> Snapshot:
        """The kernel's report of its variables. It counts blobs as ``_last`` does."""
        life = self._running()
        before = self._last
        request = {
            "type": "snapshot",
            "max_bytes": MAX_SNAPSHOT_BYTES,
            "seconds": self._settings.timeout_s / 2,
            "full": full,
            "unloadable": dict(unloadable or {}),
        }
        life.process.send(request)
        seconds = max(self._settings.timeout_s, _LEAST_SAVE_S)
        frame = self._receive(life, seconds, wire.MAX_PAYLOAD_BYTES)
        return self._checked(life, lambda: report.read_snapshot(frame, MAX_SNAPSHOT_BYTES, before))

    def _tried(self, taken: Snapshot, *, full: bool) -> Snapshot:
        """``taken`` if all its new blobs load in a fresh process; else another without those that do not."""
        for round_number in range(_TRIALS):
            new = {name: blob for name, blob in taken.blobs.items() if name not in self._loaded}
            if not new:
                break
            if secret := secret_in(taken, new):
                self._last = taken
                taken = self._take(full=full, unloadable=secret)
                continue
            failed = self._checker.try_blobs(list(new.values()), self._settings.timeout_s / 4)
            if not failed:
                break
            if "" in failed or round_number == _TRIALS - 2:
                why = next(iter(failed.values()))
                failed = {variable.name: why for variable in taken.variables if variable.blob in new}
            self._last = taken  # the kernel counts from here
            # The first one only: others may have failed because they share something with it.
            first = (
                dict(list(failed.items())[:1]) if round_number < _TRIALS - 2 and "" not in failed else failed
            )
            taken = self._take(full=full, unloadable=first)
        return taken

    def take_deaths(self) -> tuple[Death, ...]:
        """Deaths of processes that no result reported, since the last call."""
        return self._deaths.take()

    def abort(self) -> None:
        """End the process now, from any thread, and start no other; ``run_cell`` raises ``KernelError``."""
        self._is_aborted = True
        if (life := self._life) is not None:
            life.process.violated("its run has ended")

    def close(self) -> None:
        """End the process and remove its private folder. May be called twice."""
        self._end_life()
        self._checker.close()
        if self._private is not None:
            self._private.remove()
            self._private = None

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────

    def _await_cell(
        self, life: _Life, started: float, waited_before: float, slack: float
    ) -> tuple[wire.Frame, str]:
        """The cell's report, and why it was interrupted ("" when it was not).

        When it exceeds its time or its quota it is interrupted, then killed.
        """
        look = time.monotonic() + _QUOTA_CHECK_S
        clock = life.handler.clock

        def time_left() -> float:
            waited = clock.seconds() - waited_before
            left = self._settings.timeout_s - (time.monotonic() - started - waited)
            return min(left, _WAIT_CHECK_S) if clock.is_waiting and left > 0 else left

        why = ""
        while not why:
            frame = life.process.receive(partial(_until, look, time_left))
            if frame is not None:
                return frame, ""
            if time_left() <= 0:
                why = self._over_time()
            elif (now := time.monotonic()) >= look:
                why = self._quota.check(slack) or ""
                look = now + max(_QUOTA_CHECK_S, 10 * (time.monotonic() - now))  # a tenth of the time at most
        life.process.interrupt()
        try:
            return self._receive(life, self._settings.grace_s), why
        except _TimeOutError:
            raise _TimeOutError(f"{why} and did not react to an interrupt") from None

    def _receive(self, life: _Life, timeout_s: float, max_payload: int = 0) -> wire.Frame:
        deadline = time.monotonic() + timeout_s
        frame = life.process.receive(lambda: deadline - time.monotonic(), max_payload)
        if frame is None:
            raise _TimeOutError(f"no answer within {timeout_s:g} seconds")
        return frame

    def _checked(self, life: _Life, read: Callable[[], _T]) -> _T:
        """``read()``; a frame that does not pass ends the process."""
        try:
            return read()
        except wire.WireError as error:
            raise life.process.violated(str(error)) from None

    # ── results ─────────────────────────────────────────────────────────────────────────────────────

    def _cell_done(self, life: _Life, done: report.CellReport, seconds: float, stopped: str) -> CellResult:
        self._names = (self._names | set(done.added)) - set(done.removed)
        self._answer = replace(done.answer, is_ready=False)
        output, dropped = report.compose_output(done, life.process.raw_output(), self._settings.shown_chars)
        end: CellEnd = "timed_out" if stopped else done.end
        notices, answer = done.notices, done.answer
        if stopped:
            notices += (f"{stopped}: it was interrupted; its earlier assignments were kept",)
            answer = self._answer
        elif over := self._quota.check():
            notices += (f"{over}: remove what you do not need before you write more",)
        return CellResult(end, output, dropped, done.error, answer, notices, seconds)

    def _cell_lost(self, life: _Life, error: Exception, started: float, waited_before: float) -> CellResult:
        """The result of a cell that ended the kernel; the next kernel is already running."""
        waited = life.handler.clock.seconds() - waited_before
        seconds = max(time.monotonic() - started - waited, 0.0)
        timed_out = isinstance(error, _TimeOutError)
        life.process.violated("it was over time")
        raw, dropped = life.process.raw_output()
        empty = report.CellReport("ok", "", "", 0, "", None, self._answer, (), (), ())
        output, cut = report.compose_output(
            empty, (report.without_our_frames(raw), dropped), self._settings.shown_chars
        )
        what = str(error)
        restarted, lost = self._restart()
        notices = (f"{what}; what it printed is lost", *restarted)
        end: CellEnd = "timed_out" if timed_out else "died"
        return CellResult(end, output, cut, what, self._answer, notices, seconds, lost)

    def _over_time(self) -> str:
        return f"the cell ran longer than {self._settings.timeout_s:g} seconds"

    def _snapshot_lost(self, error: Exception) -> Snapshot:
        kept = {variable.name for variable in self._last.variables}
        reason = f"saving it ended the kernel: {error}"
        lost = tuple(
            Variable(name, "?", 0, "", "lost", reason) for name in sorted(self._names - kept)[:_MAX_GONE]
        )
        self._last = Snapshot((*self._last.variables, *lost), self._last.blobs, self._last.python)
        self._restart()
        return self._last

    def _restart(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Restart from the last snapshot; returns the notices for the model, and the names lost by it."""
        before = set(self._names)
        was_gone = {variable.name for variable in self._last.variables if variable.is_gone}
        lost = [
            variable for variable in self._start(self._last, self._answer) if variable.name not in was_gone
        ]
        gone = dict.fromkeys(before - self._names, "") | {
            failed_variable.name: failed_variable.reason for failed_variable in lost
        }
        lines = ["the kernel was restarted: variables are as they were after the last turn that was saved"]
        if gone:
            names = [f"{label(name)} ({why})" if why else label(name) for name, why in sorted(gone.items())]
            more = f" and {len(names) - _NAMES_IN_NOTICE} more" if len(names) > _NAMES_IN_NOTICE else ""
            lines.append(f"lost variables: {', '.join(names[:_NAMES_IN_NOTICE])}{more}")
        return tuple(lines), tuple(gone)

    # ── lives ───────────────────────────────────────────────────────────────────────────────────────

    def _running(self) -> _Life:
        if self._life is None:
            raise KernelError("the kernel is not running", hint="call start() first")
        return self._life

    def _begin_life(self, snapshot: Snapshot) -> dict[str, str]:
        """Load ``snapshot`` into the warm process or a new one; names that failed, each with its reason."""
        if self._is_aborted:
            raise KernelDiedError("its run has ended")
        warm = self._checker.give()
        if warm is not None:
            try:
                return self._begin_in(warm, snapshot)
            except KernelDiedError as error:  # perhaps it had a fault of its own: a new one will show
                self._deaths.add(CHECKER, "taking the kernel's place", error)
        return self._begin_in(KernelProcess(self._launch), snapshot)

    def _begin_in(self, process: KernelProcess, snapshot: Snapshot) -> dict[str, str]:
        handler = LmHandler(
            process.lm_line,
            self._sub_model,
            self._loop,
            on_violation=lambda reason: _ignore(process.violated(reason)),
        )
        life = _Life(process, handler)
        try:
            process.send(self._start_header(snapshot), b"".join(snapshot.blobs.values()))
            size = self._given().total_bytes if self._given().is_single else 0
            seconds = START_TIMEOUT_S + (size + sum(map(len, snapshot.blobs.values()))) / 5e6
            frame = self._receive(life, seconds)
            failed, names, self.python = self._checked(life, lambda: report.read_ready(frame))
            process.raw_output()  # output of loading belongs to no cell
        except BaseException:
            life.close()
            raise
        self._life, self._names = life, set(names)
        return failed

    def _begin_empty(self, snapshot: Snapshot, reason: str) -> dict[str, str]:
        self._last = Snapshot()
        try:
            self._begin_life(Snapshot())
        except (KernelDiedError, _TimeOutError, wire.WireError) as error:
            raise KernelError(
                f"the kernel does not start: {error}",
                why="the model's code runs in it",
                hint="check `kernel.python`, `kernel.memory` and that the inputs can be read",
            ) from None
        return {variable.name: reason for variable in snapshot.variables if variable.status != "lost"}

    def _start_header(self, snapshot: Snapshot, *, is_trial: bool = False) -> Mapping[str, Any]:
        gone = [item for item in snapshot.variables if item.status == "lost"]
        inputs = self._given()
        origins = {text.name: text.origin for text in inputs.texts if text.origin}
        return {
            "type": "start",
            "inputs": [[text.name, str(text.path), text.size_bytes] for text in inputs.texts],
            "images": [image.name for image in inputs.images],
            "places": {name: origin.places for name, origin in origins.items() if origin.places},
            "parts": {text.name: text.part_of for text in inputs.texts if text.part_of},
            "headings": {name: origin.headings for name, origin in origins.items() if origin.headings},
            "single": inputs.is_single and len(inputs.texts) == 1,
            "is_trial": is_trial,  # it reads a text only when a variable needs it
            "answer": {"content": self._answer.content, "extra": dict(self._answer.extra)},
            "workspace": str(self._workspace),
            "tools": self._tools,
            "max_output_chars": self._settings.shown_chars,
            "preload": preloaded(self._settings),
            "is_warm": is_trial,  # it has time
            "blobs": [len(blob) for blob in snapshot.blobs.values()],
            "gone": [row(item) for item in gone][:_MAX_GONE],
        }

    def _launch(self, control_fd: int, lm_fd: int, life_fd: int) -> Launch:
        if self._private is None:
            self._private = scratch.make("kernel")
        fds = (control_fd, lm_fd, life_fd)
        try:
            return self._wrapped(fds)
        except EnvironmentFault:
            if not forget():
                raise
            return self._wrapped(fds)

    def _wrapped(self, fds: tuple[int, int, int]) -> Launch:
        assert self._private is not None
        argv, env = kernel_command(self._settings, *fds)
        fixed = [text.path for text in self._given().texts if text.path.parent not in self._growing]
        return wrap(
            self.sandbox().layers,
            argv,
            env,
            workspace=self._workspace,
            private_dir=self._private.path,
            read_only=[*self._growing, *fixed],
            code=[INSIDE],
            fds=fds,
            limits=self._limits(),
        )

    def _limits(self) -> Limits:
        memory_bytes = self._settings.memory_mb * 1024 * 1024
        return Limits(memory_bytes, memory_bytes, file_bytes=MAX_FILE_BYTES)

    def _end_life(self) -> None:
        if self._life is not None:
            self._life.close()
            self._life = None


def _until(look: float, time_left: Callable[[], float]) -> float:
    """Seconds to whichever comes first."""
    return min(time_left(), look - time.monotonic())


def _ignore(_: object) -> None:
    """The process was ended; the thread that waits for it will notice by itself."""
