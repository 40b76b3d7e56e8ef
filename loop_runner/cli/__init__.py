"""The command line: the only layer that prints, reads argv or exits.

Commands are loaded when they are called, so that ``loop-runner --help`` imports click and nothing heavy.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys

import click

import loop_runner
from loop_runner import failpoints
from loop_runner.errors import EnvironmentFault, LoopRunnerError

# name → (module, one line for the list). The line is written once more in each command's own help.
_COMMANDS = {
    "run": ("run", "Run a task file until its verifiers accept the answer."),
    "ask": ("run", "Ask a question about files, without a task file."),
    "resume": ("run", "Go on with a run from its last commit."),
    "status": ("look", "Say where a run, or each run here, stands."),
    "log": ("look", "Print the story of a run, pass by pass."),
    "verify": ("verify", "Run the verifiers of a finished run once more, anywhere."),
    "show": ("look", "Print the answer of a run, or what happened in one pass."),
    "cost": ("cost", "Say what a run cost, by pass, model and kind of request."),
    "fork": ("travel", "Make a new run that goes on from a moment of another one."),
    "diff": ("compare", "Say what differs between two moments of a run."),
    "bisect": ("bisect", "Find the first pass whose answer fails a command."),
    "rewind": ("travel", "Take a run back to an earlier pass or turn."),
    "replay": ("replay", "Run a run again from its recorded replies, offline."),
    "fsck": ("fsck", "Check a run folder, say what was checked, and repair it."),
    "models": ("models", "List the models, or fetch a local one."),
    "doctor": ("doctor", "Check what this machine has and what is missing."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"loop_runner.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            import difflib

            near = difflib.get_close_matches(args[0], _COMMANDS, n=1)
            if near and args[0] not in _COMMANDS:
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from error
            raise


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 verified, 2 wrong usage or task file, 3 ended unverified, 4 a gate, the provider "
    "or the environment is broken, 5 internal error, 130 interrupted.",
)
@click.version_option(loop_runner.__version__, prog_name="loop-runner")
def main_group() -> None:
    """Run a model unattended until a verifier, not the model, says that the work is done.

    \b
    Try:  loop-runner ask "What is the default maxsize of functools.lru_cache?" /usr/lib/python3.11
    """


def main(argv: list[str] | None = None) -> None:
    """Entry point: run the command and turn every error into a message and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE))
        result = main_group.main(args=arguments, prog_name="loop-runner", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except LoopRunnerError as error:
        code = _report(error, as_json="--json" in arguments)
    except Exception as error:  # noqa: BLE001 - the border: nothing may end in a bare traceback
        is_machines = isinstance(error, OSError) and error.errno in _MACHINES
        fault = _refused_by_machine(error) if is_machines else None
        code = _report(fault, as_json="--json" in arguments) if fault else _report_bug(error)
    else:
        code = result if isinstance(result, int) else 0
    sys.exit(code)


def _report(error: LoopRunnerError, *, as_json: bool) -> int:
    from loop_runner.cli import output

    output.note(f"loop-runner: {error}")
    if as_json:
        with contextlib.suppress(LoopRunnerError):  # standard output itself may be what is broken
            output.write_json(
                {
                    "status": "error",
                    "message": error.message,
                    "why": error.why,
                    "hint": error.hint,
                    "exit_code": error.exit_code,
                }
            )
    return error.exit_code


# What a machine refuses wherever it is asked: not a bug of ours.
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MACHINES = _FULL | {errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}


def _refused_by_machine(error: Exception) -> LoopRunnerError:
    """A fault outside the run folder: in the folder for temporary files, most likely."""
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return EnvironmentFault(
            f"the machine refused a step of the run: {error}",
            why="the step could not be taken; what was committed is safe",
            hint="see what is wrong (the disk, memory, open files), then `loop-runner resume RUN`",
        )
    return EnvironmentFault(
        f"the disk is full: {error}",
        why="the step that needed the space could not be taken; what was committed is safe",
        hint="free some space, also where temporary files go, then `loop-runner resume RUN`",
    )


def _report_bug(error: Exception) -> int:
    """Write the traceback to a file and name it: our own bugs are not the user's to read."""
    import tempfile
    import traceback

    from loop_runner.cli import output

    details = [f"loop-runner {loop_runner.__version__}, Python {sys.version}\n"]
    details += traceback.format_exception(error)
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="loop-runner-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
        ) as log:
            log.writelines(details)
        where = log.name
    except OSError:
        output.note("".join(details))
        where = "the lines above"
    output.note(
        f"loop-runner: internal error: {type(error).__name__}: {error}\n"
        f"  why it matters: this is a bug of ours; what was committed is safe\n"
        f"  what to do: send {where} with a bug report; `loop-runner resume RUN` goes on"
    )
    return 5
