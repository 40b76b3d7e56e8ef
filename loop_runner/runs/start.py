"""Puts the parts of a run together: for a new run, and for one that continues.

Owns the wiring and the order in which parts are opened and closed. Relies on every room below; never prints
and never reads the environment: the caller passes it in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner import redaction
from loop_runner.agents import agent_runs
from loop_runner.errors import ConfigError, LoopRunnerError
from loop_runner.events import Event
from loop_runner.kernel.kernel import Kernel
from loop_runner.loop.loop import NewPrompt
from loop_runner.records import (
    Inputs,
    Outcome,
)
from loop_runner.runs import fork, preflight, trust, watchers
from loop_runner.runs.amounts import frozen_limits
from loop_runner.runs.assemble import kernel_settings, run_in
from loop_runner.runs.context import RunContext, StartingFiles
from loop_runner.runs.frozen import (
    follow_model,
    frozen_gates,
    frozen_inputs,
    refuse_changed_tools,
    refuse_other_words,
    text_of,
)
from loop_runner.runs.models import (
    model_faults,
)
from loop_runner.runs.prepare import prepared
from loop_runner.task import config
from loop_runner.task.config import Task
from loop_runner.verify import Gates
from loop_runner.workspace.git.fast_import import Blob
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

if TYPE_CHECKING:
    from loop_runner.tools import ToolSpec


def start(task: Task, folder: Path, context: RunContext, beginning: StartingFiles | None = None) -> Outcome:
    """Create the run folder ``folder`` and run ``task`` in it to one of its ends.

    With ``beginning`` its texts are taken and the task's ``inputs`` are not looked at.
    Raises ``ConfigError`` for inputs, models or verifiers that cannot work, before anything is created.
    """
    with ExitStack() as stack:
        kernels: list[Kernel] = []

        def start_kernel(settled: Task, texts: Inputs, tools: Sequence[ToolSpec], model_folder: Path) -> None:
            """Have the kernel's process start while the run folder is made."""
            given = [tool.for_kernel() for tool in tools]
            kernels.append(Kernel(kernel_settings(settled), texts, model_folder, tools=given))
            stack.callback(kernels[0].close)
            kernels[0].warm()

        made = _created(task, folder, context, beginning, start_kernel)
        settled, texts, gates, workspace = stack.enter_context(made)
        kernel = kernels[0] if kernels else None
        return _run(workspace, settled, texts, context, folder, gates, kernel)


def create(task: Task, folder: Path, env: Mapping[str, str], beginning: StartingFiles | None = None) -> None:
    """Create the run folder ``folder`` for ``task`` and start nothing: ``resume`` begins with pass 1."""
    with _created(task, folder, RunContext(env), beginning):
        return


@contextmanager
def _created(
    task: Task,
    folder: Path,
    context: RunContext,
    beginning: StartingFiles | None = None,
    start_kernel: Callable[[Task, Inputs, Sequence[ToolSpec], Path], None] | None = None,
) -> Iterator[tuple[Task, Inputs, Gates, Workspace]]:
    redaction.learn(context.env)
    ready = prepared(replace(task, prompt=redaction.clean(task.prompt)), context, beginning)
    task, texts, files = ready.task, ready.texts, ready.files
    model_files = dict(ready.model_files)
    if beginning is not None:
        model_files |= {f"workspace/{path}".encode(): Blob(data) for path, data in beginning.files.items()}
    scope = agent_runs.scope(task, folder)

    def mark(repository: Path) -> None:
        if why := trust.mark(folder, context.env, unplaced=repository):
            notice = (
                f"this run folder is not marked as yours, so `resume` will ask whether you trust it: {why}"
            )
            for listener in context.listeners:
                listener(Event("notice", notice))

    needs_kernel = start_kernel is not None and not task.is_agent and task.session == "rlm"
    with Workspace.create(
        folder,
        name=task.name,
        files=files,
        model_files=model_files,
        scope=scope,
        before_placing=mark,
        when_claimed=partial(start_kernel, task, texts, ready.tools)
        if start_kernel and needs_kernel
        else None,
    ) as workspace:
        yield task, texts, ready.gates, workspace


def resume(
    folder: Path,
    context: RunContext,
    overrides: tuple[tuple[str, object], ...] = (),
    *,
    inputs_folder: Path | None = None,
    repin: bool = False,
) -> Outcome:
    """Continue the run in ``folder`` from its last commit. Raises ``WorkspaceError`` if it cannot be used.

    ``overrides`` change the frozen task for this process only (a larger budget, say); its commits say so.
    ``inputs_folder`` is where the inputs lie on this machine, if not where the run began with them.
    ``repin`` takes the verifiers' programs as they are now, from the next pass's commit on.
    """
    redaction.learn(context.env)
    with History(folder) as history, parsing(folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
        changed = (*frozen_limits(folder, history.read), *overrides)
    task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=changed)
    frozen = config.parse_task(source, label="task.yaml", base_dir=folder)
    refuse_other_words(frozen, task)
    task = replace(
        follow_model(frozen, task),
        functions=context.functions,
        tool_functions=context.tool_functions,
    )
    _refuse_other_functions(task)
    with Workspace.open(folder, scope=agent_runs.scope(task, folder)) as workspace:
        if not any(key == "prompt" for key, _ in overrides):
            task = replace(task, prompt=text_of(workspace, "prompt.md"))
        texts = frozen_inputs(
            text_of(workspace, "inputs.json"), task, workspace.history.read, context.env, inputs_folder
        )
        gates = frozen_gates(task, workspace, repin=repin).checked()
        _refuse_models(task, context.env, gates)
        preflight.tools(task, context.env)
        refuse_changed_tools(task, gates.programs)
        workspace.overrides = json.dumps(dict(overrides), sort_keys=True) if overrides else ""
        _refuse(gates.unready() or preflight.sandbox(task, gates))
        return _run(workspace, task, texts, context, folder, gates)


def _run(
    workspace: Workspace,
    task: Task,
    texts: Inputs,
    context: RunContext,
    folder: Path,
    gates: Gates,
    kernel: Kernel | None = None,
) -> Outcome:
    """Run to one of the ends; a prompt that the operator changes is taken up with all parts anew."""
    with watchers.watched(task, folder, context, workspace.history) as around:
        ended = run_in(workspace, task, texts, around, folder, gates=gates, kernel=kernel)
        while isinstance(ended, NewPrompt):
            is_own = trust.is_marked(workspace.history, context.env)
            task = fork.take_prompt(workspace, task, ended)
            if is_own:  # the prompt is the operator's: whoever can write here could have changed it before
                trust.mark(folder, context.env)
            gates = frozen_gates(task, workspace).checked()
            ended = run_in(workspace, task, texts, around, folder, gates=gates)
        return ended


def _refuse(errors: Iterable[LoopRunnerError]) -> None:
    faults = preflight.Faults()
    faults.errors += errors
    faults.refuse()


def _refuse_other_functions(task: Task) -> None:
    """Refuse functions that the run did not begin with; ``Gates.unready`` refuses missing ones."""
    if not task.functions:
        return
    from loop_runner.verify.function import named_in

    known = set(named_in(task.verifiers))
    if unknown := sorted(set(task.functions) - known):
        raise ConfigError(
            f"the run did not begin with the function {', '.join(unknown)} as a verifier",
            why="only the verifiers that the run began with may judge it, or its proof would mean nothing",
            hint=f"it began with {', '.join(sorted(known))}" if known else "give none",
        )


def _refuse_models(task: Task, env: Mapping[str, str], gates: Gates) -> None:
    """Refuse a model that cannot answer before anything is created, paid or changed."""
    _refuse(model_faults(task, env, gates))
