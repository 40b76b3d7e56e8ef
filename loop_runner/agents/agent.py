"""A pass of an agent client: from the prompt to the moment in which the client wants to end.

``Agent`` lives as long as the run: it starts the client (``session: command``) or waits for one that a person
started (``session: hook``), and holds a client that asked its stop hook until the loop has decided.
``AgentPass`` meets the loop where ``Session`` does: it runs until there is something to verify, commits it
and returns. Never decides, never trusts the client's word for its own end.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from loop_runner.agents import endings, protocol, sessions
from loop_runner.agents.client_process import ClientProcess, end_stray, environment
from loop_runner.agents.endings import Ending, Reported
from loop_runner.agents.endpoint import Endpoint
from loop_runner.agents.protocol import ALLOW, Decision
from loop_runner.errors import EnvironmentFault, ModelError
from loop_runner.events import Event, Trace
from loop_runner.records import Answer, Snapshot, Turn, Usage
from loop_runner.session.committing import Commits
from loop_runner.task.config import AgentSettings
from loop_runner.text import cut_middle, one_line
from loop_runner.workspace.foreign import lay_out_for_agent
from loop_runner.workspace.workspace import Workspace

_STEP_S = 0.1
_LAST_CHANCE_S = 60.0  # for a client to end after it was let
_FAILURES = 3  # in a row, before the run stops
_RETRY_S = 5.0
_MAX_ANSWER_CHARS = 200_000
_SILENT = "(the client does not report the agent's last message; its files are the answer)"


@dataclass(slots=True)
class _StopRequest:
    """A client that waits at its stop hook."""

    event: protocol.Event
    decided: threading.Event = field(default_factory=threading.Event)
    decision: Decision = ALLOW
    sources: set[str] = field(default_factory=set)  # the hooks that asked

    def answer(self, decision: Decision) -> None:
        """Let the client hear ``decision``."""
        self.decision = decision
        self.decided.set()

    def is_joined_by(self, event: protocol.Event, source: str) -> bool:
        """Whether another hook asks about this same stop: payloads do not number them, but each asks once."""
        return event == self.event and source not in self.sources


@dataclass(frozen=True, slots=True)
class Handed:
    """What a client handed in. ``ending`` None: it waits at its stop hook; else how its process ended."""

    text: str
    ending: Ending | None = None
    client: str = ""
    session_id: str = ""
    exit_code: int | None = None
    denials: tuple[str, ...] = ()
    detail: str = ""
    spent: tuple[Reported, ...] = ()


class Agent:
    """The client of one run, over all its passes."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        workspace: Workspace,
        env: Mapping[str, str],
        trace: Trace,
        should_stop: Callable[[], bool],
        session_id: str | None = None,
        on_spent: Callable[[str, Sequence[Reported]], None] = lambda _client, _spent: None,
    ) -> None:
        self._settings = settings
        self._on_spent = on_spent  # told once of each client, with nothing when it does not say
        self._is_noted = False  # of a client that is not ours, whose end we do not see
        self._workspace = workspace
        self._run = workspace.folder.absolute()
        self._env = env
        self._trace = trace
        self._should_stop = should_stop
        self._session_id = session_id  # the one that is listened to; None: the first that speaks
        self._inbox: queue.Queue[_StopRequest] = queue.Queue()
        self._pending: _StopRequest | None = None  # the one that the loop is deciding about
        self._latest: _StopRequest | None = None
        self._lock = threading.Lock()
        self._is_open = True
        self._process: ClientProcess | None = None
        self._stops = 0  # of the process that runs
        self._was_blocked = False
        self._failures = 0
        self._since = time.monotonic()
        self._endpoint = Endpoint(self._run, self._on_event)
        self._note = workspace.private_folder / "client.json"
        if end_stray(self._note):
            self._on_spent(self._name, ())
            trace.append(Event("notice", "the client of a killed runner was still working, so it was ended"))
        self._settings_file = workspace.private_folder / "claude-settings.json"
        self._settings_file.write_text(json.dumps(claude_settings(self._endpoint.url), indent=1))

    # ── what clients ask ────────────────────────────────────────────────────────────────────────────

    def _on_event(self, event: protocol.Event, source: str) -> Decision:
        """In a thread of the endpoint: the answer for one event of a client."""
        with self._lock:
            if not self._is_open or not self._is_own(event) or event.kind != "stop":
                return ALLOW
            # Two of our hooks in one client (a plugin and a settings file) report the same stop.
            if self._latest is not None and self._latest.is_joined_by(event, source):
                request = self._latest
            else:
                request = self._latest = _StopRequest(event)
                self._inbox.put(request)
            request.sources.add(source)
        request.decided.wait()
        return request.decision

    def _is_own(self, event: protocol.Event) -> bool:
        """By session id. The first that speaks is the client that was started; others are its children."""
        if not event.session_id:
            return False
        if self._session_id is None:
            self._session_id = event.session_id
        return event.session_id == self._session_id

    # ── what the loop asks ──────────────────────────────────────────────────────────────────────────

    def next(self, prompt: str) -> Handed | None:
        """Give the client ``prompt`` and wait until it hands something in; None when told to stop.

        A client at its hook is blocked with it; without one, one is started. Raises ``ModelError`` when
        its provider fails again and again, ``EnvironmentFault`` when the client itself does.
        """
        self._since = time.monotonic()
        if self._pending is not None:
            self._was_blocked = True
            self._answer(Decision(prompt))
        while True:
            if self._is_command and self._process is None:
                self._start(prompt)
            if (handed := self._wait()) is None:
                return None
            if handed.ending in (None, "done"):
                self._failures = 0
            elif self._has_failed(handed):
                continue
            return handed

    def part(self, notice: str) -> None:
        """Let a client that we started end, and wait for it: it says what it spent when it ends.

        The next pass starts another one. A session of a person's is left as it is.
        """
        if self._process is None:
            return
        self._answer(Decision(None, notice))
        self._await_end()

    def close(self, notice: str = "") -> None:
        """Let the client end, wait for it, listen no more; more than once is fine."""
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
            waiting = [self._pending] if self._pending else []
            while not self._inbox.empty():
                waiting.append(self._inbox.get_nowait())
        for request in waiting:
            request.answer(Decision(None, notice))
        if self._process is not None:
            self._await_end()
        elif waiting:
            time.sleep(_STEP_S)  # the answer is on its way; nobody but us keeps the connection open
        self._endpoint.close()

    @property
    def _name(self) -> str:
        """The client's program, as the task calls it."""
        return os.path.basename(self._settings.command[0]) if self._is_command else ""  # noqa: PTH119

    @property
    def _is_command(self) -> bool:
        return bool(self._settings.command)

    def _answer(self, decision: Decision) -> None:
        with self._lock:
            request, self._pending = self._pending, None
        if request is not None:
            request.answer(decision)

    def _wait(self) -> Handed | None:
        while True:
            if self._should_stop() or self._is_killed() or self._is_idle():
                if self._process is not None:
                    self._process.stop()
                    self._on_spent(self._name, endings.read(self._process.output).spent)
                    self._process = None
                return None
            try:
                request = self._inbox.get(timeout=_STEP_S)
            except queue.Empty:
                if self._process is not None and (code := self._process.poll()) is not None:
                    return self._ended(code, timed_out=False)
                if self._process is not None and self._is_late():
                    return self._ended(self._process.stop(), timed_out=True)
                continue
            with self._lock:
                self._pending = request
            self._stops += 1
            self._was_blocked = False
            event = request.event
            if self._process is None and not self._is_noted:
                self._is_noted = True
                self._on_spent(event.client, ())
            message = _SILENT if event.last_message is None else event.last_message
            return Handed(message, None, event.client, event.session_id)

    def _is_killed(self) -> bool:
        if not sessions.is_stopped(self._env, str(self._run)):
            return False
        self._trace.append(Event("notice", "the kill switch is set: a file named STOP was found"))
        return True

    def _is_late(self) -> bool:
        return time.monotonic() - self._since > self._settings.timeout_s

    def _is_idle(self) -> bool:
        return not self._is_command and self._is_late()

    # ── the client's process ────────────────────────────────────────────────────────────────────────

    def _start(self, prompt: str) -> None:
        self._session_id, self._stops, self._was_blocked = None, 0, False
        self._since = time.monotonic()
        argv, in_argv = self._argv(prompt)
        lay_out_for_agent(self._run, f"loop-runner/{self._run.name}", self._workspace.head().commit)
        try:
            self._process = ClientProcess(
                argv,
                cwd=self._workspace.model_folder,
                env=environment(self._env, self._run, self._endpoint.token),
                prompt=prompt,
                prompt_in_argv=in_argv,
            )
        except OSError as error:
            raise EnvironmentFault(
                f"{argv[0]} could not be started: {error.strerror}",
                why="it is the agent that does the work of this run",
                hint="install it and put it on PATH, or fix `agent.command` in the task",
            ) from error
        self._process.write_note(self._note)
        self._trace.append(Event("notice", f"started {one_line(' '.join(self._settings.command), 200)}"))

    def _argv(self, prompt: str) -> tuple[list[str], bool]:
        """The command with its placeholders filled; whether the prompt is among the arguments."""
        values = {
            "{settings}": str(self._settings_file),
            "{prompt}": prompt,
            "{hook_url}": self._endpoint.url,
        }
        words = [values.get(word, word) for word in self._settings.command]
        program = shutil.which(words[0], path=self._env.get("PATH", os.defpath))
        return [program or words[0], *words[1:]], "{prompt}" in self._settings.command

    def _ended(self, code: int, *, timed_out: bool) -> Handed:
        assert self._process is not None
        printed = endings.read(self._process.output)
        ending = endings.name(
            printed, code, hook_ran=self._stops > 0, was_blocked=self._was_blocked, timed_out=timed_out
        )
        errors = self._process.errors.strip()
        self._process = None
        self._note.unlink(missing_ok=True)
        detail = endings.REASONS[ending] + (f"; its output: {one_line(errors[-400:], 400)}" if errors else "")
        denied = f"; refused: {', '.join(printed.denials)}" if printed.denials else ""
        self._trace.append(Event("notice", f"the client ended: {ending}: {detail}{denied}"))
        self._on_spent(self._name, printed.spent)
        return Handed(
            printed.text,
            ending,
            "",
            printed.session_id,
            code,
            printed.denials,
            detail=detail + denied,
            spent=printed.spent,
        )

    def _has_failed(self, handed: Handed) -> bool:
        """Count a client that did not work. True: try again at once, with no pass spent on it."""
        if handed.ending not in ("api error", "crash", "timed out"):
            self._failures = 0
            return False
        self._failures += 1
        if self._failures < _FAILURES:
            if handed.ending == "api error":
                self._pause(_RETRY_S * self._failures * self._settings.patience)
                return not self._should_stop()
            return False  # what it left is verified all the same
        message = f"the client ended {_FAILURES} times in a row: {handed.ending}: {handed.detail}"
        why = "every pass would end the same way"
        hint = "fix the problem above, then run `loop-runner resume RUN`"
        if handed.ending == "api error":
            raise ModelError(message, why=why, hint=hint)
        raise EnvironmentFault(message, why=why, hint=hint)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._should_stop() and not self._is_killed():
            time.sleep(_STEP_S)

    def _await_end(self) -> None:
        assert self._process is not None
        end = time.monotonic() + _LAST_CHANCE_S
        while time.monotonic() < end:
            if (code := self._process.poll()) is not None:
                self._ended(code, timed_out=False)
                return
            time.sleep(_STEP_S)
        self._ended(self._process.stop(), timed_out=True)


class AgentPass:
    """One pass of an agent: the same seam as ``Session``."""

    def __init__(
        self,
        agent: Agent,
        *,
        prompt: str,
        is_committed: bool,
        commits: Commits,
    ) -> None:
        self._agent = agent
        self._prompt = prompt
        self._is_committed = is_committed
        self._commits = commits
        # As a session has them; what an agent says of its spend is a call of its own.
        self.usage = Usage()
        self.unfinished_s = 0.0

    def run(self, answer: Answer) -> Literal["ready", "interrupted"]:
        """Wait for the client to want its end and commit what it left: "ready" or "interrupted"."""
        if self._is_committed:  # the runner died after this commit: there is something to verify
            return "ready"
        started = time.monotonic()
        handed = self._agent.next(self._prompt)
        if handed is None:
            return "interrupted"
        seconds = time.monotonic() - started
        content = cut_middle(handed.text, _MAX_ANSWER_CHARS) or _SILENT
        about = {key: value for key, value in asdict(handed).items() if key != "text"}
        path = f"passes/{self._commits.pass_number:04d}/agent.json"
        self._commits.add_file(path, (json.dumps(about, indent=1, sort_keys=True) + "\n").encode())
        turn = Turn(1, handed.text, _described(handed), Answer(content, is_ready=True))
        self._commits.commit(turn, seconds, Snapshot())
        return "ready"


def _described(handed: Handed) -> str:
    if handed.ending is None:
        return f"{handed.client} wanted to end and waited at its stop hook.\n"
    return f"The client ended ({handed.ending}): {handed.detail}\n"


def claude_settings(url: str) -> dict[str, object]:
    """Settings for ``claude --settings``: this run's stop hook in its HTTP form, nothing installed."""
    hook = {"type": "http", "url": url, "timeout": 86400}
    return {"hooks": {name: [{"hooks": [hook]}] for name in ("Stop", "SessionStart")}}


_UNCONFINED = ("the agent is your own program: loop-runner does not confine it",)


@dataclass(frozen=True, slots=True)
class Unconfined:
    """The report on the sandbox where loop-runner provides none."""

    tier: str = "none"
    not_enforced: tuple[str, ...] = _UNCONFINED

    def summary(self) -> str:
        """One line for the person who watches."""
        return f"sandbox tier {self.tier}; not enforced: {'; '.join(self.not_enforced)}"

    def as_dict(self) -> dict[str, object]:
        """For ``pass.json``."""
        return {"tier": self.tier, "not_enforced": list(self.not_enforced)}


class NoKernel:
    """Takes the kernel's place in runs whose agent is a user program."""

    def sandbox(self) -> Unconfined:
        """What confines the agent."""
        return Unconfined()

    def start(self, snapshot: Snapshot, answer: Answer, *_: object) -> Sequence[object]:
        """There is nothing to start, and no variable to lose."""
        return ()

    def take_deaths(self) -> Sequence[object]:
        """None of our processes could end."""
        return ()

    def close(self) -> None:
        """There is nothing to close."""
