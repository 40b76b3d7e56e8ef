"""``--estimate`` of ``run``, ``ask`` and ``audit``: what would be read and paid for, with nothing sent."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output, preferences
from loop_runner.model import prices

if TYPE_CHECKING:
    from loop_runner.runs.estimate import Estimate

OPTION: Any = click.option(
    "--estimate", "is_estimate", is_flag=True, help="Send nothing: say what would be read and cost at least."
)


def show(result: Estimate, *, as_json: bool) -> int:
    """Print an estimate; 0 is the exit code."""
    if as_json:
        output.write_json(
            {**asdict(result), "requests": result.requests, "usd": result.usd, "prices": prices.source()}
        )
        return 0
    for line in _lines(result):
        output.write(line)
    return 0


def _lines(result: Estimate) -> Iterator[str]:
    skipped = f", {result.skipped:,} left out" if result.skipped else ""
    yield f"reads     {output.plural(result.texts, 'text')}, {output.size(result.bytes)}{skipped}"
    yield f"session   {result.session}"
    for row in result.rows:
        what = f"{output.plural(row.requests, 'request')} to {text.one_line(row.model)} ({row.kind})"
        tokens = f"about {row.input_tokens:,} tokens in, {row.output_tokens:,} out"
        yield f"at least  {what}: {tokens}, {_usd(row.usd)}"
    if not result.rows:
        yield "at least  no request"
    if len(result.rows) > 1:
        yield f"in all    {output.plural(result.requests, 'request')}, {_usd(result.usd)}"
    yield f"at most   {result.limits}" if result.session != "audit" else f"          {result.limits}"
    yield f"prices    {prices.source()}; nothing was sent"


def _usd(usd: float | None) -> str:
    return "price unknown" if usd is None else f"{usd:.4f} US dollars"


def of_task(task: lr.Task, flags: dict[str, Any]) -> int:
    """Show what a run of ``task`` would read and cost at least."""
    from loop_runner.runs import estimate

    return show(estimate.of_task(task.checked, os.environ), as_json=flags["as_json"])


def of_audit(paths: tuple[Path, ...], rules_file: Path, flags: dict[str, Any]) -> int:
    """Show what an audit would read and cost at least."""
    from loop_runner.audit import estimate
    from loop_runner.task import config

    result = estimate.of_audit(
        paths,
        rules_file,
        os.environ,
        model=flags["model"] or preferences.sub_model(),
        exclude=flags["exclude"],
        changed_since=flags["changed_since"],
        runs_folder=flags["runs"],
        settings=[config.parse_override(text) for text in flags["settings"]],
    )
    return show(result, as_json=flags["as_json"])
