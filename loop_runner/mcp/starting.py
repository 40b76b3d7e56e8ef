"""From the arguments of ``start_run`` to a run: the same arguments find the same live run.

The name of a run folder holds a hash of its arguments, so another server, or this one after a restart, finds
it. A run that has ended is not found: the next call with its arguments starts another one, with a number.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loop_runner as lr

_ID = re.compile(r"[a-z0-9][a-zA-Z0-9._-]{0,100}")
_MAX_NUMBER = 1000
_START_S, _LOOK_S = 20.0, 0.2


@dataclass(frozen=True, slots=True)
class Place:
    """Where runs are, and what starts them."""

    runs: Path
    launcher: lr.LocalLauncher
    model: str | None = None

    def open(self, run: str) -> lr.Run:
        """The run with this id: the name of its folder. ``ConfigError`` when there is none."""
        if not _ID.fullmatch(run) or not (self.runs / run / ".git").exists():
            raise lr.ConfigError(
                f"there is no run {run[:100]!r}",
                why="a run is named by the id that start_run and list_runs return",
                hint="call list_runs",
            )
        return lr.open(self.runs / run)


def start(place: Place, arguments: Mapping[str, Any]) -> lr.Run:
    """The live run of these arguments; a new one if there is none."""
    name = f"{_words(arguments)}-{_digest(arguments)}"
    for number in range(1, _MAX_NUMBER):
        folder = place.runs / (name if number == 1 else f"{name}-{number}")
        if (folder / ".git").exists():
            if (run := lr.open(folder)).status().is_active:
                return run
            continue
        with suppress(lr.WorkspaceError):  # another server was faster: look again
            return place.launcher.start(_task(place, arguments), folder)
        if (folder / ".git").exists() and (run := lr.open(folder)).status().is_active:
            return run
    raise lr.ConfigError(
        "no run folder is free", why=f"there are {_MAX_NUMBER} of this name", hint="remove some"
    )


def stop(run: lr.Run) -> lr.Status:
    """Stop a run after its current turn, also one that is about to start; its status then."""
    end = time.monotonic() + _START_S
    while (status := run.status()).is_active:
        try:
            run.stop()
            return run.status()
        except lr.ConfigError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK_S)  # its process has not begun yet
    return status


def _task(place: Place, arguments: Mapping[str, Any]) -> lr.Task:
    question, file = arguments.get("question"), arguments.get("task")
    keys = {"budget": arguments["budget"]} if arguments.get("budget") else {}
    if file:
        given = {"prompt": question} if question else {}
        return lr.Task.from_file(file, **given, **{f"budget__{key}": value for key, value in _items(keys)})
    if not question:
        raise lr.ConfigError(
            "there is no question and no task", why="a run needs one of them", hint="give one"
        )
    verify = arguments.get("verify") or [
        lr.citations(answer_in_quote=True, derived=True, about_question=True)
    ]
    return lr.Task(
        question,
        inputs=arguments.get("inputs") or [],
        verifiers=verify,
        model=arguments.get("model") or place.model,
        type="ask",
        **(keys or {"budget": {"passes": 5}}),
    )


def _items(keys: Mapping[str, Any]) -> Sequence[tuple[str, Any]]:
    return list(keys.get("budget", {}).items())


def _words(arguments: Mapping[str, Any]) -> str:
    text = str(arguments.get("question") or Path(str(arguments.get("task"))).stem)
    return "-".join(re.findall(r"[a-z0-9]+", text[:200].lower()))[:32].strip("-") or "run"


def _digest(arguments: Mapping[str, Any]) -> str:
    """A hash of the arguments, where the order of keys and what is not given do not matter."""
    given = {key: value for key, value in arguments.items() if value not in (None, [], {})}
    text = json.dumps([str(Path.cwd()), given], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
