"""``Record``: everything that a run folder holds, as plain data, for a report or another program.

Made by ``Run.record``. Reads the folder without its lock, also of a clone, on a read-only disk and from a
stranger: it starts nothing, and what cannot be read is listed in ``faults`` instead of ending it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from loop_runner import inputs
from loop_runner.api.excerpts import Excerpt, Excerpts
from loop_runner.audit import findings as audit_findings
from loop_runner.errors import LoopRunnerError
from loop_runner.records import Inputs, Variable
from loop_runner.runs import cost, trust
from loop_runner.runs import status as statuses
from loop_runner.runs.committed import Faults, Reader, RecordedPass, RecordedTurn
from loop_runner.runs.status import Status
from loop_runner.task import config
from loop_runner.verify import locate, proof
from loop_runner.workspace.history import History

if TYPE_CHECKING:
    from loop_runner.verify import LocatedCitation

__all__ = ["AuditFinding", "Cited", "Record", "RecordedPass", "RecordedTurn", "record_of"]
_MAX_CHARS = 20_000
_MAX_ANSWER_CHARS = 2_000_000
_NO_INPUTS = Inputs(())
_States: TypeAlias = dict[tuple[str, str, int, str], str]  # by rule, file, line and quote


@dataclass(frozen=True, slots=True)
class Cited:
    """A citation of the answer, with the lines of the input around it."""

    citation: LocatedCitation
    excerpt: Excerpt


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """A finding of an audit, with the code around it; ``state`` is ``new``, ``known`` or ``suppressed``."""

    rule: str
    severity: str
    file: str
    line: int
    quote: str
    reason: str
    excerpt: Excerpt
    state: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that a run folder holds. ``faults`` has a line for each thing that cannot be read.

    ``state``, ``reason`` and ``steps`` are as in ``loop-runner status``. ``findings`` are those of an audit;
    None for any other run. ``costs`` are the requests by pass, model and kind.
    """

    folder: Path
    name: str
    state: str
    reason: str = ""
    steps: tuple[str, ...] = ()
    prompt: str = ""
    system: str = ""  # what the model is given before the prompt
    task: str = ""  # the task file, as it was frozen
    answer: str = ""
    cited: tuple[Cited, ...] = ()
    findings: tuple[AuditFinding, ...] | None = None
    proof: Mapping[str, Any] | None = None
    passes: tuple[RecordedPass, ...] = ()
    variables: tuple[Variable, ...] = ()
    inputs: Inputs = _NO_INPUTS
    costs: tuple[cost.CostLine, ...] = ()
    status: Status | None = None
    faults: tuple[str, ...] = field(default=())


def record_of(folder: Path, *, max_chars: int = _MAX_CHARS) -> Record:
    """The record of the run in ``folder``; texts longer than ``max_chars`` are cut in the middle."""
    with History(folder) as history:
        return _Builder(history, max_chars).record()


class _Builder:
    """Puts one record together; each part on its own, so that a damaged one does not hide the others."""

    def __init__(self, history: History, max_chars: int) -> None:
        self._history = history
        self._max_chars = max_chars
        self._faults = Faults()

    def record(self) -> Record:
        attempt, history = self._faults.attempt, self._history
        history.tip = attempt("the newest commit", lambda: history.head_commit().oid, "HEAD")
        status = statuses.of_any(history.folder)
        if status.state == "unreadable":
            self._faults.add("the status", status.reason)
        answer = attempt("the answer", lambda: history.answer().content, "")[:_MAX_ANSWER_CHARS]
        texts = attempt("the list of inputs", self._inputs, _NO_INPUTS)
        costs = attempt("what it cost", lambda: cost.of_run(history).lines, ())
        source = self._text("task.yaml")
        task = attempt("the task", lambda: _task(source, history.folder), None)
        findings = self._findings(answer, texts) if _is_audit(task) else None
        made = Record(
            history.folder,
            name=task.name if task else history.folder.name,
            state=status.state,
            reason=status.reason,
            steps=status.steps,
            prompt=self._text("prompt.md"),
            system=self._text("system.md"),
            task=source,
            answer=answer,
            cited=() if findings is not None else attempt("the citations", lambda: _cited(answer, texts), ()),
            findings=findings,
            proof=attempt("the proof", lambda: _proof(history), None),
            passes=_priced(Reader(history, self._faults, self._max_chars).passes(), costs),
            variables=attempt("the variables", history.variables, ()),
            inputs=texts,
            costs=costs,
            status=status,
        )
        return replace(made, faults=self._faults.listed())

    def _text(self, path: str) -> str:
        data = self._faults.attempt(path, lambda: self._history.read(path), None)
        return (data or b"").decode("utf-8", "replace")

    def _inputs(self) -> Inputs:
        """The inputs where they can be read now; documents of a stranger's run are not converted again."""
        history = self._history
        texts = inputs.from_json((history.read("inputs.json") or b"").decode(), history.folder)
        if trust.is_marked(history, os.environ):
            with suppress(LoopRunnerError):
                cache = inputs.cache_dir(os.environ)
                return inputs.restore(texts, inputs.Converter(cache), cache, history.read)
        return texts

    def _findings(self, answer: str, texts: Inputs) -> tuple[AuditFinding, ...]:
        excerpts = Excerpts(texts)
        states: _States = self._faults.attempt(
            "which findings are suppressed", lambda: _states(answer, texts), {}
        )

        def read() -> tuple[AuditFinding, ...]:
            body = json.loads(answer) if answer.strip() else {"findings": []}
            return tuple(_finding(entry, excerpts, states) for entry in body["findings"])

        return self._faults.attempt("the findings", read, ())


def _task(source: str, folder: Path) -> config.Task:
    return config.parse_task(source, label="task.yaml", base_dir=folder)


def _is_audit(task: config.Task | None) -> bool:
    return task is not None and any(isinstance(spec, dict) and "findings" in spec for spec in task.verifiers)


def _cited(answer: str, texts: Inputs) -> tuple[Cited, ...]:
    excerpts = Excerpts(texts)
    return tuple(
        Cited(citation, excerpts.around(citation.name, citation.line, citation.last_line))
        for citation in locate(answer, texts)
    )


def _states(answer: str, texts: Inputs) -> _States:
    report = audit_findings.read(answer, texts)
    return {(entry.rule, entry.file, entry.line, entry.quote): entry.state for entry in report.findings}


def _finding(entry: Mapping[str, Any], excerpts: Excerpts, states: _States) -> AuditFinding:
    rule, severity, file, quote, reason = (
        str(entry.get(key, "")) for key in ("rule", "severity", "file", "quote", "reason")
    )
    line = int(entry.get("line", 0))
    state = states.get((rule, file, line, quote), "")
    return AuditFinding(rule, severity, file, line, quote, reason, excerpts.around(file, line), state)


def _proof(history: History) -> Mapping[str, Any] | None:
    data = history.read(proof.PATH) if history.head().outcome == "accepted" else None
    value = None if data is None else json.loads(data)
    return value if isinstance(value, dict) else None


def _priced(passes: list[RecordedPass], costs: tuple[cost.CostLine, ...]) -> tuple[RecordedPass, ...]:
    """The passes with what each cost, and the tokens of all its requests."""
    by_pass = cost.by(lambda line: line.pass_number, costs)
    return tuple(
        replace(entry, usd=line.usd, usage=line.usage) if (line := by_pass.get(entry.number)) else entry
        for entry in passes
    )
