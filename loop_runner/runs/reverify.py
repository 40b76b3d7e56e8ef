"""Runs the verifiers of a finished pass once more, from a run folder or any clone of it, and compares.

Everything comes from the commit: answer, files, the task, the verifiers' own programs and the replies of the
models that they asked. Only the inputs must be there as well, for verifiers that read them. Takes no lock and
changes nothing. Believes nothing that the folder says about what it may do: docs/trust.md.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loop_runner import inputs, linux, text
from loop_runner.budget import Budget, Ledger
from loop_runner.errors import ConfigError, EnvironmentFault, WorkspaceError
from loop_runner.events import Trace
from loop_runner.loop.loop import checked_out
from loop_runner.model import registry
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Allow, Call, ChildRecord, Decision, Inputs
from loop_runner.runs.assemble import holding, open_children
from loop_runner.runs.context import RunContext
from loop_runner.runs.frozen import pinned_in, restored_inputs
from loop_runner.task import config, prompts
from loop_runner.task.config import Task
from loop_runner.text import shell
from loop_runner.tools.pages import Pages
from loop_runner.verify import Gates, Need, Submission, external_hook, needs, proof, proven
from loop_runner.verify.fence import GateSandbox
from loop_runner.verify.human import RecordedPerson
from loop_runner.verify.panel import LivePanel, RecordedPanel
from loop_runner.verify.proof import Compared
from loop_runner.verify.stop_hook import StopHook
from loop_runner.workspace import checkout, layout
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_DEPTH_OF_CHILD = 4  # passes/0003/children/0001/child.json; children of its own lie deeper


@dataclass(frozen=True, slots=True)
class Recheck:
    """What a re-run found. ``faults`` are committed bytes that are not what the proof says."""

    commit: str
    pass_number: int
    has_proof: bool
    is_accepted: bool  # every verifier accepts now
    gates: tuple[Compared, ...]
    faults: tuple[str, ...]
    requests: int  # asked and paid for now

    @property
    def status(self) -> str:
        """``same``, ``different`` or ``broken``."""
        if self.faults or any(gate.status == "different" for gate in self.gates):
            return "different"
        return "broken" if any(gate.status == "broken" for gate in self.gates) else "same"

    @property
    def exit_code(self) -> int:
        """0: accepted as the proof says; 3: different, or not accepted; 4: a verifier is broken."""
        return exit_code(self)


def verify_run(
    folder: Path,
    context: RunContext,
    *,
    at: str | None = None,
    task_dir: Path | None = None,
    ask_again: bool = False,
    granted: Sequence[str] = (),
) -> Recheck:
    """Run the verifiers again on what the commit ``at`` (None: HEAD, and the files beside it) holds.

    ``task_dir``: where the task's inputs lie now. ``ask_again``: models are asked anew, and paid, instead of
    taking their recorded replies. ``granted``: what the run's verifiers may use beyond the answer, the inputs
    and the system's programs, in the words of ``verify.needs``. Raises ``WorkspaceError`` or ``ConfigError``
    without a verdict, ``EnvironmentFault`` when the run asks for more than is granted.
    """
    with History(folder) as history:
        commit = _commit(history, at)
        entry = _finished_pass(history, commit)
        record, has_proof = _record(history, entry)
        task = _confined(_task(history, commit, folder, task_dir), granted, ask_again=ask_again)
        task = replace(task, functions=context.functions)
        with parsing(folder, "inputs.json"):
            texts = inputs.from_json(_text(history, "inputs.json", commit), task.base_dir)
        texts = restored_inputs(texts, task, lambda path: history.read(path, commit), context.env)
        with (
            Pages(texts, lambda path: history.read(path, commit)) as pages,
            _asking(history, entry, task, context, ask_again=ask_again) as (panel, log),
        ):
            reports = record.get("gates", record.get("reports", ()))
            decision = _decide(history, commit, entry, task, pages.inputs(), panel, granted, reports)
        with parsing(folder, proof.PATH):
            gates = tuple(proof.compare(reports, decision.reports))
        has_files = at is None and history.running() is None
        return Recheck(
            commit,
            entry.checkpoint.pass_number,
            has_proof,
            isinstance(decision, Allow),
            gates,
            proven.faults(history, entry, commit, has_files=has_files) if has_proof else (),
            len(log),
        )


def _confined(task: Task, granted: Sequence[str], *, ask_again: bool) -> Task:
    """``task`` with no lower tier than B and no interpreter of its own, where those are not granted."""
    wanted = [*needs.plugins_of(task.verifiers)]
    if task.kernel.require_tier == "C":
        wanted.append(Need(needs.TIER_C, "kernel.require_tier"))
    if task.kernel.python and ask_again:  # for the sessions that verifiers hold
        wanted.append(Need(f"program={task.kernel.python}", "kernel.python"))
    _refuse_ungranted(wanted, granted)
    return task


def _refuse_ungranted(wanted: Iterable[Need], granted: Sequence[str]) -> None:
    refused = [need for need in wanted if not needs.is_granted(need, granted)]
    if not refused:
        return
    by_word: dict[str, list[str]] = {}
    for need in refused:
        by_word.setdefault(need.word, []).append(text.one_line(need.verifier, 80))
    lines = [f"  {text.one_line(word, 300)}   for {', '.join(names)}" for word, names in by_word.items()]
    options = " ".join(f"--allow {shlex.quote(word)}" for word in by_word)
    raise EnvironmentFault(
        "\n".join(
            ["the verifiers of this run require more than `verify` grants them; none was started:", *lines]
        ),
        why="a run folder may come from anyone, and its verifiers could read your files or send them away",
        hint=f"if you trust the folder, allow it: {options}",
    )


def _commit(history: History, at: str | None) -> str:
    try:
        return history.commit(f"{at or 'HEAD'}^{{commit}}").oid
    except WorkspaceError:
        raise ConfigError(
            f"{history.folder} has no commit {at!r}",
            why="`verify` checks the answer in a commit",
            hint=f"`loop-runner log {shell(history.folder)}` lists them",
        ) from None


def _finished_pass(history: History, commit: str) -> Entry:
    """The end of the newest pass in ``commit``."""
    entry = proven.newest_pass(history, commit)
    if entry is not None:
        return entry
    raise WorkspaceError(
        f"no pass was finished at {commit[:12]}",
        why="there is no verdict to compare with",
        hint="name the commit of a pass: --at COMMIT",
    )


def _record(history: History, entry: Entry) -> tuple[Mapping[str, Any], bool]:
    """The proof, if the pass has one; else what its verdict says."""
    record = proven.proof_of(history, entry)
    if record is not None:
        return record, True
    path = f"{layout.pass_folder(entry.checkpoint.pass_number)}/verdict.json"
    data = history.read(path, entry.checkpoint.commit)
    if data is None:
        raise WorkspaceError(f"{history.folder} is damaged: there is no {path}", exit_code=4)
    with parsing(history.folder, path):
        return dict(json.loads(data)), False


def _task(history: History, commit: str, folder: Path, task_dir: Path | None) -> Task:
    overrides = () if task_dir is None else (("task_dir", str(task_dir.absolute())),)
    source = _text(history, "task.yaml", commit)
    # The programs were pinned under the folder that the run knew, wherever the inputs lie now.
    with parsing(folder, "task.yaml"):
        task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=overrides)
    return replace(task, prompt=_text(history, "prompt.md", commit))


def _decide(
    history: History,
    commit: str,
    entry: Entry,
    task: Task,
    texts: Inputs,
    panel: LivePanel | RecordedPanel,
    granted: Sequence[str],
    reports: Sequence[Mapping[str, Any]],
) -> Decision:
    """Ask the verifiers; ``reports`` are what they said then, for what no one can be asked again."""
    programs = pinned_in(history.folder, lambda path: history.read(path, commit), is_frozen=True)
    fence = GateSandbox("C" if needs.TIER_C in granted else task.kernel.require_tier)
    with parsing(history.folder, "task.yaml"):
        pinned_at = config.parse_task(
            _text(history, "task.yaml", commit), label="task.yaml", base_dir=history.folder
        ).base_dir
    hooks = external_hook.makers(task.stop_hooks, pinned_at)
    gates = Gates.of(
        task.verifiers, pinned_at, known=programs, fence=fence, more=hooks, functions=task.functions
    )
    gates = gates.checked()
    wanted = list(gates.needs())
    if not linux.has_sandbox() and gates.runs_code:
        wanted.append(Need(needs.TIER_C, f"programs of verifiers, as {sys.platform} has no sandbox"))
    _refuse_ungranted(wanted, granted)
    earlier = tuple(
        history.answer(item.parents[-1]).content
        for item in reversed(history.commits(first_parent=True, at=commit))
        if item.is_pass and item.checkpoint.pass_number < entry.checkpoint.pass_number
    )
    answer = history.answer(commit).content
    with checked_out(lambda into: checkout.write(history, commit, into)) as folder:
        with parsing(history.folder, proof.PATH):
            person = RecordedPerson(reports)
        means = gates.means(fence, panel, is_agent=task.is_agent, person=person)
        return StopHook(gates.verifiers, means, retries=1).decide(
            Submission(answer, folder, texts, task.prompt, earlier, frozenset(inputs.changed(texts)))
        )


class _InMemory:
    """A ``CallLog`` of replies that nobody keeps."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, int], Call] = {}

    def find(self, fingerprint: str, occurrence: int) -> Call | None:
        return self.calls.get((fingerprint, occurrence))

    def append(self, call: Call) -> None:
        self.calls[call.fingerprint, call.occurrence] = call

    def __len__(self) -> int:
        return len(self.calls)


@contextmanager
def _asking(
    history: History, entry: Entry, task: Task, context: RunContext, *, ask_again: bool
) -> Iterator[tuple[LivePanel | RecordedPanel, _InMemory]]:
    log, root = _InMemory(), task.model or ""
    if not ask_again:
        path = f"{layout.pass_folder(entry.checkpoint.pass_number)}/calls.jsonl"
        with parsing(history.folder, path):
            calls: Iterable[Call] = layout.calls_from_jsonl(
                history.read(path, entry.checkpoint.commit) or b""
            )
        yield RecordedPanel(calls, model=root, sessions=_sessions(history, entry)), log
        return
    with ExitStack() as stack:
        closing = stack.enter_context(ExitStack())  # what it closes is used until the switchboard is closed
        switchboard = stack.enter_context(
            Switchboard(
                lambda model: registry.client_for(model, base_dir=task.base_dir, env=context.env), log=log
            )
        )
        ledger = Ledger(Budget())
        commit = entry.checkpoint.commit
        templates = prompts.frozen(
            task.type, history.files("prompts/", commit), lambda path: history.read(path, commit)
        )
        system = _text(history, "child_system.md", commit)
        _, children = open_children(closing, task, switchboard, ledger, Trace(), templates, system)
        panel = LivePanel(switchboard, ledger, log, model=root, hold_session=holding(children, task))
        panel.begin()
        yield panel, log


def _sessions(history: History, entry: Entry) -> list[ChildRecord]:
    """The sessions that verifiers held at the end of the pass."""
    commit = entry.checkpoint.commit
    folder = layout.pass_folder(entry.checkpoint.pass_number)
    places = {
        path.removesuffix("child.json")
        for path in history.files(f"{folder}/children/", commit)
        if path.count("/") == _DEPTH_OF_CHILD and path.endswith("/child.json")
    }
    with parsing(history.folder, f"{folder}/children"):
        return [
            layout.child_from(
                history.read(f"{place}child.json", commit) or b"",
                history.read(f"{place}answer.md", commit) or b"",
            )
            for place in sorted(places)
        ]


def _text(history: History, path: str, commit: str) -> str:
    with parsing(history.folder, path):
        return (history.read(path, commit) or b"").decode()


def exit_code(recheck: Recheck) -> int:
    """0: accepted as the proof says; 3: something differs or was not accepted; 4: a verifier is broken."""
    if recheck.status == "broken":
        return 4
    return 0 if recheck.status == "same" and recheck.is_accepted and recheck.has_proof else 3
