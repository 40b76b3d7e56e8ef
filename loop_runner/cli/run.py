"""``run``, ``ask`` and ``resume``: start or continue a run, and show how it ended."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

import loop_runner as lr
from loop_runner.cli import display, gates, output, preferences, signals, terminal, trusting
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.events import Listener
from loop_runner.loop.stopping import Stop
from loop_runner.process import permit_in
from loop_runner.records import Outcome, RunStatus
from loop_runner.runs import next_steps
from loop_runner.runs.context import RunContext
from loop_runner.runs.folders import find_run, free_fork_folder
from loop_runner.runs.new_folders import has_begun, make_way, named_after, new_run_folder
from loop_runner.runs.prepare import check
from loop_runner.task import config
from loop_runner.text import shell

EXIT_CODES: dict[RunStatus, int] = {
    "verified": 0,
    "unverified": 3,
    "blocked": 3,
    "broken": 4,
    "interrupted": 130,
}


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
    "passes": click.option("--passes", type=click.IntRange(1), help="Maximum number of passes."),
    "turns": click.option("--turns", type=click.IntRange(1), help="Maximum number of turns per pass."),
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
        "--report",
        "reports",
        multiple=True,
        metavar="NAME[=TEXT]",
        help="Also send events to an installed reporter.",
    ),
    "detach": click.option(
        "--detach", is_flag=True, help="Run it in a process of its own, and return at once."
    ),
    "display": click.option(
        "--display",
        type=click.Choice(("auto", "live", "plain", "json")),
        default="auto",
        show_default=True,
        help="Progress as a live block, as lines, or as a JSON object on a line for each event.",
    ),
    "verbose": click.option(
        "-v", "--verbose", is_flag=True, help="Show the model's code, output and sub-calls."
    ),
}


@click.command()
@click.argument("task_file", metavar="TASK.yaml", type=click.Path(path_type=Path))
@click.option("--input", "paths", multiple=True, metavar="PATH", help="Inputs instead of the task's own.")
@gates.options
@options(
    *("exclude", "model", "sub_model", "passes", "turns", "run_dir", "set"),
    *("detach", "report", "json", "display", "quiet", "verbose"),
)
def run(task_file: Path, paths: tuple[str, ...], settings: tuple[str, ...], **flags: Any) -> int:
    """Run a task file until its verifiers accept the answer.

    \b
    Example:  loop-runner run examples/first-rejection/task.yaml
    """
    made, given = gates.taken(flags), task_overrides(paths, settings, flags)
    if made:
        given.append(("verifiers", [*_own_verifiers(task_file, given), *made]))
    return start(config.read_task(task_file, given), flags)


def _own_verifiers(task_file: Path, given: list[tuple[str, Any]]) -> list[Any]:
    """The verifiers of a task file; none if it has none yet, or is wrong: reading it again reports that."""
    try:
        return list(config.read_task(task_file, given).verifiers)
    except ConfigError:
        return []


def task_overrides(
    paths: tuple[str, ...], settings: tuple[str, ...], flags: dict[str, Any]
) -> list[tuple[str, Any]]:
    """The changes that the command line makes to a task file: ``--input``, the other flags, ``--set``."""
    given = overrides(settings, flags)
    if paths:
        given.append(("inputs", [_input_spec(path, flags["exclude"]) for path in paths]))
    return given


@click.command()
@click.argument("question")
@click.argument("paths", metavar="PATH...", nargs=-1)
@click.option(
    "--continue",
    "continued",
    metavar="RUN",
    help="Ask about the same inputs as RUN, with everything that RUN has found, in a new run.",
)
@gates.options
@click.option(
    "--quote/--no-quote",
    default=True,
    help="Require that a quoted line contains the short answer (default), or only that the quotes exist.",
)
@options(
    *("exclude", "model", "sub_model", "passes", "turns", "run_dir", "set"),
    *("detach", "report", "json", "display", "quiet", "verbose"),
)
def ask(
    question: str,
    paths: tuple[str, ...],
    continued: str | None,
    quote: bool,
    settings: tuple[str, ...],
    **flags: Any,
) -> int:
    """Ask a question about files, without a task file.

    The answer must quote the lines that prove it; every quote is looked up in the files.
    An answer that no line states (yes or no, a count) must say how it follows from the quotes.

    \b
    Example:  loop-runner ask "What is the default maxsize of lru_cache?" /usr/lib/python3.11
    """
    if continued is not None:
        return _ask_again(continued, question, paths, quote, settings, flags)
    if not paths:
        raise click.UsageError("name the files that the question is about, or a run with --continue")
    _refuse_misplaced(question, paths)
    verifiers = gates.taken(flags, lambda number: _cites(quote=quote, min=number)) or [_cites(quote=quote)]
    given: list[tuple[str, Any]] = [
        ("name", named_after(question)),
        ("prompt", question),
        ("type", "ask"),
        ("prompts", "none"),  # without a task file there is no folder for them
        ("inputs", [_input_spec(path, flags["exclude"]) for path in paths]),
        ("verifiers", verifiers),
        ("budget.passes", 5),
        *overrides(settings, flags),
    ]
    task = config.parse_task("{}", label="ask", base_dir=Path.cwd(), overrides=given)
    return start(task, flags)


def _cites(*, quote: bool, **keys: int) -> dict[str, Any]:
    return {"citations": {"answer_in_quote": quote, "derived": quote, **keys}}


def _ask_again(
    run: str,
    question: str,
    paths: tuple[str, ...],
    quote: bool,
    settings: tuple[str, ...],
    flags: dict[str, Any],
) -> int:
    """Fork a run with a new question, and continue the fork."""
    from loop_runner.runs import fork as forking
    from loop_runner.runs import start as runs

    if paths:
        raise click.UsageError("a question that continues a run is about that run's inputs: name no files")
    source = find_run(run)
    verifiers = gates.taken(flags, lambda number: _cites(quote=quote, min=number))
    changed = [("prompt", question), *overrides(settings, {**flags, "run_dir": None})]
    changed += [("verifiers", verifiers)] if verifiers else []
    command = shell("loop-runner", "ask", "--continue", run, question)
    trusting.require(source, changed, is_trusted=False, command=command)
    folder = flags["run_dir"] or free_fork_folder(source)
    mark = partial(trusting.mark_unplaced, folder)
    made = forking.fork(source, None, folder, changed, before_placing=mark)
    with interruptible(flags, made.folder) as context, _next_named(made.folder):
        outcome = runs.resume(made.folder, context)
    return finish(outcome, made.folder, flags)


@click.command()
@click.argument("run_name", metavar="RUN")
@click.option(
    "--inputs",
    "inputs_folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Where the inputs are now, for a run that came from another machine.",
)
@click.option("--repin", is_flag=True, help="Use the verifiers' programs as they are now.")
@click.option(
    "--retask",
    is_flag=True,
    help="Use the task file that the run began with, and its programs, as they are now.",
)
@trusting.TRUST
@options(
    *("model", "sub_model", "passes", "turns", "set", "detach", "report", "json", "display"),
    *("quiet", "verbose"),
)
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

    RUN may be a clone made with plain git: it needs --trust once. Settings given here apply to this resume
    only; --retask changes the run permanently.

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
    if flags["detach"] and not (retask or repin or inputs_folder):
        from loop_runner.runs import launch

        arguments = [f"--set={key}={value}" for key, value in changed]
        launch.Local(os.environ).resume(folder, arguments)
        return _show_detached(folder.absolute(), flags)
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
    """Use the current task file of a run, or report that it has changed.

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
    """Restart a run that has no committed turn, from its current task file."""
    from loop_runner.runs import origin
    from loop_runner.workspace.history import History

    with History(folder) as history:
        source = origin.of_run(folder, history.read)
    assert source is not None
    task = replace(config.read_task(source.file, (*source.overrides, *changed)), run_dir=folder)
    return start(task, flags)


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


def start(task: config.Task, flags: dict[str, Any]) -> int:
    """Start a run, or have it run in a process of its own; the exit code of the command."""
    from loop_runner.runs import start as runs

    task = preferences.with_settings(task, flags)
    if task.session == "hook":
        file = shlex.quote(str(task.file)) if task.file else "TASK.yaml"
        raise ConfigError(
            "a task with `session: hook` is not started with `run`",
            why="its passes run in a client's session that exists already; `run` would wait forever",
            hint=f"begin it in that session: loop-runner hook start {file}",
        )
    if flags.get("detach"):
        return _detached(task, flags)
    folder = new_run_folder(task, os.environ)
    if (folder / ".git").exists():
        check(task, os.environ)  # before anything is removed
        make_way(folder)
        output.note(f"{folder} held a run without a committed turn, so it starts over")
    with interruptible(flags, folder) as context, _next_named(folder):
        outcome = runs.start(task, folder, context)
    return finish(outcome, folder, flags)


def _detached(task: config.Task, flags: dict[str, Any]) -> int:
    """Have the run run in a process of its own, and say how to look at it."""
    from loop_runner.runs import launch

    reports = [f"--report={name}" for name in flags.get("reports", ())]
    return _show_detached(launch.Local(os.environ).start(task, arguments=reports), flags)


def _show_detached(folder: Path, flags: dict[str, Any]) -> int:
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    if flags["as_json"]:
        output.write_json({"status": "started", "run": str(shown)})
        return 0
    output.write(f"run folder: {shown}")
    output.write(f"It runs in a process of its own. Next: {shell('loop-runner', 'status', shown, '--watch')}")
    return 0


def finish(
    outcome: Outcome, folder: Path, flags: dict[str, Any], given: next_steps.Given = next_steps.NOTHING
) -> int:
    """Show how a run ended; returns the exit code. ``given``: the options of ``resume``."""
    if flags["as_json"]:
        output.write_json(display.outcome_as_json(outcome, folder))
    else:
        from loop_runner.runs import ending

        display.show_ending(ending.of_run(outcome, folder, os.environ, given))
    return EXIT_CODES[outcome.status]


@contextmanager
def interruptible(
    flags: dict[str, Any],
    folder: Path | None = None,
    progress: type[display.Progress] = display.Progress,
) -> Iterator[Any]:
    """The caller's part of a run; Ctrl-C, SIGTERM and SIGHUP ask it to stop."""
    from loop_runner.runs import reporters

    loaded = tuple(reporters.load(spec, output.note) for spec in flags.get("reports", ()))
    stop = Stop(permit=permit_in(os.environ))
    try:
        with (
            signals.stopping(stop, output.note, folder),
            _shown(flags, progress, folder, stop) as shown,
            _rare_collections(),
        ):
            yield RunContext(os.environ, (*shown, *loaded), stop, notify=preferences.project_targets())
    finally:
        for reporter in loaded:
            reporter.close()
        sys.stderr.flush()


@contextmanager
def _shown(
    flags: dict[str, Any], progress: type[display.Progress], folder: Path | None, stop: Stop
) -> Iterator[tuple[Listener, ...]]:
    """What shows the progress of a run; nothing with ``--quiet``."""
    if flags["quiet"]:
        yield ()
        return
    wanted = flags.get("display", "auto")
    lines = progress(is_verbose=flags["verbose"])
    if wanted == "plain" or (wanted == "auto" and not terminal.is_terminal(sys.stderr)):
        yield (lines,)  # without the imports of the block
        return
    from loop_runner.cli import live

    with live.shown(live.chosen(wanted, os.environ), lines, folder, stop.ask) as listener:
        yield (listener,)


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Search for unreachable cycles less often.

    A batch has the objects of ten thousand calls alive at once, and scanning them took a quarter of the time
    of the loop that serves them. The collector would find nothing: a call's objects are freed without it.
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
    """Explain the probable mistake where the first word is a path, or the question has no quotes."""
    missing = [path for path in paths if not path.startswith(("http://", "https://")) and not _exists(path)]
    if not missing or any(mark in path for path in missing for mark in "*["):
        return
    existing = [path for path in paths if path not in missing]
    if _exists(question) and not existing:
        words = shell("loop-runner", "ask", " ".join(missing), question)
        raise click.UsageError(f"{question} is a file or folder, but the question comes first: {words}")
    if paths.index(missing[0]) == 0 and len(missing) > 1:
        words = shell("loop-runner", "ask", " ".join((question, *missing)), *(existing or ["PATH"]))
        raise click.UsageError(f"there is no file {missing[0]!r}. Put a question into quotes: {words}")


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):
        return False
