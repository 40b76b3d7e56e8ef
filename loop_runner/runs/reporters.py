"""Reporters of other packages: told what happens in a run, as it happens (docs/reporters.md).

Owns what a reporter may do to a run: nothing. One that fails gets no more events, and the run continues.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from loop_runner import plugins
from loop_runner.errors import ConfigError
from loop_runner.events import Event


class Reporter(Protocol):
    """What a package brings. It may have ``close()``, too, which is called when the run has ended."""

    def __call__(self, event: Event) -> None:
        """One thing happened. Called from any thread, one event at a time; the run waits meanwhile."""
        ...


class Guarded:
    """A reporter whose faults stay its own."""

    def __init__(self, name: str, reporter: Reporter, tell: Callable[[str], None]) -> None:
        self._name = name
        self._reporter: Reporter | None = reporter
        self._tell = tell
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        """Pass ``event`` on, unless the reporter has failed."""
        with self._lock:
            reporter = self._reporter
            if reporter is not None:
                self._try(lambda: reporter(event))

    def close(self) -> None:
        """Tell the reporter that nothing more comes."""
        with self._lock:
            close = getattr(self._reporter, "close", None)
            if close is not None:
                self._try(close)
            self._reporter = None

    def _try(self, do: Callable[[], object]) -> None:
        try:
            do()
        except Exception as error:  # noqa: BLE001 - another package's code, at a border
            self._reporter = None
            reason = f"{type(error).__name__}: {error}"
            self._tell(f"the reporter {self._name!r} failed and gets no more events: {reason}")


def load(spec: str, tell: Callable[[str], None]) -> Guarded:
    """The reporter that ``spec`` names: NAME, or NAME=TEXT with a text for it.

    ``tell`` takes a line for who watches. ``ConfigError``: there is none such, or it cannot be made.
    """
    name, _, text = spec.partition("=")
    known = plugins.find(plugins.REPORTERS)
    if name not in known:
        raise ConfigError(
            f"there is no reporter {name!r}",
            why="a run whose progress nobody sees looks like one that does nothing",
            hint=f"installed: {', '.join(sorted(known))}" if known else "no installed package provides one",
        )
    make = plugins.load(plugins.REPORTERS, name)
    try:
        return Guarded(name, make(text), tell)
    except Exception as error:
        raise ConfigError(
            f"the reporter {name!r} cannot be made: {type(error).__name__}: {error}",
            why=f"it was asked for as {spec!r}",
            hint="see its package's documentation for the text after `=`",
        ) from error
