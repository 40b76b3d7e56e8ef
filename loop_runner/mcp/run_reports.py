"""What the tools return, as data with a schema. Small: a client reads it into its context at each call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

import loop_runner as lr

_ACTIVE = ("running", "queued", "paused", "waiting")
_MAX_REASON_CHARS = 500


class Report(BaseModel):
    """Where a run is."""

    run: str = Field(description="The id of the run, for the other tools.")
    state: str = Field(description="running, queued, verified, unverified, broken, interrupted, failed, ...")
    verified: bool = Field(description="True only if every verifier accepted the committed answer.")
    pass_number: int = 0
    turn: int = 0
    activity: str = ""
    reason: str = Field("", description="Why it is in this state.")
    usd: float | None = None
    tokens: int = 0
    next: str = Field("", description="What to do next.")


class Part(BaseModel):
    """A part of a run, as text."""

    run: str
    state: str
    verified: bool
    part: str
    text: str
    dropped_chars: int = Field(
        0, description="How much of the text is left out; ask with a larger max_chars."
    )


class Listed(BaseModel):
    """Runs, the newest first."""

    runs: list[Report]


class Estimate(BaseModel):
    """What a run would read, before anything is sent."""

    files: int
    bytes: int
    tokens: int = Field(description="Of all texts, at four bytes per token; a run reads a part of them.")
    skipped: list[str] = []
    advice: str


def report(status: lr.Status) -> Report:
    """The report of a status."""
    run = status.folder.name
    return Report(
        run=run,
        state=status.state,
        verified=status.state == "verified",
        pass_number=status.pass_number,
        turn=status.turn,
        activity=str(status.activity),
        reason=status.reason[:_MAX_REASON_CHARS],
        usd=status.spend.usd,
        tokens=status.spend.usage.total_tokens,
        next=_next(run, status.state),
    )


def _next(run: str, state: str) -> str:
    if state in _ACTIVE:
        return f"The run continues without you. Call run_status with run={run!r} in a minute."
    if state == "verified":
        return f"Call run_result with run={run!r} to read the verified answer."
    return f"Call run_result with run={run!r}: the answer is NOT verified. `reason` says why."


def cut(run: lr.Run, state: str, part: str, text: str, max_chars: int) -> Part:
    """A part of a run, at most ``max_chars`` of it."""
    dropped = max(len(text) - max_chars, 0)
    return Part(
        run=run.folder.name,
        state=state,
        verified=state == "verified",
        part=part,
        text=text[:max_chars],
        dropped_chars=dropped,
    )


def estimate(inputs: list[str]) -> Estimate:
    """Count the files below ``inputs``. Documents count with their own size, not with that of their text."""
    count, size, skipped = 0, 0, []
    for name in inputs:
        path = Path(name).expanduser()
        result = [path] if path.is_file() else [item for item in path.rglob("*") if _is_counted(item, path)]
        skipped += [] if result else [name]
        count += len(result)
        size += sum(item.stat().st_size for item in result)
    tokens = size // 4
    advice = "fits into one window: a run is slower than reading it" if tokens < 50_000 else "use start_run"
    return Estimate(files=count, bytes=size, tokens=tokens, skipped=skipped, advice=advice)


def _is_counted(path: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.is_file() and not path.is_symlink()


def parts_of(run: lr.Run, part: str) -> str:
    """The answer, the citations, the verdicts, the log or the proof of a run, as text."""
    import json

    if part == "answer":
        return run.answer
    if part == "log":
        return "\n".join(_line(event) for event in run.events() if event.text or event.turn)
    if part == "proof":
        return json.dumps(run.proof, indent=1)
    result: dict[str, Any] = run.wait(timeout=0).to_dict()
    return json.dumps(result[part], indent=1, ensure_ascii=False)


def _line(event: lr.Event) -> str:
    text = " ".join(event.text.split())[:300]
    return f"{event.seq} pass {event.pass_number} turn {event.turn} {event.kind}: {text}"
