"""``run``, ``ask`` and ``resume``: start or continue a run, and show how it ended."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import click

import loop_runner as lr
from loop_runner.cli import display, estimates, gates, output, preferences, signals, terminal, trusting
from loop_runner.text import shell

Setting: TypeAlias = str | tuple[str, Any]
Listening: TypeAlias = dict[str, Any]  # keywords of ``lr.run`` and its like: ``on_event``, ``stop``, ...
EXIT_CODES = {"verified": 0, "unverified": 3, "blocked": 3, "broken": 4, "interrupted": 130}


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
    "estimate": estimates.OPTION,
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
    *("detach", "report", "estimate", "json", "display", "quiet", "verbose"),
)
def run(task_file: Path, paths: tuple[str, ...], settings: tuple[str, ...], **flags: Any) -> int:
    """Run a task file until its verifiers accept the answer.

    \b
    Example:  loop-runner run examples/first-rejection/task.yaml
    """
    made, given = gates.taken(flags), task_overrides(paths, settings, flags)
    if made:
        given.append(("verifiers", [*_own_verifiers(task_file, given), *made]))
    return start_task(lr.Task.from_file(task_file, settings=given), flags)


def _own_verifiers(task_file: Path, given: list[Setting]) -> list[Any]:
    """The verifiers of a task file; none if it has none yet, or is wrong: reading it again reports that."""
    try:
        return list(lr.Task.from_file(task_file, settings=given).verifiers)
    except lr.ConfigError:
        return []


def task_overrides(paths: tuple[str, ...], settings: tuple[str, ...], flags: dict[str, Any]) -> list[Setting]:
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
    *("detach", "report", "estimate", "json", "display", "quiet", "verbose"),
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
    verifiers = gates.taken(flags, lambda number: _cites(quote=quote, min=number))
    if continued is not None:
        if paths:
            raise click.UsageError("a question that continues a run is about its inputs: name no files")
        return _ask_again(continued, question, verifiers, settings, flags)
    if not paths:
        raise click.UsageError("name the files that the question is about, or a run with --continue")
    _refuse_misplaced(question, paths)
    task = lr.Task(
        question,
        inputs=[_input_spec(path, flags["exclude"]) for path in paths],
        verifiers=verifiers or [_cites(quote=quote)],
        budget={"passes": 5},
        type="ask",
        settings=overrides(settings, flags),
    )
    return start_task(task, flags)


def _cites(*, quote: bool, **keys: int) -> dict[str, Any]:
    return {"citations": {"answer_in_quote": quote, "derived": quote, "about_question": quote, **keys}}


def _ask_again(
    run: str, question: str, verifiers: list[Any], settings: tuple[str, ...], flags: dict[str, Any]
) -> int:
    """Fork a run with a new question, and continue the fork."""
    source = lr.open(run)
    source.require_trust(trust=False)
    changed = [("prompt", question), *overrides(settings, {**flags, "run_dir": None})]
    changed += [("verifiers", verifiers)] if verifiers else []
    fork = lr.fork(source, flags["run_dir"], settings=changed)
    folder = _as_called(fork.folder)
    return work(lambda listening: lr.resume(fork, **listening), flags, folder)


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
    result = lr.open(run_name)
    given = overrides(settings, flags)
    if ends_pause(result):
        output.note(f"{result.folder} was paused: the process that runs it continues")
        return 0
    if flags["detach"] and not (retask or repin or inputs_folder):
        result.require_trust(given, trust=is_trusted)
        lr.LocalLauncher().resume(result, settings=given)
        return _show_detached(result.folder.absolute(), flags)

    def start(listening: Listening) -> lr.Result:
        return lr.resume(
            result,
            settings=given,
            inputs_dir=inputs_folder,
            repin=repin,
            retask=retask,
            trust=is_trusted,
            **listening,
        )

    return work(start, flags, result.folder, given, inputs_folder)


def ends_pause(run: lr.Run) -> bool:
    """Whether a process runs ``run`` and is paused; then it is asked to continue."""
    if not run.is_paused:
        return False
    run.resume()
    return True


def start_task(task: lr.Task, flags: dict[str, Any]) -> int:
    """Run a task, here or in a process of its own; the exit code of the command."""
    task = preferences.with_settings(task, flags)
    if flags.get("is_estimate"):
        return estimates.of_task(task, flags)
    if flags.get("detach"):
        reports = [f"--report={name}" for name in flags.get("reports", ())]
        return _show_detached(lr.LocalLauncher().start(task, arguments=reports).folder, flags)
    return work(lambda listening: lr.run(task, **listening), flags, task.run_dir)


def _show_detached(folder: Path, flags: dict[str, Any]) -> int:
    """Say where a run is that runs in a process of its own, and how to look at it."""
    shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
    if flags["as_json"]:
        output.write_json({"status": "started", "run": str(shown)})
        return 0
    output.write(f"run folder: {shown}")
    output.write(f"It runs in a process of its own. Next: {shell('loop-runner', 'status', shown, '--watch')}")
    return 0


def work(
    start: Callable[[Listening], lr.Result],
    flags: dict[str, Any],
    folder: Path | None = None,
    given: Sequence[Setting] = (),
    inputs_folder: Path | None = None,
) -> int:
    """Run to an end, with progress, and show it; the exit code that says how it ended.

    ``folder`` is the run's, as a person calls it, if that is known before. ``given`` and ``inputs_folder``
    are what ``resume`` was given: the commands that continue the run repeat them.
    """
    try:
        with interruptible(flags, folder) as listening:
            result = start(listening)
    except lr.LoopRunnerError as error:
        if error.run is not None:
            with suppress(lr.LoopRunnerError, OSError):
                run = lr.Run(folder or _as_called(error.run))
                error.hint = "\n  next: ".join((error.hint, *run.next_steps(error, given, inputs_folder)))
        raise
    run = lr.Run(folder or _as_called(result.run.folder))
    if flags["as_json"]:
        output.write_json(display.result_as_json(result, run.folder))
    else:
        display.show_ending(result, run, run.next_steps(result, given, inputs_folder))
    return EXIT_CODES[result.status]


def _as_called(folder: Path) -> Path:
    """The folder of a run as a person would call it: ``runs/NAME``."""
    return Path(os.path.relpath(folder))


@contextmanager
def interruptible(
    flags: dict[str, Any],
    folder: Path | None = None,
    progress: type[display.Progress] = display.Progress,
) -> Iterator[Listening]:
    """The caller's part of a run; Ctrl-C, SIGTERM and SIGHUP ask it to stop."""
    stop, known = lr.Stop(), [folder]

    def listener(event: lr.Event) -> None:
        if isinstance(event, lr.types.RunStarted) and known[0] is None:
            known[0] = Path(event.run)
        if on_event is not None:
            on_event(event)

    try:
        with (
            signals.stopping(stop, output.note, lambda: known[0]),
            _rare_collections(),
            _shown(flags, progress, folder, stop) as on_event,
        ):
            reporters = {"reporters": flags["reports"]} if "reports" in flags else {}
            yield {"stop": stop, "on_event": listener, "notify": preferences.project_targets(), **reporters}
    finally:
        sys.stderr.flush()


@contextmanager
def _shown(
    flags: dict[str, Any], progress: type[display.Progress], folder: Path | None, stop: lr.Stop
) -> Iterator[Callable[[lr.Event], None] | None]:
    """What shows the progress of a run; nothing with ``--quiet``."""
    if flags["quiet"]:
        yield None
        return
    wanted = flags.get("display", "auto")
    lines = progress(is_verbose=flags["verbose"])
    if wanted == "plain" or (wanted == "auto" and not terminal.is_terminal(sys.stderr)):
        yield lines  # without the imports of the block
        return
    from loop_runner.cli import live

    with live.shown(live.chosen(wanted, os.environ), lines, folder, stop.ask) as listener:
        yield listener


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


def overrides(settings: tuple[str, ...], flags: dict[str, Any]) -> list[Setting]:
    """Flags and ``--set`` as (dotted key, value); ``--set`` comes last and wins."""
    by_flag = {
        "model": flags.get("model"),
        "sub_model": flags.get("sub_model"),
        "budget.passes": flags.get("passes"),
        "budget.turns": flags.get("turns"),
        "run_dir": None if flags.get("run_dir") is None else str(flags["run_dir"]),
    }
    return [*((key, value) for key, value in by_flag.items() if value is not None), *settings]


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
