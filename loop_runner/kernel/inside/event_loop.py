"""Runs a cell that awaits at its top level, on an event loop of its own. Runs inside the kernel process.

Imported with the first such cell: ``asyncio`` costs tens of milliseconds. Exceptions show the cell's own
lines, without frames of the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib

from .cell_code import awaits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType
    from typing import Any

    _Outcome = tuple[object, BaseException | None]

_eval = eval  # taken now: a cell may rebind it


def run(codes: Sequence[CodeType], namespace: dict[str, Any], cancelled: list[str]) -> object:
    """As ``cell_code.evaluate``, on a loop that is closed at the end."""
    loop = asyncio.new_event_loop()
    try:
        value, error = _drive(loop, loop.create_task(_evaluate(codes, namespace)))
        cancelled += _cancel_rest(loop)
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        _cancel_rest(loop)
        loop.close()
    if error is None:
        return value
    _clear_callers(error)
    try:
        raise error
    finally:
        del (
            error
        )  # its traceback holds this frame: what the cell held would die in a later cell, and warn there


def _clear_callers(error: BaseException) -> None:
    """Clear the ended frames of the loop, which in Python 3.13 hold the error in a cycle."""
    frame = error.__traceback__.tb_frame.f_back if error.__traceback__ else None
    while frame is not None:
        with contextlib.suppress(RuntimeError):  # it still runs
            frame.clear()
        frame = frame.f_back


async def _evaluate(codes: Sequence[CodeType], namespace: dict[str, Any]) -> _Outcome:
    """The value of the last code, and the exception. Nothing is raised, so the loop adds no frames."""
    value: Any = None
    try:
        for code in codes:
            value = _eval(code, namespace)
            if awaits(code):
                value = await value
    except BaseException as error:  # noqa: BLE001 - the caller raises it again
        return None, error
    return value, None


def _drive(loop: asyncio.AbstractEventLoop, main: asyncio.Task[_Outcome]) -> _Outcome:
    """Run until ``main`` is done. An interrupt, or an exit in another task, ends it where it waits."""
    try:
        return loop.run_until_complete(main)
    except BaseException as error:  # noqa: BLE001 - the caller raises it again
        main.cancel()
        _, waiting = loop.run_until_complete(main)
        if isinstance(error, KeyboardInterrupt) and isinstance(waiting, asyncio.CancelledError):
            return None, error.with_traceback(waiting.__traceback__)  # the line that waited
        return None, error


def _cancel_rest(loop: asyncio.AbstractEventLoop) -> list[str]:
    """Cancel the remaining tasks and close asynchronous generators; returns those tasks' names."""
    tasks = sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    return [str(getattr(task.get_coro(), "__qualname__", "?")) for task in tasks]
