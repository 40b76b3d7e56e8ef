"""``hook``: the stop hook for agent command lines, its installation, and loops inside a client's session."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from loop_runner.cli import output, signals

_CLIENTS = ("claude", "codex", "gemini", "cursor", "copilot")
_PROJECT = click.option(
    "--project", type=click.Path(path_type=Path), help="A project's settings instead of your own."
)
_DRY_RUN = click.option(
    "--dry-run", is_flag=True, help="Print what would change, as a diff, and change nothing."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="End with one JSON object on standard output.")


@click.group()
def hook() -> None:
    """Stop hooks for Claude Code, Codex, Gemini CLI, Cursor and Copilot CLI.

    \b
    Example:  loop-runner hook install claude --dry-run
    """


@hook.command()
def stop() -> None:
    """Called by the agent client before it stops: reads the event on stdin, prints the decision.

    Without a loop in the client's session it prints {} at once.

    \b
    Example:  echo '{"hook_event_name": "Stop", "session_id": "x"}' | loop-runner hook stop
    """
    from loop_runner.agents import stop as process

    process.main()


@hook.command()
@click.argument("client", type=click.Choice(_CLIENTS))
@_PROJECT
@_DRY_RUN
@_JSON
def install(client: str, project: Path | None, dry_run: bool, as_json: bool) -> None:
    """Add the stop hook to a client's settings; everything else in them stays as it is.

    \b
    Example:  loop-runner hook install codex --project .
    """
    from loop_runner.agents import install as settings

    change = settings.install(client, project, os.environ)
    _apply(change, dry_run=dry_run, as_json=as_json, done="installed", same="is installed already")
    if settings.is_switched_off(change):
        output.note(f"{change.path} sets disableAllHooks: true, so that no hook runs until it is removed")
    if project is not None:
        output.note("the hook runs the command `loop-runner`, which every user of this project needs on PATH")
    if client == "codex" and not as_json:
        output.note("Codex runs a hook only after you have trusted it: it asks at its next start")


@hook.command()
@click.argument("client", type=click.Choice(_CLIENTS))
@_PROJECT
@_DRY_RUN
@_JSON
def uninstall(client: str, project: Path | None, dry_run: bool, as_json: bool) -> None:
    """Remove the stop hook from a client's settings.

    \b
    Example:  loop-runner hook uninstall claude
    """
    from loop_runner.agents import install as settings

    change = settings.uninstall(client, project, os.environ)
    _apply(change, dry_run=dry_run, as_json=as_json, done="uninstalled", same="is not installed")


@hook.command()
@click.argument("task_file", metavar="TASK.yaml", type=click.Path(path_type=Path))
@click.option(
    "--session",
    "session_id",
    metavar="ID",
    help="The id of the client's session; default: the session of this shell (Claude Code, Codex).",
)
@click.option(
    "--folder", type=click.Path(path_type=Path), help="Folder the agent works in; default: the current one."
)
@click.option("--run-dir", type=click.Path(path_type=Path), help="Run folder; default runs/NAME.")
@_JSON
def start(
    task_file: Path, session_id: str | None, folder: Path | None, run_dir: Path | None, as_json: bool
) -> None:
    """Start a loop inside a client's session: from now on it ends when the verifiers accept its work.

    Prints the prompt and the verifiers' requirements, for the agent to read. The plugin's start command calls
    this.

    \b
    Example:  loop-runner hook start task.yaml
    """
    from loop_runner.runs import hook_loops

    begun = hook_loops.begin(task_file, os.environ, session_id=session_id, folder=folder, run_folder=run_dir)
    if as_json:
        output.write_json({"run": str(begun.run), "session": begun.session, "prompt": begun.prompt})
        return
    output.write(f"The loop {begun.name} is on; its run folder is {begun.run}.")
    output.write("Your work is checked whenever you want to stop. The task:\n")
    output.write(begun.prompt)


@hook.command()
@click.argument("run_name", metavar="RUN")
@_JSON
def cancel(run_name: str, as_json: bool) -> None:
    """End a loop: its client may stop, and whatever was committed stays.

    It creates the file STOP in the run folder; you can also do that by hand, at any time.

    \b
    Example:  loop-runner hook cancel runs/contract-review
    """
    from loop_runner.runs import hook_loops
    from loop_runner.runs.folders import find_run

    run = find_run(run_name).absolute()
    file = hook_loops.cancel(run, os.environ)
    if as_json:
        output.write_json({"run": str(run), "cancelled": True})
        return
    output.write(f"{run} is cancelled; to continue it, remove {file} and run `loop-runner resume`")


@hook.command()
@click.argument("run_name", metavar="RUN")
def serve(run_name: str) -> int:
    """Wait for a session's stops and decide about them, until its run ends. The hook starts this itself.

    \b
    Example:  loop-runner hook serve runs/contract-review
    """
    from loop_runner.cli.run import EXIT_CODES
    from loop_runner.runs import hook_loops
    from loop_runner.runs.folders import find_run

    run = find_run(run_name).absolute()
    is_asked = False

    def on_signal(_number: int, _frame: object) -> None:
        nonlocal is_asked
        is_asked = True

    with signals.handled(on_signal, output.note):
        outcome = hook_loops.serve(run, os.environ, lambda: is_asked)
    return EXIT_CODES[outcome.status]


def _apply(change: Any, *, dry_run: bool, as_json: bool, done: str, same: str) -> None:
    from loop_runner.agents import install as settings

    if not dry_run:
        settings.write(change)
    if as_json:
        summary = {"file": str(change.path), "changed": change.is_needed, "dry_run": dry_run}
        output.write_json(summary | {"diff": change.diff()})
    elif not change.is_needed:
        output.write(f"{change.path}: {same}")
    elif dry_run:
        output.write(change.diff().rstrip("\n"))
    else:
        output.write(f"{change.path}: {done}")
