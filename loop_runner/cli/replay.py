"""``replay``: run a run again from its recorded replies."""

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
@click.option(
    "--recorded-verdicts", is_flag=True, help="Ask no gates: take the verdicts as they are recorded."
)
@click.option(
    "--inputs",
    "inputs_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where the inputs lie now, for a run that came from another machine.",
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
    """Run a run again from its recorded replies and say whether the same comes out, byte for byte.

    No model is asked and no key is needed. The model's code runs again, in the sandbox, in a folder of its
    own; gates are asked again. RUN is only read. Exit code 3 means that something differs; it is listed.

    \b
    Example:  loop-runner replay contract-review
    """
    run = lr.open(run_name)
    found = run.replay(to, asks_gates=not recorded_verdicts, inputs_dir=inputs_folder, trust=is_trusted)
    if as_json:
        output.write_json(_as_json(found, run.folder, to))
    else:
        for line in _lines(found, asks_gates=not recorded_verdicts):
            output.write(line)
        if to is not None:
            output.write(f"kept: {to}")
    return 0 if found.is_same else 3


def _lines(found: types.Replayed, *, asks_gates: bool) -> Iterator[str]:
    passes, turns = output.plural(found.passes, "pass", "passes"), output.plural(found.turns, "turn")
    replies = output.plural(found.replies, "recorded reply", "recorded replies")
    yield f"replayed {passes}, {turns} from {replies}; no model was asked"
    if found.is_same and found.other_versions:
        yield "SAME: every file of every commit that can be compared under these versions"
    elif found.is_same:
        yield f"SAME: every file of every commit, byte for byte (tree {found.tree[:10]})"
    elif not found.is_whole:
        yield f"STOPPED after pass {found.end.pass_number} turn {found.end.turn}: {found.reason}"
    else:
        yield "DIFFERS"
    if found.first is not None:
        yield f"the first difference is in {found.first.subject!r}:"
        yield from _difference_lines(found.at_first)
        if found.at_end and found.at_end != found.at_first:
            yield "at the end there differ:"
            yield from _difference_lines(found.at_end)
    yield from _version_lines(found)
    yield from _gate_lines(found, asks_gates=asks_gates)
    for each in found.missing[:_MAX_SHOWN]:
        place = f"pass {each.pass_number} turn {each.turn}"
        yield f"no reply is recorded: {place}, {each.kind} request: {text.one_line(each.prompt, 90)}"
    for key in found.taken:
        yield f"taken from the record: {_TAKEN[key]}"
    if found.outside:
        yield f"taken from the record: {output.plural(found.outside, 'commit')} of a fork or a person"


def _version_lines(found: types.Replayed) -> Iterator[str]:
    names = {"python": "Python", "loop_runner": "loop-runner"}
    for other in found.other_versions:
        recorded = text.one_line(other.recorded, 30) or "a version that is not recorded"
        name = names.get(other.name, text.name(other.name))
        yield f"other versions: {name} {recorded} wrote the record, {other.now or 'none'} replayed it"
    if found.not_compared:
        count = output.plural(len(found.not_compared), "file")
        yield f"not compared: the bytes of {count} of variables (names, types and previews were compared)"


def _difference_lines(differences: tuple[types.Difference, ...]) -> Iterator[str]:
    for each in differences[:_MAX_SHOWN]:
        yield f"  {each.kind:<7}  {text.name(each.path)}"
        if each.recorded or each.replayed:
            yield f"             recorded  {text.one_line(each.recorded, 100)}"
            yield f"             now       {text.one_line(each.replayed, 100)}"
    if (more := len(differences) - _MAX_SHOWN) > 0:
        yield f"  and {output.plural(more, 'more path')}; --json has them all"


def _gate_lines(found: types.Replayed, *, asks_gates: bool) -> Iterator[str]:
    if not asks_gates:
        yield "gates: not asked; the verdicts are those of the record"
        return
    asked = output.plural(found.gates_asked, "pass", "passes")
    if not found.verdicts:
        yield f"gates: asked again for {asked}, with the same verdicts"
        return
    yield f"gates: asked again for {asked}; they say otherwise (the replay went on as recorded):"
    for each in found.verdicts:
        words = each.now if each.now != each.recorded else f"{each.now}, in other words"
        yield f"  pass {each.pass_number}: recorded {each.recorded}, now {words}"
        yield f"    {text.one_line(each.detail, 160)}"


def _as_json(found: types.Replayed, folder: Path, to: Path | None) -> dict[str, Any]:
    data = asdict(found)
    first = found.first
    return {
        "run": str(folder),
        "status": "same" if found.is_same else "differs" if found.is_whole else "stopped",
        "reason": found.reason,
        "tree": found.tree,
        "pass": found.end.pass_number,
        "turn": found.end.turn,
        "passes": found.passes,
        "turns": found.turns,
        "replies": found.replies,
        "first_difference": None
        if first is None
        else {"pass": first.pass_number, "turn": first.turn, "paths": data["at_first"]},
        "differences": data["at_end"],
        "gates_asked": found.gates_asked,
        "verdicts": [
            {"pass": one.pass_number, "recorded": one.recorded, "now": one.now, "detail": one.detail}
            for one in found.verdicts
        ],
        "missing": [
            {
                "pass": one.pass_number,
                "turn": one.turn,
                "kind": one.kind,
                "model": one.model,
                "prompt": one.prompt,
            }
            for one in found.missing
        ],
        "taken_from_record": list(found.taken),
        "outside_commits": found.outside,
        "other_versions": data["other_versions"],
        "not_compared": list(found.not_compared),
        "kept": None if to is None else str(to),
    }
