"""The runs of the service: admits requests, queues runs, sees how they end, finds them after a restart.

Everything here happens in one event loop. What must survive is in the store before a client hears of it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import loop_runner as lr
from loop_runner.serve import ended
from loop_runner.serve.fault import Fault
from loop_runner.serve.launching import Process
from loop_runner.serve.service_settings import Settings
from loop_runner.serve.store import Record, Store

_TICK_S = 0.1
_MOST_RESTARTS = 3  # of a run whose process dies without a word
_RETRY_AFTER_S = 30

Files = Callable[[str], Mapping[str, bytes]]
"""The files of a request with this id, ``task.yaml`` among them; raises ``Fault`` for what cannot work."""


class Tracked:
    """One run of the service. ``state`` is ``queued``, ``running``, ``paused`` or ``ended``."""

    def __init__(self, record: Record, store: Store) -> None:
        self.record = record
        self.folder = store.run_folder(record.id)
        self.process = Process(store.request(record.id), self.folder)
        self.state = "queued"
        self.end: dict[str, Any] | None = None
        self.restarts = 0
        self.clients = 0
        self.leave_at: float | None = None
        self.is_asked = False  # to stop or to pause, since it was started
        self.seen_bytes = -1
        self._changed = asyncio.Event()

    @property
    def trace(self) -> str:
        """The file of the run's events."""
        return str(self.folder / ".git" / "loop-runner" / "events.jsonl")

    @property
    def is_live(self) -> bool:
        """Whether it can return a further answer without a new run."""
        return self.state != "ended"

    @property
    def status(self) -> str:
        """The state, or how it ended."""
        return str(self.end["status"]) if self.end else self.state

    def notify(self) -> None:
        """Wake everything that waits for news of this run."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def news(self, timeout_s: float) -> bool:
        """Wait for news; False if none came in time."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), timeout_s)
            return True
        return False


class Supervisor:
    """All runs of the service."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self.settings, self.store = settings, store
        self.runs: dict[str, Tracked] = {}
        self.processes_started = 0
        self._by_key: dict[tuple[str, str], Tracked] = {}
        self._by_body: dict[tuple[str, str], Tracked] = {}
        self._queue: deque[Tracked] = deque()
        self._active: dict[str, Tracked] = {}  # with a process
        self._starting: set[Tracked] = set()
        self._admission = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    # ── starting and stopping the service ───────────────────────────────────────────────────────────

    def start(self) -> None:
        """Find the runs of earlier services, and watch from now on."""
        for record in self.store.records():
            self._recover(self._track(record))
        self._spawn(self._watch())

    async def close(self) -> None:
        """Stop watching. Runs continue: they are processes of their own."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.store.close()

    def _recover(self, run: Tracked) -> None:
        run.end = self.store.end(run.record.id)
        if run.end is not None:
            run.state = "ended"
        elif run.process.is_alive():
            self._activate(run)
        elif self.store.wanted(run.record.id) == "run" and not (run.folder / ".git").exists():
            self._queue.append(run)
        else:  # perhaps it ended while no service was there to see it
            run.state = "running"
            self._spawn(self._finish(run, was_seen=False))
        if run.is_live:
            self._start_grace(run)

    def _track(self, record: Record) -> Tracked:
        run = self.runs[record.id] = Tracked(record, self.store)
        self._by_body[record.credential, record.body_sha256] = run
        if record.key_sha256:
            self._by_key[record.credential, record.key_sha256] = run
        return run

    # ── requests ────────────────────────────────────────────────────────────────────────────────────

    async def admit(self, record: Record, files: Files, *, is_retry: bool) -> tuple[Tracked, bool]:
        """The run that answers a request, and whether it was there before. ``record.id`` is ignored."""
        if (known := self._known(record, is_retry=is_retry)) is not None:
            return known, True
        async with self._admission:
            if (known := self._known(record, is_retry=is_retry)) is not None:
                return known, True
            self._refuse_if_full()
            record = replace(record, id=self.store.new_id(record.question), created_at=time.time())
            await asyncio.shield(asyncio.to_thread(self._place, record, files))
            run = self._track(record)
            self._queue.append(run)
        self._start_grace(run)
        self._launch()
        return run, False

    def _place(self, record: Record, files: Files) -> None:
        self.store.place(record, files(record.id))

    def _known(self, record: Record, *, is_retry: bool) -> Tracked | None:
        """The run of an earlier request that this one repeats."""
        if record.key_sha256:
            result = self._by_key.get((record.credential, record.key_sha256))
            if result is not None and result.record.body_sha256 != record.body_sha256:
                message = "this Idempotency-Key was used with another body: take a new key for a new request"
                raise Fault(409, "idempotency_key_conflict", message)
        else:
            result = self._by_body.get((record.credential, record.body_sha256))
            if result is not None and not (result.is_live or is_retry):
                result = None
        if result is not None and result.state == "paused":
            self.resume(result)
        return result

    def _refuse_if_full(self) -> None:
        waiting = len(self._queue)
        if waiting >= self.settings.max_queued and self.active >= self.settings.max_runs:
            raise Fault(
                429,
                "queue_full",
                f"{self.active} runs are active and {waiting} wait: try again later",
                headers={"retry-after": str(_RETRY_AFTER_S)},
            )

    def of(self, run_id: str, credential: str) -> Tracked | None:
        """A run of this credential."""
        result = self.runs.get(run_id)
        return result if result is not None and result.record.credential == credential else None

    def of_credential(self, credential: str) -> Iterator[Tracked]:
        """All runs of this credential, the newest first."""
        result = (run for run in self.runs.values() if run.record.credential == credential)
        yield from sorted(result, key=lambda run: -run.record.created_at)

    @property
    def active(self) -> int:
        """How many runs have a process, or are about to have one."""
        return len(self._active) + len(self._starting)

    @property
    def queued(self) -> int:
        """How many runs wait for a free place."""
        return len(self._queue)

    # ── clients that come and go ────────────────────────────────────────────────────────────────────

    def attach(self, run: Tracked) -> None:
        """A client waits for this run."""
        run.clients += 1
        run.leave_at = None

    def detach(self, run: Tracked) -> None:
        """A client does not wait any more; when the last one left, the grace period begins."""
        run.clients -= 1
        self._start_grace(run)

    def _start_grace(self, run: Tracked) -> None:
        if run.clients == 0 and run.is_live and not run.record.background:
            run.leave_at = time.monotonic() + self.settings.grace_s

    # ── what a client asks for ──────────────────────────────────────────────────────────────────────

    def pause(self, run: Tracked) -> None:
        """End the run's process at its next commit; ``resume`` continues."""
        if run.is_live and run.state != "paused":
            self._interrupt(run, "pause")

    def stop(self, run: Tracked) -> None:
        """End the run as one Ctrl-C does. What is committed stays."""
        if run.is_live:
            self._interrupt(run, "stop")

    def _interrupt(self, run: Tracked, wanted: str) -> None:
        self.store.want(run.record.id, wanted)
        if run.state == "running":
            run.is_asked = run.is_asked or run.process.interrupt()
            return
        if run in self._queue:
            self._queue.remove(run)
        if wanted == "stop":
            self._set_end(run, ended.without_result("cancelled", "it was cancelled before it ended"))
        else:
            run.state = "paused"
        run.notify()

    def resume(self, run: Tracked) -> None:
        """Continue a paused run, or one that ended without a verified answer."""
        if run.state in ("running", "queued"):
            return
        self.store.want(run.record.id, "run")
        self.store.keep_end(run.record.id, None)
        run.end, run.state, run.restarts = None, "queued", 0
        self._queue.append(run)
        self._start_grace(run)
        run.notify()
        self._launch()

    async def remove(self, run: Tracked) -> None:
        """Remove a run that is not active, with its folder."""
        if run.state in ("running", "queued"):
            raise Fault(409, "run_is_active", "the run is active: cancel it first")
        self.runs.pop(run.record.id, None)
        for index in (self._by_key, self._by_body):
            for name in [name for name, result in index.items() if result is run]:
                del index[name]
        await asyncio.to_thread(self.store.remove, run.record.id)

    # ── watching ────────────────────────────────────────────────────────────────────────────────────

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            for run in list(self._active.values()):
                self._look(run)
            self._pause_abandoned()
            self._launch()

    def _look(self, run: Tracked) -> None:
        size = _size(run.trace)
        if size != run.seen_bytes:
            run.seen_bytes = size
            run.notify()
        if not run.process.is_alive():
            del self._active[run.record.id]
            self._spawn(self._finish(run))
        elif not run.is_asked and self.store.wanted(run.record.id) != "run":
            run.is_asked = run.process.interrupt()

    def _pause_abandoned(self) -> None:
        now = time.monotonic()
        for run in (*self._active.values(), *self._queue):
            if run.leave_at is not None and run.leave_at < now and not run.clients:
                run.leave_at = None
                self.pause(run)

    def _launch(self) -> None:
        while self._queue and self.active < self.settings.max_runs:
            run = self._queue.popleft()
            run.state = "running"
            self._starting.add(run)
            self._spawn(self._begin(run))

    def _activate(self, run: Tracked) -> None:
        run.state, run.is_asked = "running", False
        self._active[run.record.id] = run
        run.notify()

    async def _begin(self, run: Tracked) -> None:
        """Start the process of a run, from the run that it continues where there is one."""
        try:
            if run.record.previous and not (run.folder / ".git").exists():
                await asyncio.to_thread(_fork, self.store, run.record)
            run.process.start()
            self.processes_started += 1
        except (lr.LoopRunnerError, OSError) as error:
            self._set_end(run, ended.without_result("failed", str(error)))
        else:
            self._activate(run)
        finally:
            self._starting.discard(run)

    async def _finish(self, run: Tracked, *, was_seen: bool = True) -> None:
        """Find out how a process ended, and whether it needs another one.

        An interruption that no service saw was not asked for (a reboot): the run continues.
        """
        end = await asyncio.to_thread(ended.of_run, run.folder, run.process.report())
        if run.process.is_alive():  # another process took over
            self._activate(run)
            return
        wanted = self.store.wanted(run.record.id)
        if end["status"] == "interrupted" and not was_seen:
            end["status"] = "crashed"
        if end["status"] in ("interrupted", "crashed") and wanted == "stop":
            end["status"] = "cancelled"
        if end["status"] == "crashed" and wanted == "run" and run.restarts < _MOST_RESTARTS:
            run.restarts += 1
            run.state = "queued"
            self._queue.append(run)
        elif end["status"] in ("interrupted", "crashed") and wanted == "pause":
            run.state = "paused"
        elif end["status"] == "interrupted":
            self.store.want(run.record.id, "pause")
            run.state = "paused"
        else:
            self._set_end(run, end)
        run.notify()
        self._launch()

    def _set_end(self, run: Tracked, end: dict[str, Any]) -> None:
        self.store.keep_end(run.record.id, end)
        run.end, run.state = end, "ended"
        run.notify()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _fork(store: Store, record: Record) -> None:
    source = store.run_folder(record.previous)
    prompt = (store.request(record.id) / "prompt.md").read_text(encoding="utf-8")
    lr.fork(source, store.run_folder(record.id).absolute(), prompt=prompt)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - ten times a second for each run
    except OSError:
        return -1
