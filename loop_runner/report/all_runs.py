"""The index of all runs in a folder: a page with a row for each, and a page for each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import loop_runner as lr
from loop_runner import text
from loop_runner.report import html, page, writing

_SUBFOLDER = "runs"  # so that no run's name is that of the index


def is_folder_of_runs(folder: Path) -> bool:
    """Whether ``folder`` is no run itself, and holds at least one."""
    return folder.is_dir() and not (folder / ".git").exists() and any(_runs(folder))


def write(folder: Path, target: Path) -> tuple[Path, int]:
    """Write the index of the runs in ``folder`` and a page for each; the path of the index, and how many."""
    runs = _runs(folder)
    return write_runs(runs, target, f"Runs in {folder.name}", str(folder)), len(runs)


def write_runs(runs: Sequence[Path], target: Path, title: str, source: str) -> Path:
    """Write an index of the run folders ``runs`` and a page for each. ``source`` says where they are."""
    rows = [_row(run, target) for run in runs]
    rows.sort(key=lambda row: (-(row["ended"] or 0.0), row["name"]))
    path = target / "index.html"
    writing.write(path, _page(rows, title, source))
    return path


def _runs(folder: Path) -> list[Path]:
    return sorted(
        entry
        for entry in folder.iterdir()
        if not entry.is_symlink() and (entry / ".git").is_dir() and (entry / "loop-runner.json").is_file()
    )


def _row(run: Path, target: Path) -> dict[str, Any]:
    try:
        record = lr.open(run).record()
    except lr.LoopRunnerError as error:
        return _unreadable(run, error.message)
    name = f"{run.name}.html"
    writing.write(target / _SUBFOLDER / name, page.render(record, back="../index.html"))
    ended = [entry.ended_at for entry in record.passes if entry.ended_at is not None]
    spend = record.status.spend if record.status else None
    return {
        "name": run.name,
        "href": f"{_SUBFOLDER}/{quote(name)}",
        "state": record.state,
        "reason": record.reason,
        "passes": len(record.passes),
        "cost": page.usd(spend.usd) if spend else "",
        "ended": max(ended, default=None),
        "answer": _answer(record),
    }


def _answer(record: lr.Record) -> str:
    if record.findings is not None:
        return text.plural(len(record.findings), "finding")
    return html.cut(record.answer, 400)


def _unreadable(run: Path, reason: str) -> dict[str, Any]:
    empty = {"href": "", "passes": "", "cost": "", "ended": None, "answer": ""}
    return {"name": run.name, "state": "unreadable", "reason": reason, **empty}


def _page(rows: Sequence[Mapping[str, Any]], title: str, source: str) -> str:
    states = sorted(Counter(row["state"] for row in rows).items())
    return page.document("index.html.j2", title, {"rows": rows, "states": states, "folder": source})
