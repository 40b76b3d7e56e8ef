"""``run``, ``ask`` and ``resume``, each also as a coroutine, and ``fork`` and ``verify``.

Owns how a call becomes a run: its folder, what it is given, and its result. Each run works in a thread of its
own (``work``), so several may go on in one process, under a running event loop or not. A call and its
coroutine are the same function, which returns the run at work: one waits for it, the other awaits it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from inspect import signature
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias

from loop_runner.api import given_tools, makers
from loop_runner.api.checked_task import Input, Settings, Task, Verifier, as_overrides, budget_overrides
from loop_runner.api.given_tools import Tool
from loop_runner.api.result import Result, Run, open_run, result_of
from loop_runner.api.typed_events import OnEvent, listening
from loop_runner.api.work import Work
from loop_runner.budget import Budget
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.events import Event, Listener
from loop_runner.loop.stopping import Stop
from loop_runner.process import permit_in
from loop_runner.runs import fork as forking
from loop_runner.runs import origin, reporters, reverify, start, trust
from loop_runner.runs.context import RunContext
from loop_runner.runs.folders import forked_run_folder
from loop_runner.runs.new_folders import has_begun, make_way, new_run_folder
from loop_runner.runs.prepare import check
from loop_runner.runs.reverify import Recheck
from loop_runner.task import config
from loop_runner.text import shell
from loop_runner.verify.function import Collected
from loop_runner.workspace import points
from loop_runner.workspace.history import History

P = ParamSpec("P")
Place: TypeAlias = str | PathLike[str]


def _waiting(begin: Callable[P, Work[Result]]) -> Callable[P, Result]:
    """The plain call of what begins a run: it waits for the end."""

    @wraps(begin)
    def call(*args: P.args, **keys: P.kwargs) -> Result:
        return begin(*args, **keys).wait()

    return _named(call, begin.__name__.removeprefix("_"), begin.__doc__ or "")


def _awaiting(begin: Callable[P, Work[Result]], doc: str) -> Callable[P, Coroutine[Any, Any, Result]]:
    """The coroutine of what begins a run."""

    @wraps(begin)
    async def call(*args: P.args, **keys: P.kwargs) -> Result:
        return await begin(*args, **keys).wait_async()

    return _named(call, f"a{begin.__name__.removeprefix('_')}", doc)


def _named(call: Callable[P, Any], name: str, doc: str) -> Callable[P, Any]:
    shown = signature(call).replace(return_annotation="Result")
    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    call.__signature__ = shown  # type: ignore[attr-defined] # what ``inspect`` and ``help`` show
    return call


def _run(
    task: Task | Place,
    *,
    run_dir: Place | None = None,
    on_event: OnEvent = None,
    reporters: Sequence[str] = (),
    notify: Sequence[Any] = (),
    stop: Stop | None = None,
) -> Work[Result]:
    """Run a task, or a task file, to one of its ends. ``run_dir``: None takes the task's, else runs/NAME.

    ``reporters`` are installed reporters (docs/reporters.md), as NAME or NAME=TEXT; ``notify`` are targets of
    notifications besides the task's and the user's.
    """
    return started(task, run_dir, on_event, reporters, stop, notify)[0]


def _ask(
    question: str,
    inputs: Iterable[Input] | Input,
    *,
    model: str | None = None,
    verify: Sequence[Verifier] | None = None,
    budget: Budget | Mapping[str, Any] | None = None,
    output_type: Any = None,
    tools: Sequence[Tool] = (),
    run_dir: Place | None = None,
    on_event: OnEvent = None,
    stop: Stop | None = None,
    **keys: Any,
) -> Work[Result]:
    """Ask a question about inputs. Without ``verify``, the answer must quote the lines that prove it.

    ``tools`` are functions that the model's code may call; each needs type hints and a docstring.
    """
    if "verifiers" in keys:
        raise ConfigError(
            "`verifiers` is called `verify` here", why="one call has one word for it", hint="verify=[...]"
        )
    if verify is None:
        verify = (
            []
            if output_type is not None
            else [makers.citations(answer_in_quote=True, derived=True, about_question=True)]
        )
    task = Task(
        question,
        inputs=inputs,
        verifiers=verify,
        model=model,
        budget={"passes": 5} if budget is None else budget,
        output_type=output_type,
        tools=tools,
        **{"type": "ask", **keys},
    )
    if not task.checked.inputs:
        raise ConfigError(
            "there are no inputs to ask about",
            why="the answer is to be found in them",
            hint='give paths or data, or use lr.run(lr.Task("...", verifiers=[...])) without inputs',
        )
    return _run(task, run_dir=run_dir, on_event=on_event, stop=stop)


def _resume(
    run: Place,
    *,
    verify: Sequence[Verifier] = (),
    tools: Sequence[Tool] = (),
    budget: Budget | Mapping[str, Any] | None = None,
    settings: Settings = (),
    inputs_dir: Place | None = None,
    output_type: Any = None,
    repin: bool = False,
    retask: bool = False,
    trust: bool = False,
    on_event: OnEvent = None,
    reporters: Sequence[str] = (),
    notify: Sequence[Any] = (),
    stop: Stop | None = None,
) -> Work[Result]:
    """Continue a run from its last commit.

    ``verify`` and ``tools`` are the functions that the run began with, if verifiers or tools are functions:
    the run folder cannot hold them. ``budget`` and ``settings`` (keys of the task by their dotted names) hold
    for this time only.
    ``inputs_dir`` is where the inputs are now. ``repin`` takes the verifiers' programs as they are now,
    ``retask`` also the task file that the run began with. ``trust`` starts what a folder from elsewhere
    names.
    """
    folder = open_run(run).folder
    _refuse_other_format(folder)
    changed = (*budget_overrides(budget), *as_overrides(settings))
    Run(folder).require_trust(settings=changed, trust=trust)
    if retask and (task := _not_begun(folder, changed)) is not None:
        return started(Task.of(task, output_type), folder, on_event, reporters, stop, notify)[0]
    place = None if inputs_dir is None else Path(inputs_dir)
    functions, (_, tool_functions) = _functions(verify), given_tools.collected(tools)

    def work(context: RunContext) -> Result:
        with _kept_mark(folder):
            _look_at_task_file(folder, context.listeners, retask=retask)
            context = replace(context, functions=functions, tool_functions=tool_functions)
            outcome = start.resume(folder, context, changed, inputs_folder=place, repin=repin or retask)
        return result_of(outcome, folder, output_type, place)

    return _working(work, folder, on_event, reporters, stop, notify)


run = _waiting(_run)
ask = _waiting(_ask)
resume = _waiting(_resume)
_ALIKE = "As ``{}``, for an event loop. Cancelled, it ends when the run has stopped, with all commits kept."
arun = _awaiting(_run, _ALIKE.format("run"))
aask = _awaiting(_ask, _ALIKE.format("ask"))
aresume = _awaiting(_resume, _ALIKE.format("resume"))


def fork(
    run: Place,
    new: Place | None = None,
    *,
    at: str | None = None,
    prompt_file: Place | None = None,
    settings: Settings = (),
    trust: bool = False,
    **keys: Any,
) -> Run:
    """A new run that continues from a moment of another one: ``at="3.7"`` is pass 3, turn 7.

    ``keys`` are keys of the task that change: ``prompt``, ``model``, ``budget__passes``; ``settings`` are
    the same by their dotted names. ``lr.resume`` continues the new run. ``trust`` takes a folder from
    elsewhere as your own.
    """
    source = open_run(run)
    _refuse_other_format(source.folder)
    to = forked_run_folder(os.fspath(new if new is not None else _free_name(source.folder)))
    changed = [*as_overrides(keys), *as_overrides(settings)]
    if prompt_file is not None:
        changed.insert(0, ("prompt", forking.prompt_in(Path(prompt_file))))
    is_own = source.is_trusted or trust
    if is_own and not source.is_trusted:
        source.trust()
    made = forking.fork(
        source.folder,
        None if (moment := at or source.at) is None else points.named(moment),
        to,
        changed,
        before_placing=partial(_mark, to) if is_own else None,
    )
    return Run(made.folder)


def verify(
    run: Place,
    *,
    at: str | None = None,
    verifiers: Sequence[Verifier] = (),
    task_dir: Place | None = None,
    ask_again: bool = False,
    allow: Sequence[str] = (),
) -> Recheck:
    """Run the verifiers of a finished run once more, and compare with its proof.

    ``verifiers`` are the functions that the run began with. ``allow`` gives the verifiers what the run asks
    for: ``network``, ``show=PATH``, ``program=PATH``, ``plugin=NAME`` or ``tier=C``.
    """
    context = RunContext(os.environ, functions=_functions(verifiers))
    _refuse_unknown(allow)
    place = None if task_dir is None else Path(task_dir)
    folder = open_run(run).folder
    return reverify.verify_run(folder, context, at=at, task_dir=place, ask_again=ask_again, granted=allow)


def _refuse_unknown(allow: Sequence[str]) -> None:
    """``ConfigError`` for a word that grants nothing."""
    for word in allow:
        key, _, value = word.partition("=")
        if word not in ("network", "tier=C") and not (key in ("show", "program", "plugin") and value):
            raise ConfigError(
                f"{word!r} is not something that a verifier can be granted",
                why="a misspelled grant could be taken for another",
                hint="it can be: network, show=PATH, program=PATH, plugin=NAME, tier=C",
            )


def started(
    task: Task | Place,
    run_dir: Place | None,
    on_event: OnEvent = None,
    reporters: Sequence[str] = (),
    stop: Stop | None = None,
    notify: Sequence[Any] = (),
) -> tuple[Work[Result], Path]:
    """A run at work, and its folder."""
    made = task if isinstance(task, Task) else Task.from_file(task)
    checked = made.checked if run_dir is None else replace(made.checked, run_dir=Path(run_dir))
    if checked.session == "hook":
        raise ConfigError(
            "a task with `session: hook` is not started here",
            why="its passes are done in a client's session that exists already",
            hint="begin it in that session: "
            + shell("loop-runner", "hook", "start", checked.file or "TASK.yaml"),
        )
    folder = new_run_folder(checked, os.environ)

    def work(context: RunContext) -> Result:
        if (folder / ".git").exists():
            check(checked, os.environ)  # before anything is removed
            make_way(folder)
            _note(context.listeners, f"{folder} held a run without a committed turn: it starts over")
        return result_of(start.start(checked, folder, context), folder, made.output_type)

    return _working(work, folder, on_event, reporters, stop, notify), folder


def _working(
    do: Callable[[RunContext], Result],
    folder: Path,
    on_event: OnEvent,
    requested: Sequence[str],
    stop: Stop | None,
    notify: Sequence[Any] = (),
) -> Work[Result]:
    """``do`` at work with its listeners. An error that ends it names the run folder in ``run``."""
    shown = listening(on_event)
    requested = [requested] if isinstance(requested, str) else requested
    if not isinstance(stop, Stop | None):
        raise ConfigError(
            f"stop is an lr.Stop(), not {stop!r:.80}",
            why="another object could not stop the run",
            hint="stop = lr.Stop(); lr.run(task, stop=stop); stop.ask()",
        )
    notified = tuple(reporters.load(name, partial(_note, shown)) for name in requested)

    def work(stop: Stop) -> Result:
        try:
            return do(RunContext(os.environ, (*shown, *notified), stop, notify=tuple(notify)))
        except LoopRunnerError as error:
            error.run = folder.absolute()
            raise
        finally:
            for reporter in notified:
                reporter.close()

    stop = stop or Stop()
    stop.permit = permit_in(os.environ)
    return Work(work, stop)


def _refuse_other_format(folder: Path) -> None:
    from loop_runner.audit import plan

    plan.refuse_other_format(folder)


def _note(listeners: Sequence[Listener], text: str) -> None:
    for listener in listeners:
        listener(Event("notice", text))


def _not_begun(folder: Path, changed: Sequence[tuple[str, Any]]) -> config.Task | None:
    """The task file of a run without a committed turn, as it is now: the run can start over with it."""
    with History(folder) as history:
        result = origin.of_run(folder, history.read)
        if result is None or has_begun(history):
            return None
    return config.read_task(result.file, (*result.overrides, *changed))


def _look_at_task_file(folder: Path, listeners: Sequence[Listener], *, retask: bool) -> None:
    """Take the task file of a run as it is now, or say that it has changed."""
    if retask:
        changed = forking.retask(folder)
        shown = f"the task has changed: {', '.join(changed)}" if changed else "the task has not changed"
        _note(listeners, shown)
        return
    with History(folder) as history:
        result = origin.of_run(folder, history.read)
    if result is not None and result.has_changed():
        kept = "has changed since the run began, and the run keeps the old task"
        _note(listeners, f"{result.file} {kept}; `retask` takes the new one")


@contextmanager
def _kept_mark(folder: Path) -> Iterator[None]:
    """Keep the mark of a trusted folder while the run changes what it is for (``repin``, ``retask``)."""
    try:
        yield
    finally:
        trust.mark(folder, os.environ)


def _functions(verifiers: Sequence[Verifier]) -> Mapping[str, Callable[..., Any]]:
    collected = Collected()
    collected.specs(verifiers)
    return collected.functions


def _mark(folder: Path, repository: Path) -> None:
    trust.mark(folder, os.environ, unplaced=repository)


def _free_name(source: Path) -> str:
    number = 2
    while (folder := source.with_name(f"{source.name}-{number}")).exists():
        number += 1
    return str(folder.absolute())
