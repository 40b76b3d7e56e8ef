"""``Result``, how a run ended, and ``Run``, its folder: both can be read from any process.

Owns what a caller sees of a run. Everything comes from the run folder's commits; reads without its lock.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loop_runner import inputs
from loop_runner.api.controls import Controls
from loop_runner.api.output_types import parse
from loop_runner.api.typed_events import Event, typed
from loop_runner.errors import ConfigError, LoopRunnerError, NotVerifiedError
from loop_runner.records import Inputs, Outcome, RunStatus, Spend, Usage, Variable, VerifierReport
from loop_runner.runs import compare, cost, removing, run_queue, trace_file
from loop_runner.runs.finished import outcome_of
from loop_runner.runs.folders import find_run
from loop_runner.runs.status import Status, of_run, passes_in
from loop_runner.runs.view import PassView
from loop_runner.verify import locate, proof, verdicts
from loop_runner.workspace import layout, lock, points
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

if TYPE_CHECKING:
    from loop_runner.api.record import Record
    from loop_runner.runs.compare import Comparison
    from loop_runner.verify import LocatedCitation

_LOOK_S = 0.1
RunState = Literal["running", "verified", "unfinished"]


@dataclass(frozen=True, slots=True)
class Run(Controls):
    """A run folder. Every answer is read when it is asked for, also while another process runs the run."""

    folder: Path

    def __fspath__(self) -> str:
        return str(self.folder)

    @property
    def state(self) -> RunState:
        """``running`` in some process, ``verified``, or ``unfinished``: ``lr.resume`` continues it."""
        with History(self.folder) as history:
            if history.running():
                return "running"
            return "verified" if history.head().outcome == "accepted" else "unfinished"

    @property
    def answer(self) -> str:
        """The committed answer, verified or not."""
        with History(self.folder) as history:
            return history.answer().content

    @property
    def proof(self) -> Mapping[str, Any] | None:
        """``proof.json`` of a verified run; None for any other."""
        with History(self.folder) as history:
            return _proof(history)

    def record(self, *, max_chars: int = 20_000) -> Record:
        """Everything that the folder holds, as plain data; texts over ``max_chars`` are cut in the middle.

        Reads a damaged folder, too: ``faults`` lists what is missing.
        """
        from loop_runner.api.record import record_of

        return record_of(self.folder, max_chars=max_chars)

    @property
    def usage(self) -> Usage:
        """The tokens of what is committed."""
        with History(self.folder) as history:
            return history.spend().usage

    @property
    def cost(self) -> float | None:
        """The US dollars of what is committed; None where a price is not known."""
        with History(self.folder) as history:
            return history.spend(cost.price_in(history)).usd

    def status(self) -> Status:
        """Where the run is now. Cheap; also while another process runs it, and of a clone."""
        return of_run(self.folder, inputs.cache_dir(os.environ))

    def events(self, since: int = 0) -> Iterator[Event]:
        """The events after number ``since``, then those that happen until the run ends.

        Their numbers have no gap, also over resumes. A clone has no events.
        """
        for event in trace_file.follow(self.folder, since, self._is_active):
            yield typed(event)

    def wait(self, timeout: float | None = None) -> Result:
        """The result, when the run has ended, whichever process runs it.

        ``TimeoutError`` after ``timeout`` seconds; ``LoopRunnerError`` where an error or a crash ended it.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while self._is_active():
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"the run in {self.folder} has not ended after {timeout:g} s")
            time.sleep(_LOOK_S)
        return result_of(outcome_of(self.status()), self.folder)

    @property
    def variables(self) -> tuple[Variable, ...]:
        """The variables of the model's code as the last turn left them: names, types, sizes, previews."""
        with History(self.folder) as history:
            return history.variables()

    @property
    def passes(self) -> tuple[PassView, ...]:
        """The passes that ended, the oldest first, each with its verdict; also in a clone."""
        with History(self.folder) as history:
            return passes_in(history)

    @property
    def citations(self) -> tuple[LocatedCitation, ...]:
        """The citations of the committed answer, compared with the inputs where they can be read now."""
        with History(self.folder) as history:
            return tuple(locate(history.answer().content, _texts(history)))

    def read(self, path: str, *, at: str | None = None) -> bytes:
        """A committed file: ``answer.md``, ``workspace/notes.md``. ``at="3.7"`` is pass 3, turn 7."""
        with History(self.folder) as history:
            data = history.read(path, self._commit(history, at)) if _is_plain(path) else None
        if data is None:
            raise ConfigError(
                f"{self.folder} has no committed file {path[:200]!r}",
                why="what is read comes from its commits, not from the folder",
                hint="for example answer.md, proof.json or workspace/NAME",
            )
        return data

    def diff(self, before: str, after: str) -> Comparison:
        """What differs between two moments: ``run.diff("1", "2.3")`` is from pass 1 to turn 3 of pass 2."""
        with History(self.folder) as history:
            result = [history.checkpoint(self._commit(history, at) or "HEAD") for at in (before, after)]
            return compare.compare(history, *result)

    def _commit(self, history: History, at: str | None) -> str | None:
        point = None if at is None else points.parse(at)
        if at is not None and point is None:
            raise ConfigError(
                f"{at[:100]!r} names no moment of a run",
                why="a moment is the end of a pass, or a turn",
                hint='for example "3" (the end of pass 3) or "3.7" (its turn 7)',
            )
        return None if point is None else points.find(history, point).commit

    def remove(self) -> None:
        """Remove the run folder with its history. ``WorkspaceError`` while a process runs it, or will."""
        removing.remove(self.folder)

    def _is_active(self) -> bool:
        """Whether a process runs the run, or soon will."""
        is_held = lock.holder(self.folder / ".git" / "loop-runner" / "lock") is not None
        return is_held or run_queue.is_waiting(self.folder, trace_file.last_event_at(self.folder))


@dataclass(frozen=True, slots=True)
class Result:
    """How a run ended. Unverified is a value: ``raise_for_status`` makes it an exception.

    ``answer`` is the accepted one or, unverified, the best-scored one. ``cost`` is in US dollars.
    """

    status: RunStatus
    answer: str
    reason: str
    verdicts: tuple[VerifierReport, ...]
    citations: tuple[LocatedCitation, ...]
    spend: Spend
    run: Run
    commit: str
    proof: Mapping[str, Any] | None = field(default=None, repr=False)
    output: Any = None

    @property
    def verified(self) -> bool:
        """Whether every verifier accepted ``answer``."""
        return self.status == "verified"

    @property
    def response(self) -> str:
        """``answer``, as ``rlms`` calls it."""
        return self.answer

    @property
    def usage(self) -> Usage:
        """The tokens of all requests."""
        return self.spend.usage

    @property
    def cost(self) -> float | None:
        """US dollars; None where a price is not known."""
        return self.spend.usd

    @property
    def execution_time(self) -> float:
        """Seconds at work."""
        return self.spend.seconds

    def raise_for_status(self) -> Result:
        """This result; raises ``NotVerifiedError`` if it is not verified."""
        if self.verified:
            return self
        raise NotVerifiedError(
            f"the run ended {self.status}: {self.reason}",
            why="no answer was accepted by every verifier",
            hint=f"continue it with lr.resume({str(self.run.folder)!r}), or look at result.verdicts",
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {
            "status": self.status,
            "verified": self.verified,
            "answer": self.answer,
            "reason": self.reason,
            "verdicts": [verdicts.report_as_json(report) for report in self.verdicts],
            "citations": [
                {
                    "name": citation.name,
                    "line": citation.line,
                    "quote": citation.quote,
                    "ok": citation.ok,
                    "where": citation.where,
                }
                for citation in self.citations
            ],
            "usage": asdict(self.usage),
            "cost": self.cost,
            "run": str(self.run.folder),
            "commit": self.commit,
        }


def _is_plain(path: str) -> bool:
    """Whether ``path`` is one that a commit may hold: relative, of one line, and without dots that climb."""
    return path.isprintable() and not {"", ".", ".."} & set(path.split("/"))


def open_run(run: str | PathLike[str]) -> Run:
    """The run in a folder, or of a name under ``runs/``. ``ConfigError`` when there is none."""
    return run if isinstance(run, Run) else Run(find_run(os.fspath(run)))


def result_of(outcome: Outcome, folder: Path, output_type: Any = None) -> Result:
    """What the caller is given of ``outcome``."""
    answer = outcome.answer.content
    with History(folder) as history:
        reports = _reports(history, outcome.checkpoint.pass_number)
        proven = _proof(history) if outcome.status == "verified" else None
        citations = tuple(locate(answer, _texts(history)))
    return Result(
        outcome.status,
        answer,
        outcome.reason,
        reports,
        citations,
        outcome.spend,
        Run(folder),
        outcome.checkpoint.commit,
        proven,
        _output(answer, output_type),
    )


def _output(answer: str, output_type: Any) -> Any:
    """The object in the answer; None where there is none, as in an unverified answer."""
    if output_type is None:
        return None
    try:
        return parse(answer, output_type)
    except ValueError:
        return None


def _reports(history: History, number: int) -> tuple[VerifierReport, ...]:
    path = f"{layout.pass_folder(number)}/verdict.json"
    if (data := history.read(path)) is None:
        return ()
    with parsing(history.folder, path):
        return verdicts.decision_from(json.loads(data)).reports


def _proof(history: History) -> Mapping[str, Any] | None:
    data = history.read(proof.PATH) if history.head().outcome == "accepted" else None
    if data is None:
        return None
    with parsing(history.folder, proof.PATH):
        return dict(json.loads(data))


def _texts(history: History) -> Inputs:
    """The inputs where they can be read now; what cannot be is shown as such."""
    with parsing(history.folder, "inputs.json"):
        texts = inputs.from_json((history.read("inputs.json") or b"").decode(), history.folder)
    with suppress(LoopRunnerError):
        cache = inputs.cache_dir(os.environ)
        return inputs.restore(texts, inputs.Converter(cache), cache, history.read)
    return texts
