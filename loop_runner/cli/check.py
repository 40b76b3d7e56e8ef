"""``check``: everything about a task that can be checked before its first request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

import loop_runner as lr
from loop_runner.cli import output
from loop_runner.cli.run import options, task_overrides
from loop_runner.text import shell


@click.command()
@click.argument("task_file", metavar="TASK.yaml", type=click.Path(path_type=Path))
@click.option("--input", "paths", multiple=True, metavar="PATH", help="Inputs instead of the task's own.")
@options("exclude", "model", "sub_model", "passes", "turns", "set", "json")
def check(task_file: Path, paths: tuple[str, ...], settings: tuple[str, ...], **flags: Any) -> int:
    """Check a task file, its inputs, models and verifiers, without starting or paying for anything.

    `run` checks the same before its first request. All faults are reported at once (exit code 2).

    \b
    Example:  loop-runner check examples/first-rejection/task.yaml
    """
    given = task_overrides(paths, settings, flags)
    result = lr.Task.from_file(task_file, settings=given).check()
    step = shell("loop-runner", "run", task_file, *_as_given(paths, settings, flags))
    if flags["as_json"]:
        output.write_json(
            {
                "task_file": str(task_file),
                "ok": True,
                "model": result.model,
                "sub_model": result.sub_model,
                "texts": result.texts,
                "bytes": result.bytes,
                "verifiers": list(result.verifiers),
                "next": [step],
            }
        )
        return 0
    output.write(f"{task_file}: no fault found")
    output.write(f"  model: {result.model or 'the agent brings its own'}")
    output.write(f"  inputs: {output.plural(result.texts, 'text')}, {output.size(result.bytes)}")
    for name in result.verifiers:
        output.write(f"  verifier: {name}")
    output.write(f"Next   {step}")
    return 0


def _as_given(paths: tuple[str, ...], settings: tuple[str, ...], flags: dict[str, Any]) -> Iterator[object]:
    """The options of `check`, for a `run` of the same task."""
    for option, values in (
        ("--input", paths),
        ("--exclude", flags["exclude"]),
        *(
            (f"--{name.replace('_', '-')}", [flags[name]])
            for name in ("model", "sub_model", "passes", "turns")
        ),
        ("--set", settings),
    ):
        for value in values:
            if value is not None:
                yield from (option, value)
