"""The outer loop: passes, one after another, until the stop hook allows the end or the budget is spent.

Owns the order of a pass: session, stop hook, commit. Where it stands always comes from git, never from
memory, so that starting, continuing after a crash and continuing after Ctrl-C are the same thing. Never
prints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from loop_runner import failpoints, scratch
from loop_runner.errors import StoppedError
from loop_runner.events import EventKind
from loop_runner.loop import stalling
from loop_runner.loop.course import Course
from loop_runner.loop.passes import Passes, RunsPass
from loop_runner.loop.stopping import Interrupted, Stop
from loop_runner.model import prices
from loop_runner.records import (
    Allow,
    Answer,
    Block,
    Checkpoint,
    Decision,
    GateBroken,
    Inputs,
    Outcome,
    PassOutcome,
    RunStatus,
)
from loop_runner.session.session import RunParts, SessionEnd
from loop_runner.task.config import Task
from loop_runner.text import one_line, plural
from loop_runner.verify import Fence, Programs, Submission, proof, verdicts
from loop_runner.verify.panel import LivePanel
from loop_runner.verify.stop_hook import StopHook
from loop_runner.workspace import layout
from loop_runner.workspace.control_files import ControlRequest
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

_INTERRUPTED = "interrupted; all finished turns are saved"
_STOPPED = "the operator stopped it; all finished turns are saved"
_BLOCKED = (
    "You declared that you cannot continue: {why}\n\n"
    "Nothing was checked. Look once more whether you can supply it yourself, or do the task without it; if"
    " you can, continue. If it is really missing and nobody but a person can supply it, declare it again in"
    " the same way: the run then ends, and a person reads your reason."
)
_MAX_BLOCKED_CHARS = 600
_WAITS = (
    "it waits for a person's decision: {question} (`loop-runner approve RUN`, or `reject RUN WHY`;"
    " then `loop-runner resume RUN`)"
)
_MAX_QUESTION_CHARS = 300
_NO_ANSWER = {
    "turns": "the turns were used up and `answer['content']` was still empty",
    "budget": "the budget was used up and `answer['content']` was still empty",
    "no_code": "the model wrote no code in three replies in a row and `answer['content']` was still empty",
    "window": "the conversation filled the model's window and `answer['content']` was still empty",
}


PassFiles = Callable[[int, Mapping[str, bytes]], Mapping[str, bytes]]
"""Given a pass's number and the files that its end adds, says which to commit; a replay has a say in it."""


@dataclass(frozen=True, slots=True)
class NewPrompt:
    """The operator gave another prompt, and the run stands between two passes: it is to be taken up."""

    requests: tuple[ControlRequest, ...]  # the last one counts
    head: Checkpoint


@dataclass(frozen=True, slots=True)
class GateTools:
    """What an answer has to pass, and what is written down of it."""

    stop_hook: StopHook
    panel: LivePanel
    fence: Fence
    programs: Programs  # pinned; those that the run folder does not hold yet are committed with the next pass
    network: bool = False  # a verifier asks for it


class Loop:
    """One run, from wherever its workspace stands."""

    def __init__(
        self,
        task: Task,
        parts: RunParts,
        passes: Passes,
        course: Course,
        *,
        inputs: Callable[[], Inputs],
        gates: GateTools,
        pass_files: PassFiles = lambda _number, files: files,
    ) -> None:
        self._task = task
        self._parts = parts
        self._workspace = parts.workspace
        self._ledger = parts.ledger
        self._passes = passes
        self._course = course
        self._inputs = inputs
        self._gates = gates
        self._pass_files = pass_files

    def run(self) -> Outcome | NewPrompt:
        """Run passes until the stop hook allows the end, a limit is reached or the run is asked to stop."""
        try:
            return self._run_passes()
        except (StoppedError, Interrupted):
            # Within a turn or a check: neither is committed, and ``resume`` begins it again from the journal.
            return self._interrupted()

    def _run_passes(self) -> Outcome | NewPrompt:
        head = self._workspace.head()
        if head.outcome == "accepted":
            return self._end("verified", head, "every verifier accepted the answer")
        self._passes.prepare()
        while True:
            if head.turn == 0:
                if not self._parts.operator.may_begin((head.pass_number + 1, 1)):
                    return self._interrupted()
                if requests := self._parts.operator.new_prompts():
                    return NewPrompt(requests, head)
                if (limit := self._limit(head)) is not None:
                    return self._end(
                        "unverified", head, f"the budget of {limit} is used up{self._wording(head)}"
                    )
            number = head.pass_number if head.turn > 0 else head.pass_number + 1
            step = self._course.step(number)
            if step.kind == "stop" and head.turn == 0:
                return self._end("unverified", head, stalling.stop_reason(step))
            session = self._passes.open(number, head, step)
            end = session.run(self._committed_answer())
            if end == "interrupted":
                return self._interrupted()
            started = self._parts.operator.clock()
            decision = self._decide(end)
            failpoints.passing("verify.decided")
            if isinstance(self._parts.models.refusal, StoppedError):
                self._parts.models.raise_refusal()  # a judge was not asked: that is no verdict
            if isinstance(decision, GateBroken):
                return self._end_unjudged(decision)
            seconds = self._parts.operator.clock() - started + session.unfinished_s
            blocked_by = self._blocked_by(number)
            head = self._commit_pass(number, session, end, decision, seconds)
            if isinstance(decision, Allow):
                return self._end("verified", head, "every verifier accepted the answer")
            if blocked_by:
                return self._end("blocked", head, blocked_by)

    def _wording(self, head: Checkpoint) -> str:
        """What the last pass declared to be missing, for the reason why the run ends."""
        missing = self._workspace.handed_in(head.pass_number).blocked if head.pass_number else ""
        return (
            f"; the last pass declared that it is blocked: {one_line(missing, _MAX_BLOCKED_CHARS)}"
            if missing
            else ""
        )

    def _blocked_by(self, number: int) -> str:
        """What pass ``number`` declares to be missing, where the pass before declared so too; else ""."""
        path = f"{layout.pass_folder(number - 1)}/pass.json"
        with parsing(self._workspace.folder, path):
            before = json.loads(self._workspace.history.read(path) or b"{}")
        if before.get("end") != "blocked" or number <= self._course.first_pass:
            return ""
        return one_line(self._committed_answer().blocked, _MAX_BLOCKED_CHARS)

    def _limit(self, head: Checkpoint) -> str | None:
        """The limit that ends the run between passes. A fixed program does nothing without sub-calls."""
        reached = self._ledger.reached()
        if reached is None and head.pass_number and self._passes.root.startswith("program:"):
            return self._ledger.subcalls_reached()
        return reached

    # ── one pass ────────────────────────────────────────────────────────────────────────────────────

    def _decide(self, end: SessionEnd) -> Decision:
        """Ask the stop hook about the committed answer: the bytes in git, not the live object."""
        answer = self._committed_answer()
        if answer.blocked:
            return Block(_BLOCKED.format(why=answer.blocked))
        if not answer.content.strip():
            return Block(_NO_ANSWER.get(end, "`answer['content']` was empty"))
        self._tell("verifying", answer.content, self._workspace.head().pass_number)
        self._gates.panel.begin()
        self._parts.operator.end_pass(self._workspace.head().pass_number)
        numbers = range(self._course.first_pass, self._workspace.head().pass_number)
        earlier = _HandedIn(self._workspace, numbers)
        failpoints.passing("verify.checkout")
        with checked_out(self._workspace.checkout) as checkout:
            submission = Submission(answer.content, checkout, self._inputs(), self._task.prompt, earlier)
            return self._gates.stop_hook.decide(submission)

    def _commit_pass(
        self,
        number: int,
        session: RunsPass,
        end: SessionEnd,
        decision: Allow | Block,
        seconds: float,
    ) -> Checkpoint:
        outcome = _outcome(decision)
        self._passes.release(self._why_released(decision))  # before the commit, which records what it spent
        self._ledger.charge_pass(seconds, self._workspace.journal.unanswered())
        verdict = verdicts.decision_as_json(decision)
        verdict["sandbox"] = dict(self._gates.fence.describe(network=self._gates.network))
        restores = self._course.judge(number, decision, verdict) if isinstance(decision, Block) else None
        files = self._files(number, end, decision, verdict)
        requests = self._parts.operator.files(layout.pass_folder(number))
        failpoints.passing("pass.commit")
        checkpoint = self._workspace.commit_pass(
            number,
            outcome,
            files=self._pass_files(number, {**files, **requests}),
            seconds=seconds,
            put_back=None if restores is None else self._workspace.end_of(restores),
        )
        self._parts.operator.committed(requests)
        failpoints.passing("pass.committed")
        reason = decision.reason if isinstance(decision, Block) else ""
        cache = session.usage.cache_as_dict()
        data = {"outcome": outcome, "commit": checkpoint.commit, "verdict": verdict, "cache": cache}
        self._tell("pass_ended", reason, number, **data)
        if restores is not None:
            what = f"as pass {restores} left them" if restores else "as they were at the beginning"
            self._tell("notice", f"files, variables and answer were restored: they are {what}", number)
            self._passes.restored()
        return checkpoint

    def _files(
        self, number: int, end: SessionEnd, decision: Allow | Block, verdict: dict[str, Any]
    ) -> dict[str, bytes]:
        """What the end of the pass adds to the run folder."""
        folder = f"passes/{number:04d}"
        return {
            f"{folder}/verdict.json": proof.to_bytes(verdict),
            f"{folder}/pass.json": proof.to_bytes(self._pass_record(number, end, _outcome(decision))),
            **(self._proof(number, decision, verdict) if isinstance(decision, Allow) else {}),
            **layout.children_files(folder, self._gates.panel.sessions),
            **self._new_pins(),
        }

    def _why_released(self, decision: Allow | Block) -> str:
        """Why the agent's client must end with this pass; "" when it may be kept for the next one."""
        if isinstance(decision, Allow):
            return "verified: every verifier accepted"
        if limit := self._ledger.reached_within_pass():
            return f"not verified: the budget of {limit} is used up"
        if self._ledger.left()["passes"] == 0:
            passes = plural(self._ledger.budget.passes, "pass", "passes")
            return f"not verified: the budget of {passes} is used up"
        if self._ledger.is_metered:
            return "not accepted; another client continues, so that this one's spend is recorded"
        return ""

    def _proof(self, number: int, decision: Allow, verdict: dict[str, Any]) -> dict[str, bytes]:
        read = self._workspace.history.read
        subject = proof.Subject(
            self._task.name,
            number,
            self._workspace.head().turn,
            self._workspace.history.commit(self._workspace.history.tip).tree,
            read("answer.md") or b"",
            read("task.yaml") or b"",
            read("prompt.md") or b"",
            read("inputs.json") or b"",
        )
        return {proof.PATH: proof.to_bytes(proof.proof_of(subject, decision, verdict["sandbox"]))}

    def _new_pins(self) -> dict[str, bytes]:
        """Pinned files that the run folder does not hold as they are: they were missing, or pinned anew."""
        files = self._gates.programs.to_files() if self._gates.programs.files else {}
        return {path: data for path, data in files.items() if self._workspace.history.read(path) != data}

    def _pass_record(self, number: int, end: SessionEnd, outcome: str) -> dict[str, object]:
        """``pass.json``: the run's sums after this pass, and how the kernel was confined. No clock times."""
        spend = self._ledger.spend
        return {
            "pass": number,
            "outcome": outcome,
            "end": "blocked" if self._committed_answer().blocked else end,
            **self._passes.about(number),
            "turns_so_far": spend.turns,
            "requests_so_far": spend.requests,
            "subcalls_so_far": spend.subcalls,
            "usage_so_far": usage_as_json(spend.usage),
            "usd_so_far": None if spend.usd is None else round(spend.usd, 9),
            "prices": prices.source(),
        }

    # ── how it ends ─────────────────────────────────────────────────────────────────────────────────

    def _committed_answer(self) -> Answer:
        return self._workspace.answer()

    def _interrupted(self) -> Outcome:
        reason = _STOPPED if self._parts.operator.is_stopped else _INTERRUPTED
        if question := self._parts.operator.ended_waiting_for:
            reason = _WAITS.format(question=one_line(question, _MAX_QUESTION_CHARS))
        return self._end("interrupted", self._workspace.head(), reason)

    def _end(self, status: RunStatus, head: Checkpoint, reason: str) -> Outcome:
        if isinstance(self._parts.should_stop, Stop):
            self._parts.should_stop.is_ending = True
        failpoints.passing("run.end")
        is_best = status in ("unverified", "blocked")
        answer = self._course.best_answer() if is_best else self._committed_answer()
        self._tell("run_ended", reason, head.pass_number, status=status)
        return Outcome(status, answer, head, self._ledger.spend, reason)

    def _end_unjudged(self, decision: GateBroken) -> Outcome:
        """The gates said nothing. The pass stays open, so that a resumed run asks them again."""
        head = self._workspace.head()
        if decision.limit:
            return self._end(
                "unverified", head, f"the budget of {decision.limit} is used up: {decision.reason}"
            )
        return self._end("broken", head, decision.reason)

    def _tell(self, kind: EventKind, detail: str = "", number: int = 0, **data: object) -> None:
        self._parts.trace.tell(kind, detail, (number, 0), **data)


def _outcome(decision: Allow | Block) -> PassOutcome:
    return "accepted" if isinstance(decision, Allow) else "rejected"


class _HandedIn(Sequence[str]):
    """What passes handed in, read when it is looked at: there may be a thousand, and few gates look."""

    def __init__(self, workspace: Workspace, numbers: range) -> None:
        self._workspace = workspace
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> Sequence[str]: ...

    def __getitem__(self, at: int | slice) -> str | Sequence[str]:
        if isinstance(at, slice):
            return _HandedIn(self._workspace, self._numbers[at])
        return self._workspace.handed_in(self._numbers[at]).content


@contextmanager
def checked_out(write: Callable[[Path], None]) -> Iterator[Path]:
    """A fresh folder with what ``write`` puts there, read-only; gone afterwards."""
    with scratch.make("verify") as folder:
        checkout = folder / "checkout"
        write(checkout)
        for directory, _, _ in os.walk(checkout):
            Path(directory).chmod(
                0o755
            )  # for whoever the verifier's program runs as; the sandbox keeps it from writing
        yield checkout


def usage_as_json(usage: object) -> dict[str, int]:
    """Token counts by name."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {name: int(getattr(usage, name)) for name in names}
