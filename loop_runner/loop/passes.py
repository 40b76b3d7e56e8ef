"""Opens the passes of a run: a session in code, a direct pass over the texts, or a pass of the user's agent.

Owns which of the three a pass is, its first message, and the start of the kernel, which the first session
needs. Reads committed bytes, so a pass that is opened again after a crash resumes where its last turn left
it. Never verifies and never commits: the pass commits its turns, and the loop the pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from loop_runner import __version__, text
from loop_runner.kernel.kernel import Kernel
from loop_runner.loop import reentry
from loop_runner.loop.course import Course
from loop_runner.loop.stalling import Step
from loop_runner.model import registry
from loop_runner.records import Answer, Checkpoint, Inputs, Message, Usage
from loop_runner.session import direct
from loop_runner.session.conversation import Conversation, ConversationSettings, Resumed
from loop_runner.session.direct import DirectConversation
from loop_runner.session.session import Pass, PassHost, RunParts, SessionEnd, SessionHost, summary_path
from loop_runner.session.subcalls import SubCalls
from loop_runner.session.transcript import Transcript
from loop_runner.task.config import History, Task
from loop_runner.task.profiles import Profile
from loop_runner.task.prompts import BUILT_IN, Templates
from loop_runner.workspace.layout import TurnText
from loop_runner.workspace.openable import parsing


class RunsPass(Protocol):
    """What a pass is to the loop: ``session.Pass``, or one of the user's agent."""

    @property
    def usage(self) -> Usage:
        """Of the conversation, in this process."""
        ...

    @property
    def unfinished_s(self) -> float:
        """Spent on a turn that was not committed."""
        ...

    def run(self, answer: Answer) -> SessionEnd:
        """Run until there is something to verify, commit it, and return why it ended."""
        ...


@dataclass(frozen=True, slots=True)
class Models:
    """Which models a run uses and what they are shown."""

    root: str
    system: str
    examples: tuple[tuple[Message, ...], ...]  # worked turns, for the passes in turn; empty for most
    profile: Profile
    window_tokens: int
    direct_system: str = ""
    session: direct.Decision = direct.RLM
    templates: Templates = BUILT_IN

    def example(self, pass_number: int) -> tuple[Message, ...]:
        """The worked turn that the conversation of this pass begins with."""
        return self.examples[(pass_number - 1) % len(self.examples)] if self.examples else ()


@dataclass(frozen=True, slots=True)
class OfAgent:
    """The passes of a user's agent."""

    open: Callable[[int, bool, bytes], RunsPass]  # (pass, its turn is committed, prompt)
    release: Callable[[str], None]  # ends the agent's client, which reports what it spent when it ends


class Passes:
    """Opens the passes of one run."""

    def __init__(
        self,
        task: Task,
        parts: RunParts,
        course: Course,
        *,
        inputs: Inputs,
        models: Models,
        sub_calls: SubCalls,
        kernel: Kernel,
        agent: OfAgent | None = None,
    ) -> None:
        self._task = task
        self._parts = parts
        self._workspace = parts.workspace
        self._course = course
        self._inputs = inputs
        self._models = models
        self._sub_calls = sub_calls
        self._kernel = kernel
        self._agent = agent
        self._has_kernel = False  # started by the first pass that runs code

    @property
    def root(self) -> str:
        """The root model; empty for an agent, which brings its own."""
        return self._models.root

    def prepare(self) -> None:
        """Find damaged variables before anything is paid."""
        if self._models.session.kind == "rlm":
            self._start_kernel()

    def open(self, number: int, head: Checkpoint, step: Step) -> RunsPass:
        """Pass ``number`` with the turns that are committed already; ``step`` is what it does differently."""
        injected = self._injected(number, head, step)
        self._tell_started(number, step, injected)
        if self._agent is not None:
            note = self._parts.operator.note().encode() if not head.turn else b""
            return self._agent.open(number, head.turn > 0, b"\n\n".join(filter(None, (injected, note))))
        conversation = self._direct if self._is_direct(number) else self._session
        return Pass(conversation(number, head, step, injected))

    def about(self, number: int) -> dict[str, object]:
        """What ``pass.json`` holds of how the pass was held."""
        return {
            "session": "direct" if self._is_direct(number) else "rlm",
            "model": self._models.root,
            "sandbox": self._kernel.sandbox().as_dict() if self._has_kernel else None,
        }

    def release(self, why: str) -> None:
        """Let the client of an agent end."""
        if self._agent is not None and why:
            self._agent.release(f"loop-runner: {why}")

    def restored(self) -> None:
        """Variables were restored: the next pass that runs code starts the kernel with them."""
        self._has_kernel = False

    # ── the first message ───────────────────────────────────────────────────────────────────────────

    def _injected(self, number: int, head: Checkpoint, step: Step) -> bytes:
        """The first message of the pass: the committed one, if it has begun."""
        path = f"passes/{number:04d}/injected.md"
        committed = self._workspace.history.read(path) if head.turn else None
        if committed is not None:
            return committed
        return reentry.first_message(
            self._workspace,
            pass_number=number,
            prompt=self._task.prompt,
            profile=self._models.profile,
            ledger=self._parts.ledger,
            course=self._course.notes(number),
            lessons=self._course.lessons(number),
            rules=self._models.system if self._task.is_agent else "",
            templates=self._models.templates,
            window_tokens=self._window_tokens(step),
            is_direct=self._is_direct(number),
        ).encode()

    def _tell_started(self, number: int, step: Step, injected: bytes) -> None:
        tell, at = self._parts.trace.tell, (number, 0)
        held = "direct" if self._is_direct(number) else "rlm"
        kind = self._task.session if self._task.is_agent else held
        tell("pass_started", injected.decode(), at, session=kind, before=self._course.before(number))
        if step.kind not in ("go", "stop"):
            change = " ".join(filter(None, (step.kind, step.model)))
            tell("notice", f"{step.equal} passes ended the same; this one tries: {change}", at)

    def _window_tokens(self, step: Step) -> int:
        return registry.window_tokens(step.model) if step.model else self._models.window_tokens

    # ── the two kinds of conversation ───────────────────────────────────────────────────────────────

    def _is_direct(self, number: int) -> bool:
        """Whether pass ``number`` takes the direct path: not when the texts proved too long."""
        if self._models.session.kind != "direct":
            return False
        ends = (self._pass_json(earlier).get("end") for earlier in range(1, number))
        return self._task.session == "direct" or "window" not in ends

    def _session(self, number: int, head: Checkpoint, step: Step, injected: bytes) -> Conversation:
        self._start_kernel()
        settings = self._settings(
            step,
            system=self._models.system,
            sums_up=self._task.history.mode == "compact",
            offers_tool=self._task.code_as == "tool",
        )
        host = SessionHost(
            self._parts,
            number,
            self._first_files(number, injected),
            kernel=self._kernel,
            sub_calls=self._sub_calls,
        )
        return Conversation(
            settings,
            host,
            transcript=self._transcript(number, injected),
            models=self._parts.models,
            pass_number=number,
            resumed=self._resumed(number, head),
        )

    def _direct(self, number: int, head: Checkpoint, step: Step, injected: bytes) -> Conversation:
        settings = self._settings(step, system=self._models.direct_system)
        return DirectConversation(
            settings,
            PassHost(self._parts, number, self._first_files(number, injected), most_turns=direct.MAX_REPLIES),
            transcript=self._direct_transcript(number, injected),
            models=self._parts.models,
            pass_number=number,
            resumed=self._resumed(number, head),
        )

    def _settings(
        self,
        step: Step,
        *,
        system: str,
        sums_up: bool = False,
        offers_tool: bool = False,
    ) -> ConversationSettings:
        return ConversationSettings(
            model=step.model or self._models.root,
            system=system,
            max_reply_tokens=self._models.profile.max_reply_tokens,
            window_tokens=self._window_tokens(step),
            temperature=step.temperature,
            sums_up=sums_up,
            offers_tool=offers_tool,
            templates=self._models.templates,
        )

    def _resumed(self, number: int, head: Checkpoint) -> Resumed:
        if head.turn == 0:
            return Resumed()
        ends: list[str] = []
        while (turn := self._workspace.history.past_turn(number, len(ends) + 1)) is not None:
            ends.append(turn.end)
        without_code = next((at for at, end in enumerate(reversed(ends)) if end != "no_code"), len(ends))
        return Resumed(
            turns=head.turn,
            is_ready=self._workspace.answer().is_ready,
            is_blocked=bool(self._workspace.answer().blocked),
            without_code=0 if self._is_direct(number) else without_code,
            stop_reason=self._workspace.stop_reason(number, head.turn),
        )

    def _first_files(self, number: int, injected: bytes) -> Mapping[str, bytes]:
        return {f"passes/{number:04d}/injected.md": injected}

    def _direct_transcript(self, number: int, injected: bytes) -> Transcript:
        """The texts and the prompt, and the replies so far; nothing of it is ever shortened."""
        message = direct.first_message(self._inputs, injected.decode(), len(self._task.prompt))
        transcript = Transcript(History(), templates=self._models.templates)
        transcript.begin_pass(message.text, message.stable_chars)
        for at, turn in enumerate(self._workspace.history.turns(number), start=1):
            _add_note(transcript, turn)
            transcript.add((number, at), turn.reply, turn.output)
        return transcript

    def _transcript(self, number: int, injected: bytes) -> Transcript:
        """The conversation so far; with ``reentry: continue`` that of the earlier passes too."""
        transcript = Transcript(self._task.history, self._models.example(number), self._models.templates)
        first = 1 if self._task.reentry == "continue" else number
        for earlier in range(first, number + 1):
            shown = (
                injected
                if earlier == number
                else self._workspace.history.read(f"passes/{earlier:04d}/injected.md")
            )
            transcript.begin_pass((shown or b"").decode(), len(self._task.prompt))
            for at, turn in enumerate(self._workspace.history.turns(earlier), start=1):
                summary = self._workspace.history.read(summary_path(earlier, at))
                _add_note(transcript, turn)
                transcript.add(
                    (earlier, at), turn.reply, turn.output, None if summary is None else summary.decode()
                )
        return transcript

    def _pass_json(self, number: int) -> dict[str, object]:
        """``pass.json`` of a committed pass; empty when there is none."""
        path = f"passes/{number:04d}/pass.json"
        with parsing(self._workspace.folder, path):
            data = self._workspace.history.read(path)
            return dict(json.loads(data)) if data else {}

    # ── the kernel ──────────────────────────────────────────────────────────────────────────────────

    def _start_kernel(self) -> None:
        if self._has_kernel:
            return
        self._has_kernel = True
        tell = self._parts.trace.tell
        confined = self._kernel.sandbox()
        tell("notice", confined.summary(), sandbox=confined.tier)
        snapshot = self._workspace.history.snapshot()
        gone = {variable.name for variable in snapshot.variables if variable.is_gone}  # reported before
        for lost in self._kernel.start(snapshot, self._workspace.answer()):
            if lost.name not in gone:
                tell("notice", f"variable {text.one_line(lost.name)} could not be restored: {lost.reason}")
        for death in self._kernel.take_deaths():
            tell("notice", str(death), died=death.process, doing=death.doing)
        if snapshot.variables and (others := self._other_versions()):
            tell("notice", f"{others}; every variable that can be restored was restored")

    def _other_versions(self) -> str:
        """Which other versions wrote the committed variables; empty if there are none, or none recorded."""
        now = {"python": self._kernel.python, "loop_runner": __version__}
        names = {"python": "Python", "loop_runner": "loop-runner"}
        written_by = self._workspace.history.versions()
        others: Sequence[str] = [
            f"{names[key]} {text.one_line(written_by[key], 30)} (now {version})"
            for key, version in now.items()
            if written_by.get(key) and written_by[key] != version
        ]
        return f"the variables were written by {' and '.join(others)}" if others else ""


def _add_note(transcript: Transcript, turn: TurnText) -> None:
    if turn.note:
        transcript.add_note(turn.note)
