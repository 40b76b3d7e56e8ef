"""What a client may ask of a run, for every API and the dashboard: to pause, continue, stop, note, decide.

Each function raises ``Fault`` for what cannot be done now. The run itself answers with an event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import loop_runner as lr
from loop_runner.serve import guard
from loop_runner.serve.desk import Desk
from loop_runner.serve.fault import Fault, bad
from loop_runner.serve.supervisor import Tracked

LIMITS = ("passes", "turns", "tokens", "usd", "wall", "subcalls", "tool_calls")


def pause(desk: Desk, run: Tracked) -> None:
    """Pause at the next commit."""
    desk.supervisor.pause(_live(run))


def stop(desk: Desk, run: Tracked) -> None:
    """Stop as one Ctrl-C does."""
    desk.supervisor.stop(_live(run))


def resume(desk: Desk, run: Tracked) -> None:
    """Continue a paused run, or one that ended without a verified answer."""
    if run.status == "verified":
        raise Fault(
            409, "run_is_verified", "the run is verified: continue it with a new question (`continues`)"
        )
    desk.supervisor.resume(run)


async def budget(desk: Desk, run: Tracked, limits: Mapping[str, Any]) -> None:
    """Change limits: of an active run from its next turn on, of one that has ended by continuing it."""
    for key, value in limits.items():
        if key not in LIMITS or isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise bad(f"a budget has positive numbers for {', '.join(LIMITS)}", str(key)[:40])
    if run.state == "queued":
        raise Fault(409, "run_is_queued", "the run has not begun: change its limits when it has")
    await _requested(lambda: lr.open(run.folder).raise_budget(**limits))
    if run.state != "running":
        desk.supervisor.resume(run)


async def note(run: Tracked, text: str) -> None:
    """Leave a note for the model: it sees the note once, in its next message."""
    _live(run)
    await _requested(lambda: lr.open(run.folder).note(text))


async def approve(run: Tracked) -> None:
    """Approve the answer that a `human` verifier asks about."""
    owner = guard.credential.get()
    _live(run)
    await _requested(lambda: lr.open(run.folder).approve(by=owner))


async def reject(run: Tracked, why: str) -> None:
    """Reject it; the next pass is shown why."""
    owner = guard.credential.get()
    _live(run)
    await _requested(lambda: lr.open(run.folder).reject(why, by=owner))


async def _requested(ask: Callable[[], object]) -> None:
    """Place a request in the run folder."""
    try:
        await asyncio.to_thread(ask)
    except lr.LoopRunnerError as error:
        raise Fault(409, "not_possible", f"{error.message}; {error.hint}") from error


def _live(run: Tracked) -> Tracked:
    if not run.is_live:
        raise Fault(409, "run_has_ended", f"the run has ended: it is {run.status}")
    return run
