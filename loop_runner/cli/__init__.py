"""The command line: the only layer that prints, reads argv or exits.

Commands are loaded when they are called, so that ``loop-runner --help`` imports click and nothing heavy, and
``loop-runner hook stop``, which agent clients start at every stop, not even that.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # not from ``typing``, whose import costs a hook more than the rest of it
if TYPE_CHECKING:
    import click

    from loop_runner import LoopRunnerError
    from loop_runner.cli.group import main_group as main_group


def __getattr__(name: str) -> object:
    if name == "main_group":
        from loop_runner.cli.group import main_group

        return main_group
    raise AttributeError(name)


def main(argv: list[str] | None = None) -> None:
    """Entry point: run the command and turn every error into a message and an exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:2] == ["hook", "stop"] and not {"-h", "--help"} & set(arguments):
        from loop_runner.agents import stop

        sys.exit(stop.main())
    sys.exit(_run(arguments))


def _run(arguments: list[str]) -> int:
    import gc
    import os

    gc.set_threshold(100_000, 20, 100)  # imported objects stay: scanning them repeatedly took 8 %
    import click

    import loop_runner as lr
    from loop_runner import failpoints, redaction
    from loop_runner.cli import output, preferences, signals
    from loop_runner.cli.group import main_group

    output.make_streams_safe()
    signals.collect_exit_codes()
    redaction.learn(os.environ)
    try:
        failpoints.arm(os.environ.get(failpoints.VARIABLE))
        _refuse_empty(arguments)
        preferences.apply(arguments)
        result = main_group.main(args=arguments, prog_name="loop-runner", standalone_mode=False)
    except lr.StoppedError as error:
        code = error.exit_code  # before there was a run, or after its end
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as error:
        code = _show(error)
    except lr.LoopRunnerError as error:
        code = 130 if _came_of_interrupt(error) else _report(error, as_json="--json" in arguments)
    except Exception as error:  # noqa: BLE001 - the border: nothing may end in a bare traceback
        if _came_of_interrupt(error):
            return 130
        fault = _refused_by_machine(error)
        code = _report(fault, as_json="--json" in arguments) if fault else _report_bug(error)
    else:
        code = result if isinstance(result, int) else 0
    return code


def _refuse_empty(arguments: list[str]) -> None:
    """An empty argument is a shell variable without a value; as a path it would mean this folder."""
    from loop_runner import ConfigError

    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "" in own:
        before = " ".join(own[: own.index("")])
        raise ConfigError(
            f"the argument after `loop-runner {before}` is empty",
            why="no option and no path takes an empty text, and a guess could read or write the wrong folder",
            hint="give it a value; in a script, see that the variable there has one",
        )


def _show(error: click.ClickException) -> int:
    """Print click's message about a wrong command line; it can quote any argument."""
    import io

    from loop_runner.cli import output

    text = io.StringIO()
    error.show(file=text)
    output.note(text.getvalue().rstrip("\n"))
    return error.exit_code


def _came_of_interrupt(error: BaseException) -> bool:
    """Whether a second Ctrl-C was being raised when something failed while it was closed."""
    before: BaseException | None = error
    while before is not None:
        if isinstance(before, KeyboardInterrupt):
            return True
        before = before.__context__
    return False


def _report(error: LoopRunnerError, *, as_json: bool) -> int:
    import contextlib

    from loop_runner import LoopRunnerError
    from loop_runner.cli import output

    output.error(str(error))
    if as_json:
        with contextlib.suppress(LoopRunnerError):  # standard output itself may be broken
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


def _refused_by_machine(error: Exception) -> LoopRunnerError | None:
    """An error for a refusal of the machine, which is not our bug; None for anything else."""
    import errno

    from loop_runner import EnvironmentFault

    if isinstance(error, MemoryError):
        return EnvironmentFault(
            "the machine has no memory left for this step",
            why="the step could not be completed; what was committed is safe",
            hint="raise the limit on memory (ulimit -v, the container's), then `loop-runner resume RUN`",
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return EnvironmentFault(
            "the machine starts no more threads: a limit on memory or on processes is reached",
            why="the step could not be completed; what was committed is safe",
            hint="raise the limit (ulimit -v or ulimit -u, the container's), then `loop-runner resume RUN`",
        )
    if isinstance(error, FileNotFoundError) and not _has_current_folder():
        return EnvironmentFault(
            "the current folder does not exist any more",
            why="paths are relative to it",
            hint="change into a folder that exists, and run the command again",
        )
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):
        return EnvironmentFault(
            f"no file can be written in a folder for temporary files: {error.strerror}",
            why="git and the sandbox need such files",
            hint="free some space there, raise the limit on the size of files (ulimit -f), or set TMPDIR",
        )
    full = {errno.ENOSPC, errno.EDQUOT}
    others = {errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN}
    others |= {errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ETXTBSY, errno.EFBIG}
    others |= {errno.ENOEXEC, errno.E2BIG}
    if not isinstance(error, OSError) or error.errno not in full | others:
        return None
    if error.errno not in full:
        return EnvironmentFault(
            f"the machine refused a step of the run: {error}",
            why="the step could not be completed; what was committed is safe",
            hint="check the disk, memory and open files, then `loop-runner resume RUN`",
        )
    return EnvironmentFault(
        f"the disk is full: {error}",
        why="the step needed the space; what was committed is safe",
        hint="free some space, also where temporary files go, then `loop-runner resume RUN`",
    )


def _has_current_folder() -> bool:
    import os

    try:
        os.getcwd()  # noqa: PTH109
    except OSError:
        return False
    return True


def _report_bug(error: Exception) -> int:
    """Write the traceback to a file and name it: users should not have to read our bugs."""
    import tempfile
    import traceback

    import loop_runner
    from loop_runner import redaction
    from loop_runner.cli import output

    details = [f"loop-runner {loop_runner.__version__}, Python {sys.version}\n"]
    details += map(redaction.clean, traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="loop-runner-", suffix=".log", delete=False, encoding="utf-8", errors="replace"
        ) as log:
            log.writelines(details)
        where = log.name
    except OSError:
        output.note("".join(details))
        where = "the lines above"
    output.error(
        f"internal error: {type(error).__name__}: {error}\n"
        f"  why it matters: this is a bug in loop-runner; what was committed is safe\n"
        f"  what to do: send {where} with a bug report; `loop-runner resume RUN` continues the run"
    )
    return 5
