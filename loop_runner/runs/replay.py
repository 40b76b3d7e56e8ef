"""Runs a run again from its recorded replies, offline, and compares what comes out with the record.

What came from outside is taken from the record: the models' replies, the settings of each start, what forks
and people changed, how long things took, where the run folder lay, and what a pass says of its machine (the
sandbox's report and the prices). All else is rebuilt: the prompts, the cells' effects,
variables, notes, the answer. Gates are asked again unless that is turned off; what they say now is compared,
and the replay continues with the recorded verdict. No model is asked: a reply that is missing is named.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from loop_runner import scratch
from loop_runner.budget import Ledger
from loop_runner.errors import ModelError
from loop_runner.events import Event
from loop_runner.model import prices
from loop_runner.records import (
    Allow,
    Call,
    Checkpoint,
    Decision,
    GateBroken,
    Inputs,
    Outcome,
    Variable,
)
from loop_runner.runs import fork
from loop_runner.runs.assemble import run_in
from loop_runner.runs.context import ReplayParts, RunContext
from loop_runner.runs.frozen import frozen_gates, frozen_inputs
from loop_runner.runs.recorded import (
    Difference,
    Key,
    Missing,
    OtherVersion,
    RecordedLedger,
    RecordedRequests,
    Stretch,
    differences,
    first_lines,
    key_of,
    other_versions,
    rows_of,
    story,
    stretches,
    words,
)
from loop_runner.runs.stand_ins import EndOfRecord, InOrder, Nobody, kernel_at, place_of
from loop_runner.task.config import Task
from loop_runner.verify import Means, Submission, Verifier, proof, verdicts
from loop_runner.verify.stop_hook import StopHook
from loop_runner.workspace import layout
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.control_files import CONTROL_FILE
from loop_runner.workspace.git.fast_import import Blob, NewCommit, point, write
from loop_runner.workspace.git.git import Git
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

_OF_THE_MACHINE = ("sandbox", "usd_so_far")
_BRANCH = "refs/heads/main"

"""(pass, turn); the end of a pass comes after all of its turns."""


@dataclass(frozen=True, slots=True)
class OtherVerdict:
    """What the gates of a pass say now, where that is not what is recorded."""

    pass_number: int
    recorded: str  # "allow", "block"
    now: str  # "allow", "block", "broken"
    detail: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay. ``end`` is how far it got, ``first`` the first moment whose tree differs."""

    end: Checkpoint
    is_whole: bool  # it got to where the record ends
    reason: str  # why it did not; else empty
    tree: str  # of the record, at ``end``
    passes: int
    turns: int
    replies: int
    first: Checkpoint | None
    at_first: tuple[Difference, ...]
    at_end: tuple[Difference, ...]
    verdicts: tuple[OtherVerdict, ...]
    gates_asked: int
    missing: tuple[Missing, ...]
    reworded: tuple[Missing, ...]  # requests with other words than recorded; their replies were used
    taken: tuple[str, ...]  # keys of ``pass.json`` that say something else here and were taken as recorded
    outside: int  # commits of forks and people, taken as they are
    other_versions: tuple[OtherVersion, ...]
    not_compared: tuple[str, ...]  # files of variables whose bytes other versions determine

    @property
    def is_same(self) -> bool:
        """The whole run came out again, byte for byte where that is compared, and the gates said the same."""
        differs = self.at_end or self.verdicts or self.reworded or self.first is not None
        return self.is_whole and not differs


def replay(
    folder: Path,
    *,
    to: Path | None = None,
    asks_gates: bool = True,
    inputs_folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Replayed:
    """Replay the run in ``folder`` in a temporary folder, or in ``to``, which is kept.

    Reads ``folder`` without its lock and never writes there. Raises ``ConfigError`` when inputs are missing
    or changed, ``WorkspaceError`` when something is at ``to``.
    """
    with ExitStack() as stack:
        history = stack.enter_context(History(folder))
        if to is None:
            to = stack.enter_context(scratch.make("replay")) / "run"
        task = fork.frozen_task(history, "HEAD")
        with parsing(folder, "inputs.json"):
            source = (history.read("inputs.json") or b"").decode()
        texts = frozen_inputs(source, task, history.read, env or {}, inputs_folder)
        return _Replay(history, to, texts, asks_gates=asks_gates).run()


@dataclass(slots=True)
class _Notes:
    """What is noticed on the way."""

    verdicts: list[OtherVerdict] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    reworded: list[Missing] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    gates_asked: int = 0
    outside: int = 0
    reason: str = ""


class _Replay:
    """One replay; ``history`` is the record."""

    def __init__(self, history: History, folder: Path, texts: Inputs, *, asks_gates: bool) -> None:
        self._history = history
        self._folder = folder
        self._texts = texts
        self._asks_gates = asks_gates
        self._story = story(history)
        self._commits = {key_of(item.checkpoint): item for item in self._story if item.runner}
        self._notes = _Notes()
        self._versions: dict[str, OtherVersion] = {}
        self._not_compared: set[str] = set()

    def run(self) -> Replayed:
        self._begin()
        for stretch in stretches(self._story[1:]):
            if stretch.is_outside:
                self._take_over(stretch.entries[0])
            elif not self._run_again(stretch):
                break
        with History(self._folder) as again:
            return self._compare(again)

    # ── making it again ─────────────────────────────────────────────────────────────────────────────

    def _begin(self) -> None:
        first = self._story[0].checkpoint
        files = {
            path: self._history.read(path, first.commit) or b""
            for path in self._history.files(at=first.commit)
        }
        own = f"{layout.MODEL_FOLDER}/"
        models_files = {
            os.fsencode(path): Blob(files.pop(path)) for path in list(files) if path.startswith(own)
        }
        name = first.subject.removeprefix("run: ")
        Workspace.create(self._folder, name=name, files=files, model_files=models_files).close()

    def _take_over(self, entry: Entry) -> None:
        """Make the changes of a commit that no run made, as they are."""
        self._notes.outside += 1
        came_after = entry.parents[-1] if entry.runner else entry.parents[0]
        before, after = (self._history.tree(commit) for commit in (came_after, entry.checkpoint.commit))
        git = Git(self._folder.absolute() / ".git")
        with History(self._folder) as again:
            head = again.head_commit()
            number = entry.checkpoint.pass_number
            base = again.base_of(number, head) if entry.runner else head.oid
        new = NewCommit(
            message=self._history.commit(entry.checkpoint.commit).message,
            time=int(time.time()),
            parents=list(dict.fromkeys([base, head.oid])),
            tree=head.tree,
            set_paths={
                path: Blob(self._history.blob(oid), mode)
                for path, (mode, oid) in after.items()
                if before.get(path) != (mode, oid)
            },
            removed_paths=[path for path in before if path not in after],
        )
        point(git, _BRANCH, write(git, new), was=head.oid)

    def _run_again(self, stretch: Stretch) -> bool:
        """Run as the process did that made ``stretch``; whether it got to its end."""
        overrides = self._overrides(stretch)
        with Workspace.open(self._folder) as workspace:
            if key_of(workspace.head()) >= stretch.end:
                return True  # the stretch before did it in passing: asking the gates needs no new start
            with History(self._folder) as again:
                task = fork.frozen_task(again, "HEAD", tuple(overrides.items()))
            workspace.overrides = stretch.entries[0].trailers.overrides
            replay_parts = self._replay_parts(task, stretch, workspace)
            context = RunContext(
                {},
                (lambda event: self._on_event(event, workspace, replay_parts.ledger),),
                lambda: key_of(workspace.head()) >= stretch.end,
            )
            try:
                outcome = run_in(
                    workspace,
                    task,
                    self._texts,
                    context,
                    self._folder,
                    replay_parts,
                    gates=frozen_gates(task, workspace).checked(),
                )
                reason = outcome.reason if isinstance(outcome, Outcome) else ""
            except EndOfRecord:
                reason = "the record ends in the middle of a pass"
            except ModelError as error:
                reason = error.message
            if key_of(workspace.head()) >= stretch.end:
                return True
        self._notes.reason = reason
        return False

    def _overrides(self, stretch: Stretch) -> dict[str, Any]:
        text = stretch.entries[0].trailers.overrides
        with parsing(self._history.folder, f"Loop-Set of {stretch.entries[0].checkpoint.commit[:10]}"):
            return dict(json.loads(text)) if text else {}

    def _replay_parts(self, task: Task, stretch: Stretch, workspace: Workspace) -> ReplayParts:
        price = prices.with_rates(task.prices)
        spent = replace(workspace.history.spend(price), seconds=self._seconds_until(workspace.head()))
        ledger = RecordedLedger(task.budget, spent, price, self._seconds, workspace)
        return ReplayParts(
            lambda model: Nobody(model, workspace, self._notes.missing, self.calls),
            ledger,
            lambda verifiers, means: _RecordedGates(verifiers, means, self, workspace, ledger),
            self.settle,
            kernel_at(workspace, stretch.entries[0].trailers.folder, self._recorded_rows),
            recorded=InOrder(lambda: place_of(workspace), self.calls, self._notes.reworded),
            requests=RecordedRequests(self._history, self._commits),
            stored=self._history.read,
        )

    def _on_event(self, event: Event, workspace: Workspace, ledger: Ledger) -> None:
        """Before a turn begins, its replies are put where a run that was killed in it would find them."""
        if event.kind == "turn_started":
            self.lay_out(layout.turn_folder(event.pass_number, event.turn), workspace, ledger)

    def lay_out(self, folder: str, workspace: Workspace, ledger: Ledger) -> None:
        """Put the replies that are recorded in ``folder`` into the journal, as paid for and not used yet."""
        calls = self.calls(folder)
        workspace.journal.append_many(calls)
        ledger.owe(calls)

    # ── the record ──────────────────────────────────────────────────────────────────────────────────

    def calls(self, folder: str) -> list[Call]:
        """The replies that are recorded in ``folder``."""
        path = f"{folder}/calls.jsonl"
        with parsing(self._history.folder, path):
            return layout.calls_from_jsonl(self._history.read(path) or b"")

    def _recorded_rows(self, pass_number: int, turn: int) -> Mapping[str, Variable]:
        """The variables after a turn, by name."""
        recorded = self._recorded((pass_number, turn))
        return {row.name: row for row in self._history.variables(recorded)} if recorded else {}

    def pass_file(self, number: int, name: str) -> bytes | None:
        """A file that the end of a pass added; None when the record does not have that end."""
        ended = self._commits.get((number, math.inf))
        if ended is None:
            return None
        return self._history.read(f"{layout.pass_folder(number)}/{name}", ended.checkpoint.commit)

    def _seconds(self, key: Key) -> float:
        return self._commits[key].seconds if key in self._commits else 0.0

    def _seconds_until(self, head: Checkpoint) -> float:
        return sum(item.seconds for key, item in self._commits.items() if key <= key_of(head))

    # ── gates ───────────────────────────────────────────────────────────────────────────────────────

    @property
    def asks_gates(self) -> bool:
        return self._asks_gates

    def note_verdict(self, number: int, recorded: str, now: str, detail: str) -> None:
        """The gates say something else than they did."""
        self._notes.verdicts.append(OtherVerdict(number, recorded, now, detail))

    def note_gates_run(self) -> None:
        """The gates of one more pass were asked."""
        self._notes.gates_asked += 1

    def settle(self, number: int, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """The files of a pass's end, with the verdict and what is said of the machine as recorded."""
        names = {path.rpartition("/")[2]: path for path in files}
        verdict, about = self.pass_file(number, "verdict.json"), self.pass_file(number, "pass.json")
        if verdict is None or about is None:
            raise EndOfRecord
        settled = dict(files)
        now = self._with_machine(files[names["verdict.json"]], verdict)
        is_noted = any(noted.pass_number == number for noted in self._notes.verdicts)
        if now != verdict and not is_noted and self._asks_gates:
            self.note_verdict(number, *words(verdict, now))
        settled[names["verdict.json"]] = verdict
        settled[names["pass.json"]] = self._with_machine(files[names["pass.json"]], about)
        if not self._asks_gates:
            settled |= self._recorded_sessions(number)
        if (requests := self.pass_file(number, CONTROL_FILE)) is not None:
            settled[f"{layout.pass_folder(number)}/{CONTROL_FILE}"] = (
                requests  # also where no gate asks a person
            )
        if proof.PATH in files:
            ended = self._commits[number, math.inf].checkpoint.commit
            settled[proof.PATH] = self._history.read(proof.PATH, ended) or files[proof.PATH]
        return settled

    def _recorded_sessions(self, number: int) -> dict[str, bytes]:
        """What verifiers' sessions left, where no verifier is asked."""
        ended = self._commits[number, math.inf].checkpoint.commit
        paths = self._history.files(f"{layout.pass_folder(number)}/children/", ended)
        return {path: self._history.read(path, ended) or b"" for path in paths}

    def _with_machine(self, current: bytes, recorded: bytes) -> bytes:
        with parsing(self._history.folder, "pass.json"):
            now, then = json.loads(current), json.loads(recorded)
            for key in _OF_THE_MACHINE:
                if key in then and now.get(key) != then[key]:
                    self._notes.taken.add(key)
                    now[key] = then[key]
        return recorded if now == then else layout.to_json(now)

    # ── comparing ───────────────────────────────────────────────────────────────────────────────────

    def _compare(self, again: History) -> Replayed:
        made = {key_of(item.checkpoint): item.checkpoint for item in story(again) if item.runner}
        first = next((there for key, there in made.items() if not self._is_same(again, key, there)), None)
        end = again.head()
        is_whole = key_of(end) == key_of(self._history.head())
        reached = self._history.head().commit if is_whole else self._recorded(key_of(end))
        notes = self._notes
        return Replayed(
            end=end,
            is_whole=is_whole,
            reason="" if is_whole else notes.reason,
            tree=self._history.commit(reached).tree if reached else "",
            passes=sum(key[1] == math.inf for key in made),
            turns=sum(0 < key[1] < math.inf for key in made),
            replies=sum(1 for _ in again.calls()),
            first=first,
            at_first=self._differences(again, first),
            at_end=self._between(reached, again, end.commit) if reached else (),
            verdicts=tuple(notes.verdicts),
            gates_asked=notes.gates_asked,
            missing=tuple(notes.missing),
            reworded=tuple(notes.reworded),
            taken=tuple(sorted(notes.taken)),
            outside=notes.outside,
            other_versions=tuple(self._versions.values()),
            not_compared=tuple(sorted(self._not_compared)),
        )

    def _recorded(self, key: Key) -> str | None:
        entry = self._commits.get(key)
        return entry.checkpoint.commit if entry else None

    def _is_same(self, again: History, key: Key, there: Checkpoint) -> bool:
        recorded = self._recorded(key)
        if recorded is None:
            return False
        is_same = self._history.commit(recorded).tree == again.commit(there.commit).tree
        return is_same or not self._between(recorded, again, there.commit)

    def _differences(self, again: History, first: Checkpoint | None) -> tuple[Difference, ...]:
        recorded = self._recorded(key_of(first)) if first else None
        return self._between(recorded, again, first.commit) if first and recorded else ()

    def _between(self, recorded: str, again: History, made: str) -> tuple[Difference, ...]:
        """What differs between two commits; the variables of other versions are compared by their rows."""
        all_differences = differences(self._history, recorded, again, made)
        others = other_versions(self._history.versions(recorded), again.versions(made))
        if not others:
            return all_differences
        self._versions |= {other.name: other for other in others}
        variables = [difference for difference in all_differences if difference.path.startswith("variables/")]
        self._not_compared.update(difference.path for difference in variables)
        then, now = (rows_of(*at) for at in ((self._history, recorded), (again, made)))
        rows = () if then == now else (Difference("differs", layout.MANIFEST, *first_lines(then, now)),)
        return (*(difference for difference in all_differences if difference not in variables), *rows)


class _RecordedGates(StopHook):
    """Asks the gates, notes what they say, and decides as the record does."""

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        means: Means,
        record: _Replay,
        workspace: Workspace,
        ledger: Ledger,
    ) -> None:
        super().__init__(verifiers, means)
        self._ledger = ledger
        self._record = record
        self._workspace = workspace

    def decide(self, submission: Submission) -> Decision:
        """The recorded decision; raises ``EndOfRecord`` when there is none."""
        number = self._workspace.head().pass_number
        verdict = self._record.pass_file(number, "verdict.json")
        if verdict is None:
            raise EndOfRecord
        body = json.loads(verdict)
        recorded = verdicts.decision_from(body)
        # What the gates paid for is the pass's, whether they are asked again or not.
        self._record.lay_out(layout.pass_folder(number), self._workspace, self._ledger)
        if not self._record.asks_gates:
            return recorded
        self._record.note_gates_run()
        now = super().decide(submission)
        if isinstance(now, GateBroken):
            self._record.note_verdict(number, body["decision"], "broken", now.reason)
            return recorded
        if type(now) is not type(recorded):
            word, detail = ("allow", "") if isinstance(now, Allow) else ("block", now.reason)
            self._record.note_verdict(number, body["decision"], word, detail)
            return recorded
        return now
