"""Runs jobs of a fleet on this machine, each in a process of its own and under a lease.

A lease is the state ``running`` with this worker's name. It is renewed four times within its time to live,
together with what the run has committed since. The run's process may send requests only until its permit
ends, which is a little before the lease can be taken over. Others take a lease over when they have seen no
renewal for its time to live by their own clock, so clocks need not agree.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from loop_runner import EnvironmentFault
from loop_runner.fleet.fleet_file import Fleet
from loop_runner.fleet.jobs import Job
from loop_runner.fleet.run_process import Ended, RunProcess
from loop_runner.fleet.states import STOPPED, JobState, JobStatus
from loop_runner.fleet.stores import (
    NOTHING,
    Extra,
    Kept,
    LostError,
    OverBudgetError,
    Store,
    UnreachableError,
)
from loop_runner.process import permit_moment

TTL_S = 120.0
_RENEWALS = 4
_PERMITTED = 0.9  # of the time to live: a run stops before its lease can be taken over
_TICK_S = 0.2
_LOOK_S = 2.0
_LOOK_SHARE = 20  # reading a large store may take a twentieth of a worker's time
_MOST_CRASHES = 3
_PATIENCE_S = 600.0  # with a store that cannot be reached, before a worker gives up
_INTERRUPTED: JobStatus = "interrupted"


def worker_name() -> str:
    """A name that no other worker has, with the machine and the process for people."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


@dataclass(slots=True)
class _Held:
    """A job that this worker runs."""

    job: Job
    kept: Kept
    process: RunProcess
    renewed: float  # monotonic
    pushed: str = ""  # the commit that was kept last
    given: int = 0  # notes of ``kept`` that the run has
    is_asked: bool = False  # a person has changed the state
    is_stopping: bool = False


@dataclass(slots=True)
class _Seen:
    """A lease of another worker, and when it was first seen like this."""

    version: str
    since: float


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a worker has stopped. ``left`` are the jobs that have not ended."""

    left: tuple[str, ...]
    reason: str  # "" when every job has ended


@dataclass(slots=True)
class Worker:
    """Runs the ``jobs`` of ``fleet`` that no other worker runs. ``on_change`` gets every new state."""

    fleet: Fleet
    store: Store
    jobs: Sequence[Job]
    folder: Path  # of this worker's own: tasks, permits and, beside a git store, runs
    width: int
    on_change: Callable[[str, JobState], None] = lambda _name, _state: None
    should_stop: Callable[[], bool] = lambda: False
    on_wait: Callable[[str], None] = lambda _sentence: None  # the store cannot be reached
    ttl_s: float = TTL_S
    patience_s: float = _PATIENCE_S
    waits: bool = True  # for jobs that other workers run
    name: str = field(default_factory=worker_name)
    _held: dict[str, _Held] = field(default_factory=dict)
    _seen: dict[str, _Seen] = field(default_factory=dict)
    _is_out_of_money: bool = False
    _looked: float | None = None  # monotonic
    _reached: float = field(default_factory=time.monotonic)  # when the store last answered
    _look_s: float = _LOOK_S
    _is_waiting: bool = False  # for a store that cannot be reached

    def work(self) -> Ending:
        """Run jobs until none is left, the money is spent, or ``should_stop``.

        Waits while the store cannot be reached, and raises ``EnvironmentFault`` after ten minutes of that.
        """
        try:
            while not self.should_stop():
                try:
                    if ending := self._round():
                        return ending
                except UnreachableError as error:
                    if time.monotonic() - self._reached > self.patience_s:
                        raise
                    self._wait_for_store(error)
                time.sleep(_TICK_S)
            return self._stopped()
        finally:
            self._let_go()

    def _round(self) -> Ending | None:
        """Look after the jobs held here and, every two seconds and when one has ended, at the store.

        The larger the store, the rarer: 10,000 workers that read a million states would do nothing else.
        """
        self._look_after()
        since = None if self._looked is None else time.monotonic() - self._looked
        if since is not None and since < self._look_s:
            return None
        began = self._looked = time.monotonic()  # also when it fails: a store that is away is asked rarely
        states = self.store.states()
        self._reached, self._is_waiting = time.monotonic(), False
        self._look_s = max(_LOOK_S, _LOOK_SHARE * (self._reached - began))
        self._hear(states)
        self._take(states)
        return None if self._held else self._ending(states)

    def _wait_for_store(self, error: UnreachableError) -> None:
        if not self._is_waiting:
            self.on_wait(f"{error.message}; trying again for {self.patience_s / 60:.0f} minutes")
        self._is_waiting = True
        time.sleep(_LOOK_S)

    def _hear(self, states: Mapping[str, Kept]) -> None:
        """Notice where a person has changed the state of a job that runs here."""
        for name, held in self._held.items():
            held.is_asked = name in states and states[name].version != held.kept.version

    # ── taking jobs ─────────────────────────────────────────────────────────────────────────────────

    def _take(self, states: Mapping[str, Kept]) -> None:
        """Take jobs until the width is used."""
        self._is_out_of_money = False
        for job in self._in_order(states):
            if len(self._held) >= self.width:
                return
            kept = states.get(job.name)
            if job.name in self._held or not self._is_free(job, kept):
                continue
            try:
                self._begin(job, kept)
            except LostError:
                continue  # another worker was faster
            except OverBudgetError:
                self._is_out_of_money = True
                return

    def _in_order(self, states: Mapping[str, Kept]) -> list[Job]:
        """The jobs, those to be tried first at the beginning."""
        blank = JobState()

        def rank(job: Job) -> tuple[float, ...]:
            state = states[job.name].state if job.name in states else blank
            by = {"failed-first": float(state.attempts == 0), "budget": state.spent_usd}
            return tuple(by[name] for name in self.fleet.order)

        return sorted(self.jobs, key=rank)

    def _is_free(self, job: Job, kept: Kept | None) -> bool:
        if kept is None:
            return True
        if kept.state.has_ended or kept.state.is_paused:
            return False
        # A lease of this worker's own, whose answer was lost on the way, is its own to take again.
        is_leased = kept.state.status == "running" and kept.state.worker != self.name
        return not is_leased or self._has_expired(job.name, kept)

    def _has_expired(self, name: str, kept: Kept) -> bool:
        seen = self._seen.get(name)
        now = time.monotonic()
        if seen is None or seen.version != kept.version:
            self._seen[name] = _Seen(kept.version, now)
            return False
        return now - seen.since > kept.state.ttl_s

    def _begin(self, job: Job, kept: Kept | None) -> None:
        before = kept.state if kept else JobState()
        is_lost = before.status == "running" and before.worker != self.name
        lost = (before.worker,) if is_lost else ()
        state = replace(
            before,
            digest=job.digest(),
            crashes=before.crashes + lost,
            status="running",
            worker=self.name,
            beat=before.beat + 1,
            ttl_s=self.ttl_s,
            reserved_usd=max((self.fleet.per_job_usd or 0.0) - before.spent_usd, 0.0),
            attempts=before.attempts + 1,
            reason="",
        )
        if before.is_stopped:
            self._end_unstarted(job, kept, replace(state, status="stopped", reason=STOPPED))
            return
        if len(state.crashes) >= _MOST_CRASHES:
            workers = ", ".join(state.crashes[-_MOST_CRASHES:])
            reason = f"{_MOST_CRASHES} workers were lost while they ran it: {workers}"
            self._end_unstarted(job, kept, replace(state, status="poison", reason=reason))
            return
        until = self._permit_from_now()
        taken = self.store.swap(job.name, kept, state, Extra(limit_usd=self.fleet.usd))
        self._seen.pop(job.name, None)
        try:
            process = self._start(job, state, until)
        except BaseException as error:
            self.store.swap(
                job.name, taken, replace(state, status=_INTERRUPTED, reserved_usd=0.0, reason=str(error))
            )
            raise
        self._held[job.name] = _Held(job, taken, process, time.monotonic())
        self.on_change(job.name, state)

    def _start(self, job: Job, state: JobState, until: int) -> RunProcess:
        run = self.store.run_folder(job.name, self.folder / "runs")
        return RunProcess.start(self.fleet, job, run, self.folder, tries=state.attempts, until=until)

    def _end_unstarted(self, job: Job, kept: Kept | None, state: JobState) -> None:
        ended = replace(state, reserved_usd=0.0, worker="")
        self.store.swap(job.name, kept, ended)
        self._looked = None
        self.on_change(job.name, ended)

    # ── looking after them ──────────────────────────────────────────────────────────────────────────

    def _look_after(self) -> None:
        for held in list(self._held.values()):
            try:
                if (ended := held.process.poll()) is not None:
                    self._end(held, ended)
                elif self._is_due(held):
                    self._renew(held)
            except LostError:
                self._lose(held)

    def _is_due(self, held: _Held) -> bool:
        if held.is_asked or (len(held.kept.state.notes) > held.given and held.process.run_or_none()):
            return True
        if time.monotonic() - held.renewed >= self.ttl_s / _RENEWALS:
            return True
        return held.process.has_new_pass(held.pushed)

    def _renew(self, held: _Held) -> None:
        self._give_notes(held)
        until, commit = self._permit_from_now(), held.process.commit()
        progress = held.process.progress()
        state = held.kept.state.beaten(**progress)
        state = replace(state, reserved_usd=max((self.fleet.per_job_usd or 0.0) - state.spent_usd, 0.0))
        try:
            self._swap(held, state, Extra(run=held.process.run_or_none()))
        except EnvironmentFault:
            held.renewed = (
                time.monotonic() - self.ttl_s / _RENEWALS + _LOOK_S
            )  # soon again, until the permit ends
            return
        held.process.permit(until)
        held.renewed, held.pushed, held.is_asked = time.monotonic(), commit, False
        self.on_change(held.job.name, held.kept.state)
        if (held.kept.state.is_paused or held.kept.state.is_stopped) and not held.is_stopping:
            held.is_stopping = True  # a second signal would break the turn off
            held.process.stop()

    def _swap(self, held: _Held, state: JobState, extra: Extra = NOTHING) -> None:
        """Replace the state of a job held here, with the requests that a person has added meanwhile."""
        while True:
            wanted = state.with_requests_of(held.kept.state, held.given)
            try:
                held.kept = self.store.swap(held.job.name, held.kept, wanted, extra)
            except LostError:
                now = self.store.states().get(held.job.name)
                if now is None or (now.state.worker, now.state.status) != (self.name, "running"):
                    raise
                held.kept = now
            else:
                held.given = 0
                return

    def _give_notes(self, held: _Held) -> None:
        """Give the run the notes that wait in the state; each is removed there with the next change."""
        for note in held.kept.state.notes[held.given :]:
            if not held.process.give(note):
                return
            held.given += 1

    def _end(self, held: _Held, ended: Ended) -> None:
        before = held.kept.state
        state = replace(before, **held.process.progress(), **ended.changes(), reserved_usd=0.0, worker="")
        state = replace(state, beat=before.beat + 1)
        if before.is_stopped and not state.has_ended:
            state = replace(state, status="stopped", reason=STOPPED)
        elif ended.is_crash:
            state = replace(state, crashes=(*before.crashes, self.name), status=_INTERRUPTED)
            if len(state.crashes) >= _MOST_CRASHES:
                state = replace(
                    state, status="poison", reason=f"its run crashed {_MOST_CRASHES} times: {ended.reason}"
                )
        result = held.process.result(state) if state.has_ended else None
        self._swap(held, state, Extra(run=held.process.run_or_none(), result=result))
        del self._held[held.job.name]
        self._looked = None  # there is room for another job
        self.on_change(held.job.name, state)

    def _lose(self, held: _Held) -> None:
        """Another worker has the job, or someone changed its state: its run here must not go on."""
        self._held.pop(held.job.name, None)
        held.process.kill()

    def _permit_from_now(self) -> int:
        return permit_moment(self.ttl_s * _PERMITTED)

    # ── ending ──────────────────────────────────────────────────────────────────────────────────────

    def _ending(self, states: Mapping[str, Kept]) -> Ending | None:
        left = tuple(self._left(states))
        if not left:
            return Ending((), "")
        held_by_others = any(states[name].state.status == "running" for name in left if name in states)
        if held_by_others and self.waits:
            return None
        if self._is_out_of_money:
            return Ending(left, f"the budget of the fleet does not suffice for {len(left)} more jobs")
        paused = [name for name in left if name in states and states[name].state.is_paused]
        if len(paused) == len(left):
            return Ending(left, f"{len(paused)} jobs are paused")
        return Ending(left, "other workers run them") if held_by_others else None

    def _left(self, states: Mapping[str, Kept]) -> Iterator[str]:
        for job in self.jobs:
            if job.name not in states or not states[job.name].state.has_ended:
                yield job.name

    def _stopped(self) -> Ending:
        return Ending(tuple(self._left(self.store.states())), "stopped")

    def _let_go(self) -> None:
        """Stop what runs, keep what it has committed, and give the leases back."""
        for held in self._held.values():
            held.process.stop()
        for held in list(self._held.values()):
            ended = held.process.wait()
            try:
                self._end(held, ended)
            except (LostError, EnvironmentFault):
                continue
