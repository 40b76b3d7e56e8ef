"""``mcp``: the server for clients of the Model Context Protocol, and ``mcp install``."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import click

from loop_runner import plugins
from loop_runner.cli import output
from loop_runner.errors import ConfigError

_CLIENTS = ("claude", "codex", "cursor", "vscode")
_RUNS = click.option(
    "--runs",
    type=click.Path(path_type=Path, file_okay=False),
    default="runs",
    show_default=True,
    metavar="DIR",
)


@click.group(invoke_without_command=True)
@_RUNS
@click.option("--max-runs", type=click.IntRange(1), default=4, show_default=True, help="Runs at once.")
@click.option("--model", metavar="ID", help="Root model of runs that name none.")
@click.option(
    "--http", "port", type=click.IntRange(0, 65535), metavar="PORT", help="Streamable HTTP, not stdio."
)
@click.pass_context
def mcp(context: click.Context, runs: Path, max_runs: int, model: str | None, port: int | None) -> None:
    """Serve runs to a client of the Model Context Protocol, on standard input and output.

    Runs outlive the server. With --http it listens on 127.0.0.1, for this machine only.

    \b
    Example:  loop-runner mcp install claude
    """
    if context.invoked_subcommand is not None:
        return
    try:
        from loop_runner.mcp.server import server
    except ImportError as error:
        raise ConfigError(
            f"the MCP server is not installed: {error}",
            why="it needs the MCP SDK, which is an extra",
            hint=plugins.command_for("mcp"),
        ) from error
    made = server(runs, max_runs=max_runs, model=model)
    if port is None:
        made.run("stdio")
    else:
        output.note(f"listening on http://127.0.0.1:{port}/mcp")
        made.run("streamable-http", host="127.0.0.1", port=port)


@mcp.command()
@click.argument("client", type=click.Choice(_CLIENTS))
@_RUNS
@click.option(
    "--project",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=".",
    metavar="DIR",
    help="Project whose configuration gets the entry (not codex: it has one for the user).",
)
@click.option("--dry-run", is_flag=True, help="Show the change, and write nothing.")
def install(client: str, runs: Path, project: Path, dry_run: bool) -> int:
    """Write the entry that starts the server into a client's configuration.

    \b
    Example:  loop-runner mcp install claude --dry-run
    """
    from loop_runner.mcp.install import entry_for

    command = shutil.which("loop-runner") or str(Path(sys.executable).with_name("loop-runner"))
    change = entry_for(client, command, ["mcp", "--runs", str(runs.absolute())], project, os.environ)
    if not change.is_needed:
        output.write(f"{change.path} has the entry already")
    elif dry_run:
        output.write(change.diff().rstrip("\n"))
    else:
        change.write()
        output.write(f"wrote {change.path}; restart {client}, and ask it to call start_run")
    return 0
