"""One run at work in a thread of its own, so that the caller's thread stays free to be interrupted.

Owns the thread and how it is asked to stop. Asked once, a run sends no new request, keeps the
replies that are on their way, and is broken off where it computes, as by Ctrl-C on the command line. Installs
no signal handler: a ``KeyboardInterrupt`` reaches the caller's thread, which waits here.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

from loop_runner.errors import StoppedError
from loop_runner.linux import keep_current_folder
from loop_runner.loop.stopping import Interrupted, Stop, must_finish

T = TypeVar("T")
_TICK_S = 0.1
# The system may hand a signal to another thread. Python's handler runs in the caller's thread, and only when
# that thread runs: a wait without end would never hear of it.
_LOOK_S = 0.5


class Work(Generic[T]):
    """Calls ``do`` with what asks it to stop, in a thread that begins at once."""

    def __init__(self, do: Callable[[Stop], T], stop: Stop | None = None) -> None:
        self._stop = stop or Stop()
        self._do = do
        self._future: Future[T] = Future()
        self._thread = threading.Thread(target=self._work, name="loop-runner", daemon=True)
        self._thread.start()
        self._stop.when_asked(self._start_breaking_off)

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def stop(self) -> None:
        """Ask the run to stop, and return at once; asked twice, requests that are out are given up."""
        self._stop.ask()

    def when_done(self, call: Callable[[], object]) -> None:
        """Call ``call`` when it has ended, at once if it has."""
        self._future.add_done_callback(lambda _: call())

    def join(self) -> None:
        """Wait for the end, whatever it was."""
        self._thread.join()

    def wait(self) -> T:
        """What ``do`` returned or raised.

        Ctrl-C meanwhile stops the run, and is raised when the run has ended; a third one is raised at once.
        """
        interrupts = 0
        while True:
            try:
                while not self._future.done():
                    wait([self._future], _LOOK_S)
                result = self._future.result()
            except KeyboardInterrupt:
                interrupts += 1
                self.stop()
                if interrupts > 2:
                    raise
            except BaseException:
                if interrupts:
                    raise KeyboardInterrupt from None
                raise
            else:
                if interrupts:
                    raise KeyboardInterrupt
                return result

    async def wait_async(self) -> T:
        """As ``wait``, in an event loop. Cancelled, it stops the run, and ends when the run has ended."""
        cancelled: asyncio.CancelledError | None = None
        ended = asyncio.wrap_future(self._future)
        while not ended.done():
            try:
                # With a timeout, because IPython's handler of an interrupt cancels this task in the loop's
                # next round and does not wake a loop that sleeps.
                await asyncio.wait([ended], timeout=_TICK_S)
            except asyncio.CancelledError as error:
                cancelled = error
                self.stop()
        ended.exception()  # else the event loop reports it as one that nobody looked at
        if cancelled is not None:
            raise cancelled
        return self._future.result()

    def _work(self) -> None:
        keep_current_folder()  # the caller may change its own while the run continues, and paths are relative
        try:
            result = self._do(self._stop)
        except Interrupted:
            self._future.set_exception(StoppedError())
        except BaseException as error:  # noqa: BLE001 - it is raised where the caller waits
            self._future.set_exception(error)
        else:
            self._future.set_result(result)

    def _start_breaking_off(self) -> None:
        threading.Thread(target=self._break_off, name="loop-runner-stop", daemon=True).start()

    def _break_off(self) -> None:
        """Raise ``Interrupted`` in the run's thread when nothing must be finished and no reply is awaited."""
        ident = self._thread.ident
        while ident is not None and not self.is_done:
            frame = sys._current_frames().get(ident)  # noqa: SLF001 - the documented name
            if frame is not None and not must_finish(frame) and self._stop.may_break_off():
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(ident), ctypes.py_object(Interrupted)
                )
                return
            time.sleep(_TICK_S)
