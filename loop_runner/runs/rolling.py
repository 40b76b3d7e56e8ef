"""A limit on what all runs of a user may spend in 24 hours, kept in one file that they share.

Owns ``spend.json`` in the user's state folder: dollars by minute, and what each process has set aside for
requests that are out. Every change is made under a lock and is durable before the request is sent, so that a
killed run forgets nothing that it paid for.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from loop_runner import linux
from loop_runner.errors import WorkspaceError
from loop_runner.workspace import durable

NAME = "spend.json"
WINDOW_S = 24 * 3600.0
_MINUTE_S = 60


class DailyLimit:
    """The dollars that a user's runs may spend in 24 hours, counted over all processes.

    Each process exceeds the limit by at most one request. ``WorkspaceError`` when the file cannot be used: a
    limit that cannot be counted lets nothing through.
    """

    def __init__(self, folder: Path, usd: float, *, clock: Callable[[], float] = time.time) -> None:
        self.usd = usd
        self._path = folder / NAME
        self._clock = clock
        self._mine = f"{os.getpid()}-{_started(os.getpid())}-{id(self):x}"

    @property
    def words(self) -> str:
        """What is reached, for messages."""
        return f"{self.usd:g} US dollars per day for all runs"

    def admits(self, usd: float, held: float) -> bool | None:
        """Whether a request of at most ``usd`` may go out beside this run's own ``held``; None: not now.

        A request that is admitted is written down as set aside. ``None`` asks to wait for the run's own
        requests that are out.
        """
        with self._changed() as state:
            spent = sum(state["spent"].values())
            others = sum(amount for name, amount in state["held"].items() if name != self._mine)
            if spent + others >= self.usd:
                return False
            if held and spent + others + held + usd > self.usd:
                return None
            state["held"][self._mine] = held + usd
            return True

    def settle(self, usd: float, held: float) -> None:
        """A request ended and cost ``usd``; ``held`` is what this run's other requests may still cost."""
        with self._changed() as state:
            minute = str(int(self._clock() // _MINUTE_S))
            if usd:
                state["spent"][minute] = state["spent"].get(minute, 0.0) + usd
            state["held"][self._mine] = held
            if not held:
                del state["held"][self._mine]

    def is_reached(self) -> bool:
        """Whether nothing more may be spent now."""
        return self.spent() >= self.usd

    def spent(self) -> float:
        """The dollars of the last 24 hours."""
        with self._changed() as state:
            return float(sum(state["spent"].values()))

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The state of the file under its lock; what the block leaves is durable when it ends."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self._path.parent / f"{NAME}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                state = self._read()
                before = json.dumps(state)
                yield state
                if json.dumps(state) != before:
                    durable.replace(self._path, json.dumps(state).encode())
        except OSError as error:
            raise WorkspaceError(
                f"{self._path} cannot be used: {error.strerror or error}",
                why="it counts what your runs spend per day, and without it the limit cannot hold",
                hint="make the folder writable, or remove spend.usd_per_day from your settings",
                exit_code=4,
            ) from error

    def _read(self) -> dict[str, Any]:
        """What still counts: the last 24 hours, and what living processes have set aside."""
        try:
            data = json.loads(self._path.read_bytes())
            spent = {str(minute): float(usd) for minute, usd in data["spent"].items()}
            held = {str(name): float(usd) for name, usd in data["held"].items()}
            _ = [float(minute) for minute in spent]
        except FileNotFoundError:
            return {"spent": {}, "held": {}}
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise OSError(f"it does not hold what it should ({error})") from error
        now = self._clock()
        first, minute = (now - WINDOW_S) / _MINUTE_S, str(int(now // _MINUTE_S))
        kept = {item: usd for item, usd in spent.items() if float(item) > first - 1}
        living = {name: usd for name, usd in held.items() if _is_alive(name)}
        # A killed process may have been billed for what was out: it counts as spent.
        lost = sum(usd for name, usd in held.items() if name not in living)
        if lost:
            kept[minute] = kept.get(minute, 0.0) + lost
        return {"spent": kept, "held": living}


def _is_alive(name: str) -> bool:
    pid, started, *_ = [*name.split("-"), ""]
    return pid.isdecimal() and started == _started(int(pid))


def _started(pid: int) -> str:
    """When a process started, as the system counts it: a number that was given again has another one."""
    return linux.began(pid) or "gone"
