"""Checks a task and gathers everything that its run folder begins with, before anything is created."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from loop_runner import inputs
from loop_runner.agents import agent_runs
from loop_runner.records import (
    Inputs,
)
from loop_runner.runs import origin, preflight, watchers
from loop_runner.runs.context import RunContext, StartingFiles
from loop_runner.runs.frozen import (
    session_file,
    task_files,
    templates_of,
)
from loop_runner.runs.models import (
    model_faults,
    with_models,
)
from loop_runner.task.config import Task
from loop_runner.verify import Gates
from loop_runner.workspace.called_tools import TOOLS_FILE
from loop_runner.workspace.git.fast_import import Blob

if TYPE_CHECKING:
    from loop_runner.tools import ToolSpec


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that a run folder begins with, checked; ``files`` are the runner's, by path."""

    task: Task
    texts: Inputs
    gates: Gates
    files: Mapping[str, bytes]
    model_files: Mapping[bytes, Blob]
    tools: tuple[ToolSpec, ...] = ()


def check(task: Task, env: Mapping[str, str]) -> tuple[Task, Inputs, Gates]:
    """Check everything that can be checked before the first request; create nothing and ask no model.

    Returns the task with its models settled, its inputs and its verifiers. Raises one ``LoopRunnerError`` for
    all faults.
    """
    settled, texts, gates, _ = _checked(task, env, None)
    return settled, texts, gates


def _checked(
    task: Task, env: Mapping[str, str], texts: Inputs | None
) -> tuple[Task, Inputs, Gates, dict[str, bytes]]:
    """The task, its inputs (``texts`` if they are given), its verifiers and the files of fetched inputs."""
    faults, gates = preflight.Faults(), preflight.gates(task)
    settled, taken, fetched = task, texts or Inputs(()), {}
    with faults.collecting():
        settled = with_models(task, env)
    has_models = not faults.errors
    with faults.collecting():
        fetch = _fetcher(task, env)
        if texts is None and (task.inputs or not task.is_agent):
            taken = _take_in(task, env, fetch, gates)
            fetched = dict(fetch.files) if fetch is not None else {}
    unready = gates.unready()
    faults.errors += [*unready, *preflight.programs(task, env)]
    if not unready:
        with faults.collecting():
            # A run whose texts are given is resumed at once, with settings of that call, and checked then.
            faults.errors += preflight.sandbox(task, gates) if texts is None else ()
            gates.refuse(taken)
        faults.errors += model_faults(settled, env, gates) if has_models else []
    with faults.collecting():
        templates_of(task)
    with faults.collecting():
        preflight.tools(task, env)
        watchers.check(task, env)
    faults.refuse()
    return settled, taken, gates, fetched


def prepared(task: Task, context: RunContext, beginning: StartingFiles | None) -> _Prepared:
    """Everything that a run folder of ``task`` begins with. Raises one error for all that is wrong."""
    texts = None if beginning is None else beginning.texts
    task, texts, gates, fetched = _checked(task, context.env, texts)
    templates = templates_of(task)
    model_files, about = agent_runs.beginning(task)
    tools = _tools(task, context)
    if any(tool.kind == "fetch" for tool in tools):
        texts = replace(texts, is_single=False)  # others will come
    new_files = task_files(task, texts, templates, gates, tools)
    new_files["system.md"] += agent_runs.notes(about)
    files = {
        **new_files,
        "inputs.json": inputs.to_json(texts, task.base_dir).encode(),
        **fetched,
        **templates.to_files(),
        **session_file(task, texts, context, new_files),
        # An agent may work in the task's folder: what was there before must be known after a restart, too.
        **(gates.programs.to_files() if gates.programs.files or task.is_agent else {}),
        **_tools_file(tools),
        **about,
        **origin.to_files(task),
    }
    return _Prepared(task, texts, gates, files, model_files, tools)


def _tools(task: Task, context: RunContext) -> tuple[ToolSpec, ...]:
    """The task's tools, described: their processes are started for that."""
    if not task.tools:
        return ()
    from loop_runner.tools import preparing, read_entries

    base_dir = task.base_dir.resolve()
    return preparing.specs(read_entries(task.tools), base_dir, context.env, task.tool_functions)


def _tools_file(tools: tuple[ToolSpec, ...]) -> dict[str, bytes]:
    if not tools:
        return {}
    from loop_runner.tools import specs_to_json

    return {TOOLS_FILE: specs_to_json(tools)}


def _take_in(task: Task, env: Mapping[str, str], fetch: inputs.Fetcher | None, gates: Gates) -> Inputs:
    converter = inputs.Converter(inputs.cache_dir(env), task.kernel.require_tier)
    strict = task.input_settings.strict
    own = _own_files(task, gates)
    return inputs.load(
        task.inputs,
        task.base_dir,
        converter=converter,
        fetch=fetch,
        strict=strict,
        own=own,
        takes_images=task.type != "audit",
    )


def _own_files(task: Task, gates: Gates) -> list[Path]:
    """The task file, what verifiers and stop hooks are made of, and the scripts of script models."""
    models = [task.model, task.sub_model, *task.sub_models]
    scripts = [task.base_dir / name.removeprefix("script:") for name in models if _is_script(name)]
    paths = [
        *([task.file] if task.file is not None else []),
        *scripts,
        *gates.sources,
    ]
    return [path for path in paths if path.is_file()]


def _is_script(model: str | None) -> TypeGuard[str]:
    return model is not None and model.startswith("script:")


def _fetcher(task: Task, env: Mapping[str, str]) -> inputs.Fetcher | None:
    """What fetches addresses, where the task says that they may be."""
    settings = task.input_settings
    if not settings.urls and not task.data:
        return None
    return inputs.Fetcher(
        inputs.cache_dir(env),
        allows_private=settings.private_addresses,
        allows_web=settings.urls,
        data=task.data,
    )
