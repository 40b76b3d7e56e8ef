"""``run``, ``ask`` and ``resume``: start a run or go on with one, and show how it ended."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import loop_runner as lr
from loop_runner.cli import display, estimates, output, preferences, signals, trusting
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.loop.stopping import Stop, permit_in
from loop_runner.records import Outcome, RunStatus
from loop_runner.runs import next_steps
from loop_runner.runs.context import RunContext
from loop_runner.runs.folders import find_run
from loop_runner.runs.new_folders import has_begun, make_way, named_after, new_run_folder
from loop_runner.runs.prepare import check
from loop_runner.task import config
from loop_runner.text import shell

_EXIT_CODES: dict[RunStatus, int] = {"verified": 0, "unverified": 3, "broken": 4, "interrupted": 130}


def options(*names: str) -> Callable[[Any], Any]:
    """Attach the options that several commands share."""

    def attach(command: Any) -> Any:
        for name in reversed(names):
            command = _SHARED[name](command)
        return command

    return attach


_SHARED = {
    "model": click.option("--model", metavar="ID", help="Root model, as provider:name (see `models list`)."),
    "sub_model": click.option(
        "--sub-model", metavar="ID", help="Model for llm_query; default: see `models`."
    ),
    "passes": click.option("--passes", type=click.IntRange(1), help="How many passes at most."),
    "turns": click.option("--turns", type=click.IntRange(1), help="How many turns a pass may take."),
    "exclude": click.option(
        "--exclude", multiple=True, metavar="NAME", help="Folder or file name to leave out."
    ),
    "run_dir": click.option(
        "--run-dir", type=click.Path(path_type=Path), help="Run folder; default runs/NAME."
    ),
    "set": click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Set any key of the task."
    ),
    "json": click.option(
        "--json", "as_json", is_flag=True, help="End with one JSON object on standard output."
    ),
    "quiet": click.option("-q", "--quiet", is_flag=True, help="No progress on standard error."),
    "report": click.option(
        "--report", "reports", multiple=True, metavar="NAME[=TEXT]", help="Tell an installed reporter, too."
    ),
    "estimate": estimates.OPTION,
    "verbose": click.option(
        "-v", "--verbose", is_flag=True, help="Show the model's code, output and sub-calls."
    ),
}


@click.command()
@click.argument("task_file", metavar="TASK.yaml", type=click.Path(path_type=Path))
@click.option("--input", "paths", multiple=True, metavar="PATH", help="Inputs instead of the task's own.")
@options(
    "exclude",
    "model",
    "sub_model",
    "passes",
    "turns",
    "run_dir",
    "set",
    "report",
    "estimate",
    "json",
    "quiet",
    "verbose",
)
def run(task_file: Path, paths: tuple[str, ...], settings: tuple[str, ...], **flags: Any) -> int:
    """Run a task file until its verifiers accept the answer.

    \b
    Example:  loop-runner run examples/first-rejection/task.yaml
    """
    return _start(config.read_task(task_file, task_overrides(paths, settings, flags)), flags)


def task_overrides(
    paths: tuple[str, ...], settings: tuple[str, ...], flags: dict[str, Any]
) -> list[tuple[str, Any]]:
    """What the command line changes of a task file: ``--input``, the other flags, ``--set``."""
    given = overrides(settings, flags)
    if paths:
        given.append(("inputs", [_input_spec(path, flags["exclude"]) for path in paths]))
    return given


@click.command()
@click.argument("question")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "--quote/--no-quote",
    default=True,
    help="Ask that the short answer itself stands in a quoted line (default), or only that the quotes exist.",
)
@options(
    "exclude",
    "model",
    "sub_model",
    "passes",
    "turns",
    "run_dir",
    "set",
    "report",
    "estimate",
    "json",
    "quiet",
    "verbose",
)
def ask(question: str, paths: tuple[str, ...], quote: bool, settings: tuple[str, ...], **flags: Any) -> int:
    """Ask a question about files, without a task file.

    The answer must quote the lines that prove it; every quote is looked up in the files.
    An answer that no line states (yes or no, a count) must say how it follows from the quotes.

    \b
    Example:  loop-runner ask "What is the default maxsize of lru_cache?" /usr/lib/python3.11
    """
    _refuse_misplaced(question, paths)
    given: list[tuple[str, Any]] = [
        ("name", named_after(question)),
        ("prompt", question),
        ("type", "ask"),
        ("prompts", "none"),  # there is no task file for them to be beside
        ("inputs", [_input_spec(path, flags["exclude"]) for path in paths]),
        ("verifiers", [{"citations": {"answer_in_quote": quote, "derived": quote}}]),
        ("budget.passes", 5),
        *overrides(settings, flags),
    ]
    task = config.parse_task("{}", label="ask", base_dir=Path.cwd(), overrides=given)
    return _start(task, flags)


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--inputs",
    "inputs_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where the inputs lie now, for a run that came from another machine.",
)
@click.option("--repin", is_flag=True, help="Take the verifiers' programs as they are now.")
@click.option(
    "--retask",
    is_flag=True,
    help="Take the task file that the run began with, and its programs, as they are now.",
)
@trusting.TRUST
@options("model", "sub_model", "passes", "turns", "set", "report", "json", "quiet", "verbose")
def resume(
    run_name: str,
    inputs_folder: Path | None,
    repin: bool,
    retask: bool,
    is_trusted: bool,
    settings: tuple[str, ...],
    **flags: Any,
) -> int:
    """Continue a run from its last commit, after a crash, Ctrl-C or a spent budget.

    RUN may be a clone made with plain git: it needs --trust once. What is set here holds for this time only;
    --retask changes the run for good.

    \b
    Example:  loop-runner resume runs/contract-review --passes 20
    """
    from loop_runner.audit import plan
    from loop_runner.runs import start as runs

    folder = find_run(run_name)
    plan.refuse_other_format(folder)
    changed = tuple(overrides(settings, flags))
    if ends_pause(folder):
        output.note(f"{folder} was paused: the process that runs it continues")
        return 0
    trusting.require(folder, changed, is_trusted=is_trusted, command=f"loop-runner resume {shell(folder)}")
    given = next_steps.Given(changed, inputs_folder)
    if _look_at_task_file(folder, retask=retask):
        return _start_over(folder, changed, flags)
    with interruptible(flags, folder) as context, trusting.kept(folder), _next_named(folder, given):
        outcome = runs.resume(folder, context, changed, inputs_folder=inputs_folder, repin=repin or retask)
    return finish(outcome, folder, flags, given)


def ends_pause(folder: Path) -> bool:
    """Whether a process runs ``folder`` and is paused; then it is asked to continue."""
    run = lr.open(folder)
    if not run.is_paused:
        return False
    run.resume()
    return True


def _look_at_task_file(folder: Path, *, retask: bool) -> bool:
    """Take the task file of a run as it is now, or say that it has changed.

    True when the run has no committed turn, so that it can start over instead.
    """
    from loop_runner.runs import fork, origin
    from loop_runner.workspace.history import History

    with History(folder) as history:
        begun, source = has_begun(history), origin.of_run(folder, history.read)
    if retask and source is not None and not begun:
        return True
    if retask:
        with trusting.kept(folder):
            changed = fork.retask(folder)
        output.note(f"the task has changed: {', '.join(changed)}" if changed else "the task has not changed")
    elif source is not None and source.has_changed():
        output.note(
            f"note: {source.file} has changed since the run began, and the run keeps the old task; "
            "--retask takes the new one"
        )
    return False


def _start_over(folder: Path, changed: tuple[tuple[str, Any], ...], flags: dict[str, Any]) -> int:
    """Begin a run anew that has no committed turn, from its task file as it is now."""
    from loop_runner.runs import origin
    from loop_runner.workspace.history import History

    with History(folder) as history:
        source = origin.of_run(folder, history.read)
    assert source is not None
    task = replace(config.read_task(source.file, (*source.overrides, *changed)), run_dir=folder)
    return _start(task, flags)


@contextmanager
def _next_named(folder: Path, given: next_steps.Given = next_steps.NOTHING) -> Iterator[None]:
    """Add to an error that ends a run the commands that continue it."""
    try:
        yield
    except LoopRunnerError as error:
        with suppress(LoopRunnerError, OSError):
            lines = next_steps.after_error(error, folder, os.environ, given)
            error.hint = "\n  next: ".join((error.hint, *lines))
        raise


def _start(task: config.Task, flags: dict[str, Any]) -> int:
    from loop_runner.runs import start as runs

    task = preferences.with_settings(task, flags)
    if flags.get("is_estimate"):
        from loop_runner.runs import estimate

        return estimates.show(estimate.of_task(task, os.environ), as_json=flags["as_json"])
    if task.session == "hook":
        file = shlex.quote(str(task.file)) if task.file else "TASK.yaml"
        raise ConfigError(
            "a task with `session: hook` is not started with `run`",
            why="its passes are done in a client's session that exists already; `run` would wait for ever",
            hint=f"begin it in that session: loop-runner hook start {file}",
        )
    folder = new_run_folder(task, os.environ)
    if (folder / ".git").exists():
        check(task, os.environ)  # before anything is removed
        make_way(folder)
        output.note(f"{folder} held a run without a committed turn: it starts over")
    with interruptible(flags, folder) as context, _next_named(folder):
        outcome = runs.start(task, folder, context)
    return finish(outcome, folder, flags)


def finish(
    outcome: Outcome, folder: Path, flags: dict[str, Any], given: next_steps.Given = next_steps.NOTHING
) -> int:
    """Show how a run ended; the exit code that says so. ``given``: what ``resume`` was given."""
    if flags["as_json"]:
        output.write_json(display.outcome_as_json(outcome, folder))
    else:
        from loop_runner.runs import ending

        display.show_ending(ending.of_run(outcome, folder, os.environ, given))
    return _EXIT_CODES[outcome.status]


@contextmanager
def interruptible(
    flags: dict[str, Any],
    folder: Path | None = None,
    progress: type[display.Progress] = display.Progress,
) -> Iterator[Any]:
    """What a run is given from outside; Ctrl-C, SIGTERM and SIGHUP ask it to stop."""
    from loop_runner.runs import reporters

    loaded = tuple(reporters.load(spec, output.note) for spec in flags.get("reports", ()))
    stop = Stop(permit=permit_in(os.environ))
    shown = () if flags["quiet"] else (progress(is_verbose=flags["verbose"]),)
    try:
        with signals.stopping(stop, output.note, folder), _rare_collections():
            yield RunContext(os.environ, (*shown, *loaded), stop, notify=preferences.project_targets())
    finally:
        for reporter in loaded:
            reporter.close()
        sys.stderr.flush()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for unreachable circles less often.

    A batch has ten thousand calls' objects alive at once, and going through them took a quarter of the time
    of the loop that serves them. None of it is for the collector: what a call leaves goes by itself.
    """
    import gc

    before = gc.get_threshold()
    gc.set_threshold(500_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def overrides(settings: tuple[str, ...], flags: dict[str, Any]) -> list[tuple[str, Any]]:
    """Flags and ``--set`` as (dotted key, value); ``--set`` comes last and wins."""
    by_flag = {
        "model": flags.get("model"),
        "sub_model": flags.get("sub_model"),
        "budget.passes": flags.get("passes"),
        "budget.turns": flags.get("turns"),
        "run_dir": None if flags.get("run_dir") is None else str(flags["run_dir"]),
    }
    named = [(key, value) for key, value in by_flag.items() if value is not None]
    return named + [config.parse_override(text) for text in settings]


def _input_spec(path: str, exclude: tuple[str, ...]) -> dict[str, Any]:
    """An input given on the command line is relative to the current folder, not to the task file."""
    if path.startswith(("http://", "https://")):
        return {"url": path}
    return {"path": str(Path(path).absolute()), **({"exclude": list(exclude)} if exclude else {})}


def _refuse_misplaced(question: str, paths: tuple[str, ...]) -> None:
    """Say what was probably meant where the first word is a path, or the question has no quotes."""
    missing = [path for path in paths if not path.startswith(("http://", "https://")) and not _exists(path)]
    if not missing or any(mark in path for path in missing for mark in "*["):
        return
    existing = [path for path in paths if path not in missing]
    if _exists(question) and not existing:
        words = shell("loop-runner", "ask", " ".join(missing), question)
        raise click.UsageError(f"{question} is a file or folder, and the question comes first: {words}")
    if paths.index(missing[0]) == 0 and len(missing) > 1:
        words = shell("loop-runner", "ask", " ".join((question, *missing)), *(existing or ["PATH"]))
        raise click.UsageError(f"there is no file {missing[0]!r}. A question goes into quotes: {words}")


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
