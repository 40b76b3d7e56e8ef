"""``run``, ``ask`` and ``resume``, each also as a coroutine, and ``fork`` and ``verify``.

Owns how a call becomes a run: its folder, what it is given, and its result. Each run works in a thread of its
own (``work``), so several may go on in one process, under a running event loop or not.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from loop_runner import events
from loop_runner.api import given_tools, makers
from loop_runner.api.checked_task import Input, Task, Verifier, _as_mapping
from loop_runner.api.given_tools import Tool
from loop_runner.api.result import Result, Run, open_run, result_of
from loop_runner.api.typed_events import Event, typed
from loop_runner.api.work import Work
from loop_runner.budget import Budget
from loop_runner.errors import ConfigError
from loop_runner.loop.stopping import Stop
from loop_runner.runs import fork as forking
from loop_runner.runs import reverify, start, trust
from loop_runner.runs.context import RunContext
from loop_runner.runs.folders import forked_run_folder
from loop_runner.runs.new_folders import make_way, new_run_folder
from loop_runner.runs.prepare import check
from loop_runner.runs.reverify import Recheck
from loop_runner.task import config
from loop_runner.verify.function import Collected
from loop_runner.workspace import points
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

OnEvent: TypeAlias = Callable[[Event], object] | None
Place: TypeAlias = str | PathLike[str]


def run(task: Task | Place, *, run_dir: Place | None = None, on_event: OnEvent = None) -> Result:
    """Run a task, or a task file, to one of its ends. ``run_dir``: None takes the task's, else runs/NAME."""
    return _started(task, run_dir, on_event).wait()


async def arun(task: Task | Place, *, run_dir: Place | None = None, on_event: OnEvent = None) -> Result:
    """As ``run``, for an event loop. Cancelled, it ends when the run has stopped, with all commits kept."""
    return await _started(task, run_dir, on_event).wait_async()


def ask(
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
    **keys: Any,
) -> Result:
    """Ask a question about inputs. Without ``verify``, the answer must quote the lines that prove it.

    ``tools`` are functions that the model's code may call; each needs type hints and a docstring.
    """
    task = _question(question, inputs, model, verify, budget, output_type, {"tools": tools, **keys})
    return run(task, run_dir=run_dir, on_event=on_event)


async def aask(
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
    **keys: Any,
) -> Result:
    """As ``ask``, for an event loop."""
    task = _question(question, inputs, model, verify, budget, output_type, {"tools": tools, **keys})
    return await arun(task, run_dir=run_dir, on_event=on_event)


def _question(
    question: str,
    inputs: Iterable[Input] | Input,
    model: str | None,
    verify: Sequence[Verifier] | None,
    budget: Budget | Mapping[str, Any] | None,
    output_type: Any,
    keys: Mapping[str, Any],
) -> Task:
    if verify is None:
        verify = [] if output_type is not None else [makers.citations(answer_in_quote=True, derived=True)]
    return Task(
        question,
        inputs=inputs,
        verifiers=verify,
        model=model,
        budget={"passes": 5} if budget is None else budget,
        output_type=output_type,
        **{"type": "ask", **keys},
    )


def resume(
    run: Place,
    *,
    verify: Sequence[Verifier] = (),
    tools: Sequence[Tool] = (),
    budget: Budget | Mapping[str, Any] | None = None,
    inputs_dir: Place | None = None,
    output_type: Any = None,
    trust: bool = False,
    on_event: OnEvent = None,
) -> Result:
    """Continue a run from its last commit.

    ``verify`` and ``tools`` are the functions that the run began with, if verifiers or tools are functions:
    the run folder cannot hold them. ``budget`` applies to this resume only. ``trust`` starts what a folder
    from elsewhere names.
    """
    return _resumed(run, verify, tools, budget, inputs_dir, output_type, trust, on_event).wait()


async def aresume(
    run: Place,
    *,
    verify: Sequence[Verifier] = (),
    tools: Sequence[Tool] = (),
    budget: Budget | Mapping[str, Any] | None = None,
    inputs_dir: Place | None = None,
    output_type: Any = None,
    trust: bool = False,
    on_event: OnEvent = None,
) -> Result:
    """As ``resume``, for an event loop."""
    return await _resumed(run, verify, tools, budget, inputs_dir, output_type, trust, on_event).wait_async()


def fork(run: Place, new: Place | None = None, *, at: str | None = None, **keys: Any) -> Run:
    """A new run from any point of an existing one: ``at="3.7"`` is pass 3, turn 7.

    ``keys`` are keys of the task that change: ``prompt``, ``model``, ``budget__passes``. ``lr.resume``
    continues the new run.
    """
    source = open_run(run).folder
    point = None if at is None else points.parse(at)
    if at is not None and point is None:
        raise ConfigError(
            f"{at!r} is not a point of a run",
            why="a fork continues from the end of a pass or from a turn",
            hint='for example "3" (the end of pass 3) or "3.7" (its turn 7)',
        )
    to = forked_run_folder(os.fspath(new) if new is not None else _free_name(source))
    changed = [(key.replace("__", "."), value) for key, value in keys.items()]
    with History(source) as history:
        is_own = trust.is_marked(history, os.environ)
    mark = partial(_mark, to) if is_own else None
    return Run(forking.fork(source, point, to, changed, before_placing=mark).folder)


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

    ``verifiers`` are the functions that the run began with. ``allow`` has the words of ``loop-runner verify
    --allow``.
    """
    functions = _functions(verifiers)
    context = RunContext(os.environ, functions=functions)
    place = None if task_dir is None else Path(task_dir)
    folder = open_run(run).folder
    return reverify.verify_run(folder, context, at=at, task_dir=place, ask_again=ask_again, granted=allow)


def started(task: Task | Place, run_dir: Place | None, on_event: OnEvent) -> tuple[Work[Result], Path]:
    """A run at work, and its folder."""
    made = task if isinstance(task, Task) else Task.from_file(task)
    checked = made.checked if run_dir is None else replace(made.checked, run_dir=Path(run_dir))
    if checked.session == "hook":
        raise ConfigError(
            "a task with `session: hook` is not started by the library",
            why="its passes run in a client's session that exists already",
            hint="begin it in that session: loop-runner hook start TASK.yaml",
        )
    folder = new_run_folder(checked, os.environ).absolute()
    listeners = () if on_event is None else (partial(_tell, on_event),)

    def work(stop: Stop) -> Result:
        if (folder / ".git").exists():
            check(checked, os.environ)  # before anything is removed
            make_way(folder)
        outcome = start.start(checked, folder, RunContext(os.environ, listeners, stop))
        return result_of(outcome, folder, made.output_type)

    return Work(work), folder


def _started(task: Task | Place, run_dir: Place | None, on_event: OnEvent) -> Work[Result]:
    return started(task, run_dir, on_event)[0]


def _resumed(
    run: Place,
    verify: Sequence[Verifier],
    tools: Sequence[Tool],
    budget: Budget | Mapping[str, Any] | None,
    inputs_dir: Place | None,
    output_type: Any,
    is_trusted: bool,
    on_event: OnEvent,
) -> Work[Result]:
    folder = open_run(run).folder.absolute()
    changed = tuple((f"budget.{key}", value) for key, value in _as_mapping(budget or {}).items())
    functions, (_, tool_functions) = _functions(verify), given_tools.collected(tools)
    with History(folder) as history, parsing(folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
    task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=changed)
    trust.require(
        folder,
        task,
        os.environ,
        command=f"lr.resume({str(folder)!r}, trust=True), or on the command line:"
        f" loop-runner resume {folder}",
        is_trusted=is_trusted,
    )
    listeners = () if on_event is None else (partial(_tell, on_event),)
    place = None if inputs_dir is None else Path(inputs_dir)

    def work(stop: Stop) -> Result:
        around = RunContext(os.environ, listeners, stop, functions=functions, tool_functions=tool_functions)
        outcome = start.resume(folder, around, changed, inputs_folder=place)
        return result_of(outcome, folder, output_type)

    return Work(work)


def _tell(on_event: Callable[[Event], object], event: events.Event) -> None:
    on_event(typed(event))


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
