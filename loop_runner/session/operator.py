"""What the operator has asked of the run since the last commit, and what came of it.

``Operator`` is the one object through which notes, pauses, stops, limits, prompts and approvals reach a run.
It looks where a turn may begin (``may_begin``), applies what it finds, answers each request by an event, and
hands over the files that belong into the next commit (``files``, ``committed``). A request for now is looked
for by a thread of its own. Relies on a ``Source`` for the requests: the run folder's inbox, or the record of
a run that is replayed. A process that is restarted within a turn takes up what was taken for it, and nothing
new before that turn is committed: its requests to the model are paid for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from loop_runner.budget import Ledger
from loop_runner.errors import ConfigError, StoppedError
from loop_runner.events import Trace
from loop_runner.task import limits
from loop_runner.task.prompts import BUILT_IN, Templates
from loop_runner.text import one_line
from loop_runner.verify import PersonsDecision, Question
from loop_runner.workspace import layout
from loop_runner.workspace.control_files import (
    CONTROL_FILE,
    NEXT_RUNNER,
    ControlRequest,
    Inbox,
    Kind,
    Refused,
    to_json,
)

NOTE_FILE = "note.md"
_STEP_S = 0.1
_WATCH_S = 0.2
_STEERING: frozenset[Kind] = frozenset({"pause", "resume", "stop"})
_DECIDING: frozenset[Kind] = frozenset({"approve", "reject"})

Place = tuple[int, int]
"""Pass and turn."""


class Source(Protocol):
    """Where requests come from."""

    def recovered(self) -> Sequence[ControlRequest]:
        """What an earlier process took and no commit holds."""
        ...

    def pending(self, at: Place) -> Sequence[ControlRequest | Refused]:
        """What has arrived and is not taken, in order; ``at`` is the turn that may begin."""
        ...

    def address(self, request: ControlRequest) -> None:
        """Keep that ``request`` is meant for the process ``request.runner``."""
        ...

    def take(self, request: ControlRequest) -> str:
        """From now on it is the runner's; why it is refused already, "" if it is not."""
        ...

    def refuse(self, refused: Refused) -> None:
        """Put aside what is no request."""
        ...

    def settle(self, ids: Collection[str]) -> None:
        """These are committed."""
        ...

    def show(self, question: Question | None) -> None:
        """Let other processes see what the run waits for."""
        ...


class InboxSource:
    """The requests that lie in the run folder."""

    def __init__(self, private: Path) -> None:
        self._inbox = Inbox(private)
        self.recovered = self._inbox.recovered
        self.address = self._inbox.address
        self.refuse = self._inbox.refuse
        self.settle = self._inbox.settle
        self.show = self._inbox.show

    def pending(self, at: Place) -> Sequence[ControlRequest | Refused]:
        """Wherever the run is, it takes what is there."""
        return self._inbox.pending()

    def take(self, request: ControlRequest) -> str:
        """Nothing is refused for where it lies."""
        self._inbox.take(request)
        return ""


class Clock:
    """Seconds at work: stands still while the run is paused or waits for a person."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._stood_s = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        """The seconds since some moment."""
        since = self._since
        return (self._clock() if since is None else since) - self._stood_s

    def stop(self) -> None:
        """Stand still from now on."""
        if self._since is None:
            self._since = self._clock()

    def go(self) -> None:
        """Go on."""
        if self._since is not None:
            self._stood_s += self._clock() - self._since
            self._since = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What an operator finds when a process takes up the run.

    ``runner`` names this process: a pause that was meant for an earlier one is void, because the run was
    started again after it. ``is_begun``: the turn that comes next has paid replies in the journal already.
    """

    runner: str = ""
    is_begun: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    heeds: bool = True  # False in a replay, which neither pauses nor stops


class Operator:
    """Applies what the operator asks; see the module."""

    def __init__(
        self,
        source: Source,
        situation: Situation,
        *,
        ledger: Ledger,
        trace: Trace,
        should_stop: Callable[[], bool],
        clock: Clock,
        templates: Templates = BUILT_IN,
        may_wait: bool = True,
    ) -> None:
        """``may_wait``: for a person's decision; an agent's client must not be held for days."""
        self.clock = clock
        self.ended_waiting_for = ""  # the question, where the run must not wait for its answer
        self._source = source
        self._situation = situation
        self._ledger = ledger
        self._trace = trace
        self._should_stop = should_stop
        self._templates = templates
        self._may_wait = may_wait
        self._limits = dict(situation.limits)
        self._has_new_limits = False
        self._is_begun = situation.is_begun
        self._applied: list[tuple[ControlRequest, str]] = []
        self._committing: set[str] = set()
        self._decisions: list[ControlRequest] = []  # taken for a question that is asked again
        self._notes: list[str] = []
        self._is_paused = False
        self._is_stopped = False
        self._visited: Place | None = None
        self._place: Place = (0, 0)
        self._lock = threading.RLock()
        self._watcher: threading.Thread | None = None
        self._is_closed = threading.Event()
        for request in source.recovered():
            self._apply(request, is_again=True)

    # ── while a turn is under way ───────────────────────────────────────────────────────────────────

    def watch(self) -> None:
        """Heed requests for now from here on, until ``close``."""
        self._watcher = threading.Thread(target=self._watch, name="operator", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """End the thread; more than once is fine."""
        self._is_closed.set()
        if self._watcher is not None:
            self._watcher.join()

    def is_held(self) -> bool:
        """Whether nothing new is to be started, also within a turn."""
        return self._is_paused

    @property
    def is_stopped(self) -> bool:
        """Whether the operator has asked the run to end."""
        return self._is_stopped

    def _watch(self) -> None:
        while not self._is_closed.wait(_WATCH_S):
            try:
                self._heed_urgent()
            except Exception as error:  # noqa: BLE001 - a thread's border: the run itself meets the fault too
                self._trace.tell("notice", f"requests to the run cannot be looked at: {error}")
                return

    def _heed_urgent(self) -> None:
        with self._lock:
            for request in self._arrived(_STEERING):
                if not (request.now or self._is_paused):
                    break  # what follows must not overtake it
                self._take(request)
                if request.kind == "stop" and (ask := getattr(self._should_stop, "ask", None)):
                    ask()

    # ── where a turn may begin ──────────────────────────────────────────────────────────────────────

    def may_begin(self, at: Place) -> bool:
        """Take what has arrived before the turn ``at``, wait while the run is paused; False: it is to end."""
        with self._lock:
            is_first, self._visited, self._place = at != self._visited, at, at
        is_told = False
        while True:
            with self._lock:
                self._take_all(is_first=is_first)
                if self._is_stopped or self._should_stop():
                    return False
                if not self._is_paused:
                    break
            if not is_told:
                self._trace.tell("paused", "nothing new is started until the run is resumed", at)
                is_told = True
            time.sleep(_STEP_S)
        if is_told:
            self._trace.tell("resumed", "", at)
        return True

    def note(self) -> str:
        """What the model is shown of the notes that no commit holds yet; "" when there are none."""
        return self._templates.render("operator_note", notes=self._notes) if self._notes else ""

    def new_prompts(self) -> tuple[ControlRequest, ...]:
        """Prompts that are to be used from the next pass on; the last one counts."""
        with self._lock:
            for request in [] if self._is_begun else self._arrived({"prompt"}):
                self._take(request)
            prompts = [pair for pair in self._applied if pair[0].kind == "prompt"]
            self._applied = [pair for pair in self._applied if pair not in prompts]
        return tuple(request for request, _ in prompts)

    def _take_all(self, *, is_first: bool) -> None:
        """Take what may be applied here. A limit that changed may not be told of in only half a message."""
        kinds = set(_STEERING)
        if not self._is_begun:
            kinds |= {"note", *_DECIDING} | ({"budget"} if is_first else set())
        for request in self._arrived(kinds):
            self._take(request)

    def _arrived(self, kinds: Collection[Kind]) -> list[ControlRequest]:
        requests = []
        for request in self._source.pending(self._place):
            if isinstance(request, Refused):
                self._source.refuse(request)
                answered = (
                    f"a file in .git/loop-runner/control is no request: {request.name}: {request.reason}"
                )
                self._trace.tell("notice", one_line(answered, 300), self._place)
            elif request.kind in kinds:
                requests.append(request)
        return requests

    # ── one request ─────────────────────────────────────────────────────────────────────────────────

    def _take(self, request: ControlRequest) -> None:
        if request.runner == NEXT_RUNNER and self._situation.heeds:
            request = replace(request, runner=self._situation.runner)
            self._source.address(request)
        why = self._source.take(request)
        self._apply(request, refused=why)

    def _apply(self, request: ControlRequest, *, refused: str = "", is_again: bool = False) -> None:
        if is_again and request.kind in _DECIDING:
            self._decisions.append(request)  # the question is asked again, and answered by it
            return
        why = refused or self._change(request)
        self._answer(request, why, is_again=is_again)

    def _answer(self, request: ControlRequest, why: str, *, is_again: bool = False) -> None:
        """Keep what came of ``request`` for the next commit, and answer it by an event."""
        self._applied.append((request, why))
        words = f"not done: {why}" if why else _words_of(request)
        about = {"id": request.id, "request": request.kind, "done": not why, "again": is_again}
        self._trace.tell("operator", f"{request.kind}: {words}", self._place, **about)

    def _change(self, request: ControlRequest) -> str:
        """Do what ``request`` asks; why that is refused."""
        if request.kind == "note":
            self._notes.append(request.text)
        elif request.kind in _STEERING:
            return self._steer(request)
        elif request.kind == "budget":
            return self._raise_budget(request)
        elif request.kind in _DECIDING:
            return "no question is open, or the answer that it was about has changed since"
        return ""

    def _steer(self, request: ControlRequest) -> str:
        if not self._situation.heeds:
            return ""
        if request.runner != self._situation.runner:
            return "it was meant for an earlier process; the run was started again since"
        if request.kind == "stop":
            self._is_stopped, self._is_paused = True, False
        else:
            self._is_paused = request.kind == "pause" and not self._is_stopped
        (self.clock.stop if self._is_paused else self.clock.go)()
        return ""

    def _raise_budget(self, request: ControlRequest) -> str:
        if "usd" in request.limits and self._ledger.spend.usd is None:
            return "the price of a model is not known, so a limit in dollars would not hold"
        try:
            changed = limits.changed(self._ledger.budget, request.limits, self._ledger.used())
        except ConfigError as error:
            return error.message
        self._ledger.change(changed)
        self._limits = limits.to_json(self._limits, changed, request.limits)
        self._has_new_limits = True
        return ""

    # ── a person's decision ─────────────────────────────────────────────────────────────────────────

    def end_pass(self, number: int) -> None:
        """The turns of pass ``number`` are over: what comes now belongs to its end."""
        self._place = (number, 0)

    def ask(self, question: Question, *, is_recorded: bool = True) -> PersonsDecision | None:
        """Wait for a person to decide about an answer. None: the record of a replayed run has no decision.

        Not ``is_recorded``: whoever asks keeps what was decided, as a tool's call does in its result.

        Raises ``StoppedError`` when the run is to stop meanwhile, or must not wait: the question is asked
        again on resume.
        """
        self._source.show(question)
        decision = self._decision(question, is_recorded=is_recorded)
        if decision is None and self._situation.heeds:
            self.clock.stop()
            self._trace.tell("waiting", question.text, self._place, verifier=question.verifier)
            try:
                if not self._may_wait:
                    self.ended_waiting_for = question.text
                    raise StoppedError
                decision = self._wait_for(question, is_recorded=is_recorded)
            finally:
                self.clock.go()
        if decision is not None:
            self._source.show(None)
        return decision

    def _wait_for(self, question: Question, *, is_recorded: bool) -> PersonsDecision:
        while (decision := self._decision(question, is_recorded=is_recorded)) is None:
            with self._lock:
                for request in self._arrived(_STEERING):
                    self._take(request)
                if self._is_stopped or self._should_stop():
                    raise StoppedError
            time.sleep(_STEP_S)
        return decision

    def _decision(self, question: Question, *, is_recorded: bool) -> PersonsDecision | None:
        """The first decision about ``question`` that has arrived; others are refused."""
        with self._lock:
            made: PersonsDecision | None = None
            earlier, self._decisions = self._decisions, []
            taken = [(request, True) for request in earlier]
            taken += [(request, False) for request in self._arrived(_DECIDING)]
            for request, is_again in taken:
                why = "" if is_again else self._source.take(request)
                if made is not None:
                    why = why or "the question is decided already"
                elif request.about != question.id:
                    why = why or "it is about another question, or about another answer"
                if not why:
                    made = PersonsDecision(request.kind == "approve", request.text, request.by, request.at)
                self._answer(request, why, is_again=is_again)
                if not (why or is_recorded):
                    self._applied.pop()
                    self._source.settle({request.id})
            return made

    # ── the next commit ─────────────────────────────────────────────────────────────────────────────

    def files(self, folder: str) -> dict[str, bytes]:
        """What the next commit holds of the requests that were taken since the last; ``folder``: its own."""
        with self._lock:
            # A pause that holds is kept where other processes see it.
            kept = {"pause"} if self._is_paused else set()
            applied = [pair for pair in self._applied if pair[0].kind not in kept]
            applied.sort(key=lambda pair: pair[0].id)  # in the order of placing, whenever each was taken
            if not applied:
                return {}
            by_path = {f"{folder}/{CONTROL_FILE}": layout.to_json({"requests": to_json(applied)})}
            if self._notes:
                by_path[f"{folder}/{NOTE_FILE}"] = layout.to_bytes(self.note())
            if self._has_new_limits:
                by_path[limits.PATH] = layout.to_json({"limits": self._limits})
            self._committing = {request.id for request, _ in applied}
            return by_path

    def committed(self, files: Collection[str]) -> None:
        """``files``, which ``files`` gave, are committed: let go of what they hold."""
        with self._lock:
            self._is_begun = False
            if any(path.endswith(f"/{CONTROL_FILE}") for path in files):
                self._source.settle(self._committing)
                self._applied = [pair for pair in self._applied if pair[0].id not in self._committing]
                self._notes, self._has_new_limits = [], False


def _words_of(request: ControlRequest) -> str:
    """What came of ``request``, for a person."""
    if request.kind == "note":
        return f"the model sees it in its next message: {one_line(request.text, 200)}"
    if request.kind == "budget":
        return limits.describe(request.limits)
    words = {
        "pause": "nothing new is started" if request.now else "the run waits before its next turn",
        "resume": "the run continues",
        "stop": "the run ends now" if request.now else "the run ends before its next turn",
        "prompt": "it is used from the next pass on",
    }
    by = f"by {one_line(request.by, 80)}" if request.by else "by a person"
    return words.get(request.kind, f"{by}{f': {one_line(request.text, 200)}' if request.text else ''}")
