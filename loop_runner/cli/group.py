"""The list of commands, and how each is loaded when it is called."""

from __future__ import annotations

import importlib
import os

import click

import loop_runner

# name → (module, one line for the list). The line is written once more in each command's own help.
_COMMANDS = {
    "run": ("run", "Run a task file until its verifiers accept the answer."),
    "ask": ("run", "Ask a question about files, without a task file."),
    "check": ("check", "Check a task file and everything it names, without starting anything."),
    "init": ("init", "Write a folder for a task: research, legal, support, audit, ..."),
    "audit": ("audit", "Judge files by rules in plain words, also in CI."),
    "resume": ("run", "Continue a run from its last commit."),
    "note": ("steer", "Leave a note for the model of a run."),
    "pause": ("steer", "Pause a run after its current turn."),
    "stop": ("steer", "Stop a run after its current turn."),
    "budget": ("steer", "Change the limits of a run while it is active."),
    "approve": ("steer", "Approve the answer that a run is waiting with."),
    "reject": ("steer", "Reject it, with a reason for the next pass."),
    "status": ("run_list", "Show the state of a run, or of every run here."),
    "runs": ("run_list", "List the runs in a folder, the newest first."),
    "watch": ("watch_command", "Show all runs, or one run, on the whole terminal."),
    "clean": ("run_list", "Remove old run folders; asks first."),
    "log": ("look", "Print the story of a run, pass by pass."),
    "verify": ("verify", "Run the verifiers of a finished run again, on any machine."),
    "show": ("look", "Print the answer of a run, or what happened in one pass."),
    "export": ("export", "Put an agent's work into your repository, or write a transcript."),
    "fleet": ("fleet", "Run one task for many inputs, on one machine or on several."),
    "agent": ("agent", "Have an agent work until a command accepts its work."),
    "hook": ("hook", "Stop hooks for agent command lines: install, start, cancel."),
    "report": ("write_report", "Write a run, or all runs in a folder, as HTML."),
    "cost": ("cost", "Show what a run cost, by pass, model and kind of request."),
    "fork": ("travel", "Start a new run from any point of an existing one."),
    "diff": ("compare", "Show what differs between two points of a run."),
    "bisect": ("bisect", "Find the first pass whose answer fails a command."),
    "rewind": ("travel", "Take a run back to an earlier pass or turn."),
    "replay": ("replay", "Repeat a run from its recorded replies, offline."),
    "fsck": ("fsck", "Check a run folder, report the results, and repair it."),
    "serve": ("serve", "Serve runs over HTTP, for clients of the OpenAI and Anthropic APIs."),
    "mcp": ("mcp", "Serve runs to clients of the Model Context Protocol."),
    "models": ("models", "List the models, or fetch a local one."),
    "ls": ("run_list", "The same as `status`."),
    "docs": ("docs", "Print a page of the documentation, or list the pages."),
    "help": ("docs", "Print the help of a command."),
    "completion": ("completing", "Print the code that completes commands, runs and models in a shell."),
    "config": ("preferences", "Show the settings of the user and the project."),
    "doctor": ("doctor", "Check what this machine has and what is missing."),
}


# Every command is in one group; tests/cli/test_help.py checks it.
_GROUPS = {
    "Start": ("ask", "init", "check", "run", "resume"),
    "Look": ("status", "ls", "runs", "watch", "log", "show", "report", "cost", "diff", "bisect"),
    "Steer a run": ("note", "pause", "stop", "budget", "approve", "reject"),
    "Check and use the result": ("verify", "export", "fsck"),
    "Go back and branch off": ("rewind", "fork", "replay"),
    "Audits, agents, many runs": ("audit", "agent", "hook", "fleet"),
    "Other programs": ("serve", "mcp"),
    "This machine": ("clean", "models", "config", "completion", "doctor", "docs", "help"),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"loop_runner.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, "help_command" if cmd_name == "help" else cmd_name)
        assert isinstance(command, click.Command)
        if os.environ.get("_LOOP_RUNNER_COMPLETE"):  # a shell asks: importing what it needs takes a while
            from loop_runner.cli.completing import with_completion

            return with_completion(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, names in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, _COMMANDS[name][1]) for name in names])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1, cutoff=0.65)
            if near and args[0] not in _COMMANDS:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error
            raise


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 verified; 1 the audit has findings at or above --fail-on; 2 wrong usage or task "
    "file; 3 ended unverified or blocked; 4 a gate, the provider or the environment is broken; 5 internal "
    "error; 130 interrupted.",
)
@click.version_option(loop_runner.__version__, "-V", "--version", prog_name="loop-runner")
def main_group() -> None:
    """Run a model unattended until a verifier, not the model, says that the work is done.

    \b
    Try:  loop-runner ask "What is the default maxsize of functools.lru_cache?" /usr/lib/python3.11
    """
