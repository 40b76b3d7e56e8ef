"""What the dashboard's pages show, rendered on the server. Every text of a run is escaped and made visible.

Owns the templates' data and the policy that browsers are given: no other server, no script in a page.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import loop_runner as lr
from loop_runner import text
from loop_runner.report import html, page
from loop_runner.serve import steering_requests
from loop_runner.serve.progress import Trace, line_of
from loop_runner.serve.supervisor import Tracked

if TYPE_CHECKING:
    import jinja2

_FOLDER = Path(__file__).parent / "templates"
ASSETS = {"dashboard.css": "text/css", "dashboard.js": "text/javascript"}
POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# A report has a style and a script of its own, which its own policy names by their hashes. Whatever is in it
# has no origin here: it can read no session and send no form.
REPORT_POLICY = "sandbox allow-scripts; frame-ancestors 'none'"
_one_report = threading.Lock()  # a long run's report takes seconds of a processor
_SHOWN_RUNS, _SHOWN_LINES = 200, 200
DONE = {
    "pause": "The run will pause at its next commit.",
    "resume": "The run continues.",
    "stop": "The run will stop.",
    "note": "The model will see the note in its next message.",
    "budget": "The limit is changed.",
    "approve": "The answer is approved.",
    "reject": "The answer is rejected; the next pass is shown why.",
}


shown = html.shown


def asset(name: str) -> bytes:
    """A file that pages load."""
    return (_FOLDER / name).read_bytes()


def login(fault: str = "") -> str:
    """The page that asks for a token."""
    return _rendered("login.html.j2", "Log in", fault=fault, form_mark="")


def listed(runs: Sequence[Tracked], state: str, *, form_mark: str, owner: str) -> str:
    """The list of runs, the newest first, of one state or of all."""
    counts = sorted(Counter(run.status for run in runs).items())
    chosen = [run for run in runs if state in ("", run.status)]
    rows = [_row(run) for run in chosen[:_SHOWN_RUNS]]
    more = max(len(chosen) - _SHOWN_RUNS, 0)
    return _rendered(
        "runs.html.j2",
        "Runs",
        runs=rows,
        states=counts,
        state=state,
        total=len(chosen),
        more=more,
        form_mark=form_mark,
        owner=owner,
    )


def of_run(run: Tracked, *, form_mark: str, owner: str, fault: str = "", done: str = "") -> str:
    """The page of one run, as it is now."""
    lines, since = _log(run)
    return _rendered(
        "run.html.j2",
        f"{text.one_line(run.record.question, 60)}: {run.status}",
        run=_row(run)
        | {"end": run.end, "is_live": run.is_live, "has_report": (run.folder / ".git").is_dir()},
        facts=list(_facts(run)),
        lines=lines,
        since=since,
        forms=_forms(run),
        form_mark=form_mark,
        owner=owner,
        fault=fault,
        done=DONE.get(done, ""),
    )


def report(run: Tracked) -> str:
    """The report of a run as one HTML file. Raises ``LoopRunnerError`` while there is none."""
    with _one_report:
        return page.render(lr.open(run.folder).record())


def _row(run: Tracked) -> dict[str, Any]:
    end = run.end or {}
    result = end.get("answer") if end.get("verified") else end.get("reason") or end.get("answer")
    return {
        "id": run.record.id,
        "question": run.record.question,
        "state": run.status,
        "model": run.record.model,
        "started": run.record.created_at,
        "text": result or "",
    }


def _log(run: Tracked) -> tuple[list[str], int]:
    """The last lines about what happened, and the number of the last event."""
    trace, lines, since = Trace(run.trace), deque[str](maxlen=_SHOWN_LINES), 0
    while events := trace.read():
        since = events[-1]["seq"]
        lines.extend(filter(None, map(line_of, events)))
    return list(lines), since


def _facts(run: Tracked) -> Iterator[tuple[str, str]]:
    if run.is_live and not (run.folder / ".git").is_dir():
        return
    with suppress(lr.LoopRunnerError, OSError):
        status = lr.open(run.folder).status()
        if run.is_live:
            yield "doing", str(status.activity) or run.state
        yield from ((limit.name, str(limit)) for limit in status.limits)
        if (last := status.last_verdict) is not None:
            yield (
                "last pass",
                f"{last.outcome}: {text.one_line(last.reason, 200)}" if last.reason else last.outcome,
            )
        yield from ((f"look at this: {entry.kind}", entry.text) for entry in status.anomalies)


# ── steering ────────────────────────────────────────────────────────────────────────────────────────


def _forms(run: Tracked) -> list[dict[str, Any]]:
    """The forms that make sense now, in their order on the page."""
    if run.status == "verified":
        return []
    limits: list[dict[str, Any]] = [
        {"name": "limit", "label": "Limit", "choices": steering_requests.LIMITS},
        {"name": "value", "label": "New value", "is_number": True},
    ]
    budget = _form("budget", "Change the limit", limits)
    if not run.is_live:
        return [_form("resume", "Continue"), budget]
    if run.state == "paused":
        return [_form("resume", "Continue"), _form("stop", "Stop"), budget]
    if run.state == "queued":
        return [_form("pause", "Pause"), _form("stop", "Stop")]
    note = _form("note", "Leave the note", [{"name": "text", "label": "Note for the model"}])
    reject = _form("reject", "Reject the answer", [{"name": "why", "label": "Reason"}])
    decisions = [_form("approve", "Approve the answer"), reject] if _waits_for_a_person(run) else []
    return [*decisions, note, _form("pause", "Pause"), _form("stop", "Stop"), budget]


def _form(action: str, label: str, fields: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    return {
        "action": action,
        "label": label,
        "fields": [{"choices": (), "is_number": False, **field} for field in fields],
    }


def _waits_for_a_person(run: Tracked) -> bool:
    with suppress(lr.LoopRunnerError, OSError):
        return lr.open(run.folder).status().activity.kind == "waiting"
    return False


# ── templates ───────────────────────────────────────────────────────────────────────────────────────


@cache
def _environment() -> jinja2.Environment:
    made = page.environment(_FOLDER)
    made.filters |= {"line": text.one_line, "plural": text.plural, "day": page.day}
    return made


def _rendered(template: str, title: str, **body: Any) -> str:
    return _environment().get_template(template).render(title=title, version=lr.__version__, **body)
