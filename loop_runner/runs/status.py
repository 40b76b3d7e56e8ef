"""Where a run is: its state with the reason, what it spent, its answer, and what is under way.

Reads the run folder without its lock, also while another process continues it, and changes nothing in it. A
running run is read from the end of its trace, any other one from its history; that is remembered until
something in the folder changes, so that hundreds of runs are listed at once and without git.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from loop_runner import text
from loop_runner.budget import Budget
from loop_runner.errors import EnvironmentFault, LoopRunnerError
from loop_runner.model import prices
from loop_runner.records import Checkpoint, Spend, Usage
from loop_runner.runs import now, remembered_status, run_queue, standing, trace_file
from loop_runner.runs.amounts import frozen_limits, of_limits
from loop_runner.runs.view import Activity, Anomaly, Limit, PassView, RunView
from loop_runner.task import config
from loop_runner.verify import proven
from loop_runner.workspace import layout, lock
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_UNREADABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)  # its files say what no file of loop-runner says
_MAX_REASON_CHARS = 200
_MAX_ANSWER_BYTES = 1_000_000
_MAX_SCORED_PASSES = 2000


@dataclass(frozen=True, slots=True)
class Status:
    """A run at this moment. ``state`` is one of those in docs/json.md; ``steps`` are commands to continue it.

    ``pass_number`` and ``turn`` are the last that are committed; turn 0: the end of the pass. ``activity``,
    ``limits``, ``last_verdict``, ``best_score`` and ``anomalies`` are those of a ``View``. ``last_event_at``
    is in seconds since 1970, None where there is no trace. ``different`` names what is no longer as it was
    verified; ``under_way`` is None unless the run is running. ``dropped`` was spent before a rewind,
    ``uncommitted`` since the last commit. ``log`` is the output of a process that could not start.
    """

    folder: Path
    state: str
    reason: str = ""
    steps: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    pid: int | None = None
    pass_number: int = 0
    turn: int = 0
    answer: str = ""
    in_flight: int = 0
    unknown_calls: tuple[str, ...] = ()  # of tools: they may have happened, and no result is known
    under_way: Mapping[str, Any] | None = None
    spend: Spend = field(default_factory=lambda: Spend(usd=None))
    dropped: Spend = field(default_factory=Spend)
    uncommitted: Spend = field(default_factory=Spend)
    activity: Activity = field(default_factory=Activity)
    limits: tuple[Limit, ...] = ()
    last_verdict: PassView | None = None
    best_score: float | None = None
    last_event_at: float | None = None
    anomalies: tuple[Anomaly, ...] = ()
    model: str = ""
    log: str = ""
    at: float = 0.0  # when this was read, in seconds since 1970

    @property
    def is_active(self) -> bool:
        """Whether a process runs the run, or soon will."""
        return self.state in ("running", "queued") or self.pid is not None

    @property
    def age_s(self) -> float | None:
        """The seconds since the last event; None where there is no trace."""
        return None if self.last_event_at is None else max(self.at - self.last_event_at, 0.0)

    def limit(self, name: str) -> Limit | None:
        """What is used of the limit called ``name``, as in a task file."""
        return next((limit for limit in self.limits if limit.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """All of it, as JSON has it."""
        return {**asdict(self), "folder": str(self.folder), "age_s": self.age_s}


def of_run(folder: Path, cache: Path | None = None, *, at: float | None = None) -> Status:
    """The status of the run in ``folder``. ``cache`` is the user's cache folder; None: nothing is remembered.

    ``at``: the time now, in seconds since 1970.
    """
    at = time.time() if at is None else at
    holder = lock.holder(folder / ".git" / "loop-runner" / "lock")
    if holder is not None and (running := _running(folder, holder, at)) is not None:
        return running
    mark = remembered_status.fingerprint(folder) if cache is not None and holder is None else ""
    kept = remembered_status.load(cache, folder, mark) if cache is not None and mark else None
    status = None if kept is None else _from_dict(folder, kept)
    if status is None:
        status = _settled(folder)
        # Only if nothing has changed meanwhile: what is remembered must be that of the fingerprint.
        if cache is not None and mark and mark == remembered_status.fingerprint(folder):
            remembered_status.keep(
                cache, folder, mark, asdict(replace(status, folder=Path())) | {"folder": ""}
            )
    return _queued(replace(status, at=at))


def of_any(folder: Path, cache: Path | None = None) -> Status:
    """The status of one run among others: one that cannot be read does not hide the rest."""
    try:
        return of_run(folder, cache)
    except EnvironmentFault:
        raise  # no git: none of them can be read
    except LoopRunnerError as error:
        reason = error.message
    except PermissionError as error:
        reason = f"{folder} cannot be read ({(error.strerror or str(error)).lower()})"
    except _UNREADABLE as error:
        reason = f"{type(error).__name__}: {error}"
    return Status(folder, "unreadable", text.one_line(reason, _MAX_REASON_CHARS), at=time.time())


# ── a run that is running ───────────────────────────────────────────────────────────────────────────


def _running(folder: Path, holder: lock.Holder, at: float) -> Status | None:
    """The status of a running run, from its trace; None where the trace of this start is not there yet."""
    seen = trace_file.last_events(folder, whole_pass=True)
    view = RunView(seen)
    limits = view.limits(at)
    if view.end is not None or not limits or view.last_at < holder.since - 1:
        return None
    state = "paused" if view.is_paused else "waiting" if view.waits_for else "running"
    under_way = now.of_folder(folder, seen)
    activity = view.activity(at)
    waits = bool(under_way["batches"] or view.waits_for or view.is_paused)
    return Status(
        folder,
        state,
        reason=view.waits_for,
        steps=(text.shell("loop-runner", "log", folder, "--follow"),),
        pid=holder.pid,
        pass_number=view.committed[0],
        turn=view.committed[1],
        answer=_answer_on_disk(folder),
        in_flight=under_way["out"],
        under_way=under_way,
        spend=view.spend,
        activity=replace(activity, kind="waiting") if under_way["batches"] and activity.kind else activity,
        limits=limits,
        last_verdict=view.last_verdict,
        best_score=view.best_score,
        last_event_at=view.last_at,
        anomalies=() if waits else view.anomalies(at),
        model=str(view.about.get("model", "")),
        at=at,
    )


def _answer_on_disk(folder: Path) -> str:
    """The answer as the last commit put it beside the history."""
    if (file := trace_file.opened(folder / "answer.md")) is None:
        return ""
    with file:
        return layout.to_text(file.read(_MAX_ANSWER_BYTES))


# ── any other run ───────────────────────────────────────────────────────────────────────────────────


def _settled(folder: Path) -> Status:
    """The status from the history."""
    with History(folder) as history:
        head, running = history.head(), history.running()
        task = _task(history)
        price = prices.with_rates(task.prices)
        spend = history.spend(price)
        remembered = standing.of_run(history, head, task, spend.passes)
        different = tuple(proven.state_faults(history)) if remembered.state == "verified" else ()
        dropped, uncommitted = history.dropped(), history.unmet(price)
        last, best = _verdicts(history, head)
        seen = trace_file.last_events(folder, whole_pass=False)
        return Status(
            folder,
            "different" if different else remembered.state,
            reason=remembered.reason,
            steps=remembered.steps,
            different=different,
            pid=running.pid if running else None,
            pass_number=head.pass_number,
            turn=head.turn,
            answer=history.answer().content,
            in_flight=history.in_flight(),
            unknown_calls=_unknown_calls(history),
            under_way=now.of_run(history) if running else None,
            spend=spend,
            dropped=dropped,
            uncommitted=uncommitted,
            limits=_limits(task.budget, head, (spend, dropped, uncommitted)),
            last_verdict=last,
            best_score=best,
            last_event_at=max((event.at for event in seen), default=0.0) or None,
            model=task.model or "",
        )


def _unknown_calls(history: History) -> tuple[str, ...]:
    """Each as it was called."""
    calls = history.unknown_tool_calls()
    return tuple(
        text.one_line(f"{call.model.removeprefix('tool:')}({call.prompt})", _MAX_REASON_CHARS)
        for call in calls
    )


def _task(history: History) -> config.Task:
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
        changed = frozen_limits(history.folder, history.read)
        return config.parse_task(source, label="task.yaml", base_dir=history.folder, overrides=changed)


def _limits(budget: Budget, head: Checkpoint, parts: tuple[Spend, ...]) -> tuple[Limit, ...]:
    together = replace(
        parts[0],
        usage=sum((part.usage for part in parts), Usage()),
        known_usd=sum(part.usd or part.known_usd or 0.0 for part in parts),
        seconds=sum(part.seconds for part in parts),
        subcalls=sum(part.subcalls for part in parts),
    )
    used = of_limits(together, head.turn, budget)
    return tuple(Limit(name, amount, limit) for name, (amount, limit) in used.items())


def _verdicts(history: History, head: Checkpoint) -> tuple[PassView | None, float | None]:
    """The last verdict, and the best score."""
    last = head.pass_number if head.turn == 0 else head.pass_number - 1
    verdict = verdict_of(history, last)
    if not verdict:
        return None, None
    first = max(1, last - _MAX_SCORED_PASSES)
    scores = [score_of(verdict_of(history, number)) for number in range(first, last)] + [score_of(verdict)]
    outcome = "accepted" if verdict.get("decision") == "allow" else "rejected"
    reason = "" if outcome == "accepted" else str(verdict.get("reason", ""))
    view = PassView(last, outcome, reason, score_of(verdict))
    return view, max((score for score in scores if score is not None), default=None)


def passes_in(history: History) -> tuple[PassView, ...]:
    """Every pass that ended, the oldest first."""
    return tuple(
        PassView(
            entry.checkpoint.pass_number,
            entry.checkpoint.outcome or "",
            str(verdict.get("reason", "")) if entry.checkpoint.outcome != "accepted" else "",
            score_of(verdict),
            entry.checkpoint.commit,
            entry.committed_at,
        )
        for entry in history.passes()
        for verdict in (verdict_of(history, entry.checkpoint.pass_number),)
    )


def verdict_of(history: History, number: int) -> Mapping[str, Any]:
    """``verdict.json`` of a pass; empty where there is none."""
    path = f"{layout.pass_folder(number)}/verdict.json"
    with parsing(history.folder, path):
        return dict(json.loads(history.read(path) or b"{}")) if number > 0 else {}


def score_of(verdict: Mapping[str, Any]) -> float | None:
    """The score that a verdict gives; None where it gives none."""
    if verdict.get("decision") == "allow":
        return 1.0
    score = verdict.get("score")
    return float(score) if isinstance(score, int | float) else None


def _queued(status: Status) -> Status:
    """``status``, unless the run waits for its turn, or its process did not get as far as the trace."""
    if status.pid is None and run_queue.is_waiting(status.folder, status.last_event_at or 0.0):
        return replace(status, state="queued", **_waiting(status.folder))
    if status.state == "unfinished" and (start := run_queue.failed_start(status.folder)) is not None:
        why = text.one_line(start.reason, _MAX_REASON_CHARS)
        reason = f"its process ended at once: {why}"
        return replace(status, state="failed", reason=reason, log=str(start.path))
    return status


def _waiting(folder: Path) -> dict[str, Any]:
    """Why a run in the queue waits, and what to do where nothing will ever take it."""
    if run_queue.is_served(run_queue.folder_for(folder)):
        return {"reason": "it waits for a free place", "steps": ()}
    command = text.shell("loop-runner", "resume", folder, "--detach")
    return {"reason": "it waits, and no process runs what is in the queue", "steps": (command,)}


# ── as JSON ─────────────────────────────────────────────────────────────────────────────────────────


def _from_dict(folder: Path, data: Mapping[str, Any]) -> Status | None:
    """The status that ``asdict`` made; None for what is none."""
    try:
        values = {item.name: data[item.name] for item in fields(Status)}
        for name in ("spend", "dropped", "uncommitted"):
            values[name] = Spend(**{**values[name], "usage": Usage(**values[name]["usage"])})
        last = values["last_verdict"]
        return Status(
            **{
                **values,
                "folder": folder,
                "steps": tuple(values["steps"]),
                "unknown_calls": tuple(values["unknown_calls"]),
                "different": tuple(values["different"]),
                "activity": Activity(**values["activity"]),
                "limits": tuple(Limit(**limit) for limit in values["limits"]),
                "last_verdict": None if last is None else PassView(**last),
                "anomalies": tuple(Anomaly(**sign) for sign in values["anomalies"]),
            }
        )
    except (LookupError, TypeError):
        return None
