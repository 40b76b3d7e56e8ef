"""Asks something of a run from outside: checks that it can be asked, and places the request.

Works from any process, also while another one runs the run; nothing is written but the request. What cannot
be done is refused here, where a person reads why. The runner checks once more when it takes the request, as
the run may have moved on, and answers by an event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_runner import redaction
from loop_runner.errors import ConfigError
from loop_runner.model import prices
from loop_runner.runs.amounts import frozen_limits
from loop_runner.task import config, limits
from loop_runner.text import shell
from loop_runner.workspace import control_files
from loop_runner.workspace.control_files import (
    MAX_NOTE_CHARS,
    MAX_PROMPT_CHARS,
    NEXT_RUNNER,
    ControlRequest,
    Kind,
    Question,
)
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_MAX_NAME_CHARS = 200


@dataclass(frozen=True, slots=True)
class Placed:
    """A request that waits in the run folder. ``is_running``: a process takes it at its next turn.

    Otherwise it is kept, and applied when the run is resumed.
    """

    id: str
    kind: str
    is_running: bool


def note(folder: Path, text: str) -> Placed:
    """Leave a note, which the model sees once, in its next message."""
    with _opened(folder) as run:
        run.refuse_ended("a note would never be read")
        _refuse_empty(text, "the note", "write what the model should know")
        if len(text) > MAX_NOTE_CHARS:
            raise ConfigError(
                f"the note has {len(text):,} characters, and {MAX_NOTE_CHARS:,} are the most",
                why="it becomes a part of the conversation, and would fill the model's window",
                hint="say it in fewer words; for another task, give the run another prompt (`set_prompt`)",
            )
        return run.place(ControlRequest("note", text=text))


def pause(folder: Path, *, now: bool = False) -> Placed:
    """Let nothing new start from the next turn on; ``now``: nor the next sub-call.

    When no process runs the run, the next one begins paused.
    """
    with _opened(folder) as run:
        run.refuse_ended("there is nothing to pause")
        run.refuse_repeated("pause", now=now)
        return run.place(ControlRequest("pause", now=now, runner=run.addressee))


def resume(folder: Path) -> Placed:
    """End a pause, also one that waits for the next process."""
    with _opened(folder) as run:
        if not run.runner and not run.is_paused:
            raise ConfigError(
                f"no process runs {folder}, so there is no pause to end",
                why="a run that ended or was stopped is continued by a new process",
                hint=f"continue it: loop-runner resume {shell(folder)}",
            )
        if not run.is_paused:
            raise ConfigError(
                f"{folder} is not paused: a process is running it (pid {run.pid})",
                why="there is nothing to resume",
                hint=f"watch it: loop-runner log {shell(folder)} --follow",
            )
        return run.place(ControlRequest("resume", runner=run.addressee))


def stop(folder: Path, *, now: bool = False) -> Placed:
    """End the run after the current turn; ``now``: as Ctrl-C does. It can be resumed.

    When no process runs the run, the next one ends before its first turn.
    """
    with _opened(folder) as run:
        run.refuse_ended("there is nothing to stop")
        run.refuse_repeated("stop", now=now)
        return run.place(ControlRequest("stop", now=now, runner=run.addressee))


def raise_budget(folder: Path, given: Mapping[str, Any]) -> Placed:
    """Change limits, from the next turn on and for good: ``5`` sets one, ``"+5"`` adds to it."""
    wanted = limits.changes(given)
    with _opened(folder) as run:
        run.refuse_ended("a limit would not matter any more")
        limits.changed(run.task.budget, wanted, run.spent())
        return run.place(ControlRequest("budget", limits=wanted))


def set_prompt(folder: Path, text: str) -> Placed:
    """Give the run another prompt, from its next pass on."""
    with _opened(folder) as run:
        run.refuse_ended("no pass follows that could be given it")
        _refuse_empty(text, "the prompt", "write what the run should do from its next pass on")
        if len(text) > MAX_PROMPT_CHARS:
            raise ConfigError(
                f"the prompt has {len(text):,} characters, and {MAX_PROMPT_CHARS:,} are the most",
                why="every request of the run begins with it",
                hint="put long texts into the inputs of a new run",
            )
        if run.task.is_agent:
            raise ConfigError(
                f"the prompt of {folder} cannot be changed: its passes are done by an agent's client",
                why="the client was given the prompt when its session began",
                hint="leave a note instead, or start a new run",
            )
        if text == run.prompt:
            raise ConfigError(
                f"{folder} has this prompt already",
                why="nothing would change",
                hint="give another text",
            )
        return run.place(ControlRequest("prompt", text=text))


def decide(folder: Path, *, approves: bool, why: str = "", by: str = "", at: str = "") -> Placed:
    """Answer the question that the run waits with. ``by`` and ``at`` are recorded as they are given."""
    with _opened(folder) as run:
        question = run.open_question()
        if not approves:
            _refuse_empty(why, "the reason of the rejection", "say what is wrong: the next pass is shown it")
        if len(why) > MAX_NOTE_CHARS or max(len(by), len(at)) > _MAX_NAME_CHARS:
            raise ConfigError(
                f"the decision is too long: {MAX_NOTE_CHARS:,} characters for the reason and"
                f" {_MAX_NAME_CHARS} for who and when are the most",
                why="it becomes a part of the conversation and of the record",
                hint="say it in fewer words",
            )
        kind: Kind = "approve" if approves else "reject"
        return run.place(ControlRequest(kind, text=why, about=question.id, by=by, at=at))


def is_paused(folder: Path) -> bool:
    """Whether a process runs the run and was asked to pause, and not to resume since."""
    with _opened(folder) as run:
        return bool(run.runner) and run.is_paused


def question(folder: Path) -> Question | None:
    """The question that the run waits with, for a person to decide; None when there is none."""
    with History(folder) as history:
        return control_files.question(history.git_dir / "loop-runner")


# ── the run as the operator finds it ────────────────────────────────────────────────────────────────


class _Run:
    """A run that something is asked of."""

    def __init__(self, history: History) -> None:
        self.folder = history.folder
        self._history = history
        self._private = history.git_dir / "loop-runner"
        holder = history.running()
        self.runner = control_files.runner_of(holder)
        self.pid = holder.pid if holder else 0
        self._waiting = control_files.waiting(self._private)

    @property
    def addressee(self) -> str:
        """The process that a pause or a stop is meant for."""
        return self.runner or NEXT_RUNNER

    @property
    def task(self) -> config.Task:
        read = self._history.read
        with parsing(self.folder, "task.yaml"):
            source = (read("task.yaml") or b"").decode()
            changed = frozen_limits(self.folder, read)
            return config.parse_task(source, label="task.yaml", base_dir=self.folder, overrides=changed)

    @property
    def prompt(self) -> str:
        with parsing(self.folder, "prompt.md"):
            return (self._history.read("prompt.md") or b"").decode()

    def spent(self) -> dict[str, float]:
        """What is used of each limit, as far as it is committed or in the journal."""
        price = prices.with_rates(self.task.prices)
        parts = (self._history.spend(price), self._history.dropped(), self._history.unmet(price))
        tokens_out = sum(part.usage.output_tokens for part in parts)
        tokens = sum(part.usage.total_tokens for part in parts)
        return {
            "passes": parts[0].passes,
            "tokens": tokens,
            "tokens_in": tokens - tokens_out,
            "tokens_out": tokens_out,
            "usd": sum(part.usd or part.known_usd or 0.0 for part in parts),
            "wall_s": sum(part.seconds for part in parts),
            "subcalls": sum(part.subcalls for part in parts),
        }

    @property
    def is_paused(self) -> bool:
        """Whether the process that runs it, or the next, was asked to pause and not to resume since."""
        steering = [request.kind for request in self._steering()]
        return "pause" in steering and "resume" not in steering[_last(steering, "pause") :]

    def place(self, request: ControlRequest) -> Placed:
        placed = control_files.place(self._private, _without_secrets(request))
        return Placed(placed.id, placed.kind, bool(self.runner))

    def open_question(self) -> Question:
        pending = control_files.question(self._private)
        if pending is None:
            raise ConfigError(
                f"{self.folder} does not wait for a person's decision",
                why="an approval is about one answer, and no answer is waiting for one",
                hint=f"see what it does: loop-runner status {shell(self.folder)}",
            )
        if decided := [request for request in self._waiting if request.about == pending.id]:
            word = "approved" if decided[0].kind == "approve" else "rejected"
            by = f" by {decided[0].by}" if decided[0].by else ""
            raise ConfigError(
                f"the answer of {self.folder} was {word} already{by}",
                why="one decision is enough, and the first one counts",
                hint=f"see what comes of it: loop-runner status {shell(self.folder)}",
            )
        return pending

    def refuse_ended(self, why: str) -> None:
        if self._history.head().outcome == "accepted":
            raise ConfigError(
                f"{self.folder} has ended: its answer is verified",
                why=why,
                hint=f"continue in a new run: loop-runner fork {shell(self.folder)} NEW --prompt FILE",
            )

    def refuse_repeated(self, verb: str, *, now: bool) -> None:
        """Refuse to pause or stop what was asked to already, unless it is more urgent now."""
        repeated = [request for request in self._steering() if request.kind == verb]
        is_in_force = bool(repeated) and (verb == "stop" or self.is_paused)
        if is_in_force and (not now or any(request.now for request in repeated)):
            raise self._repeated(verb, now=now)

    def _repeated(self, verb: str, *, now: bool) -> ConfigError:
        continued = "loop-runner resume" if verb == "pause" or not self.runner else "loop-runner status"
        when = "when the turn that is under way is over" if self.runner else "when the run is resumed"
        more = "" if now or not self.runner else f"; to {verb} within the turn: --now"
        return ConfigError(
            f"{self.folder} was asked to {verb} already",
            why=f"once is enough; it takes effect {when}",
            hint=f"{'see where it is' if 'status' in continued else 'continue it'}:"
            f" {continued} {shell(self.folder)}{more}",
        )

    def _steering(self) -> list[ControlRequest]:
        """Pauses and stops that are in force: meant for the process that runs the run, or for the next."""
        return [request for request in self._waiting if request.runner in {self.addressee, NEXT_RUNNER}]


@contextmanager
def _opened(folder: Path) -> Iterator[_Run]:
    with History(folder) as history:
        yield _Run(history)


def _last(words: Sequence[str], word: str) -> int:
    return len(words) - 1 - words[::-1].index(word)


def _refuse_empty(text: str, what: str, hint: str) -> None:
    if not text.strip():
        raise ConfigError(f"{what} is empty", why="nothing would change", hint=hint)


def _without_secrets(request: ControlRequest) -> ControlRequest:
    clean = redaction.clean
    return replace(request, text=clean(request.text), by=clean(request.by), at=clean(request.at))
