"""The list of commands, and how each is loaded when it is called."""

from __future__ import annotations

import importlib

import click

import loop_runner

# name → (module, one line for the list). The line is written once more in each command's own help.
_COMMANDS = {
    "run": ("run", "Run a task file until its verifiers accept the answer."),
    "ask": ("run", "Ask a question about files, without a task file."),
    "check": ("check", "Check a task file and all that it names, and start nothing."),
    "init": ("init", "Write a folder for a task: research, legal, support, audit, ..."),
    "audit": ("audit", "Judge files by rules in plain words, also in CI."),
    "resume": ("run", "Go on with a run from its last commit."),
    "note": ("steer", "Leave a note for the model of a run."),
    "pause": ("steer", "Pause a run after its current turn."),
    "stop": ("steer", "Stop a run after its current turn."),
    "budget": ("steer", "Change the limits of a run while it is under way."),
    "approve": ("steer", "Approve the answer that a run waits with."),
    "reject": ("steer", "Reject it, with a reason for the next pass."),
    "status": ("look", "Say where a run, or each run here, stands."),
    "log": ("look", "Print the story of a run, pass by pass."),
    "verify": ("verify", "Run the verifiers of a finished run once more, anywhere."),
    "show": ("look", "Print the answer of a run, or what happened in one pass."),
    "export": ("export", "Put an agent's work into your repository, as a new branch."),
    "hook": ("hook", "Stop hooks for agent command lines: install, start, cancel."),
    "cost": ("cost", "Say what a run cost, by pass, model and kind of request."),
    "fork": ("travel", "Make a new run that goes on from a moment of another one."),
    "diff": ("compare", "Say what differs between two moments of a run."),
    "bisect": ("bisect", "Find the first pass whose answer fails a command."),
    "rewind": ("travel", "Take a run back to an earlier pass or turn."),
    "replay": ("replay", "Run a run again from its recorded replies, offline."),
    "fsck": ("fsck", "Check a run folder, say what was checked, and repair it."),
    "models": ("models", "List the models, or fetch a local one."),
    "ls": ("look", "The same as `status`."),
    "docs": ("docs", "Print a page of the documentation, or list the pages."),
    "help": ("docs", "Print the help of a command."),
    "doctor": ("doctor", "Check what this machine has and what is missing."),
}


# Every command is in one group; tests/cli/test_help.py checks it.
_GROUPS = {
    "Start": ("ask", "init", "check", "run", "resume"),
    "Look": ("status", "ls", "log", "show", "cost", "diff", "bisect"),
    "Steer a run": ("note", "pause", "stop", "budget", "approve", "reject"),
    "Check and use the result": ("verify", "export", "fsck"),
    "Go back and try otherwise": ("rewind", "fork", "replay"),
    "Audits and agents": ("audit", "hook"),
    "This machine": ("models", "doctor", "docs", "help"),
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
    epilog="Exit codes: 0 verified, 1 an audit found what fails it, 2 wrong usage or task file, 3 ended "
    "unverified or blocked, 4 a gate, the provider or the environment is broken, 5 internal error, 130 "
    "interrupted.",
)
@click.version_option(loop_runner.__version__, "-V", "--version", prog_name="loop-runner")
def main_group() -> None:
    """Run a model unattended until a verifier, not the model, says that the work is done.

    \b
    Try:  loop-runner ask "What is the default maxsize of functools.lru_cache?" /usr/lib/python3.11
    """
