"""What a fleet has come to: counts, money and the jobs that need a person; and the merged results file."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_runner import ConfigError
from loop_runner.fleet.jobs import Job
from loop_runner.fleet.states import JobState, Money
from loop_runner.fleet.stores import Kept

_COLUMNS = ("job", "status", "answer", "reason", "passes", "turns", "tokens", "usd")


@dataclass(frozen=True, slots=True)
class Summary:
    """The states of the jobs of a fleet, in the order of the fleet file."""

    states: Mapping[str, JobState]
    money: Money

    @property
    def counts(self) -> Mapping[str, int]:
        """How many jobs have each status; paused ones count as ``paused`` while they do not run."""
        return Counter(
            "paused"
            if state.is_paused and state.status != "running" and not state.has_ended
            else state.status
            for state in self.states.values()
        )

    @property
    def is_verified(self) -> bool:
        """Whether every job has a verified result."""
        return all(state.status == "verified" for state in self.states.values())

    def workers(self) -> Mapping[str, tuple[str, ...]]:
        """The jobs that each worker holds."""
        result: dict[str, list[str]] = {}
        for name, state in self.states.items():
            if state.status == "running":
                result.setdefault(state.worker, []).append(name)
        return {worker: tuple(names) for worker, names in sorted(result.items())}


def summarize(jobs: Sequence[Job], kept: Mapping[str, Kept]) -> Summary:
    """The jobs of a fleet with the states that its store holds. Raises ``ConfigError`` for a changed job."""
    states = {job.name: kept[job.name].state if job.name in kept else JobState() for job in jobs}
    for job in jobs:
        if states[job.name].digest not in ("", job.digest()):
            raise ConfigError(
                f"the values of the job {job.name!r} have changed since it was begun",
                why="its result would be of the old values",
                hint="give the changed job another name, or undo the change",
            )
    return Summary(states, Money.of(item.state for item in kept.values()))


def write_results(path: Path, jobs: Sequence[Job], kept: Mapping[str, bytes]) -> int:
    """Write the results that there are, in the order of the jobs, as a whole; how many."""
    rows = [json.loads(kept[job.name]) for job in jobs if job.name in kept]
    temporary = path.with_name(f".{path.name}.new")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        _write_parquet(temporary, rows)
    else:
        text = _csv(rows) if path.suffix == ".csv" else "".join(f"{_line(row)}\n" for row in rows)
        temporary.write_text(text, encoding="utf-8", newline="")
    temporary.replace(path)
    return len(rows)


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    target = io.StringIO(newline="")
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([*_COLUMNS, "values"])
    for row in rows:
        writer.writerow([*(_cell(row.get(name)) for name in _COLUMNS), _line(row.get("values", {}))])
    return target.getvalue()


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe: a model wrote it."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError(
            "results in Parquet need pyarrow, which is not installed",
            why="the format is written by that package",
            hint="pip install pyarrow, or let `results` end in .jsonl or .csv",
        ) from error
    plain = [{**row, "values": _line(row.get("values", {}))} for row in rows]
    parquet.write_table(pa.Table.from_pylist(plain), path)
