"""Puts the parts of a run together: for a new run, and for one that goes on.

Owns the wiring and the order in which parts are opened and closed. Relies on every room below; never prints
and never reads the environment: the caller passes it in.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from loop_runner import agent_runs, config, inputs, prompts, verify
from loop_runner.budget import Ledger
from loop_runner.config import Task
from loop_runner.errors import ConfigError
from loop_runner.events import Event, Listener, Trace
from loop_runner.hooks import external as hooks
from loop_runner.hooks.agent import NoKernel
from loop_runner.kernel.kernel import Kernel
from loop_runner.loop import Loop, Models, PassFiles
from loop_runner.model import prices, registry
from loop_runner.model.client import ModelClient
from loop_runner.model.switchboard import Switchboard
from loop_runner.profiles import Profile, profile
from loop_runner.records import Call, Checkpoint, Inputs, Message, Outcome
from loop_runner.session import SubCalls
from loop_runner.stop_hook import StopHook
from loop_runner.workspace.history import History, parsing
from loop_runner.workspace.workspace import Workspace

_SHOWN_SKIPPED = 20
_EXAMPLE = {"example/question.md": "example_question", "example/reply.md": "example_reply"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is given from outside."""

    env: Mapping[str, str]
    listeners: tuple[Listener, ...] = ()
    should_stop: Callable[[], bool] = lambda: False


@dataclass(frozen=True, slots=True)
class Stead:
    """What a replay puts in the place of the models, the ledger, the gates and other parts."""

    open_client: Callable[[str], ModelClient]
    ledger: Ledger
    stop_hook: StopHook
    pass_files: PassFiles
    kernel: type[Kernel] = Kernel


def start(task: Task, folder: Path, around: Surroundings) -> Outcome:
    """Create the run folder ``folder`` and run ``task`` in it to one of its ends.

    Raises ``ConfigError`` for inputs, models or verifiers that cannot work, before anything is created.
    """
    with _created(task, folder, around.env) as (settled, texts, workspace):
        return run_in(workspace, settled, texts, around, folder)


def create(task: Task, folder: Path, env: Mapping[str, str]) -> None:
    """Create the run folder ``folder`` for ``task`` and start nothing: ``resume`` begins with pass 1."""
    with _created(task, folder, env):
        return


@contextmanager
def _created(task: Task, folder: Path, env: Mapping[str, str]) -> Iterator[tuple[Task, Inputs, Workspace]]:
    task = _with_models(task, env)
    texts = inputs.load(task.inputs, task.base_dir) if task.inputs or not task.is_agent else Inputs(())
    verify.build(task.verifiers, task.base_dir)
    hooks.build(task.stop_hooks, task.base_dir)
    _check_models(task, env)
    model_files, about = agent_runs.beginning(task)
    files = {
        **task_files(task, texts),
        "inputs.json": inputs.to_json(texts, task.base_dir).encode(),
        **about,
    }
    scope = agent_runs.scope(task, folder)
    with Workspace.create(
        folder, name=task.name, files=files, model_files=model_files, scope=scope
    ) as workspace:
        yield task, texts, workspace


def task_files(task: Task, texts: Inputs) -> dict[str, bytes]:
    """What a run folder keeps of its task: the task, the prompt, what the model is told of both."""
    ours = (
        {} if task.is_agent else {"system.md": _system_prompt(task, texts).encode(), **_example_files(task)}
    )
    return {"task.yaml": config.dump_task(task).encode(), "prompt.md": task.prompt.encode(), **ours}


def resume(
    folder: Path,
    around: Surroundings,
    overrides: tuple[tuple[str, object], ...] = (),
    *,
    inputs_folder: Path | None = None,
) -> Outcome:
    """Go on with the run in ``folder`` from its last commit. Raises ``WorkspaceError`` if it cannot be used.

    ``overrides`` change the frozen task for this process only (a larger budget, say); its commits say so.
    ``inputs_folder`` is where the inputs lie on this machine, if not where the run began with them.
    """
    with History(folder) as history, parsing(folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
    task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=overrides)
    with Workspace.open(folder, scope=agent_runs.scope(task, folder)) as workspace:
        if not any(key == "prompt" for key, _ in overrides):
            task = replace(task, prompt=_text(workspace, "prompt.md"))
        texts = frozen_inputs(_text(workspace, "inputs.json"), task.base_dir, inputs_folder)
        _check_models(task, around.env)
        workspace.overrides = json.dumps(dict(overrides), sort_keys=True) if overrides else ""
        return run_in(workspace, task, texts, around, folder)


def frozen_inputs(source: str, base_dir: Path, elsewhere: Path | None = None) -> Inputs:
    """The inputs that ``inputs.json`` names, found where they lie now; ``elsewhere`` is looked in first.

    Raises ``ConfigError`` when one is missing or is not what the run began with.
    """
    texts = inputs.from_json(source, base_dir)
    if elsewhere is not None:
        texts = inputs.found_in(texts, elsewhere)
    _refuse_changed_inputs(texts)
    return texts


def run_in(
    workspace: Workspace,
    task: Task,
    texts: Inputs,
    around: Surroundings,
    folder: Path,
    stead: Stead | None = None,
) -> Outcome:
    """Open the parts of a run, run its loop to one of its ends, and close them."""
    root, sub = _models(task)
    sizes = profile("agent" if task.is_agent else registry.profile_name(root))
    if stead is None:
        stead = Stead(
            lambda model: registry.client_for(model, base_dir=task.base_dir, env=around.env),
            Ledger(task.budget, workspace.spend(prices.price)),
            StopHook(
                (
                    *verify.build(task.verifiers, task.base_dir),
                    *hooks.build(task.stop_hooks, task.base_dir),
                )
            ),
            lambda _number, files: files,
        )
    ledger = stead.ledger
    workspace.started = datetime.now(UTC).isoformat(timespec="milliseconds")
    with ExitStack() as stack:
        trace = Trace(workspace.private_folder / "events.jsonl", around.listeners)
        stack.callback(trace.close)
        trace.append(_started(task, texts, folder, workspace.head()))
        switchboard = Switchboard(
            stead.open_client,
            log=workspace.journal,
            # A reply served from the journal is charged too: what is committed does not count it yet.
            on_call=lambda call, _replayed: _charge(ledger, call),
        )
        stack.callback(switchboard.close)
        sub_calls = SubCalls(
            switchboard, ledger, model=sub, max_reply_tokens=sizes.max_reply_tokens, trace=trace
        )
        settings = replace(
            task.kernel, max_output_chars=min(task.kernel.max_output_chars, sizes.max_output_chars)
        )
        agent = None
        if task.is_agent:
            agent = agent_runs.agent(task, workspace, around.env, trace, around.should_stop)
            stack.callback(agent.close)
            kernel = cast("Kernel", NoKernel())
        else:
            kernel = stead.kernel(settings, texts, workspace.model_folder, sub_calls, switchboard.loop)
            stack.callback(kernel.close)
        if lost := workspace.journal.unanswered():
            trace.append(Event("notice", _in_flight(lost), data={"in_flight": lost}))
        if workspace.set_aside:
            trace.append(Event("notice", f"changed files were set aside: {workspace.set_aside}"))
        system = _text(workspace, "system.md")
        window = registry.window_tokens(root) if root else 0
        outcome = Loop(
            task,
            inputs=texts,
            workspace=workspace,
            models=Models(root, system, _example(workspace), sizes, window),
            switchboard=switchboard,
            kernel=kernel,
            stop_hook=stead.stop_hook,
            ledger=ledger,
            trace=trace,
            should_stop=around.should_stop,
            open_agent_pass=None if agent is None else agent_runs.passes(agent, workspace, ledger, trace),
            pass_files=stead.pass_files,
        ).run()
        if agent is not None:
            agent.close(agent_runs.notice(outcome))
        return outcome


def _text(workspace: Workspace, path: str) -> str:
    """A file of ours; ``WorkspaceError`` when somebody put something into it that is no text."""
    with parsing(workspace.folder, path):
        return (workspace.read(path) or b"").decode()


def _models(task: Task) -> tuple[str, str]:
    """The root model and the sub-model of a task whose models are settled."""
    root = task.model or ""
    return root, task.sub_model or root


def _check_models(task: Task, env: Mapping[str, str]) -> None:
    """Refuse a model that cannot answer before anything is made, paid or changed."""
    for model in dict.fromkeys(filter(None, _models(task))):
        registry.check(model, base_dir=task.base_dir, env=env)


def _started(task: Task, texts: Inputs, folder: Path, head: Checkpoint) -> Event:
    """The first event of every start: what is worked on, by whom, where, and what was left out."""
    root, sub = _models(task)
    replaced = [text.replaced_bytes for text in texts.texts if text.replaced_bytes]
    data: dict[str, object] = {
        "run": str(folder),
        "model": root,
        "sub_model": sub,
        "texts": len(texts.texts),
        "bytes": texts.total_bytes,
        "skipped": inputs.skipped_by_kind(texts),
        "first_skipped": [list(each) for each in texts.skipped[:_SHOWN_SKIPPED]],
        "texts_not_utf8": len(replaced),
        "bytes_not_utf8": sum(replaced),
    }
    return Event("run_started", "", head.pass_number, head.turn, data)


def _in_flight(lost: int) -> str:
    what, they = ("1 request was", "it is") if lost == 1 else (f"{lost:,} requests were", "they are")
    return (
        f"{what} in flight when the run was stopped, with no reply written down: {they} sent again,"
        " and the provider may bill both"
    )


def _charge(ledger: Ledger, call: Call) -> None:
    model = call.model
    usd = prices.price(model, call.reply.usage)
    ledger.charge_request(call.reply.usage, usd, is_subcall=call.kind == "sub")


def _with_models(task: Task, env: Mapping[str, str]) -> Task:
    """The task with its models settled: named ones, else what the environment and the cache offer."""
    if task.is_agent and not task.model:
        return task  # the agent brings its own
    root = task.model or registry.default_model(env)
    return replace(task, model=root, sub_model=task.sub_model or registry.default_sub_model(root))


def _system_prompt(task: Task, texts: Inputs) -> str:
    sizes: Profile = profile(registry.profile_name(task.model or ""))
    return prompts.render(
        f"system{sizes.suffix}",
        inputs=_describe(texts),
        max_output_chars=min(task.kernel.max_output_chars, sizes.max_output_chars),
        sub_prompt_chars=f"{sizes.sub_prompt_chars:,}",
        requirements=_requirements(task),
    )


def _example_files(task: Task) -> dict[str, bytes]:
    """The worked turn of a profile that has one, frozen like the rest of what the model is told."""
    sizes = profile(registry.profile_name(task.model or ""))
    if not sizes.has_example:
        return {}
    return {path: prompts.render(f"{stem}{sizes.suffix}").encode() for path, stem in _EXAMPLE.items()}


def _example(workspace: Workspace) -> tuple[Message, ...]:
    question, reply = (workspace.read(path) for path in _EXAMPLE)
    if question is None or reply is None:
        return ()
    return Message("user", question.decode()), Message("assistant", reply.decode())


def _requirements(task: Task) -> str:
    gates = (*verify.build(task.verifiers, task.base_dir), *hooks.build(task.stop_hooks, task.base_dir))
    asked = [gate.requirement for gate in gates]
    return "\n".join(f"- {line}" for line in asked)


def _describe(texts: Inputs) -> str:
    megabytes = texts.total_bytes / 1e6
    if texts.is_single:
        return f"`context` is one text (`str`): {texts.texts[0].name}, {megabytes:.2f} MB."
    first = ", ".join(f"`{text.name}`" for text in texts.texts[:5])
    return (
        f"`context` maps {len(texts.texts):,} names to texts (`str`), {megabytes:.1f} MB in all; "
        f"`context[name]` is one of them. The first names: {first}."
    )


def _refuse_changed_inputs(texts: Inputs) -> None:
    changed = inputs.changed(texts)
    if not changed:
        return
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    paths = {text.name: text.path for text in texts.texts}
    if gone := [name for name in changed if not paths[name].exists()]:
        raise ConfigError(
            f"{len(gone)} of {len(texts.texts)} inputs are not there: {paths[gone[0]]}"
            + (f" and {len(gone) - 1} more" if len(gone) > 1 else ""),
            why="a run folder names its inputs and their hashes; it does not hold them",
            hint="put them there, or say where they lie on this machine with --inputs DIR",
        )
    raise ConfigError(
        f"{len(changed)} of {len(texts.texts)} inputs have changed since the run began: {shown}",
        why="notes, variables and citations of earlier passes are about the old texts",
        hint="put the old files back, or start a new run",
    )
