"""Shows a run while it goes on, and its result when it has ended.

Progress goes to standard error, one line an event; the result goes to standard output. Everything that a
model or an input wrote passes through ``output.write``, which escapes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loop_runner import plugins, text
from loop_runner.cli import output
from loop_runner.events import Event
from loop_runner.records import Outcome
from loop_runner.text import shell
from loop_runner.verify import LocatedCitation

if TYPE_CHECKING:
    from loop_runner.runs.ending import Ending
    from loop_runner.verify import LocatedCitation

_EVIDENCE_LINES = 6  # of a rejection, in the report; all of it is in verdict.json
_HEADLINES = {
    "verified": "VERIFIED: every verifier accepted the committed answer",
    "unverified": "UNVERIFIED: no answer was accepted",
    "broken": "BROKEN: a verifier could not be run, so the answer was not judged",
    "interrupted": "INTERRUPTED: every finished turn is committed",
}


class Progress:
    """One line on standard error for each step of a run."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self._is_verbose = is_verbose
        self._subcalls = 0
        self._retries: Counter[str] = Counter()

    def __call__(self, event: Event) -> None:
        """Print ``event`` if a person wants to know of it."""
        line = self.line(event)
        if line is not None:
            output.note(line)

    def line(self, event: Event) -> str | None:
        """What a person is told of ``event``; None for nothing."""
        place = f"pass {event.pass_number}"
        match event.kind:
            case "run_started":
                return "\n".join(_start_lines(event, is_verbose=self._is_verbose))
            case "pass_started" if event.pass_number > 1:
                return f"{place}: the prompt goes in again, with the state and what failed"
            case "turn_started":
                self._subcalls = 0
                return f"{place} turn {event.turn}: asking the model"
            case "subcall_finished":
                self._subcalls += 1
                return f"  sub-call {self._subcalls}: {event.data['reply']}" if self._is_verbose else None
            case "subcalls_progress":
                self._subcalls = max(self._subcalls, event.data["answered"])
                return f"  sub-calls: {_progress(event.data)}" if event.data["out"] else None
            case "child_started" if self._is_verbose:
                return f"  child session ({event.data['model']}): {event.text}"
            case "child_finished":
                return self._child_line(event)
            case "retried":
                return self._retried(event)
            case "cell_finished":
                calls = f", {output.plural(self._subcalls, 'sub-call')}" if self._subcalls else ""
                shown = f"\n{text.fence(event.text)}" if self._is_verbose else ""
                return f"{place} turn {event.turn}: the code {_ENDS[str(event.data['end'])]}{calls}{shown}"
            case "verifying":
                return f"{place}: the model says it is ready; verifying: {text.one_line(event.text, 90)}"
            case "pass_ended":
                reason = "".join(_reason_lines(event.text))
                return f"{place}: {event.data['outcome']}{_cache(event)}{reason}"
            case "operator":
                return f"operator: {event.text}"
            case "paused":
                return "paused: nothing new is started; `loop-runner resume RUN` ends the pause"
            case "resumed":
                return "resumed"
            case "waiting":
                question = text.one_line(event.text, 300)
                return f"waiting for a person: {question}\n  `loop-runner approve RUN` or `reject RUN WHY`"
            case "notice":
                return f"note: {event.text}"
            case _:
                return None

    def _child_line(self, event: Event) -> str | None:
        """How a child session ended; one that answered is of interest to who wants every detail."""
        turns = output.plural(event.data["turns"], "turn")
        if event.data["end"] == "ready":
            return f"  child session, {turns}: {event.text}" if self._is_verbose else None
        return f"  child session, {turns}: gave no answer ({event.data['end']})"

    def _retried(self, event: Event) -> str | None:
        """The 1st, 2nd, 4th, 8th… try of a kind: a burst that is refused must not fill the screen."""
        reason = f"{event.data['provider']}: {event.data['reason']}"
        self._retries[reason] += 1
        count = self._retries[reason]
        if count & (count - 1) and not self._is_verbose:
            return None
        return f"  {event.text}" + (f" ({count} times so far)" if count > 1 else "")


class AuditProgress(Progress):
    """The same for an audit: what is judged, not how the fixed program at its root works."""

    def line(self, event: Event) -> str | None:
        """What a person sees of ``event``; None for nothing."""
        match event.kind:
            case "run_started":
                data = event.data
                lines = [f"run folder: {data['run']}", f"judge: {data['sub_model']}"]
                return "\n".join([*lines, f"files: {'; '.join(_input_parts(data))}"])
            case "subcalls_progress":
                return f"judging: {_progress(event.data)}" if event.data["out"] else None
            case "pass_started" if event.pass_number > 1:
                return "asking once more about the places that were not judged"
            case "pass_ended" if event.data["outcome"] == "accepted":
                return "every place was judged"
            case "pass_ended" | "turn_started" | "cell_finished" | "verifying":
                return super().line(event) if self._is_verbose else None
            case _:
                return super().line(event)


def _reason_lines(reason: str) -> Iterator[str]:
    """The reason of a rejection behind a colon; what has several lines keeps them, indented."""
    lines = [line for line in reason.splitlines() if line.strip()]
    for number, line in enumerate(lines[:_EVIDENCE_LINES]):
        yield (": " if number == 0 else "\n    ") + text.one_line(line.strip(), 200)
    if (more := len(lines) - _EVIDENCE_LINES) > 0:
        yield f"\n    and {output.plural(more, 'more line')}"


def _progress(data: Mapping[str, Any]) -> str:
    failed = f", {data['failed']:,} failed" if data["failed"] else ""
    return f"{data['answered']:,} answered{failed}, {data['out']:,} to go"


def _start_lines(event: Event, *, is_verbose: bool) -> Iterator[str]:
    """Where the run lies, who answers, what is read, and what is not."""
    data = event.data
    turn = f" turn {event.turn}" if event.turn else ""
    going_on = f", going on after pass {event.pass_number}{turn}" if event.pass_number else ""
    yield f"run folder: {data['run']}{going_on}"
    sub = f"; sub-calls: {data['sub_model']}" if data["sub_model"] != data["model"] else ""
    yield f"model: {data['model']}{sub}"
    yield f"inputs: {'; '.join(_input_parts(data))}"
    yield from (f"  not read: {path}: {reason}" for path, reason in data.get("faults", ()))
    yield from _missing_extra(reason for _, reason in data.get("faults", ()))
    yield from (f"  note: {path}: {reason}" for path, reason in data.get("notices", ()))
    if data.get("session_why"):
        yield f"session: {data['session']}, because {data['session_why']}"
    if is_verbose:
        yield from (f"  skipped {path}: {reason}" for path, reason in data["first_skipped"])
        if (more := sum(data["skipped"].values()) - len(data["first_skipped"])) > 0:
            yield f"  and {more:,} more, in {data['run']}/inputs.json"


def _missing_extra(reasons: Iterable[str]) -> Iterator[str]:
    """How to read the documents that were left out for want of the extra."""
    from loop_runner.inputs.inside.kinds import NEEDS_DOCS

    if any(NEEDS_DOCS in reason for reason in reasons):
        yield f"  to read such files: {plugins.command_for('docs')}"


def _input_parts(data: Mapping[str, Any]) -> Iterator[str]:
    if not data["texts"]:
        yield "none"
        return
    yield f"{output.plural(data['texts'], 'text')}, {output.size(data['bytes'])}"
    if skipped := data["skipped"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in skipped.items())
        yield f"{sum(skipped.values()):,} skipped ({kinds})"
    if texts := data["texts_not_utf8"]:
        have = "text has" if texts == 1 else "texts have"
        count = output.plural(data["bytes_not_utf8"], "byte")
        yield f"{texts:,} {have} bytes that are not UTF-8 ({count} read as U+FFFD)"


def _cache(event: Event) -> str:
    """How much of the prompts the provider's cache served, where it did anything."""
    cache = event.data.get("cache") or {}
    if not cache.get("read") and not cache.get("written"):
        return ""
    return f" ({cache['hit_rate']:.0%} of the prompts from the provider's cache)"


_ENDS = {
    "ok": "ran",
    "raised": "raised an error, which the model is shown",
    "timed_out": "was stopped at its time limit",
    "died": "killed the kernel, which was started again",
}


def show_ending(ending: Ending) -> None:
    """The end of a run for a person: answer, gates, citations, cost, story, what to type next."""
    outcome = ending.outcome
    spend = outcome.spend
    output.prose(f"BLOCKED: {outcome.reason}" if outcome.status == "blocked" else _HEADLINES[outcome.status])
    if outcome.status not in ("verified", "blocked"):
        output.prose(f"  {outcome.reason}")
    output.write()
    output.write(outcome.answer.content.strip() or "(no answer)")
    output.write()
    _show_gates(outcome, ending.verdict)
    _show_citations(ending.citations)
    passes, turns = output.plural(spend.passes, "pass", "passes"), output.plural(spend.turns, "turn")
    calls = output.plural(spend.subcalls, "sub-call")
    output.write(f"Took   {passes}, {turns}, {calls}, {output.duration(spend.seconds)}")
    output.write(f"Cost   {output.cost(spend)}")
    if spend.unanswered:
        lost = output.plural(spend.unanswered, "request")
        output.write(
            f"       {lost} sent without a reply coming back (a crash, say); the provider may bill them"
        )
    output.write(f"Story  git -C {shell(ending.folder)} log --first-parent --format=%s")
    for subject in ending.story:
        output.write(f"         {subject}")
    output.write("Next   " + "\n       ".join(ending.steps))


def _show_gates(outcome: Outcome, verdict: Mapping[str, Any]) -> None:
    """Which gates accepted the answer and what each checked, or why the last answer was rejected."""
    reports = verdict.get("reports", ())
    if outcome.status == "verified":
        output.write("Accepted by")
        for line in _statements(reports, "  "):
            output.prose(line)
        output.write()
    elif outcome.status == "unverified" and verdict:
        output.write(f"Why the last answer (pass {outcome.checkpoint.pass_number}) was rejected")
        for line in _rejections(verdict):
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
    rejected = [each for each in verdict.get("reports", ()) if each.get("verdict") == "rejected"]
    if not rejected:
        yield f"  {text.one_line(str(verdict.get('reason', '')) or 'no reason is recorded', 300)}"
    for report in rejected:
        name = text.one_line(str(report.get("verifier")), 80)
        yield f"  {name}{''.join(_reason_lines(str(report.get('reason', ''))))}".replace("\n", "\n  ")
        lines = [line for line in str(report.get("evidence", "")).split("\n") if line.strip()]
        yield from (f"      {text.one_line(line, 200)}" for line in lines[:_EVIDENCE_LINES])
        if len(lines) > _EVIDENCE_LINES:
            yield f"      and {output.plural(len(lines) - _EVIDENCE_LINES, 'more line')}"


def _show_citations(located: Sequence[LocatedCitation]) -> None:
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


def _state(citation: LocatedCitation) -> str:
    if not citation.ok:
        return f"NOT FOUND: {citation.reason}"
    return f"found, {citation.how}" if citation.how else "found"


def outcome_as_json(outcome: Outcome, folder: Path) -> dict[str, object]:
    """The one object that ``run``, ``ask`` and ``resume`` end with (docs/json.md)."""
    return {
        "status": outcome.status,
        "answer": outcome.answer.content,
        "run": str(folder),
        "reason": outcome.reason,
        "commit": outcome.checkpoint.commit,
        **output.spend_as_json(outcome.spend),
    }
