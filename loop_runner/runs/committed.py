"""The passes and turns of a run as its commits hold them, for a reader: texts, verdicts, what changed.

Reads the run folder without its lock and starts nothing. What a damaged folder no longer holds is left out,
and ``Faults`` says what it was. Texts that a model or an input wrote are data: who shows them escapes them.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from loop_runner import text
from loop_runner.errors import LoopRunnerError
from loop_runner.records import SUBCALL_KINDS, Call, Usage, VerifierReport
from loop_runner.task import limits
from loop_runner.verify import verdicts
from loop_runner.workspace import control_files, layout
from loop_runner.workspace.commits import Entry
from loop_runner.workspace.history import History

T = TypeVar("T")
D = TypeVar("D")
UNREADABLE = (
    LoopRunnerError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)
_MAX_DIFF_LINES = 3000  # of a text that is compared; difflib takes quadratic time
_MAX_DIFF_CHARS = 200_000
_CONTEXT_LINES = 2
_MAX_NOTES = 10


class Faults:
    """What could not be read, and why, in the order in which it was missed; each reason once."""

    def __init__(self) -> None:
        self._faults: dict[str, str] = {}

    def attempt(self, what: str, read: Callable[[], T], default: D) -> T | D:
        """What ``read`` returns; ``default`` where the folder does not hold it."""
        try:
            return read()
        except UNREADABLE as error:
            reason = (
                error.message if isinstance(error, LoopRunnerError) else f"{type(error).__name__}: {error}"
            )
            self.add(what, reason)
            return default

    def add(self, what: str, reason: str) -> None:
        """``what`` is missing because of ``reason``."""
        self._faults.setdefault(what, text.one_line(reason, 200))

    def listed(self) -> tuple[str, ...]:
        """A line for each."""
        return tuple(f"{what}: {reason}" for what, reason in self._faults.items())


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One sub-call of a turn. ``prompt`` and ``reply`` are cut in the middle where they are long."""

    kind: str
    model: str
    prompt: str
    reply: str
    usage: Usage
    tries: int = 1


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What the operator asked: a note, a pause, a limit, a decision. ``refused`` says why it was not done."""

    kind: str
    text: str = ""
    limits: str = ""  # in words: "passes +5"
    by: str = ""
    at: str = ""
    refused: str = ""


@dataclass(frozen=True, slots=True)
class RecordedTurn:
    """One turn: ``code`` ran and ``output`` is what the model was shown for it; ``end`` is how it ended."""

    number: int
    reply: str
    output: str
    end: str
    code: str | None = None  # None when the reply held no code
    ready: bool = False
    seconds: float = 0.0
    commit: str = ""
    usage: Usage = field(default_factory=Usage)
    calls: tuple[RecordedCall, ...] = ()
    children: tuple[str, ...] = ()  # the questions of child sessions
    requests: tuple[RecordedRequest, ...] = ()  # of the operator, taken before the turn


@dataclass(frozen=True, slots=True)
class RecordedPass:
    """One pass, finished (``outcome``) or not (""). ``answer`` is what it handed in.

    ``answer_diff`` compares it with the pass before; ``changes`` are (kind, path) of files in ``workspace/``
    and ``notes`` is (path, diff) for those in ``workspace/notes/``. ``score`` is None without a verdict.
    """

    number: int
    outcome: str = ""
    reason: str = ""
    score: float | None = None
    reports: tuple[VerifierReport, ...] = ()
    shown: str = ""  # what the model was given first
    answer: str = ""
    answer_diff: str = ""
    changes: tuple[tuple[str, str], ...] = ()
    notes: tuple[tuple[str, str], ...] = ()
    turns: tuple[RecordedTurn, ...] = ()
    commit: str = ""
    ended_at: float | None = None  # seconds since the epoch
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)
    usd: float | None = None
    strategy: str = ""  # what the next pass does otherwise, where the runner changed it
    requests: tuple[RecordedRequest, ...] = ()  # of the operator, taken at its end or after it


class Reader:
    """Reads the passes of one run. ``max_chars`` is how much of a text is kept, head and tail."""

    def __init__(self, history: History, faults: Faults, max_chars: int) -> None:
        self._history = history
        self._faults = faults
        self._max_chars = max_chars
        self._blobs: dict[str, str] = faults.attempt("the list of files", self._listed, {})
        self._entries = faults.attempt("the list of commits", history.commits, [])

    def _listed(self) -> dict[str, str]:
        """The blob of each file: to name it is quicker for git than to look up a path."""
        listed = self._history.tree(self._history.tip, "passes/")
        return {os.fsdecode(path): blob for path, (_, blob) in listed.items()}

    def _read(self, path: str) -> bytes:
        return self._history.blob(self._blobs[path]) if path in self._blobs else b""

    def passes(self) -> list[RecordedPass]:
        """All of them, the oldest first."""
        ends, turns = self._by_place()
        result = []
        previous = self._beginning()
        for number, paths in sorted(self._by_pass().items()):
            made = self._pass(number, paths, ends.get(number), turns, previous)
            result.append(made)
            previous = ends[number].checkpoint.commit if number in ends else previous
        return result

    def _beginning(self) -> str:
        return self._entries[-1].checkpoint.commit if self._entries else ""

    def _by_place(self) -> tuple[dict[int, Entry], dict[tuple[int, int], Entry]]:
        """The newest commit of each pass's end and of each turn."""
        ends: dict[int, Entry] = {}
        turns: dict[tuple[int, int], Entry] = {}
        for entry in reversed(self._entries):  # the oldest first: the newest wins
            at = entry.checkpoint
            if entry.is_pass:
                ends[at.pass_number] = entry
            elif at.turn and entry.runner:
                turns[at.pass_number, at.turn] = entry
        return ends, turns

    def _by_pass(self) -> dict[int, list[str]]:
        result: dict[int, list[str]] = {}
        for path in self._blobs:
            name = path.split("/")[1]
            if name.isdecimal():
                result.setdefault(int(name), []).append(path)
        return result

    def _pass(
        self,
        number: int,
        paths: list[str],
        end: Entry | None,
        commits: Mapping[tuple[int, int], Entry],
        previous: str,
    ) -> RecordedPass:
        what = f"pass {number}"
        folder = layout.pass_folder(number)
        verdict = self._json(f"{folder}/verdict.json", what)
        decision = self._faults.attempt(
            f"{what}, its verdict", lambda: verdicts.decision_from(verdict) if verdict else None, None
        )
        turns = tuple(self._turns(number, paths, commits))
        last = end.parents[-1] if end and end.parents else (turns[-1].commit if turns else "")
        old, new = self._answer(previous, what), self._answer(last, what)
        return RecordedPass(
            number,
            outcome=(end.checkpoint.outcome or "") if end else "",
            reason=self._cut(str(verdict.get("reason", ""))),
            score=_number(verdict.get("score")),
            reports=decision.reports if decision else (),
            shown=self._text(f"{folder}/injected.md", what),
            answer=self._cut(new),
            answer_diff=difference(old, new),
            **self._changes(previous, last, what),
            turns=turns,
            commit=end.checkpoint.commit if end else "",
            ended_at=end.committed_at if end else None,
            seconds=sum(turn.seconds for turn in turns) + (end.seconds if end else 0.0),
            usage=sum((turn.usage for turn in turns), Usage()),
            strategy=_strategy(verdict),
            requests=self._requests(folder, what) + self._requests(control_files.next_folder(number), what),
        )

    def _turns(
        self, number: int, paths: list[str], commits: Mapping[tuple[int, int], Entry]
    ) -> Iterable[RecordedTurn]:
        by_turn: dict[int, set[str]] = {}
        for path in paths:
            parts = path.split("/")
            if len(parts) > 4 and parts[2] == "turns" and parts[3].isdecimal():
                by_turn.setdefault(int(parts[3]), set()).add(path)
        for turn, own in sorted(by_turn.items()):
            yield self._turn(number, turn, own, commits.get((number, turn)))

    def _turn(self, number: int, turn: int, paths: set[str], entry: Entry | None) -> RecordedTurn:
        folder, what = layout.turn_folder(number, turn), f"pass {number} turn {turn}"
        about = self._json(f"{folder}/turn.json", what)
        calls = self._faults.attempt(f"{what}, its calls", lambda: self._calls(f"{folder}/calls.jsonl"), [])
        has_code = f"{folder}/cell.py" in paths
        children = sorted(path for path in paths if path.endswith("/child.json") and path.count("/") == 6)
        return RecordedTurn(
            turn,
            reply=self._text(f"{folder}/reply.md", what),
            output=self._text(f"{folder}/output.txt", what),
            end=str(about.get("end", "")),
            code=self._text(f"{folder}/cell.py", what) if has_code else None,
            ready=about.get("ready") is True,
            seconds=entry.seconds if entry else 0.0,
            commit=entry.checkpoint.commit if entry else "",
            usage=sum((call.reply.usage for call in calls), Usage()),
            calls=tuple(self._call(call) for call in calls if call.kind in SUBCALL_KINDS),
            children=tuple(self._cut(str(self._json(path, what).get("question", ""))) for path in children),
            requests=self._requests(folder, what),
        )

    def _requests(self, folder: str, what: str) -> tuple[RecordedRequest, ...]:
        path = f"{folder}/{control_files.CONTROL_FILE}"
        return self._faults.attempt(
            f"{what}, what the operator asked",
            lambda: tuple(map(self._request, control_files.from_json(self._read(path)))),
            (),
        )

    def _request(self, pair: tuple[control_files.ControlRequest, str]) -> RecordedRequest:
        request, refused = pair
        words = limits.describe(request.limits)
        texts = (request.text, words, request.by, request.at, refused)
        return RecordedRequest(str(request.kind), *(self._cut(str(value)) for value in texts))

    def _calls(self, path: str) -> list[Call]:
        return layout.calls_from_jsonl(self._read(path))

    def _call(self, call: Call) -> RecordedCall:
        reply = call.reply.text
        return RecordedCall(
            call.kind, call.model, self._cut(call.prompt), self._cut(reply), call.reply.usage, call.tries
        )

    def _changes(self, old: str, new: str, what: str) -> dict[str, Any]:
        """``changes`` and ``notes`` between two commits."""

        def compared() -> dict[str, Any]:
            if not (old and new):
                return {}
            before, after = (self._history.tree(commit, f"{layout.MODEL_FOLDER}/") for commit in (old, new))
            changes = sorted(_changed(before, after))
            notes = [path for _, path in changes if path.startswith(f"{layout.NOTES_FOLDER}/")]
            diffs = tuple((path, self._note(path, before, after)) for path in notes[:_MAX_NOTES])
            return {"changes": tuple(changes), "notes": diffs}

        return self._faults.attempt(f"{what}, its changes", compared, {})

    def _note(
        self, path: str, before: Mapping[bytes, tuple[str, str]], after: Mapping[bytes, tuple[str, str]]
    ) -> str:
        old, new = (self._blob(side.get(os.fsencode(path))) for side in (before, after))
        return difference(old, new)

    def _blob(self, listed: tuple[str, str] | None) -> str:
        return "" if listed is None else layout.to_text(self._history.blob(listed[1]))

    def _answer(self, commit: str, what: str) -> str:
        if not commit:
            return ""
        read = self._history.read
        return self._faults.attempt(
            f"{what}, its answer", lambda: layout.to_text(read("answer.md", commit) or b""), ""
        )

    def _text(self, path: str, what: str) -> str:
        name = path.rpartition("/")[2]
        data = self._faults.attempt(f"{what}, its {name}", lambda: self._read(path), b"")
        return self._cut(layout.to_text(data))

    def _json(self, path: str, what: str) -> Mapping[str, Any]:
        name = path.rpartition("/")[2]

        def read() -> Mapping[str, Any]:
            value = json.loads(self._read(path) or b"{}")
            return value if isinstance(value, dict) else {}

        return self._faults.attempt(f"{what}, its {name}", read, {})

    def _cut(self, value: str) -> str:
        return text.cut_middle(value, self._max_chars)


def difference(old: str, new: str) -> str:
    """What differs, as a unified diff without its head; "" when nothing does. Huge texts give one line."""
    if old == new:
        return ""
    before, after = old.splitlines(), new.splitlines()
    if max(len(before), len(after)) > _MAX_DIFF_LINES or max(len(old), len(new)) > _MAX_DIFF_CHARS:
        return f"@@ too long to compare: {len(old):,} characters before, {len(new):,} after @@"
    lines = list(difflib.unified_diff(before, after, n=_CONTEXT_LINES, lineterm=""))[2:]
    return "\n".join(lines) or "@@ only line ends differ @@"


def _changed(
    before: Mapping[bytes, tuple[str, str]], after: Mapping[bytes, tuple[str, str]]
) -> Iterable[tuple[str, str]]:
    for path in before.keys() | after.keys():
        if before.get(path) != after.get(path):
            kind = "deleted" if path not in after else "added" if path not in before else "changed"
            yield kind, os.fsdecode(path)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _strategy(verdict: Mapping[str, Any]) -> str:
    course = verdict.get("next")
    return str(course.get("strategy") or "") if isinstance(course, dict) else ""
