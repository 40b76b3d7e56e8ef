"""``fork`` and ``rewind``: continue from an earlier point, in another folder or in the same one."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from loop_runner.cli import output, trusting
from loop_runner.cli.run import finish, interruptible, options, overrides
from loop_runner.errors import ConfigError
from loop_runner.runs.folders import find_run, find_run_at, forked_run_folder
from loop_runner.task import named_file, prompt_size
from loop_runner.text import shell

_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")


@click.command()
@click.argument("source", metavar="RUN[@PASS[.TURN]]")
@click.argument("new", metavar="NEW")
@click.option(
    "--prompt",
    "prompt_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Another prompt, from FILE.",
)
@options("model", "sub_model", "passes", "turns", "set", "json")
@click.option("--run", "is_run", is_flag=True, help="Continue it at once, as `resume NEW` does.")
@trusting.TRUST
@options("display", "quiet", "verbose")
def fork(
    source: str,
    new: str,
    prompt_file: Path | None,
    settings: tuple[str, ...],
    is_run: bool,
    is_trusted: bool,
    **flags: Any,
) -> int:
    """Start a new run from any point of an existing one.

    RUN@3 is the end of pass 3, RUN@3.7 its turn 7, RUN the latest point. The history up to there is copied;
    RUN itself is not changed and may be active. The cost of the copied passes counts against the fork's
    budget. NEW is a path, or a name under runs/.

    \b
    Example:  loop-runner fork contract-review@3 stricter --prompt stricter.md
    """
    from loop_runner.audit import plan
    from loop_runner.runs import fork as forking

    folder, point = find_run_at(source)
    plan.refuse_other_format(folder)
    changed = [*_prompt(prompt_file), *overrides(settings, flags)]
    is_own = trusting.is_own(folder, is_trusted=is_trusted)
    if is_run and not is_own:
        command = shell("loop-runner", "fork", source, new, "--run")
        trusting.require(folder, changed, is_trusted=False, command=command)
    to = forked_run_folder(new)
    mark = partial(trusting.mark_unplaced, to) if is_own else None
    made = forking.fork(folder, point, to, changed, before_placing=mark)
    if is_run:
        from loop_runner.runs import start as runs

        with interruptible(flags, made.folder) as context:
            outcome = runs.resume(made.folder, context)
        return finish(outcome, made.folder, flags)
    _show_fork(made, folder, as_json=flags["as_json"])
    return 0


def _prompt(file: Path | None) -> list[tuple[str, str]]:
    if file is None:
        return []
    try:
        prompt = named_file.read_text(file)
    except OSError as error:
        raise ConfigError(
            f"the prompt {file} cannot be read: {error}",
            why="every pass starts with the prompt, word for word",
            hint="a prompt file is UTF-8 text",
        ) from error
    prompt_size.refuse_oversize(len(prompt.encode()), f"the prompt {file}")
    return [("prompt", prompt)]


def _show_fork(made: Any, source: Path, *, as_json: bool) -> None:
    from loop_runner.workspace import points

    if as_json:
        at = made.source
        output.write_json(
            {
                "run": str(made.folder),
                "commit": made.commit,
                "from": {"run": str(source), "commit": at.commit, "pass": at.pass_number, "turn": at.turn},
                "changed": list(made.changed),
            }
        )
        return
    output.write(f"{made.folder} continues from {points.describe(made.source)} of {source}")
    output.write(f"changed: {', '.join(made.changed) or 'nothing'}")
    output.write(f"Next   loop-runner resume {shell(made.folder)}")


@click.command()
@click.argument("run_name", metavar="RUN")
@click.argument("moment", metavar="PASS[.TURN]")
@_JSON
def rewind(run_name: str, moment: str, as_json: bool) -> None:
    """Take a run back to the end of a pass, or to a turn; `resume` continues from there.

    Nothing is lost: what the run leaves is kept under a ref, and `rewind RUN rewound/N` takes the run back
    to it. 0 is the start. The dropped turns were paid for, so they still count against the budget.

    \b
    Example:  loop-runner rewind contract-review 3.7
    """
    from loop_runner.runs import cost
    from loop_runner.runs import fork as forking
    from loop_runner.workspace import points
    from loop_runner.workspace.history import History
    from loop_runner.workspace.workspace import Workspace

    folder = find_run(run_name)
    point = points.parse(moment)
    if point is None:
        raise ConfigError(
            f"{moment!r} is not a point of a run",
            why="a run goes back to the end of a pass or to a turn",
            hint="for example 3 (the end of pass 3), 3.7 (its turn 7), 0 (the start), rewound/1",
        )
    with History(folder) as history:
        forking.frozen_task(history, "HEAD")  # refuses runs of agents, whose files are elsewhere
        price = cost.price_in(history)
    with Workspace.open(folder) as workspace:
        left = workspace.head()
        to = workspace.find(point)
        if to.commit == left.commit:
            raise ConfigError(f"{folder} is at {moment} already", why="there is nothing to go back from")
        kept = workspace.rewind(to.commit, price)
        to = workspace.head()
    name = kept.removeprefix("refs/loop-runner/")
    if as_json:
        output.write_json(
            {
                "run": str(folder),
                "commit": to.commit,
                "pass": to.pass_number,
                "turn": to.turn,
                "dropped": {
                    "commit": left.commit,
                    "pass": left.pass_number,
                    "turn": left.turn,
                    "ref": kept,
                    "name": name,
                },
            }
        )
        return
    output.write(f"{folder} is back at {points.describe(to)}")
    output.write(f"kept: {points.describe(left)} as {kept}")
    output.write(f"Next   loop-runner resume {shell(folder)}")
    output.write(f"       loop-runner rewind {shell(folder)} {name}   (undoes this)")
