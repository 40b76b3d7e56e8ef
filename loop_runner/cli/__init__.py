"""The command line: the only layer that prints, reads argv or exits.

Commands are loaded when they are called, so that ``loop-runner --help`` imports click and nothing heavy, and
``loop-runner hook stop``, which agent clients start at every stop, not even that.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # not from ``typing``, whose import costs a hook more than the rest of it
if TYPE_CHECKING:
    from loop_runner.cli.group import main_group as main_group
    from loop_runner.errors import LoopRunnerError


def __getattr__(name: str) -> object:
    if name == "main_group":
        from loop_runner.cli.group import main_group

        return main_group
    raise AttributeError(name)


def main(argv: list[str] | None = None) -> None:
    """Entry point: run the command and turn every error into a message and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:2] == ["hook", "stop"] and not {"-h", "--help"} & set(arguments):
        from loop_runner.hooks import stop

        sys.exit(stop.main())
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    import errno

    import click

    from loop_runner.cli.group import main_group
    from loop_runner.errors import LoopRunnerError

    try:
        result = main_group.main(args=arguments, prog_name="loop-runner", standalone_mode=False)
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except LoopRunnerError as error:
        code = _report(error, as_json="--json" in arguments)
    except Exception as error:  # noqa: BLE001 - the border: nothing may end in a bare traceback
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        code = _report(_disk_full(error), as_json="--json" in arguments) if is_full else _report_bug(error)
    else:
        code = result if isinstance(result, int) else 0
    return code


def _report(error: LoopRunnerError, *, as_json: bool) -> int:
    import contextlib

    from loop_runner.cli import output
    from loop_runner.errors import LoopRunnerError

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


def _disk_full(error: Exception) -> LoopRunnerError:
    """A full disk outside the run folder: the folder for temporary files, most likely."""
    from loop_runner.errors import EnvironmentFault

    return EnvironmentFault(
        f"the disk is full: {error}",
        why="the step that needed the space could not be taken; what was committed is safe",
        hint="free some space, also where temporary files go, then `loop-runner resume RUN`",
    )


def _report_bug(error: Exception) -> int:
    """Write the traceback to a file and name it: our own bugs are not the user's to read."""
    import tempfile
    import traceback

    import loop_runner
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
