"""``diff``: the differences between two points of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output

if TYPE_CHECKING:
    from loop_runner import types

_MAX_UNSURE = 20
_MAX_SHOWN_LINES = 200  # of one file's difference


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def diff(run_name: str, before: str, after: str, as_json: bool) -> None:
    """Show what differs between two points of a run: answer, files, variables, spend.

    A and B are PASS (the end of a pass), PASS.TURN, 0 (the start), `head`, or rewound/N.

    \b
    Example:  loop-runner diff contract-review 1 2.4
    """
    run = lr.open(run_name)
    comparison = run.diff(before, after)
    if as_json:
        output.write_json({"run": str(run.folder), **_as_json(comparison)})
        return
    for line in _lines(comparison):
        output.write(line)


# ── for a person ────────────────────────────────────────────────────────────────────────────────────


def _lines(comparison: types.Comparison) -> Iterator[str]:
    yield f"from {comparison.before} to {comparison.after}"
    yield "\nAnswer" if comparison.answer else "\nAnswer: the same"
    yield from _indented(comparison.answer)
    yield "\nFiles" if comparison.files else "\nFiles: the same"
    for file in comparison.files:
        yield from _file_lines(file)
    yield "\nVariables" if comparison.variables else "\nVariables: the same"
    for variable in comparison.variables:
        yield from _variable_lines(variable)
    if comparison.unsure:
        names = ", ".join(text.one_line(name) for name in comparison.unsure[:_MAX_UNSURE])
        more = (
            f" and {len(comparison.unsure) - _MAX_UNSURE} more"
            if len(comparison.unsure) > _MAX_UNSURE
            else ""
        )
        yield f"  look the same, but are stored together with others that changed: {names}{more}"
    yield f"\nSpent in between: {_spent(comparison.spend)}"


def _indented(lines: tuple[str, ...]) -> Iterator[str]:
    for line in lines[:_MAX_SHOWN_LINES]:
        yield f"  {line}"
    if (more := len(lines) - _MAX_SHOWN_LINES) > 0:
        yield f"  and {output.plural(more, 'more line')}; --json has them all"


def _file_lines(file: types.FileChange) -> Iterator[str]:
    yield f"  {file.kind:<7}  {text.name(file.path.removeprefix('workspace/'))}"
    yield from (f"  {line}" for line in _indented(file.diff[2:]))  # kind and name are printed already


def _variable_lines(change: types.VariableChange) -> Iterator[str]:
    if change.before is None or change.after is None:
        yield f"  {change.kind:<7}  {_described(change.name, change.after or change.before)}"
        return
    yield f"  changed  {_described(change.name, change.before)}"
    after = _described(change.name, change.after)
    same = ", with the same preview" if after == _described(change.name, change.before) else ""
    yield f"     now   {after}{same}"


def _described(name: str, variable: types.Variable | None) -> str:
    assert variable is not None
    status = "" if variable.status == "saved" else f" ({variable.status})"
    size = f", {output.size(variable.size)}" if variable.size else ""
    what = f"{text.one_line(name)}: {text.one_line(variable.type)}{size}{status}"
    return f"{what}  {text.one_line(variable.preview)}"


def _spent(spend: types.Spend) -> str:
    parts = [
        output.plural(spend.passes, "pass", "passes"),
        output.plural(spend.turns, "turn"),
        output.plural(spend.subcalls, "sub-call"),
        f"{spend.seconds:.1f} s",
        output.cost(spend),
    ]
    return ", ".join(parts)


# ── for a program ───────────────────────────────────────────────────────────────────────────────────


def _as_json(comparison: types.Comparison) -> dict[str, Any]:
    return {
        "from": _point_as_json(comparison.before),
        "to": _point_as_json(comparison.after),
        "answer": "\n".join(comparison.answer),
        "files": [
            {"kind": file.kind, "path": file.path, "diff": "\n".join(file.diff)} for file in comparison.files
        ],
        "variables": [
            {
                "name": change.name,
                "kind": change.kind,
                "before": _variable_as_json(change.before),
                "after": _variable_as_json(change.after),
            }
            for change in comparison.variables
        ],
        "unsure": list(comparison.unsure),
        **output.spend_as_json(comparison.spend),
    }


def _point_as_json(point: types.Checkpoint) -> dict[str, Any]:
    return {"commit": point.commit, "pass": point.pass_number, "turn": point.turn}


def _variable_as_json(variable: types.Variable | None) -> dict[str, Any] | None:
    if variable is None:
        return None
    return {
        "type": variable.type,
        "size": variable.size,
        "preview": variable.preview,
        "status": variable.status,
        "sha256": variable.blob,
    }
