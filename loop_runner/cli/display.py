"""Shows a run while it is active, and its result when it has ended.

Progress goes to standard error, one line per event; the result goes to standard output. All text from a
model or an input passes through ``output.write``, which escapes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output
from loop_runner.text import shell

if TYPE_CHECKING:
    from loop_runner import types

# The kinds of skipped files whose words depend on their number (``inputs.skipped_by_kind``): one, several.
_SKIPPED = {
    "tools' folders": ("in a tool folder (.git, ...)", "in tool folders (.git, ...)"),
    "run folders": ("run folder", "run folders"),
    "the task's own files": ("file of the task itself", "files of the task itself"),
    "links": ("link", "links"),
    "special files": ("special file", "special files"),
    "oddly named": ("with an unusable name", "with unusable names"),
    "jobs without a verified answer": ("job without a verified answer", "jobs without a verified answer"),
    "in need of an extra": ("that needs an extra", "that need an extra"),
}
_EVIDENCE_LINES = 6  # of a rejection, in the report; all of it is in verdict.json
_HEADLINES = {
    "verified": "VERIFIED: every verifier accepted the committed answer",
    "unverified": "UNVERIFIED: no answer was accepted",
    "broken": "BROKEN: a verifier could not run, so the answer was not judged",
    "interrupted": "INTERRUPTED: all finished turns are saved",
}


class Progress:
    """One line on standard error for each step of a run."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self.is_verbose = is_verbose
        self._subcalls = 0
        self._retries: Counter[str] = Counter()

    def __call__(self, event: lr.Event) -> None:
        """Print ``event`` if a person wants to see it."""
        line = self.line(event)
        if line is not None:
            output.note(line)

    def line(self, event: lr.Event) -> str | None:
        """The line for ``event``; None for nothing."""
        place = f"pass {event.pass_number}"
        match event:
            case lr.types.RunStarted():
                return "\n".join(_start_lines(event, is_verbose=self.is_verbose))
            case lr.types.PassStarted() if event.pass_number > 1:
                return f"{place}: the prompt is sent again, with the state and what failed"
            case lr.types.TurnStarted():
                self._subcalls = 0
                return f"{place} turn {event.turn}: asking the model"
            case lr.types.SubcallFinished():
                self._subcalls += 1
                return f"  sub-call {self._subcalls}: {event.reply}" if self.is_verbose else None
            case lr.types.ToolFinished():
                return _tool_line(event) if self.is_verbose or event.failed else None
            case lr.types.SubcallsProgress():
                self._subcalls = max(self._subcalls, event.answered)
                return f"  sub-calls: {_progress(event)}" if _is_under_way(event) else None
            case lr.types.ChildStarted() if self.is_verbose:
                return f"  child session ({event.model}): {event.text}"
            case lr.types.ChildFinished():
                return self._child_line(event)
            case lr.types.Retried():
                return self._retried(event)
            case lr.types.CellFinished():
                calls = f", {output.plural(self._subcalls, 'sub-call')}" if self._subcalls else ""
                shown = f"\n{text.fence(event.text)}" if self.is_verbose else ""
                return f"{place} turn {event.turn}: the code {_ENDS[event.end]}{calls}{shown}"
            case lr.types.Verifying():
                return f"{place}: the model says it is ready; verifying: {text.one_line(event.text, 90)}"
            case lr.types.PassEnded():
                reason = "".join(_reason_lines(event.text))
                return f"{place}: {event.outcome}{_cache(event)}{reason}"
            case lr.types.OperatorRequest():
                return f"operator: {event.text}"
            case lr.types.Paused():
                return "paused: nothing new is started; `loop-runner resume RUN` ends the pause"
            case lr.types.Resumed():
                return "resumed"
            case lr.types.Waiting():
                question = text.one_line(event.text, 300)
                return f"waiting for a person: {question}\n  `loop-runner approve RUN` or `reject RUN WHY`"
            case lr.types.Notice():
                return f"note: {event.text}"
            case _:
                return None

    def _child_line(self, event: types.ChildFinished) -> str | None:
        """How a child session ended; one with an answer only matters to those who want every detail."""
        turns = output.plural(event.turns, "turn")
        if event.end == "ready":
            return f"  child session, {turns}: {event.text}" if self.is_verbose else None
        return f"  child session, {turns}: gave no answer ({event.end})"

    def _retried(self, event: types.Retried) -> str | None:
        """The 1st, 2nd, 4th, 8th… try of a kind: a burst of refusals must not fill the screen."""
        reason = f"{event.provider}: {event.reason}"
        self._retries[reason] += 1
        count = self._retries[reason]
        if count & (count - 1) and not self.is_verbose:
            return None
        return f"  {event.text}" + (f" ({count} times so far)" if count > 1 else "")


def _tool_line(call: lr.types.ToolFinished) -> str:
    """One call of a tool."""
    mark = " failed:" if call.failed else ""
    return f"  {call.tool}({call.arguments}){mark} {call.result}"


class AuditProgress(Progress):
    """The same for an audit: what is judged, not how the fixed program at its root works."""

    def line(self, event: lr.Event) -> str | None:
        """The line for ``event``; None for nothing."""
        match event:
            case lr.types.RunStarted():
                lines = [f"run folder: {event.run}", f"judge: {event.sub_model}"]
                return "\n".join([*lines, f"files: {'; '.join(_input_parts(event))}"])
            case lr.types.SubcallsProgress():
                return f"judging: {_progress(event)}" if _is_under_way(event) else None
            case lr.types.PassStarted() if event.pass_number > 1:
                return "asking once more about the places that were not judged"
            case lr.types.PassEnded() if event.outcome == "accepted":
                return "every place was judged"
            case lr.types.PassEnded() | lr.types.TurnStarted():
                return super().line(event) if self.is_verbose else None
            case lr.types.CellFinished() | lr.types.Verifying():
                return super().line(event) if self.is_verbose else None
            case _:
                return super().line(event)


def _reason_lines(reason: str) -> Iterator[str]:
    """The reason of a rejection after a colon; several lines are kept, indented."""
    lines = [line for line in reason.splitlines() if line.strip()]
    for number, line in enumerate(lines[:_EVIDENCE_LINES]):
        yield (": " if number == 0 else "\n    ") + text.one_line(line.strip(), 200)
    if (more := len(lines) - _EVIDENCE_LINES) > 0:
        yield f"\n    and {output.plural(more, 'more line')}"


def _is_under_way(event: types.SubcallsProgress) -> bool:
    """Some sub-calls of the turn have ended, and others are still out."""
    return bool(event.out and (event.answered or event.failed))


def _progress(event: types.SubcallsProgress) -> str:
    failed = f", {event.failed:,} failed" if event.failed else ""
    return f"{event.answered:,} answered{failed}, {event.out:,} to go"


def _start_lines(event: types.RunStarted, *, is_verbose: bool) -> Iterator[str]:
    """The run's folder, its models, its inputs, and what is not read."""
    turn = f" turn {event.turn}" if event.turn else ""
    going_on = f", continuing after pass {event.pass_number}{turn}" if event.pass_number else ""
    yield f"run folder: {event.run}{going_on}"
    sub = f"; sub-calls: {event.sub_model}" if event.sub_model != event.model else ""
    yield f"model: {event.model}{sub}"
    yield f"inputs: {'; '.join(_input_parts(event))}"
    yield from (f"  not read: {path}: {reason}" for path, reason in event.faults)
    if event.install:
        yield f"  to read such files: {event.install}"
    yield from (f"  note: {path}: {reason}" for path, reason in event.notices)
    if event.session_why:
        yield f"session: {event.session}, because {event.session_why}"
    if is_verbose:
        yield from (f"  skipped {path}: {reason}" for path, reason in event.first_skipped)
        if (more := sum(event.skipped.values()) - len(event.first_skipped)) > 0:
            yield f"  and {more:,} more, in {event.run}/inputs.json"


def _input_parts(event: types.RunStarted) -> Iterator[str]:
    if not event.texts and not event.images:
        yield "none"
        return
    yield f"{output.plural(event.texts, 'text')}, {output.size(event.bytes)}"
    if event.images:
        yield output.plural(event.images, "image")
    if skipped := event.skipped:
        kinds = ", ".join(_counted(kind, count) for kind, count in skipped.items())
        yield f"{sum(skipped.values()):,} skipped ({kinds})"
    if texts := event.texts_not_utf8:
        have = "text has" if texts == 1 else "texts have"
        count = output.plural(event.bytes_not_utf8, "byte")
        yield f"{texts:,} {have} bytes that are not UTF-8 ({count} read as U+FFFD)"


def _counted(kind: str, count: int) -> str:
    """A kind of skipped files with their number, such as ``1 link`` or ``3 with unusable names``."""
    singular, several = _SKIPPED.get(kind, (kind, kind))
    return f"{count:,} {singular if count == 1 else several}"


def _cache(event: types.PassEnded) -> str:
    """How much of the prompts came from the provider's cache, if any did."""
    cache = event.cache or {}
    if not cache.get("read") and not cache.get("written"):
        return ""
    return f" ({cache['hit_rate']:.0%} of the prompts from the provider's cache)"


_ENDS = {
    "ok": "ran",
    "raised": "raised an error, which the model sees",
    "timed_out": "was stopped at its time limit",
    "died": "ended the kernel, which was restarted",
}


def show_ending(result: lr.Result, run: lr.Run, steps: Sequence[str]) -> None:
    """The end of a run for a person: answer, gates, citations, cost, story, next commands."""
    spend = result.spend
    output.prose(f"BLOCKED: {result.reason}" if result.status == "blocked" else _HEADLINES[result.status])
    if result.status not in ("verified", "blocked"):
        output.prose(f"  {result.reason}")
    output.write()
    output.write(result.answer.strip() or "(no answer)")
    output.write()
    _show_gates(result)
    _show_citations(result.citations)
    passes, turns = output.plural(spend.passes, "pass", "passes"), output.plural(spend.turns, "turn")
    calls = output.plural(spend.subcalls, "sub-call")
    if spend.tool_calls:
        calls += f", {output.plural(spend.tool_calls, 'tool call')}"
    output.write(f"Took   {passes}, {turns}, {calls}, {output.duration(spend.seconds)}")
    output.write(f"Cost   {output.cost(spend)}")
    if spend.unanswered:
        lost = output.plural(spend.unanswered, "request")
        output.write(f"       {lost} sent without a reply (a crash, for example); the provider may bill them")
    output.write(f"Story  git -C {shell(run.folder)} log --first-parent --format=%s")
    for subject in run.story:
        output.write(f"         {subject}")
    output.write("Next   " + "\n       ".join(steps))


def _show_gates(result: lr.Result) -> None:
    """Which gates accepted the answer and what each checked, or why the last answer was rejected."""
    if result.verified:
        output.write("Accepted by")
        for line in _statements(result.verdict.get("reports", ()), "  "):
            output.prose(line)
        output.write()
    elif result.status == "unverified" and result.verdict:
        output.write(f"Why the last answer (pass {result.pass_number}) was rejected")
        for line in _rejections(result.verdict):
            output.prose(line)
        output.write()


def _statements(reports: Iterable[Mapping[str, Any]], indent: str) -> Iterator[str]:
    """A line for each gate that accepted, its members below it."""
    for report in reports:
        if report.get("verdict") != "accepted":
            continue
        statement = report.get("statement") or report.get("evidence") or "it accepted the answer"
        name = text.one_line(str(report.get("verifier")), 80)
        yield f"{indent}{name}: {text.one_line(str(statement), 300)}"
        yield from _statements(report.get("members", ()), f"{indent}  ")


def _rejections(verdict: Mapping[str, Any]) -> Iterator[str]:
    """The reason of each gate that rejected, with the beginning of its evidence."""
    rejected = [item for item in verdict.get("reports", ()) if item.get("verdict") == "rejected"]
    if not rejected:
        yield f"  {text.one_line(str(verdict.get('reason', '')) or 'no reason is recorded', 300)}"
    for report in rejected:
        name = text.one_line(str(report.get("verifier")), 80)
        yield f"  {name}{''.join(_reason_lines(str(report.get('reason', ''))))}".replace("\n", "\n  ")
        lines = [line for line in str(report.get("evidence", "")).split("\n") if line.strip()]
        yield from (f"      {text.one_line(line, 200)}" for line in lines[:_EVIDENCE_LINES])
        if len(lines) > _EVIDENCE_LINES:
            yield f"      and {output.plural(len(lines) - _EVIDENCE_LINES, 'more line')}"


def _show_citations(located: Sequence[types.LocatedCitation]) -> None:
    if not located:
        return
    is_copied = all(citation.ok and not citation.how for citation in located)
    output.write("Citations, checked byte for byte" if is_copied else "Citations, compared with their lines")
    for citation in located:
        output.write(f"  {citation.where}  {_state(citation)}")
        if citation.marked:
            output.write(f"    quoted in part: {text.one_line(citation.marked, 500)}")
        if citation.note:
            output.write(f"    {text.one_line(citation.note, 500)}")
    output.write()


def _state(citation: types.LocatedCitation) -> str:
    if not citation.ok:
        return f"NOT FOUND: {citation.reason}"
    return f"found, {citation.how}" if citation.how else "found"


def result_as_json(result: lr.Result, folder: Path) -> dict[str, object]:
    """The one object that ``run``, ``ask`` and ``resume`` end with (docs/json.md)."""
    return {
        "status": result.status,
        "answer": result.answer,
        "run": str(folder),
        "reason": result.reason,
        "commit": result.commit,
        **output.spend_as_json(result.spend),
    }
