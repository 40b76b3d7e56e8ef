"""``agent``: have an agent's command line work until a command accepts its work, without a task file."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from typing import Any

import click

import loop_runner as lr
from loop_runner.agents import clients
from loop_runner.cli import output
from loop_runner.cli.run import options, overrides, start_task
from loop_runner.text import shell


@click.command()
@click.argument("prompt")
@click.option(
    "--verify",
    "verify",
    multiple=True,
    required=True,
    metavar="COMMAND",
    help="Accept only if COMMAND exits with 0, in a copy of the agent's files.",
)
@click.option(
    "--with",
    "client",
    metavar="CLIENT",
    help="claude, codex, or any command that reads the prompt; default: the one that is logged in.",
)
@click.option("--max-passes", type=click.IntRange(1), default=20, show_default=True, help="Passes at most.")
@click.option(
    "--usd", type=click.FloatRange(0, min_open=True), help="Dollars at most, as the client reports them."
)
@click.option("--print-task", is_flag=True, help="Print the task file, and start nothing.")
@options("run_dir", "set", "report", "json", "display", "quiet", "verbose")
def agent(
    prompt: str,
    verify: tuple[str, ...],
    client: str | None,
    max_passes: int,
    usd: float | None,
    print_task: bool,
    settings: tuple[str, ...],
    **flags: Any,
) -> int:
    """Have an agent work on a copy of your last commit until COMMAND accepts its work.

    Each pass is a commit in the run folder. Your repository changes only by `loop-runner export`. The agent
    itself runs as you, outside any sandbox; COMMAND runs in the sandbox, on the committed files.

    \b
    Example:  loop-runner agent "Make the failing tests pass" --verify "pytest -q"
    """
    command = _command(client)
    task = lr.Task(
        prompt,
        verifiers=[_gate(line) for line in verify],
        budget={"passes": max_passes, **({} if usd is None else {"usd": usd})},
        session="command",
        agent={"command": command},
        settings=overrides(settings, flags),
    )
    if print_task:
        output.write(task.to_yaml().rstrip("\n"))
        return 0
    for line in _plan(command, verify, max_passes):
        output.note(line)
    return start_task(task, flags)


def _gate(line: str) -> dict[str, Any]:
    """A command in the agent's files: a copy that it may write in, as tests do."""
    run = ["sh", "-c", f"cd workspace && {line}"]
    return {"command": {"run": run, "writable": True}, "name": line[:80]}


def _command(client: str | None) -> list[str]:
    """The agent's command: a known client's, or the user's own words."""
    if client is None:
        client = clients.logged_in(os.environ) or _none()
    known = clients.CLIENTS.get(client)
    words = list(known.command) if known is not None else shlex.split(client)
    if not words or shutil.which(words[0]) is None:
        raise lr.ConfigError(
            f"there is no program {(words or [client])[0]!r}",
            why="it is the agent that does the work",
            hint="install it, or name another one with --with",
        )
    return words


def _none() -> str:
    raise lr.ConfigError(
        "no agent is installed and logged in",
        why=f"these were looked for: {', '.join(clients.CLIENTS)}",
        hint="log in to one of them, or name a command that reads a prompt: --with 'my-agent --flag'",
    )


def _plan(command: list[str], verify: tuple[str, ...], max_passes: int) -> Iterator[str]:
    yield f"agent: {shell(*command)}, as you, outside any sandbox"
    yield f"accepted when: {'; '.join(verify)} (exit code 0, on the committed files)"
    yield f"commits: one per pass, at most {max_passes}, in the run folder; `loop-runner export` fetches them"
