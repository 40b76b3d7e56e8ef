"""Puts the parts of a run together: for a new run, and for one that goes on.

Owns the wiring and the order in which parts are opened and closed. Relies on every room below; never prints
and never reads the environment: the caller passes it in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from loop_runner import config, direct, inputs, prompts, verify
from loop_runner.budget import Ledger
from loop_runner.children import Children, ChildSettings, describe
from loop_runner.config import Task
from loop_runner.errors import ConfigError, ModelError
from loop_runner.events import Event, Listener, Trace
from loop_runner.json_schema import SchemaChecker
from loop_runner.kernel.kernel import Kernel
from loop_runner.loop import Loop, Models
from loop_runner.model import prices, registry
from loop_runner.model.client import Setting, TokenCounter
from loop_runner.model.limiter import Policy, Retry
from loop_runner.model.switchboard import Switchboard
from loop_runner.profiles import Profile, profile
from loop_runner.records import Checkpoint, Inputs, Message, Outcome, Request, Usage
from loop_runner.stop_hook import StopHook
from loop_runner.subcalls import Shared, SubCalls, SubModels
from loop_runner.workspace import durable
from loop_runner.workspace.history import parsing
from loop_runner.workspace.workspace import Workspace

_SHOWN_SKIPPED = 20
_EXAMPLE = {"example/question.md": "example_question", "example/reply.md": "example_reply"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is given from outside."""

    env: Mapping[str, str]
    listeners: tuple[Listener, ...] = ()
    should_stop: Callable[[], bool] = lambda: False
    policy: Policy | None = None  # of tries that failed; None: the usual patience


def start(task: Task, folder: Path, around: Surroundings) -> Outcome:
    """Create the run folder ``folder`` and run ``task`` in it to one of its ends.

    Raises ``ConfigError`` for inputs, models or verifiers that cannot work, before anything is created.
    """
    task = _with_models(task, around.env)
    texts = inputs.load(task.inputs, task.base_dir)
    verify.build(task.verifiers, task.base_dir)
    _check_models(task, around.env)
    files = {
        "task.yaml": config.dump_task(task).encode(),
        "prompt.md": task.prompt.encode(),
        "system.md": _system_prompt(task, texts).encode(),
        **_session_files(task, texts, around),
        "child_system.md": _child_system_prompt(task).encode(),
        **_example_files(task),
        "inputs.json": inputs.to_json(texts, task.base_dir).encode(),
    }
    with Workspace.create(folder, name=task.name, files=files) as workspace:
        return _run(task, texts, workspace, around, folder)


def resume(folder: Path, around: Surroundings, overrides: tuple[tuple[str, object], ...] = ()) -> Outcome:
    """Go on with the run in ``folder`` from its last commit. Raises ``WorkspaceError`` if it cannot be used.

    ``overrides`` change the frozen task for this process only (a larger budget, say).
    """
    with Workspace.open(folder) as workspace:
        source = _text(workspace, "task.yaml")
        task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=overrides)
        _refuse_other_words(config.parse_task(source, label="task.yaml", base_dir=folder), task)
        task = replace(task, prompt=_text(workspace, "prompt.md"))
        texts = inputs.from_json(_text(workspace, "inputs.json"), task.base_dir)
        _refuse_changed_inputs(texts)
        _check_models(task, around.env)
        return _run(task, texts, workspace, around, folder)


def _run(task: Task, texts: Inputs, workspace: Workspace, around: Surroundings, folder: Path) -> Outcome:
    root, _ = _models(task)
    sizes = profile(registry.profile_name(root))
    price = prices.with_rates(task.prices)
    # What the journal holds is paid for, and in no commit yet.
    ledger = Ledger(task.budget, workspace.spend(price), price=price, unmet=workspace.journal.calls())
    with ExitStack() as stack:
        stack.enter_context(_rare_collections())
        trace = Trace(workspace.private_folder / "events.jsonl", around.listeners)
        stack.callback(trace.close)
        trace.append(_started(task, texts, folder, workspace.head(), _session_kind(workspace)))
        parts = _Parts(stack, task, trace, ledger)
        switchboard, sub_calls = parts.models(workspace, texts, around)
        settings = replace(
            task.kernel, max_output_chars=min(task.kernel.max_output_chars, sizes.max_output_chars)
        )
        kernel = Kernel(settings, texts, workspace.model_folder, sub_calls, switchboard.loop)
        stack.callback(kernel.close)
        if workspace.set_aside:
            trace.append(Event("notice", f"changed files were set aside: {workspace.set_aside}"))
        system = _text(workspace, "system.md")
        return Loop(
            task,
            inputs=texts,
            workspace=workspace,
            models=Models(
                root,
                system,
                _example(workspace),
                sizes,
                registry.window_tokens(root),
                _text(workspace, "system.direct.md"),
                _session_kind(workspace),
            ),
            switchboard=switchboard,
            sub_calls=sub_calls,
            kernel=kernel,
            stop_hook=StopHook(verify.build(task.verifiers, task.base_dir)),
            ledger=ledger,
            trace=trace,
            should_stop=around.should_stop,
        ).run()


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Look for unreachable circles less often.

    A batch has ten thousand calls' objects alive at once; going through them again and again took a fifth of
    the time of the loop that serves them.
    """
    import gc

    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Opens what reaches the models; all of it is closed by ``stack``."""

    stack: ExitStack
    task: Task
    trace: Trace
    ledger: Ledger

    def models(
        self, workspace: Workspace, texts: Inputs, around: Surroundings
    ) -> tuple[Switchboard, SubCalls]:
        """The switchboard and the sub-calls of the run's own session."""
        task, stack = self.task, self.stack
        root, sub = _models(task)
        checker = SchemaChecker()
        stack.callback(checker.close)
        checking = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="schemas"))
        setting = Setting(
            task.base_dir,
            around.env,
            private_dir=workspace.private_folder,
            write=durable.replace,
            position=lambda: workspace.head().commit,
            seconds_left=lambda: cast("float | None", self.ledger.left()["seconds"]),
            tell=lambda said: self.trace.append(Event("notice", said)),
        )
        closing = stack.enter_context(ExitStack())  # the children's threads outlive the switchboard's loop
        switchboard = Switchboard(
            lambda model: registry.client_for(model, base_dir=task.base_dir, setting=setting),
            log=workspace.journal,
            meter=self.ledger,
            on_retry=lambda retry: self.trace.append(_retried(retry)),
            width=task.width,
            policy=around.policy,
        )
        stack.callback(switchboard.close)
        sizes = profile(registry.profile_name(sub))
        sub_models = SubModels(sub, root, task.sub_models, sizes.max_reply_tokens)
        shared = Shared(switchboard, self.ledger, sub_models, self.trace, checker, checking)
        kernel = replace(
            task.kernel, max_output_chars=min(task.kernel.max_output_chars, sizes.max_output_chars)
        )
        children = Children(
            shared,
            ChildSettings(
                kernel=kernel,
                system=_child_system(workspace, task),
                turns=min(task.budget.child_turns, task.budget.turns),
                max_reply_tokens=sizes.max_reply_tokens,
                window_tokens=registry.window_tokens,
                width=task.child_width,
            ),
        )
        closing.callback(children.close)
        return switchboard, SubCalls(shared, children.run, texts)


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
    models = tuple(dict.fromkeys((*_models(task), *task.sub_models)))
    for model in models:
        registry.check(model, base_dir=task.base_dir, env=env)
    if task.budget.usd is not None:
        price = prices.with_rates(task.prices)
        if unknown := [model for model in models if price(model, Usage(1, 1)) is None]:
            raise ConfigError(
                f"budget.usd is set, and there is no known price for {', '.join(unknown)}",
                why="a limit in dollars that nobody can add up would never be reached",
                hint="give the rate per million tokens: "
                f"prices: {{{unknown[0]!r}: {{input: 1.0, output: 5.0}}}}, or limit budget.tokens instead",
            )


def _started(task: Task, texts: Inputs, folder: Path, head: Checkpoint, session: direct.Decision) -> Event:
    """The first event of every start: what is worked on, by whom, where, and what was left out."""
    root, sub = _models(task)
    replaced = [text.replaced_bytes for text in texts.texts if text.replaced_bytes]
    data: dict[str, object] = {
        "run": str(folder),
        "model": root,
        "sub_model": sub,
        "prices": prices.source(),
        "texts": len(texts.texts),
        "bytes": texts.total_bytes,
        "session": session.kind,
        "session_why": session.why,
        "skipped": inputs.skipped_by_kind(texts),
        "first_skipped": [list(each) for each in texts.skipped[:_SHOWN_SKIPPED]],
        "texts_not_utf8": len(replaced),
        "bytes_not_utf8": sum(replaced),
    }
    return Event("run_started", "", head.pass_number, head.turn, data)


def _retried(retry: Retry) -> Event:
    """One more try, with what it waits for."""
    said = f"{retry.provider}: {retry.reason}; trying again in {retry.pause_s:.1f} s, {retry.width} at a time"
    data = {
        "provider": retry.provider,
        "reason": retry.reason,
        "failed_tries": retry.number,
        "pause_s": round(retry.pause_s, 3),
        "width": retry.width,
    }
    return Event("retried", said, data=data)


def _with_models(task: Task, env: Mapping[str, str]) -> Task:
    """The task with its models settled: named ones, else what the environment and the cache offer."""
    root = task.model or registry.default_model(env)
    return replace(task, model=root, sub_model=task.sub_model or registry.default_sub_model(root))


def _system_prompt(task: Task, texts: Inputs) -> str:
    sizes: Profile = profile(registry.profile_name(task.model or ""))
    return prompts.render(
        f"system{sizes.suffix}",
        inputs=describe(texts),
        max_output_chars=min(task.kernel.max_output_chars, sizes.max_output_chars),
        sub_prompt_chars=f"{sizes.sub_prompt_chars:,}",
        requirements=_requirements(task),
        history=task.history,
        has_tool=task.code_as == "tool",
    )


def _session_files(task: Task, texts: Inputs, around: Surroundings) -> dict[str, bytes]:
    """How the passes are held, decided once: a run that goes on must not decide otherwise."""
    if task.session == "rlm":
        return {}
    root = task.model or ""
    system = prompts.render("system.direct", requirements=_requirements(task))
    reply_tokens = profile(registry.profile_name(root)).max_reply_tokens
    decision = direct.decide(
        task.session,
        lambda: Request(
            root, (direct.first_message(texts, task.prompt, 0),), system, max_output_tokens=reply_tokens
        ),
        texts,
        room_tokens=registry.window_tokens(root) - reply_tokens,
        count=lambda request: _count_tokens(request, task.base_dir, around.env),
    )
    return {"system.direct.md": system.encode(), "session.json": decision.to_json()}


def _count_tokens(request: Request, base_dir: Path, env: Mapping[str, str]) -> int | None:
    """What the provider counts, if it does; asked before there is a run that could pay for anything."""

    async def count() -> int | None:
        client = registry.client_for(request.model, base_dir=base_dir, env=env)
        try:
            return await client.count_tokens(request) if isinstance(client, TokenCounter) else None
        except ModelError:
            return None
        finally:
            await client.close()

    return asyncio.run(count())


def _session_kind(workspace: Workspace) -> direct.Decision:
    with parsing(workspace.folder, "session.json"):
        return direct.from_json(workspace.read("session.json"))


def _child_system_prompt(task: Task) -> str:
    """What every child session is told first: the same for all of them, so that a provider can cache it."""
    sizes = profile(registry.profile_name(task.sub_model or task.model or ""))
    return prompts.render(
        "system_child",
        max_output_chars=min(task.kernel.max_output_chars, sizes.max_output_chars),
        sub_prompt_chars=f"{sizes.sub_prompt_chars:,}",
    )


def _child_system(workspace: Workspace, task: Task) -> str:
    """The frozen text; a run of an earlier version has none."""
    return _text(workspace, "child_system.md") or _child_system_prompt(task)


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
    asked = [verifier.requirement for verifier in verify.build(task.verifiers, task.base_dir)]
    return "\n".join(f"- {line}" for line in asked)


def _refuse_other_words(frozen: Task, task: Task) -> None:
    """Refuse a change of what the model was told in the system prompt, which never changes."""
    for key in ("history", "session", "code_as"):
        if getattr(frozen, key) != getattr(task, key):
            raise ConfigError(
                f"`{key}` cannot be changed for a run that has begun",
                why="the system prompt of the run tells the model the other thing",
                hint="start a new run with it",
            )


def _refuse_changed_inputs(texts: Inputs) -> None:
    changed = inputs.changed(texts)
    if changed:
        shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        raise ConfigError(
            f"{len(changed)} of {len(texts.texts)} inputs have changed since the run began: {shown}",
            why="notes, variables and citations of earlier passes are about the old texts",
            hint="put the old files back, or start a new run",
        )
