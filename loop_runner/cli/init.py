"""``init``: the folder that a task starts with."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

import loop_runner as lr
from loop_runner.cli import output


@click.command()
@click.argument("type_name", metavar="TYPE", required=False)
@click.argument("folder", metavar="DIR", required=False, type=click.Path(path_type=Path))
@click.option("--list", "lists", is_flag=True, help="List the types.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def init(type_name: str | None, folder: Path | None, lists: bool, as_json: bool) -> int:
    """Write a folder for a task: task file, sample input, gates, a rehearsal without a model.

    Existing files are never changed. TYPE is research, legal, support, audit, timeline, extract or custom.

    \b
    Example:  loop-runner init legal contract-review
    """
    if lists:
        return _list(as_json=as_json)
    if type_name is None or folder is None:
        raise click.UsageError("it takes a TYPE and a DIR; `loop-runner init --list` shows the types.")
    written = lr.installed.new_task(type_name, folder)
    task = shlex.quote(str(folder / "task.yaml"))
    steps = [
        f"loop-runner run {task} --model script:rehearsal.yaml",
        f"loop-runner run {task}",
    ]
    if as_json:
        about = {"type": type_name, "folder": str(folder), "name": written.name, "files": list(written.files)}
        output.write_json({**about, "next": steps})
        return 0
    output.write(f"{folder}: a task of type {type_name}, named {written.name}")
    for name in written.files:
        output.write(f"  {name}")
    output.write(f"Next   {steps[0]}   (a rehearsal: no model, no key)")
    output.write(f"       {steps[1]}   (your model)")
    output.write(f"       then replace the sample with your own files: {folder / 'README.md'}")
    return 0


def _list(*, as_json: bool) -> int:
    types = lr.installed.task_types()
    if as_json:
        output.write_json({"types": [{"name": name, "about": about} for name, about in types.items()]})
    for name, about in () if as_json else types.items():
        output.write(f"{name:<9} {about}")
    return 0
