"""``replay``: repeat a run from its recorded replies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output, trusting

if TYPE_CHECKING:
    from loop_runner import types

_MAX_SHOWN = 30
_TAKEN = {
    "sandbox": "the report on the sandbox (this machine's is another)",
    "usd_so_far": "the costs in US dollars (the prices known here are others)",
}


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--to", type=click.Path(path_type=Path), metavar="DIR", help="Keep the replay's run folder there."
)
@click.option("--recorded-verdicts", is_flag=True, help="Run no gates: use the recorded verdicts.")
@click.option(
    "--inputs",
    "inputs_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where the inputs are now, for a run that came from another machine.",
)
@trusting.TRUST
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def replay(
    run_name: str,
    to: Path | None,
    recorded_verdicts: bool,
    inputs_folder: Path | None,
    is_trusted: bool,
    as_json: bool,
) -> int:
    """Repeat a run from its recorded replies and report whether the result is the same, byte for byte.

    No model is asked and no key is needed. The model's code runs again, in the sandbox, in a separate
    folder; the gates run again. RUN is only read. Exit code 3 means that something differs; the differences
    are listed.

    \b
    Example:  loop-runner replay contract-review
    """
    run = lr.open(run_name)
    result = run.replay(to, asks_gates=not recorded_verdicts, inputs_dir=inputs_folder, trust=is_trusted)
    if as_json:
        output.write_json(_as_json(result, run.folder, to))
    else:
        for line in _lines(result, asks_gates=not recorded_verdicts):
            output.write(line)
        if to is not None:
            output.write(f"kept: {to}")
    return 0 if result.is_same else 3


def _lines(result: types.Replayed, *, asks_gates: bool) -> Iterator[str]:
    passes, turns = output.plural(result.passes, "pass", "passes"), output.plural(result.turns, "turn")
    replies = output.plural(result.replies, "recorded reply", "recorded replies")
    yield f"replayed {passes}, {turns} from {replies}; no model was asked"
    if result.is_same and result.other_versions:
        yield "SAME: every file of every commit that can be compared under these versions"
    elif result.is_same:
        yield f"SAME: every file of every commit, byte for byte (tree {result.tree[:10]})"
    elif not result.is_whole:
        yield f"STOPPED after pass {result.end.pass_number} turn {result.end.turn}: {result.reason}"
    else:
        yield "DIFFERS"
    if result.first is not None:
        yield f"the first difference is in {result.first.subject!r}:"
        yield from _difference_lines(result.at_first)
        if result.at_end and result.at_end != result.at_first:
            yield "differences at the end:"
            yield from _difference_lines(result.at_end)
    yield from _version_lines(result)
    yield from _gate_lines(result, asks_gates=asks_gates)
    yield from _reworded_lines(result.reworded)
    for item in result.missing[:_MAX_SHOWN]:
        place = f"pass {item.pass_number} turn {item.turn}"
        yield f"no reply is recorded: {place}, {item.kind} request: {text.one_line(item.prompt, 90)}"
    for key in result.taken:
        yield f"taken from the record: {_TAKEN[key]}"
    if result.outside:
        yield f"taken from the record: {output.plural(result.outside, 'commit')} of a fork or a person"


def _reworded_lines(reworded: tuple[types.Missing, ...]) -> Iterator[str]:
    if reworded:
        requests = output.plural(len(reworded), "request")
        first = reworded[0]
        yield f"{requests} to the model now in other words; the recorded replies were used, in their order"
        yield f"  the first: pass {first.pass_number} turn {first.turn}: {text.one_line(first.prompt, 90)}"


def _version_lines(result: types.Replayed) -> Iterator[str]:
    names = {"python": "Python", "loop_runner": "loop-runner"}
    for other in result.other_versions:
        recorded = text.one_line(other.recorded, 30) or "a version that is not recorded"
        name = names.get(other.name, text.name(other.name))
        yield f"other versions: {name} {recorded} wrote the record, {other.now or 'none'} replayed it"
    if result.not_compared:
        count = output.plural(len(result.not_compared), "file")
        yield f"not compared: the bytes of {count} of variables (names, types and previews were compared)"


def _difference_lines(differences: tuple[types.Difference, ...]) -> Iterator[str]:
    for difference in differences[:_MAX_SHOWN]:
        yield f"  {difference.kind:<7}  {text.name(difference.path)}"
        if difference.recorded or difference.replayed:
            yield f"             recorded  {text.one_line(difference.recorded, 100)}"
            yield f"             now       {text.one_line(difference.replayed, 100)}"
    if (more := len(differences) - _MAX_SHOWN) > 0:
        yield f"  and {output.plural(more, 'more path')}; --json has them all"


def _gate_lines(result: types.Replayed, *, asks_gates: bool) -> Iterator[str]:
    if not asks_gates:
        yield "gates: not run; the verdicts are the recorded ones"
        return
    passes = output.plural(result.gates_asked, "pass", "passes")
    if not result.verdicts:
        yield f"gates: run again for {passes}, with the same verdicts"
        return
    yield f"gates: run again for {passes}; their verdicts differ (the replay followed the record):"
    for verdict in result.verdicts:
        words = verdict.now if verdict.now != verdict.recorded else f"{verdict.now}, in other words"
        yield f"  pass {verdict.pass_number}: recorded {verdict.recorded}, now {words}"
        yield f"    {text.one_line(verdict.detail, 160)}"


def _as_json(result: types.Replayed, folder: Path, to: Path | None) -> dict[str, Any]:
    data = asdict(result)
    first = result.first
    return {
        "run": str(folder),
        "status": "same" if result.is_same else "differs" if result.is_whole else "stopped",
        "reason": result.reason,
        "tree": result.tree,
        "pass": result.end.pass_number,
        "turn": result.end.turn,
        "passes": result.passes,
        "turns": result.turns,
        "replies": result.replies,
        "first_difference": None
        if first is None
        else {"pass": first.pass_number, "turn": first.turn, "paths": data["at_first"]},
        "differences": data["at_end"],
        "gates_asked": result.gates_asked,
        "verdicts": [
            {"pass": item.pass_number, "recorded": item.recorded, "now": item.now, "detail": item.detail}
            for item in result.verdicts
        ],
        "missing": [_request(item) for item in result.missing],
        "reworded": [_request(item) for item in result.reworded],
        "taken_from_record": list(result.taken),
        "outside_commits": result.outside,
        "other_versions": data["other_versions"],
        "not_compared": list(result.not_compared),
        "kept": None if to is None else str(to),
    }


def _request(missing: types.Missing) -> dict[str, Any]:
    return {
        "pass": missing.pass_number,
        "turn": missing.turn,
        "kind": missing.kind,
        "model": missing.model,
        "prompt": missing.prompt,
    }
