"""The outer loop: passes, one after another, until the stop hook allows the end or the budget is spent.

Owns the order of a pass: session, stop hook, commit. Where it stands always comes from git, never from
memory, so that starting, going on after a crash and going on after Ctrl-C are the same thing. Never prints.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loop_runner import failpoints, reentry, text
from loop_runner.budget import Ledger
from loop_runner.config import Task
from loop_runner.events import Event, Trace
from loop_runner.kernel.kernel import Kernel
from loop_runner.model.switchboard import Switchboard
from loop_runner.profiles import Profile
from loop_runner.records import (
    Accepted,
    Allow,
    Answer,
    Block,
    Checkpoint,
    Decision,
    GateBroken,
    Inputs,
    Message,
    Outcome,
    PassOutcome,
    RunStatus,
    VerifierReport,
)
from loop_runner.session import Session, SessionEnd, SessionSettings
from loop_runner.stop_hook import StopHook
from loop_runner.verify import Submission
from loop_runner.workspace.workspace import Workspace

_NO_ANSWER = {
    "turns": "the turns were used up and `answer['content']` was still empty",
    "budget": "the budget was used up and `answer['content']` was still empty",
    "no_code": "the model wrote no code in three replies in a row and `answer['content']` was still empty",
    "window": "the conversation filled the model's window and `answer['content']` was still empty",
}


PassFiles = Callable[[int, Mapping[str, bytes]], Mapping[str, bytes]]
"""Given a pass's number and the files that its end adds, says which to commit; a replay has a say in it."""


@dataclass(frozen=True, slots=True)
class Models:
    """Which models a run uses and what they are told."""

    root: str
    system: str
    example: tuple[Message, ...]  # a worked turn that every conversation begins with; empty for most
    profile: Profile
    window_tokens: int


class RunsPass(Protocol):
    """What a pass is to the loop: ``Session``, or an agent of the user's."""

    def run(self, answer: Answer) -> SessionEnd:
        """Run until there is something to verify, commit it, and say why it ended."""
        ...


class Loop:
    """One run, from wherever its workspace stands."""

    def __init__(
        self,
        task: Task,
        *,
        inputs: Inputs,
        workspace: Workspace,
        models: Models,
        switchboard: Switchboard,
        kernel: Kernel,
        stop_hook: StopHook,
        ledger: Ledger,
        trace: Trace,
        should_stop: Callable[[], bool] = lambda: False,
        open_agent_pass: Callable[[int, bool, bytes], RunsPass] | None = None,
        pass_files: PassFiles = lambda _number, files: files,
    ) -> None:
        self._open_agent_pass = (
            open_agent_pass  # (pass, its turn is committed, prompt); None: a session of ours
        )
        self._task = task
        self._inputs = inputs
        self._workspace = workspace
        self._models = models
        self._switchboard = switchboard
        self._kernel = kernel
        self._stop_hook = stop_hook
        self._ledger = ledger
        self._trace = trace
        self._should_stop = should_stop
        self._pass_files = pass_files

    def run(self) -> Outcome:
        """Run passes until the stop hook allows the end, a limit is reached or somebody interrupts."""
        head = self._workspace.head()
        if head.outcome == "accepted":
            return self._end("verified", head, "every verifier accepted the answer")
        self._start_kernel()
        while head.turn > 0 or (limit := self._ledger.reached()) is None:
            number = head.pass_number if head.turn > 0 else head.pass_number + 1
            end = self._session(number, head).run(self._committed_answer())
            if end == "interrupted":
                return self._end(
                    "interrupted", self._workspace.head(), "interrupted; every turn is committed"
                )
            started = time.monotonic()
            decision = self._decide(end)
            failpoints.passing("verify.decided")
            if isinstance(decision, GateBroken):
                return self._end("broken", self._workspace.head(), decision.reason)
            head = self._commit_pass(number, decision, time.monotonic() - started)
            if isinstance(decision, Allow):
                return self._end("verified", head, "every verifier accepted the answer")
        return self._end("unverified", head, f"the budget of {limit} is used up")

    # ── one pass ────────────────────────────────────────────────────────────────────────────────────

    def _start_kernel(self) -> None:
        confined = self._kernel.sandbox()
        gaps = "; ".join(confined.not_enforced)
        self._tell("notice", f"sandbox tier {confined.tier}; not enforced: {gaps}", sandbox=confined.tier)
        snapshot = self._workspace.snapshot()
        for lost in self._kernel.start(snapshot, self._committed_answer(), self._workspace):
            self._tell("notice", f"variable {text.one_line(lost.name)} could not be restored: {lost.reason}")

    def _session(self, number: int, head: Checkpoint) -> RunsPass:
        """The session of pass ``number``, with the turns that are committed already."""
        folder = f"passes/{number:04d}"
        injected = self._workspace.read(f"{folder}/injected.md") if head.turn else None
        if injected is None:
            prompt = reentry.first_message(
                self._workspace,
                pass_number=number,
                prompt=self._task.prompt,
                profile=self._models.profile,
                ledger=self._ledger,
            )
            injected = prompt.encode()
        self._tell("pass_started", injected.decode(), number)
        if self._open_agent_pass is not None:
            return self._open_agent_pass(number, head.turn > 0, injected)
        return Session(
            SessionSettings(
                pass_number=number,
                model=self._models.root,
                system=self._models.system,
                turns=self._task.budget.turns,
                max_reply_tokens=self._models.profile.max_reply_tokens,
                window_tokens=self._models.window_tokens,
            ),
            messages=self._messages(number, injected),
            turns_done=head.turn,
            is_ready=head.turn > 0 and self._committed_answer().is_ready,
            snapshot=self._workspace.snapshot(),
            models=self._switchboard,
            kernel=self._kernel,
            workspace=self._workspace,
            ledger=self._ledger,
            trace=self._trace,
            should_stop=self._should_stop,
            first_files={f"{folder}/injected.md": injected},
        )

    def _messages(self, number: int, injected: bytes) -> list[Message]:
        """The conversation so far; with ``reentry: continue`` that of the earlier passes too."""
        messages = list(self._models.example)
        first = 1 if self._task.reentry == "continue" else number
        for earlier in range(first, number + 1):
            told = (
                injected if earlier == number else self._workspace.read(f"passes/{earlier:04d}/injected.md")
            )
            messages.append(Message("user", (told or b"").decode()))
            for turn in self._workspace.turns(earlier):
                messages += [Message("assistant", turn.reply), Message("user", turn.output)]
        return messages

    def _decide(self, end: SessionEnd) -> Decision:
        """Ask the stop hook about the committed answer: the bytes in git, not the live object."""
        answer = self._committed_answer()
        if not answer.content.strip():
            return Block(_NO_ANSWER.get(end, "`answer['content']` was empty"))
        self._tell("verifying", answer.content, self._workspace.head().pass_number)
        with tempfile.TemporaryDirectory(prefix="loop-runner-verify-") as folder:
            checkout = Path(folder) / "checkout"
            failpoints.passing("verify.checkout")
            self._workspace.checkout(checkout)
            return self._stop_hook.decide(Submission(answer.content, checkout, self._inputs))

    def _commit_pass(self, number: int, decision: Allow | Block, seconds: float) -> Checkpoint:
        outcome: PassOutcome = "accepted" if isinstance(decision, Allow) else "rejected"
        self._ledger.charge_pass(seconds, self._workspace.journal.unanswered())
        verdict = decision_as_json(decision)
        folder = f"passes/{number:04d}"
        failpoints.passing("pass.commit")
        checkpoint = self._workspace.commit_pass(
            number,
            outcome,
            files=self._pass_files(
                number,
                {
                    f"{folder}/verdict.json": _json(verdict),
                    f"{folder}/pass.json": _json(self._pass_record(number, outcome)),
                },
            ),
            seconds=seconds,
        )
        failpoints.passing("pass.committed")
        reason = decision.reason if isinstance(decision, Block) else ""
        self._tell("pass_ended", reason, number, outcome=outcome, commit=checkpoint.commit, verdict=verdict)
        return checkpoint

    def _pass_record(self, number: int, outcome: str) -> dict[str, object]:
        """``pass.json``: the run's sums after this pass, and how the kernel was confined. No clock times."""
        spend = self._ledger.spend
        return {
            "pass": number,
            "outcome": outcome,
            "model": self._models.root,
            "sandbox": self._kernel.sandbox().as_dict(),
            "turns_so_far": spend.turns,
            "requests_so_far": spend.requests,
            "subcalls_so_far": spend.subcalls,
            "usage_so_far": usage_as_json(spend.usage),
            "usd_so_far": None if spend.usd is None else round(spend.usd, 9),
        }

    # ── how it ends ─────────────────────────────────────────────────────────────────────────────────

    def _committed_answer(self) -> Answer:
        return self._workspace.answer()

    def _end(self, status: RunStatus, head: Checkpoint, reason: str) -> Outcome:
        failpoints.passing("run.end")
        answer = self._best_answer() if status == "unverified" else self._committed_answer()
        self._tell("run_ended", reason, head.pass_number, status=status)
        return Outcome(status, answer, head, self._ledger.spend, reason)

    def _best_answer(self) -> Answer:
        """The answer of the pass with the best score, the latest of equals."""
        best: tuple[float, int] | None = None
        first = reentry.first_pass_of_task(self._workspace)
        for number in range(first, self._workspace.head().pass_number + 1):
            score = float(reentry.verdict(self._workspace, number).get("score", 0.0))
            best = max(best or (score, number), (score, number))
        if best is None:
            return self._committed_answer()
        return self._workspace.answer(at_pass=best[1])

    def _tell(self, kind: str, detail: str = "", number: int = 0, **data: object) -> None:
        self._trace.append(Event(kind, detail, number, 0, data))  # type: ignore[arg-type]


def decision_as_json(decision: Allow | Block) -> dict[str, object]:
    """``verdict.json``: what was decided and what each verifier said."""
    is_allowed = isinstance(decision, Allow)
    return {
        "decision": "allow" if is_allowed else "block",
        "reason": "" if isinstance(decision, Allow) else decision.reason,
        "score": 1.0 if isinstance(decision, Allow) else decision.score,
        "reports": [_report_as_json(report) for report in decision.reports],
    }


def _report_as_json(report: VerifierReport) -> dict[str, object]:
    verdict = report.verdict
    data: dict[str, object] = {"verifier": report.verifier, "verdict": type(verdict).__name__.lower()}
    if isinstance(verdict, Accepted):
        return data | {"evidence": verdict.evidence, "score": verdict.score}
    data["reason"] = verdict.reason
    return data


def usage_as_json(usage: object) -> dict[str, int]:
    """Token counts by name."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {name: int(getattr(usage, name)) for name in names}


def _json(data: dict[str, object]) -> bytes:
    return (json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
