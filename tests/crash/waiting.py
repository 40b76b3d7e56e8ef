"""Waits for the threads of a long proof, tells how far it is, and lets Ctrl-C end it with what it has."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from threading import Thread
from typing import Any

_EVERY_S = 60.0


def wait_for_all(threads: Sequence[Thread], todo: Any, results: Sequence[Any]) -> None:
    """Wait for ``threads``, which take from the deque ``todo`` and add to ``results``.

    Tells each minute how many are done and how many of them were wrong. Ctrl-C empties ``todo``.
    """
    shown = time.monotonic()
    while any(thread.is_alive() for thread in threads):
        try:
            for thread in threads:
                thread.join(0.5)
        except KeyboardInterrupt:
            todo.clear()
        if time.monotonic() > shown + _EVERY_S:
            shown = time.monotonic()
            wrong = sum(bool(result.problems) for result in results)
            sys.stderr.write(f"{len(results)} done, {wrong} wrong, {len(todo)} to go\n")
