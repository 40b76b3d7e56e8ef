"""The outer loop: passes, one after another, until the stop hook allows the end or the budget is spent.

Owns the order of a pass: session, stop hook, commit. Where it stands always comes from git, never from
memory, so that starting, going on after a crash and going on after Ctrl-C are the same thing. Never prints.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, overload

from loop_runner import __version__, failpoints, scratch, text
from loop_runner.budget import Ledger
from loop_runner.errors import StoppedError
from loop_runner.events import Event, Trace
from loop_runner.kernel.kernel import Kernel
from loop_runner.loop import reentry, stalling
from loop_runner.loop.stalling import PassState, Step
from loop_runner.loop.stopping import Interrupted, Stop
from loop_runner.model import prices, registry
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import (
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
    Usage,
)
from loop_runner.session import direct
from loop_runner.session.direct import DirectPass
from loop_runner.session.session import Session, SessionEnd, SessionSettings, summary_path
from loop_runner.session.subcalls import SubCalls
from loop_runner.session.transcript import Transcript
from loop_runner.task.config import Task
from loop_runner.task.profiles import Profile
from loop_runner.task.prompts import OURS, Templates
from loop_runner.text import plural
from loop_runner.verify import Fence, Programs, Submission, proof
from loop_runner.verify.panel import LivePanel
from loop_runner.verify.stop_hook import StopHook
from loop_runner.workspace import layout
from loop_runner.workspace.history import parsing
from loop_runner.workspace.workspace import Workspace

_INTERRUPTED = "interrupted; every turn is committed"
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
    direct_system: str = ""
    session: direct.Decision = direct.RLM
    templates: Templates = OURS


@dataclass(frozen=True, slots=True)
class GateTools:
    """What an answer has to pass, and what is written down of it."""

    stop_hook: StopHook
    panel: LivePanel
    fence: Fence
    programs: Programs  # pinned; those that the run folder does not hold yet are committed with the next pass
    network: bool = False  # a verifier asks for it


class RunsPass(Protocol):
    """What a pass is to the loop: ``Session``, ``DirectPass``, or an agent of the user's."""

    usage: Usage  # of the conversation, in this process
    unfinished_s: float  # spent on a turn that was not committed

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
        sub_calls: SubCalls,
        kernel: Kernel,
        gates: GateTools,
        ledger: Ledger,
        trace: Trace,
        should_stop: Callable[[], bool] = lambda: False,
        open_agent_pass: Callable[[int, bool, bytes], RunsPass] | None = None,
        pass_files: PassFiles = lambda _number, files: files,
        let_go: Callable[[str], None] | None = None,
    ) -> None:
        self._let_go = let_go  # ends an agent's client, which says what it spent when it ends
        self._open_agent_pass = (
            open_agent_pass  # (pass, its turn is committed, prompt); None: a session of ours
        )
        self._task = task
        self._inputs = inputs
        self._workspace = workspace
        self._models = models
        self._switchboard = switchboard
        self._sub_calls = sub_calls
        self._kernel = kernel
        self._gates = gates
        self._ledger = ledger
        self._trace = trace
        self._should_stop = should_stop
        self._pass_files = pass_files
        self._has_kernel = False  # started by the first pass that runs code
        self._ended: list[PassState] = []  # of the passes from the first one of what is asked now

    def run(self) -> Outcome:
        """Run passes until the stop hook allows the end, a limit is reached or the run is asked to stop."""
        try:
            return self._run_passes()
        except (StoppedError, Interrupted):
            # Within a turn or a check: neither is committed, and ``resume`` begins it again from the journal.
            return self._end("interrupted", self._workspace.head(), _INTERRUPTED)

    def _run_passes(self) -> Outcome:
        head = self._workspace.head()
        if head.outcome == "accepted":
            return self._end("verified", head, "every verifier accepted the answer")
        if self._models.session.kind == "rlm":
            self._start_kernel()  # here, so that damaged variables are found before anything is paid
        while head.turn > 0 or (limit := self._limit(head)) is None:
            number = head.pass_number if head.turn > 0 else head.pass_number + 1
            step = self._step(number)
            if step.kind == "stop" and head.turn == 0:
                return self._end("unverified", head, stalling.stop_reason(step))
            session = self._session(number, head, step)
            end = session.run(self._committed_answer())
            if end == "interrupted":
                return self._end("interrupted", self._workspace.head(), _INTERRUPTED)
            started = time.monotonic()
            decision = self._decide(end)
            failpoints.passing("verify.decided")
            if isinstance(self._switchboard.refusal, StoppedError):
                self._switchboard.raise_refusal()  # a judge was not asked: that is no verdict
            if isinstance(decision, GateBroken):
                return self._end_unjudged(decision)
            seconds = time.monotonic() - started + session.unfinished_s
            head = self._commit_pass(number, session, end, decision, seconds)
            if isinstance(decision, Allow):
                return self._end("verified", head, "every verifier accepted the answer")
        return self._end("unverified", head, f"the budget of {limit} is used up")

    def _limit(self, head: Checkpoint) -> str | None:
        """The limit that ends the run between passes. A fixed program does nothing without sub-calls."""
        reached = self._ledger.reached()
        if reached is None and head.pass_number and self._models.root.startswith("program:"):
            return self._ledger.subcalls_reached()
        return reached

    # ── one pass ────────────────────────────────────────────────────────────────────────────────────

    def _start_kernel(self) -> None:
        if self._has_kernel:
            return
        self._has_kernel = True
        confined = self._kernel.sandbox()
        self._tell("notice", confined.summary(), sandbox=confined.tier)
        snapshot = self._workspace.snapshot()
        gone = {variable.name for variable in snapshot.variables if variable.is_gone}  # reported before
        for lost in self._kernel.start(snapshot, self._committed_answer()):
            if lost.name in gone:
                continue
            self._tell("notice", f"variable {text.one_line(lost.name)} could not be restored: {lost.reason}")
        for death in self._kernel.take_deaths():
            self._tell("notice", str(death), died=death.process, doing=death.doing)
        if snapshot.variables and (others := self._other_versions()):
            self._tell("notice", f"{others}; every variable that can be restored was restored")

    def _other_versions(self) -> str:
        """Which other versions wrote the committed variables; empty if there are none, or none recorded."""
        now = {"python": self._kernel.python, "loop_runner": __version__}
        names = {"python": "Python", "loop_runner": "loop-runner"}
        written_by = self._workspace.versions()
        others = [
            f"{names[key]} {text.one_line(written_by[key], 30)} (now {version})"
            for key, version in now.items()
            if written_by.get(key) and written_by[key] != version
        ]
        return f"the variables were written by {' and '.join(others)}" if others else ""

    def _session(self, number: int, head: Checkpoint, step: Step) -> RunsPass:
        """The session of pass ``number``, with the turns that are committed already."""
        is_direct = self._is_direct(number)
        model = step.model or self._models.root
        window_tokens = registry.window_tokens(model) if step.model else self._models.window_tokens
        folder = f"passes/{number:04d}"
        injected = self._workspace.read(f"{folder}/injected.md") if head.turn else None
        if injected is None:
            prompt = reentry.first_message(
                self._workspace,
                pass_number=number,
                prompt=self._task.prompt,
                profile=self._models.profile,
                ledger=self._ledger,
                course=stalling.notes(self._states(number)),
                lessons=stalling.lessons(self._states(number)),
                rules=self._models.system if self._task.is_agent else "",
                templates=self._models.templates,
                window_tokens=window_tokens,
                is_direct=is_direct,
            )
            injected = prompt.encode()
        kind = self._task.session if self._task.is_agent else "direct" if is_direct else "rlm"
        self._tell("pass_started", injected.decode(), number, session=kind)
        if step.kind not in ("go", "stop"):
            change = " ".join(filter(None, (step.kind, step.model)))
            self._tell(
                "notice",
                f"{plural(step.equal, 'pass', 'passes')} ended the same; this one tries: {change}",
                number,
            )
        if self._open_agent_pass is not None:
            return self._open_agent_pass(number, head.turn > 0, injected)
        settings = SessionSettings(
            pass_number=number,
            model=model,
            system=self._models.direct_system if is_direct else self._models.system,
            turns=self._task.budget.turns,
            max_reply_tokens=self._models.profile.max_reply_tokens,
            window_tokens=window_tokens,
            temperature=step.temperature,
            sums_up=self._task.history.mode == "compact",
            offers_tool=self._task.code_as == "tool",
            templates=self._models.templates,
        )
        if is_direct:
            return self._direct_pass(settings, head, injected)
        self._start_kernel()
        return Session(
            settings,
            transcript=self._transcript(number, injected),
            turns_done=head.turn,
            is_ready=head.turn > 0 and self._committed_answer().is_ready,
            snapshot=self._workspace.snapshot(),
            models=self._switchboard,
            sub_calls=self._sub_calls,
            kernel=self._kernel,
            workspace=self._workspace,
            ledger=self._ledger,
            trace=self._trace,
            should_stop=self._should_stop,
            first_files={f"{folder}/injected.md": injected},
        )

    def _is_direct(self, number: int) -> bool:
        """Whether pass ``number`` takes the direct path: not when the texts proved too long."""
        if self._models.session.kind != "direct":
            return False
        ends = (self._pass_json(earlier).get("end") for earlier in range(1, number))
        return self._task.session == "direct" or "window" not in ends

    def _direct_pass(self, settings: SessionSettings, head: Checkpoint, injected: bytes) -> DirectPass:
        number = settings.pass_number
        turns = self._workspace.turns(number) if head.turn else []
        return DirectPass(
            settings,
            message=direct.first_message(self._inputs, injected.decode(), len(self._task.prompt)),
            earlier=tuple((turn.reply, turn.output) for turn in turns),
            turns_done=head.turn,
            is_ready=head.turn > 0 and self._committed_answer().is_ready,
            snapshot=self._workspace.snapshot(),
            models=self._switchboard,
            workspace=self._workspace,
            ledger=self._ledger,
            trace=self._trace,
            should_stop=self._should_stop,
            first_files={f"passes/{number:04d}/injected.md": injected},
        )

    def _transcript(self, number: int, injected: bytes) -> Transcript:
        """The conversation so far; with ``reentry: continue`` that of the earlier passes too."""
        transcript = Transcript(self._task.history, self._models.example, self._models.templates)
        first = 1 if self._task.reentry == "continue" else number
        for earlier in range(first, number + 1):
            told = (
                injected if earlier == number else self._workspace.read(f"passes/{earlier:04d}/injected.md")
            )
            transcript.begin_pass((told or b"").decode(), len(self._task.prompt))
            for at, turn in enumerate(self._workspace.turns(earlier), start=1):
                summary = self._workspace.read(summary_path(earlier, at))
                transcript.add(
                    (earlier, at), turn.reply, turn.output, None if summary is None else summary.decode()
                )
        return transcript

    def _pass_json(self, number: int) -> dict[str, object]:
        """``pass.json`` of a committed pass; empty when there is none."""
        path = f"passes/{number:04d}/pass.json"
        with parsing(self._workspace.folder, path):
            data = self._workspace.read(path)
            return dict(json.loads(data)) if data else {}

    def _decide(self, end: SessionEnd) -> Decision:
        """Ask the stop hook about the committed answer: the bytes in git, not the live object."""
        answer = self._committed_answer()
        if not answer.content.strip():
            return Block(_NO_ANSWER.get(end, "`answer['content']` was empty"))
        self._tell("verifying", answer.content, self._workspace.head().pass_number)
        self._gates.panel.begin()
        numbers = range(self._first_pass, self._workspace.head().pass_number)
        earlier = _HandedIn(self._workspace, numbers)
        failpoints.passing("verify.checkout")
        with checked_out(self._workspace.checkout) as checkout:
            submission = Submission(answer.content, checkout, self._inputs, self._task.prompt, earlier)
            return self._gates.stop_hook.decide(submission)

    @cached_property
    def _first_pass(self) -> int:
        """The first pass of what is asked now: before it, a fork had another prompt or other gates."""
        return reentry.first_pass_of_task(self._workspace)

    def _commit_pass(
        self,
        number: int,
        session: RunsPass,
        end: SessionEnd,
        decision: Allow | Block,
        seconds: float,
    ) -> Checkpoint:
        outcome: PassOutcome = "accepted" if isinstance(decision, Allow) else "rejected"
        if self._let_go is not None and (why := self._why_let_go(decision)):
            self._let_go(f"loop-runner: {why}")  # before the commit, which tells what it spent
        self._ledger.charge_pass(seconds, self._workspace.journal.unanswered())
        verdict = proof.decision_as_json(decision)
        verdict["sandbox"] = dict(self._gates.fence.describe(network=self._gates.network))
        put_back: int | None = None
        if isinstance(decision, Block):
            put_back = self._judge_course(number, decision, verdict)
        folder = f"passes/{number:04d}"
        failpoints.passing("pass.commit")
        checkpoint = self._workspace.commit_pass(
            number,
            outcome,
            files=self._pass_files(
                number,
                {
                    f"{folder}/verdict.json": proof.to_bytes(verdict),
                    f"{folder}/pass.json": proof.to_bytes(self._pass_record(number, end, outcome)),
                    **(self._proof(number, decision, verdict) if isinstance(decision, Allow) else {}),
                    **layout.children_files(folder, self._gates.panel.sessions),
                    **self._new_pins(),
                },
            ),
            seconds=seconds,
            put_back=None if put_back is None else self._workspace.end_of(put_back),
        )
        failpoints.passing("pass.committed")
        reason = decision.reason if isinstance(decision, Block) else ""
        cache = session.usage.cache_as_dict()
        self._tell(
            "pass_ended",
            reason,
            number,
            outcome=outcome,
            commit=checkpoint.commit,
            verdict=verdict,
            cache=cache,
        )
        if put_back is not None:
            what = f"as pass {put_back} left them" if put_back else "as they were at the beginning"
            self._tell("notice", f"files, variables and answer are put back: they are {what}", number)
            self._has_kernel = False  # the next pass that runs code starts it with what was put back
        return checkpoint

    def _why_let_go(self, decision: Allow | Block) -> str:
        """Why the agent's client must end with this pass; "" when it may be kept for the next one."""
        if isinstance(decision, Allow):
            return "verified: every verifier accepted"
        if limit := self._ledger.reached_within_pass():
            return f"not verified: the budget of {limit} is used up"
        if self._ledger.left()["passes"] == 0:
            passes = plural(self._task.budget.passes, "pass", "passes")
            return f"not verified: the budget of {passes} is used up"
        if self._ledger.is_metered:
            return "not accepted; another client goes on, so that what this one spent is known"
        return ""

    def _judge_course(self, number: int, decision: Block, verdict: dict[str, Any]) -> int | None:
        """Add to ``verdict`` where the run stands; the pass whose files are to be put back, if any are."""
        state = stalling.state_of(
            number,
            decision,
            files=self._workspace.files_hash(),
            answer=proof.sha256(self._workspace.read("answer.md") or b""),
        )
        states = [*self._states(number), state]
        step = stalling.next_step(states, self._task.no_progress, self._models.root)
        worse_than = stalling.regression(states)
        rolls_back = worse_than is not None and self._task.on_regression == "rollback"
        put_back = step.from_pass if step.kind == "restart" else worse_than if rolls_back else None
        verdict["state"] = stalling.as_json(state)
        verdict["next"] = {"strategy": step.kind, "equal_passes": step.equal}
        if worse_than is not None:
            verdict["next"]["worse_than_pass"] = worse_than
        if put_back is not None:
            verdict["next"]["from_pass"] = put_back
        return put_back

    def _states(self, number: int) -> list[PassState]:
        """How the passes before ``number`` ended, from their committed verdicts, each read once."""
        for each in range(self._first_pass + len(self._ended), number):
            self._ended.append(stalling.from_verdict(each, reentry.verdict(self._workspace, each)))
        return self._ended[: max(number - self._first_pass, 0)]

    def _step(self, number: int) -> Step:
        return stalling.next_step(self._states(number), self._task.no_progress, self._models.root)

    def _proof(self, number: int, decision: Allow, verdict: dict[str, Any]) -> dict[str, bytes]:
        read = self._workspace.read
        subject = proof.Subject(
            self._task.name,
            number,
            self._workspace.head().turn,
            self._workspace.tree(),
            read("answer.md") or b"",
            read("task.yaml") or b"",
            read("prompt.md") or b"",
            read("inputs.json") or b"",
        )
        return {proof.PATH: proof.to_bytes(proof.proof_of(subject, decision, verdict["sandbox"]))}

    def _new_pins(self) -> dict[str, bytes]:
        """Pinned files that the run folder does not hold as they are: they were missing, or pinned anew."""
        files = self._gates.programs.to_files() if self._gates.programs.files else {}
        return {path: data for path, data in files.items() if self._workspace.read(path) != data}

    def _pass_record(self, number: int, end: SessionEnd, outcome: str) -> dict[str, object]:
        """``pass.json``: the run's sums after this pass, and how the kernel was confined. No clock times."""
        spend = self._ledger.spend
        return {
            "pass": number,
            "outcome": outcome,
            "session": "direct" if self._is_direct(number) else "rlm",
            "end": end,
            "model": self._models.root,
            "sandbox": self._kernel.sandbox().as_dict() if self._has_kernel else None,
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

    def _end(self, status: RunStatus, head: Checkpoint, reason: str) -> Outcome:
        if isinstance(self._should_stop, Stop):
            self._should_stop.is_ending = True
        failpoints.passing("run.end")
        answer = self._best_answer() if status == "unverified" else self._committed_answer()
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

    def _best_answer(self) -> Answer:
        """What the pass with the best score handed in, the latest of equals."""
        head = self._workspace.head()
        best: tuple[float, int] | None = None
        for number in range(self._first_pass, head.pass_number + (head.turn == 0)):
            score = float(reentry.verdict(self._workspace, number).get("score", 0.0))
            best = max(best or (score, number), (score, number))
        if best is None:
            return self._committed_answer()
        return self._workspace.handed_in(best[1])

    def _tell(self, kind: str, detail: str = "", number: int = 0, **data: object) -> None:
        self._trace.append(Event(kind, detail, number, 0, data))  # type: ignore[arg-type]


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
        for each, _, _ in os.walk(checkout):
            Path(each).chmod(
                0o755
            )  # for whoever the verifier's program runs as; the sandbox keeps it from writing
        yield checkout


def usage_as_json(usage: object) -> dict[str, int]:
    """Token counts by name."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return {name: int(getattr(usage, name)) for name in names}
