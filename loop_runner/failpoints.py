"""Named places where a run may be made to fail, so that a test can fail it at every one of them.

Owns the list of names and what happens there: nothing, unless ``arm`` was called, which only the command line
does, for ``LOOP_RUNNER_FAILPOINT``. Relies on the standard library; never reads the environment itself. A
name stands *before* the step that it is called after; what follows a step is the next name's. Not for users.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

VARIABLE = "LOOP_RUNNER_FAILPOINT"

NAMES = frozenset(
    {
        # making and opening a run folder
        "create.lay_out",
        "create.first_commit",
        "create.sync",
        "create.rename",
        "create.renamed",
        "lock.write",
        "recovery.clear",
        "recovery.look",
        "recovery.set_aside",
        "recovery.point",
        "recovery.restore",
        # the journal, and the marks of what was sent
        "journal.open",
        "journal.write",
        "journal.sync",
        "journal.written",
        "journal.header",
        "journal.move_on",
        "journal.truncate",
        "sent.write",
        "sent.truncate",
        "switchboard.send",
        "switchboard.replied",
        # a call of a tool
        "tool.send",
        "tool.sent",
        "tool.start",
        "tool.started",
        "tool.returned",
        "page.keep",
        "page.kept",
        # one commit
        "commit.walk",
        "commit.write",
        "commit.sync",
        "commit.point",
        "commit.pointed",
        "commit.settle",
        "folder.write",
        "folder.rename",
        "folder.remove",
        "index.set",
        "durable.replace",
        "durable.replaced",
        # keeping the number of packs small
        "packs.make",
        "packs.sync",
        "packs.remove",
        # a request of the operator
        "control.write",
        "control.place",
        "control.placed",
        "control.take",
        "control.taken",
        "control.settle",
        "control.settled",
        # a run that is put into the queue, and the process that runs what is in it
        "queue.write",
        "queue.place",
        "queue.placed",
        "queue.added",
        "queue.serve",
        "queue.slot",
        "queue.take",
        "queue.taken",
        "queue.start",
        "queue.started",
        "queue.ended",
        "queue.removed",
        # a turn and a pass
        "kernel.start",
        "turn.begin",
        "turn.replied",
        "turn.ran",
        "turn.saved",
        "turn.committed",
        "verify.checkout",
        "verify.decided",
        "pass.commit",
        "pass.committed",
        "run.end",
        "trace.write",
    }
)

_Action = Callable[[str], None]


class _Armed:
    """Counts how often places are come by, and acts at one of them."""

    def __init__(self, name: str, hit: int, action: _Action) -> None:
        self._name = name  # "*": every place
        self._left = hit
        self._action = action
        self._lock = threading.Lock()

    def passing(self, name: str) -> None:
        if self._name not in (name, "*"):
            return
        with self._lock:
            self._left -= 1
            is_due = self._left == 0 or self._name == "*"
        if is_due:
            self._action(name)


_armed: _Armed | None = None


def passing(name: str) -> None:
    """Say that the place called ``name`` is come by. Costs a look at one variable unless armed."""
    if _armed is not None:
        _armed.passing(name)


def arm(spec: str | None) -> None:
    """Make the place of ``spec`` fail from now on; None or "": none.

    ``NAME:HIT:ACTION`` acts once, when ``NAME`` is come by for the ``HIT``-th time. ``ACTION`` is ``kill``
    (SIGKILL to this process), ``kill-group`` (to its whole group), ``ENOSPC`` or ``EIO`` (an ``OSError``).
    ``list:PATH`` adds each name that is come by to the file ``PATH`` instead. Else a ``ValueError``.
    """
    global _armed  # noqa: PLW0603 - one switch for the process, so that nothing is passed down for it
    _armed = _read(spec) if spec else None


def _read(spec: str) -> _Armed:
    if spec.startswith("list:"):
        return _Armed("*", 0, _adding_to(Path(spec.removeprefix("list:"))))
    name, _, rest = spec.partition(":")
    hit, _, action = rest.partition(":")
    if name not in NAMES or not hit.isdecimal() or action not in _ACTIONS:
        raise ValueError(f"{VARIABLE}={spec!r} is not NAME:HIT:ACTION with a known name and action")
    return _Armed(name, int(hit), _ACTIONS[action])


def _adding_to(path: Path) -> _Action:
    def add(name: str) -> None:
        with path.open("a") as file:
            file.write(name + "\n")

    return add


def _kill(_name: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_group(_name: str) -> None:
    os.killpg(0, signal.SIGKILL)


def _refusing(number: int) -> _Action:
    def refuse(name: str) -> None:
        raise OSError(number, os.strerror(number), f"failpoint {name}")

    return refuse


_ACTIONS: dict[str, _Action] = {
    "kill": _kill,
    "kill-group": _kill_group,
    "ENOSPC": _refusing(errno.ENOSPC),
    "EIO": _refusing(errno.EIO),
}
