"""What a replay reads from the record of a run: its history in stretches, and how two histories differ."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from loop_runner.budget import Budget, Ledger, Price
from loop_runner.records import (
    Checkpoint,
    Spend,
)
from loop_runner.workspace import layout
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.control_files import CONTROL_FILE, ControlRequest, Question, Refused, from_json
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

Key = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Missing:
    """A request that the record has no reply to."""

    pass_number: int
    turn: int
    kind: str
    model: str
    prompt: str  # the last message


@dataclass(frozen=True, slots=True)
class Difference:
    """A path that differs: only in the record, only in the replay, or other bytes."""

    kind: Literal["missing", "added", "differs"]
    path: str
    recorded: str = ""  # the first line that differs, of a text
    replayed: str = ""


@dataclass(frozen=True, slots=True)
class OtherVersion:
    """A program that wrote the record's variables in another version than the one that replays them."""

    name: str  # "python", "loop_runner"
    recorded: str  # empty if the record does not name it
    now: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """Commits that one process made, one after another, or a single one from outside."""

    entries: tuple[Entry, ...]

    @property
    def is_outside(self) -> bool:
        """Whether something other than the runner made these commits."""
        return not self.entries[0].runner or bool(self.entries[0].trailers.forked_from)

    @property
    def end(self) -> Key:
        """The place of its last commit."""
        return key_of(self.entries[-1].checkpoint)


class RecordedLedger(Ledger):
    """A ledger whose clock is the record's: what is left of a time limit is told to the model."""

    def __init__(
        self, budget: Budget, spent: Spend, price: Price, seconds: Any, workspace: Workspace
    ) -> None:
        # The clock stands still: what the turn that is at work took then is known at its end only.
        super().__init__(budget, spent, price=price, dropped=workspace.history.dropped(), clock=lambda: 0.0)
        self._recorded = seconds
        self._workspace = workspace

    def charge_turn(self, seconds: float, *rest: Any) -> None:
        """Charge what the turn took then; it is committed by now."""
        super().charge_turn(self._recorded(key_of(self._workspace.head())), *rest)

    def charge_pass(self, seconds: float, *rest: Any) -> None:
        """Charge what the verifiers took then; the end of the pass is not committed yet."""
        head = self._workspace.head()
        number = head.pass_number if head.turn else head.pass_number + 1
        super().charge_pass(self._recorded((number, math.inf)), *rest)


class RecordedRequests:
    """What the operator asked of the run then, given at the turn or pass whose commit holds it."""

    def __init__(self, history: History, moments: Container[Key]) -> None:
        """``moments`` are the places of the turns and ends of passes that the record holds."""
        self._history = history
        self._moments = moments
        self._taken: set[str] = set()
        self._refusals: dict[str, str] = {}
        self._is_asking = False

    def recovered(self) -> Sequence[ControlRequest]:
        """A restart in the middle of a turn is no matter of the record."""
        return ()

    def pending(self, at: tuple[int, int]) -> Sequence[ControlRequest]:
        """What was taken before the turn ``at``, or before the end of its pass if there is no such turn."""
        is_turn = at in self._moments
        if not is_turn and (at[0], math.inf) not in self._moments:
            return ()
        folder = layout.turn_folder(*at) if is_turn else layout.pass_folder(at[0])
        path = f"{folder}/{CONTROL_FILE}"
        with parsing(self._history.folder, path):
            requests = from_json(self._history.read(path))
        self._refusals |= {request.id: why for request, why in requests}
        return [
            request
            for request, _ in requests
            if request.id not in self._taken and (is_turn or self._is_asking or not request.about)
        ]

    def address(self, request: ControlRequest) -> None:
        """The record names no process."""

    def take(self, request: ControlRequest) -> str:
        """Why it was refused then."""
        self._taken.add(request.id)
        return self._refusals.get(request.id, "")

    def refuse(self, refused: Refused) -> None:
        """The record holds requests only."""

    def settle(self, ids: Collection[str]) -> None:
        """The record keeps them."""

    def show(self, question: Question | None) -> None:
        """A person was asked here."""
        self._is_asking = question is not None


def key_of(checkpoint: Checkpoint) -> Key:
    """Where a checkpoint is in a run: its pass and turn; the end of a pass is after all its turns."""
    if checkpoint.pass_number == 0:
        return (0, 0)
    return (checkpoint.pass_number, checkpoint.turn or math.inf)


def story(history: History) -> list[Entry]:
    """The commits in the order in which they were made, from the first to HEAD."""
    by_id = {entry.checkpoint.commit: entry for entry in history.commits()}
    story = []
    at: str | None = history.head().commit
    while at is not None:
        entry = by_id[at]
        story.append(entry)
        # A pass's merge came after its last turn; of a person's merge, the run is the first parent.
        at = (entry.parents[-1] if entry.runner else entry.parents[0]) if entry.parents else None
    return story[::-1]


def stretches(story: list[Entry]) -> Iterator[Stretch]:
    """The story in parts that one process each made."""
    part: list[Entry] = []
    for entry in story:
        single = Stretch((entry,))
        made_by = (entry.trailers.started, entry.trailers.overrides)
        if part and (
            single.is_outside or made_by != (part[-1].trailers.started, part[-1].trailers.overrides)
        ):
            yield Stretch(tuple(part))
            part = []
        if single.is_outside:
            yield single
        else:
            part.append(entry)
    if part:
        yield Stretch(tuple(part))


def words(recorded: bytes, now: bytes) -> tuple[str, str, str]:
    """Both decisions, and the first line in which the two verdicts differ."""
    before, other = json.loads(recorded), json.loads(now)
    then, after = first_lines(
        json.dumps(before, indent=1, sort_keys=True), json.dumps(other, indent=1, sort_keys=True)
    )
    return str(before.get("decision")), str(other.get("decision")), f"{then.strip()} → {after.strip()}"


def differences(record: History, recorded: str, again: History, made: str) -> tuple[Difference, ...]:
    """The files in which two commits differ, and the first lines in which each does."""
    then, now = record.tree(recorded), again.tree(made)
    result = []
    for path in sorted(then.keys() | now.keys()):
        if then.get(path) == now.get(path):
            continue
        name = os.fsdecode(path)
        if path not in now:
            result.append(Difference("missing", name))
        elif path not in then:
            result.append(Difference("added", name))
        else:
            lines = first_lines(
                *(_text(name_.blob(at[path][1])) for name_, at in ((record, then), (again, now)))
            )
            result.append(Difference("differs", name, *lines))
    return tuple(result)


def other_versions(recorded: Mapping[str, str], now: Mapping[str, str]) -> tuple[OtherVersion, ...]:
    """The programs of which another version wrote the record."""
    names = sorted(recorded.keys() | now.keys())
    pairs = [OtherVersion(name, recorded.get(name, ""), now.get(name, "")) for name in names]
    return tuple(pair for pair in pairs if pair.recorded != pair.now)


def rows_of(history: History, at: str) -> str:
    """The variables of a commit without what depends on versions: sizes, blobs and reasons."""
    rows = history.variables(at)
    return "\n".join(f"{row.name}: {row.type}, {row.status}, {row.preview}" for row in rows)


def _text(data: bytes) -> str:
    return "" if b"\0" in data else layout.to_text(data)


def first_lines(first: str, other: str) -> tuple[str, str]:
    """The first pair of lines that are not the same."""
    left, right = first.split("\n"), other.split("\n")
    for index in range(max(len(left), len(right))):
        pair = tuple(lines[index] if index < len(lines) else "" for lines in (left, right))
        if pair[0] != pair[1]:
            return pair[0], pair[1]
    return "", ""
