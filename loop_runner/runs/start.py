"""Puts the parts of a run together: for a new run, and for one that goes on.

Owns the wiring and the order in which parts are opened and closed. Relies on every room below; never prints
and never reads the environment: the caller passes it in.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeGuard, cast

from loop_runner import inputs, redaction, scratch
from loop_runner.agents import run
from loop_runner.budget import Ledger, describe_limits
from loop_runner.errors import ConfigError, LoopRunnerError, ModelError
from loop_runner.events import Event, Listener, Trace
from loop_runner.kernel import packages
from loop_runner.kernel.kernel import Kernel
from loop_runner.kernel.lm_handler import Delegation
from loop_runner.kernel.offered import offered
from loop_runner.loop.course import Course
from loop_runner.loop.loop import GateTools, Loop, PassFiles
from loop_runner.loop.passes import Models, OfAgent, Passes
from loop_runner.loop.stopping import Stop
from loop_runner.model import prices, registry
from loop_runner.model.client import ModelClient, Setting, TokenCounter, redacted
from loop_runner.model.limiter import Policy, Retry
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import (
    Checkpoint,
    ChildRecord,
    Inputs,
    KernelSettings,
    Message,
    Outcome,
    Request,
    Usage,
)
from loop_runner.runs import origin, preflight, trust
from loop_runner.session import direct
from loop_runner.session.child import Children, ChildSettings
from loop_runner.session.conversation import is_over_window, printed
from loop_runner.session.overview import Reader, describe
from loop_runner.session.session import RunParts
from loop_runner.session.subcalls import ChildTask, Shared, SubCalls, SubModels
from loop_runner.task import config, prompt_size, prompts
from loop_runner.task.config import Task
from loop_runner.task.profiles import Profile, profile
from loop_runner.task.prompts import Templates
from loop_runner.text import code, plural
from loop_runner.verify import Gates, Inquiry, Means, Programs, Verifier
from loop_runner.verify import fence as gate_sandbox
from loop_runner.verify.checks import Checks
from loop_runner.verify.json_schema import SchemaChecker
from loop_runner.verify.panel import HoldSession, LivePanel
from loop_runner.verify.stop_hook import StopHook
from loop_runner.workspace import durable
from loop_runner.workspace.git.fast_import import Blob
from loop_runner.workspace.history import History, parsing
from loop_runner.workspace.workspace import Workspace

_SHOWN_SKIPPED = 20
_SHOWN_FAULTS = 10
_SYSTEM_TOKENS = 1500  # of the window, for the system prompt
_HIGH_CHARS_PER_TOKEN = 6  # no ordinary text has more, so a prompt over the window by this count is too long
_EXAMPLE = {"example/question.md": "example_question", "example/reply.md": "example_reply"}
# The helpers that a child session is told of; the others are there too.
_OF_CHILDREN = ("search_text", "outline", "read", "chunks", "rows", "cite", "llm_query", "llm_batch")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run is given from outside."""

    env: Mapping[str, str]
    listeners: tuple[Listener, ...] = ()
    should_stop: Callable[[], bool] = lambda: False
    policy: Policy | None = None  # of tries that failed; None: the usual patience


@dataclass(frozen=True, slots=True)
class Stead:
    """What a replay puts in the place of the models, the ledger, the gates and other parts."""

    open_client: Callable[[str], ModelClient] | None  # None: the providers' own
    ledger: Ledger
    stop_hook: Callable[[Sequence[Verifier], Means], StopHook]
    pass_files: PassFiles
    kernel: type[Kernel] = Kernel


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a caller has made ready for a new run: its texts, and the first files of ``workspace/``."""

    texts: Inputs
    files: Mapping[str, bytes] = field(default_factory=dict)


def start(task: Task, folder: Path, around: Surroundings, beginning: Beginning | None = None) -> Outcome:
    """Create the run folder ``folder`` and run ``task`` in it to one of its ends.

    With ``beginning`` its texts are taken and the task's ``inputs`` are not looked at.
    Raises ``ConfigError`` for inputs, models or verifiers that cannot work, before anything is created.
    """
    with ExitStack() as stack:
        kernels: list[Kernel] = []

        def start_kernel(settled: Task, texts: Inputs, model_folder: Path) -> None:
            """Have the kernel's process start while the run folder is made."""
            kernels.append(Kernel(_kernel_settings(settled), texts, model_folder))
            stack.callback(kernels[0].close)
            kernels[0].warm()

        made = _created(task, folder, around, beginning, start_kernel)
        settled, texts, gates, workspace = stack.enter_context(made)
        kernel = kernels[0] if kernels else None
        return run_in(workspace, settled, texts, around, folder, gates=gates, kernel=kernel)


def create(task: Task, folder: Path, env: Mapping[str, str], beginning: Beginning | None = None) -> None:
    """Create the run folder ``folder`` for ``task`` and start nothing: ``resume`` begins with pass 1."""
    with _created(task, folder, Surroundings(env), beginning):
        return


@contextmanager
def _created(
    task: Task,
    folder: Path,
    around: Surroundings,
    beginning: Beginning | None = None,
    start_kernel: Callable[[Task, Inputs, Path], None] | None = None,
) -> Iterator[tuple[Task, Inputs, Gates, Workspace]]:
    redaction.learn(around.env)
    ready = _prepared(replace(task, prompt=redaction.clean(task.prompt)), around, beginning)
    task, texts, files = ready.task, ready.texts, ready.files
    model_files = dict(ready.model_files)
    if beginning is not None:
        model_files |= {f"workspace/{path}".encode(): Blob(data) for path, data in beginning.files.items()}
    scope = run.scope(task, folder)

    def mark(repository: Path) -> None:
        if why := trust.mark(folder, around.env, unplaced=repository):
            notice = f"this run folder is not marked as yours, so `resume` will ask for --trust: {why}"
            for listener in around.listeners:
                listener(Event("notice", notice))

    needs_kernel = start_kernel is not None and not task.is_agent and task.session == "rlm"
    with Workspace.create(
        folder,
        name=task.name,
        files=files,
        model_files=model_files,
        scope=scope,
        before_placing=mark,
        when_claimed=partial(start_kernel, task, texts) if start_kernel and needs_kernel else None,
    ) as workspace:
        yield task, texts, ready.gates, workspace


@dataclass(frozen=True, slots=True)
class _Prepared:
    """Everything that a run folder begins with, checked; ``files`` are the runner's, by path."""

    task: Task
    texts: Inputs
    gates: Gates
    files: Mapping[str, bytes]
    model_files: Mapping[bytes, Blob]


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
        settled = _with_models(task, env)
    has_models = not faults.found
    with faults.collecting():
        fetch = _fetcher(task, env)
        if texts is None and (task.inputs or not task.is_agent):
            taken = _take_in(task, env, fetch, gates)
            fetched = dict(fetch.files) if fetch is not None else {}
    unready = gates.unready()
    faults.found += [*unready, *preflight.programs(task, env)]
    if not unready:
        with faults.collecting():
            # A run whose texts are given is resumed at once, with settings of that call, and checked then.
            faults.found += preflight.sandbox(task, gates) if texts is None else ()
            gates.refuse(taken)
        faults.found += _model_faults(settled, env, gates) if has_models else []
    with faults.collecting():
        _templates(task)
    faults.refuse()
    return settled, taken, gates, fetched


def _prepared(task: Task, around: Surroundings, beginning: Beginning | None) -> _Prepared:
    texts = None if beginning is None else beginning.texts
    task, texts, gates, fetched = _checked(task, around.env, texts)
    templates = _templates(task)
    model_files, about = run.beginning(task)
    ours = task_files(task, texts, templates, gates)
    ours["system.md"] += run.notes(about)
    files = {
        **ours,
        "inputs.json": inputs.to_json(texts, task.base_dir).encode(),
        **fetched,
        **templates.to_files(),
        **_session_file(task, texts, around, ours),
        # An agent may work in the task's folder: what was there before must be known after a restart, too.
        **(gates.programs.to_files() if gates.programs.files or task.is_agent else {}),
        **about,
        **origin.to_files(task),
    }
    return _Prepared(task, texts, gates, files, model_files)


def _templates(task: Task) -> Templates:
    return prompts.of_task(task.type, None if task.prompts == "none" else task.base_dir / task.prompts)


def _take_in(task: Task, env: Mapping[str, str], fetch: inputs.Fetcher | None, gates: Gates) -> Inputs:
    converter = inputs.Converter(inputs.cache_dir(env), task.kernel.require_tier)
    strict = task.input_settings.strict
    own = _own_files(task, gates)
    return inputs.load(task.inputs, task.base_dir, converter=converter, fetch=fetch, strict=strict, own=own)


def _own_files(task: Task, gates: Gates) -> list[Path]:
    """The task file, what verifiers and stop hooks are made of, and the scripts of script models."""
    models = [task.model, task.sub_model, *task.sub_models]
    scripts = [task.base_dir / name.removeprefix("script:") for name in models if _is_script(name)]
    found = [
        *([task.file] if task.file is not None else []),
        *scripts,
        *gates.sources,
    ]
    return [path for path in found if path.is_file()]


def _is_script(model: str | None) -> TypeGuard[str]:
    return model is not None and model.startswith("script:")


def _fetcher(task: Task, env: Mapping[str, str]) -> inputs.Fetcher | None:
    """What fetches addresses, where the task says that they may be."""
    settings = task.input_settings
    if not settings.urls:
        return None
    return inputs.Fetcher(inputs.cache_dir(env), allows_private=settings.private_addresses)


def task_files(task: Task, texts: Inputs, templates: Templates, gates: Gates) -> dict[str, bytes]:
    """What a run folder keeps of its task: the task, the prompt, what the model is told of both."""
    ours = {"task.yaml": config.dump_task(task).encode(), "prompt.md": task.prompt.encode()}
    if task.is_agent:
        return ours | {"system.md": _agent_rules(task, templates, gates).encode()}
    return ours | {
        "system.md": _system_prompt(task, texts, templates, gates).encode(),
        **_direct_files(task, templates, gates),
        "child_system.md": _child_system_prompt(task, templates).encode(),
        **_example_files(task, templates),
    }


def resume(
    folder: Path,
    around: Surroundings,
    overrides: tuple[tuple[str, object], ...] = (),
    *,
    inputs_folder: Path | None = None,
    repin: bool = False,
) -> Outcome:
    """Go on with the run in ``folder`` from its last commit. Raises ``WorkspaceError`` if it cannot be used.

    ``overrides`` change the frozen task for this process only (a larger budget, say); its commits say so.
    ``inputs_folder`` is where the inputs lie on this machine, if not where the run began with them.
    ``repin`` takes the verifiers' programs as they are now, from the next pass's commit on.
    """
    redaction.learn(around.env)
    with History(folder) as history, parsing(folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
    task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=overrides)
    frozen = config.parse_task(source, label="task.yaml", base_dir=folder)
    refuse_other_words(frozen, task)
    task = follow_model(frozen, task)
    with Workspace.open(folder, scope=run.scope(task, folder)) as workspace:
        if not any(key == "prompt" for key, _ in overrides):
            task = replace(task, prompt=_text(workspace, "prompt.md"))
        texts = frozen_inputs(
            _text(workspace, "inputs.json"), task, workspace.read, around.env, inputs_folder
        )
        gates = frozen_gates(task, workspace, repin=repin).checked()
        _refuse_models(task, around.env, gates)
        workspace.overrides = json.dumps(dict(overrides), sort_keys=True) if overrides else ""
        _refuse(gates.unready() or preflight.sandbox(task, gates))
        return run_in(workspace, task, texts, around, folder, gates=gates)


def follow_model(old: Task, new: Task) -> Task:
    """``new`` with the sub-model that goes with its root model, where that is what ``old`` had."""
    if not old.model or not new.model or new.model == old.model or new.sub_model != old.sub_model:
        return new
    if old.sub_model not in (old.model, registry.default_sub_model(old.model)):
        return new
    return replace(new, sub_model=registry.default_sub_model(new.model))


def _refuse(found: Iterable[LoopRunnerError]) -> None:
    faults = preflight.Faults()
    faults.found += found
    faults.refuse()


def described_gates(task: Task, known: Programs) -> Gates:
    """The verifiers as far as they can be described with nothing started; ``known`` files are pinned."""
    return preflight.gates(task, known, starts_nothing=True).checked()


def frozen_gates(task: Task, workspace: Workspace, *, repin: bool = False) -> Gates:
    """The verifiers, with their programs as the run folder has them, and those that it does not have yet."""
    pinned = Programs() if repin else pinned_in(workspace.folder, workspace.read)
    return preflight.gates(task, pinned)


def pinned_in(folder: Path, read: Callable[[str], bytes | None], *, is_frozen: bool = False) -> Programs:
    """The programs that a run folder holds; ``WorkspaceError`` when somebody changed them there."""
    with parsing(folder, "gates/pins.json"):
        return Programs.from_files(read, is_frozen=is_frozen)


def frozen_inputs(
    source: str,
    task: Task,
    read: Callable[[str], bytes | None],
    env: Mapping[str, str],
    elsewhere: Path | None = None,
) -> Inputs:
    """The inputs that ``source`` (``inputs.json``) names, where they lie now; ``elsewhere`` is tried first.

    ``read`` gives files of the run folder. What was converted is converted again where the cache has lost it.
    Raises ``ConfigError`` when one is missing or is not what the run began with.
    """
    texts = inputs.from_json(source, task.base_dir)
    if elsewhere is not None:
        texts = inputs.found_in(texts, elsewhere)
    texts = restored_inputs(texts, task, read, env)
    _refuse_changed_inputs(texts)
    return texts


def restored_inputs(
    texts: Inputs, task: Task, read: Callable[[str], bytes | None], env: Mapping[str, str]
) -> Inputs:
    """``texts`` with those that were converted or fetched made again, where the cache has lost them."""
    cache = inputs.cache_dir(env)
    return inputs.restore(texts, inputs.Converter(cache, task.kernel.require_tier), cache, read)


def run_in(
    workspace: Workspace,
    task: Task,
    texts: Inputs,
    around: Surroundings,
    folder: Path,
    stead: Stead | None = None,
    *,
    gates: Gates,
    kernel: Kernel | None = None,
) -> Outcome:
    """Open the parts of a run, run its loop to one of its ends, and close them.

    ``kernel``: one that was made ahead, with a process that starts; the caller closes it.
    """
    redaction.learn(around.env)
    scratch.sweep()  # of runs that were killed
    root, _ = _models(task)
    sizes = profile(_profile_name(task, root))
    if stead is None:
        price = prices.with_rates(task.prices)
        # What the journal holds is paid for, and in no commit yet.
        ledger = Ledger(
            task.budget,
            workspace.spend(price),
            price=price,
            unmet=workspace.journal.calls(),
            dropped=workspace.dropped(),
        )
        stead = Stead(None, ledger, StopHook, lambda _number, files: files)
    ledger = stead.ledger
    workspace.started = datetime.now(UTC).isoformat(timespec="milliseconds")
    with ExitStack() as stack:
        stack.enter_context(_rare_collections())
        trace = Trace(workspace.private_folder / "events.jsonl", around.listeners)
        stack.callback(trace.close)
        stack.enter_context(_failure_written(trace, workspace))
        trace.append(_started(task, texts, folder, workspace.head(), _session_kind(workspace)))
        templates = prompts.frozen(task.type, workspace.files("prompts/"), workspace.read)
        parts = _Parts(stack, task, trace, ledger, templates)
        check = None if task.is_agent else _checks(task, texts, gates, workspace).say
        switchboard, sub_calls, hold_session = parts.models(
            workspace, texts, around, stead.open_client, check, _past(workspace)
        )
        agent = None
        if task.is_agent:
            agent = run.agent(task, workspace, ledger, around.env, trace, around.should_stop)
            stack.callback(agent.close)
            from loop_runner.agents.agent import NoKernel

            kernel = cast("Kernel", NoKernel())
        elif kernel is not None:
            kernel.connect(sub_calls, switchboard.loop)
            stack.callback(kernel.close)  # before the switchboard, which it talks to
        else:
            settings = _kernel_settings(task)
            kernel = stead.kernel(settings, texts, workspace.model_folder, sub_calls, switchboard.loop)
            stack.callback(kernel.close)
        if lost := workspace.journal.unanswered():
            trace.append(Event("notice", _in_flight(lost), data={"in_flight": lost}))
        if workspace.set_aside:
            trace.append(Event("notice", f"changed files were set aside: {workspace.set_aside}"))
        system = _text(workspace, "system.md")
        shared = RunParts(workspace, switchboard, ledger, trace, around.should_stop)
        course = Course(task, workspace, root)
        models = Models(
            root,
            system,
            _example(workspace),
            sizes,
            registry.window_tokens(root) if root else 0,
            _text(workspace, "system.direct.md"),
            _session_kind(workspace),
            templates,
        )
        of_agent = None
        if agent is not None:
            of_agent = OfAgent(run.passes(agent, workspace, ledger, trace), agent.part)
        passes = Passes(
            task,
            shared,
            course,
            inputs=texts,
            models=models,
            sub_calls=sub_calls,
            kernel=kernel,
            agent=of_agent,
        )
        outcome = Loop(
            task,
            shared,
            passes,
            course,
            inputs=texts,
            gates=_gate_tools(
                task,
                gates,
                LivePanel(
                    switchboard,
                    ledger,
                    workspace.journal,
                    model=root,
                    hold_session=hold_session,
                ),
                stead.stop_hook,
            ),
            pass_files=stead.pass_files,
        ).run()
        if agent is not None:
            agent.close(run.notice(outcome))
        return outcome


def _kernel_settings(task: Task) -> KernelSettings:
    return replace(task.kernel, max_output_chars=_shown_chars(task, _models(task)[0]))


@contextmanager
def _failure_written(trace: Trace, workspace: Workspace) -> Iterator[None]:
    """Write down why a run failed: `status` has nothing else to tell it by."""
    try:
        yield
    except LoopRunnerError as error:
        data = {"status": "error"}
        trace.append(Event("run_ended", error.message, workspace.head().pass_number, data=data))
        raise


def _gate_tools(
    task: Task,
    gates: Gates,
    panel: LivePanel,
    stop_hook: Callable[[Sequence[Verifier], Means], StopHook],
) -> GateTools:
    fence = gate_sandbox.GateSandbox(task.kernel.require_tier)
    means = gates.means(fence, panel, is_agent=task.is_agent)
    return GateTools(stop_hook(gates.verifiers, means), panel, fence, gates.programs, gates.network)


def _past(workspace: Workspace) -> Callable[[int, int], str]:
    """Reads a turn of the newest checkpoint, as ``past()`` returns it: the same in every clone and replay."""

    def read(pass_number: int, number: int) -> str:
        with History(workspace.folder) as history:  # its own reader: this is called from another thread
            turn = history.past_turn(pass_number, number, workspace.head().commit)
        if turn is None:
            return ""
        shown = {"reply": turn.reply, "code": turn.code, "output": printed(turn.output), "end": turn.end}
        return json.dumps(shown)

    return read


def _checks(task: Task, texts: Inputs, gates: Gates, workspace: Workspace) -> Checks:
    """What ``check()`` asks."""
    return Checks(gates, texts, task.prompt, workspace.lay_out_now)


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


@dataclass(frozen=True, slots=True)
class _Parts:
    """Opens what reaches the models; all of it is closed by ``stack``."""

    stack: ExitStack
    task: Task
    trace: Trace
    ledger: Ledger
    templates: Templates

    def models(
        self,
        workspace: Workspace,
        texts: Inputs,
        around: Surroundings,
        open_client: Callable[[str], ModelClient] | None,
        check: Callable[[str], str] | None,
        past: Callable[[int, int], str],
    ) -> tuple[Switchboard, SubCalls, HoldSession]:
        """The switchboard, the sub-calls of the run's own session, and what holds verifiers' sessions."""
        task, stack = self.task, self.stack
        setting = Setting(
            task.base_dir,
            around.env,
            private_dir=workspace.private_folder,
            write=durable.replace,
            position=lambda: workspace.head().commit,
            should_stop=around.should_stop,
            seconds_left=lambda: cast("float | None", self.ledger.left()["seconds"]),
            tell=lambda said: self.trace.append(Event("notice", said)),
            keep=workspace.keep_awaited,
            forget=workspace.forget_awaited,
        )
        closing = stack.enter_context(ExitStack())  # the children's threads outlive the switchboard's loop
        switchboard = Switchboard(
            open_client
            or (lambda model: registry.client_for(model, base_dir=task.base_dir, setting=setting)),
            log=workspace.journal,
            meter=self.ledger,
            on_retry=lambda retry: self.trace.append(_retried(retry)),
            on_trouble=lambda trouble: self.trace.append(Event("notice", trouble)),
            should_stop=around.should_stop,
            width=task.width,
            policy=around.policy,
        )
        if isinstance(around.should_stop, Stop):
            # An agent's client is in flight until it ends, or stops at its hook.
            around.should_stop.watch((lambda: 1) if task.is_agent else switchboard.in_flight)
        stack.callback(switchboard.close)
        shared, children = open_children(
            closing,
            task,
            switchboard,
            self.ledger,
            self.trace,
            self.templates,
            _text(workspace, "child_system.md"),
        )
        return (
            switchboard,
            SubCalls(shared, children.run, texts, check=check, past=past),
            holding(children, task),
        )


def open_children(
    closing: ExitStack,
    task: Task,
    switchboard: Switchboard,
    ledger: Ledger,
    trace: Trace,
    templates: Templates,
    system: str,
) -> tuple[Shared, Children]:
    """What child sessions run on; ``closing`` is to be closed after the switchboard.

    ``system``: what they are told first, as the run froze it; "" for a run of an earlier version.
    """
    root, sub = _models(task)
    checker = SchemaChecker()
    closing.callback(checker.close)
    checking = closing.enter_context(ThreadPoolExecutor(1, thread_name_prefix="schemas"))
    sizes = profile(_profile_name(task, sub))
    sub_models = SubModels(sub, root, task.sub_models, sizes.max_reply_tokens)
    shared = Shared(switchboard, ledger, sub_models, trace, checker, checking, templates)
    children = Children(
        shared,
        ChildSettings(
            kernel=replace(task.kernel, max_output_chars=_shown_chars(task, sub) if sub else None),
            system=system or _child_system_prompt(task, templates),
            turns=min(task.budget.child_turns, task.budget.turns),
            max_reply_tokens=sizes.max_reply_tokens,
            window_tokens=registry.window_tokens,
            width=task.child_width,
            is_large=not sizes.has_example,
        ),
    )
    closing.callback(children.close)
    return shared, children


def holding(children: Children, task: Task) -> HoldSession:
    """Holds sessions for verifiers: as child sessions are held, with as many turns as a pass has."""

    async def hold(inquiry: Inquiry) -> ChildRecord:
        asked = Delegation(inquiry.question, (), is_single=False, has_inputs=True, model=inquiry.model)
        turns = inquiry.turns or task.budget.turns
        return await children.run(
            ChildTask(asked, inquiry.inputs, inquiry.model, inquiry.scope, 1, "judge", turns)
        )

    return hold


def _text(workspace: Workspace, path: str) -> str:
    """A file of ours; ``WorkspaceError`` when somebody put something into it that is no text."""
    with parsing(workspace.folder, path):
        return (workspace.read(path) or b"").decode()


def _models(task: Task) -> tuple[str, str]:
    """The root model and the sub-model of a task whose models are settled."""
    root = task.model or ""
    return root, task.sub_model or root


def _profile_name(task: Task, model: str) -> str:
    return "agent" if task.is_agent else registry.profile_name(model)


def _refuse_models(task: Task, env: Mapping[str, str], gates: Gates) -> None:
    """Refuse a model that cannot answer before anything is created, paid or changed."""
    _refuse(_model_faults(task, env, gates))


def _model_faults(task: Task, env: Mapping[str, str], gates: Gates) -> list[LoopRunnerError]:
    """Every model that could not answer, and every one that a limit in dollars cannot count."""
    faults = preflight.Faults()
    if not task.model and (nameless := gates.without_model):
        faults.found.append(
            ConfigError(
                f"the verifier {nameless[0]!r} names no model, and this run has none of its own",
                why="an agent brings its own model, which verifiers cannot ask",
                hint="add `model:` to the verifier, or to the task",
            )
        )
    asked = (*_models(task), *task.sub_models, *task.no_progress.models, *gates.models)
    models = tuple(dict.fromkeys(filter(None, asked)))  # an agent of the user's has none
    for model in models:
        with faults.collecting():
            registry.check(model, base_dir=task.base_dir, env=env)
    if not faults.found and (fault := prompt_fault(task, env)):
        faults.found.append(fault)
    if task.budget.usd is not None and not faults.found:
        price = prices.with_rates(task.prices)
        if unknown := [model for model in models if price(model, Usage(1, 1)) is None]:
            faults.found.append(_without_price(unknown))
    return faults.found


def prompt_fault(task: Task, env: Mapping[str, str] | None) -> ConfigError | None:
    """Why no session could send the prompt to the root model; None if it can, and for an agent of the user's.

    The rule of a session, which sends nothing over the window. Without ``env``, the provider is not asked to
    count, and only a prompt that is certainly too long is a fault.
    """
    if task.is_agent or not task.model:
        return None
    facts = registry.facts(task.model)
    reply_tokens = profile(facts.profile).max_reply_tokens
    room = facts.window_tokens - reply_tokens - _SYSTEM_TOKENS
    request = Request(task.model, (Message("user", task.prompt),), "", max_output_tokens=reply_tokens)
    if not is_over_window("", request.messages, room):
        return None
    counted = None
    if len(task.prompt) // _HIGH_CHARS_PER_TOKEN <= room:
        if env is None:
            return None
        counted = _count_tokens(request, task.base_dir, env)
    if counted is not None and counted <= room:
        return None
    return prompt_size.over_window(
        len(task.prompt), counted, task.model, room, is_question=task.type == "ask"
    )


def _without_price(models: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"budget.usd is set, and there is no known price for {', '.join(models)}",
        why="a limit in dollars that nobody can add up would never be reached",
        hint="give the rate per million tokens: "
        f"prices: {{{models[0]!r}: {{input: 1.0, output: 5.0}}}}, or limit budget.tokens instead",
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
        "faults": [list(each) for each in texts.skipped if inputs.is_fault(each[1])][:_SHOWN_FAULTS],
        "notices": [list(notice) for notice in inputs.notices(texts)][:_SHOWN_FAULTS],
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
    if task.is_agent and not task.model:
        return task  # the agent brings its own
    root = task.model or registry.default_model(env)
    return replace(task, model=root, sub_model=task.sub_model or registry.default_sub_model(root))


def _system_prompt(task: Task, texts: Inputs, templates: Templates, gates: Gates) -> str:
    sizes: Profile = profile(registry.profile_name(task.model or ""))
    shown = _shown_chars(task, task.model or "")
    reader = Reader(registry.window_tokens(task.model or ""), shown, task.budget.turns)
    return templates.render(
        f"system{sizes.suffix}",
        inputs=describe(texts, None if sizes.has_example else reader, _sources(task)),
        max_output_chars=shown,
        sub_prompt_chars=f"{sizes.sub_prompt_chars:,}",
        requirements=_listed(gates.requirements(briefly=bool(sizes.suffix))),
        limits=describe_limits(task.budget),
        python=packages.describe(task.kernel),
        history=task.history,
        has_tool=task.code_as == "tool",
        helpers=offered(),
    )


def _shown_chars(task: Task, model: str) -> int:
    """How much of a cell's output ``model`` is shown."""
    asked, most = task.kernel.max_output_chars, _most_shown(model)
    return most if asked is None else min(asked, most)


def _most_shown(model: str) -> int:
    if not model:  # an agent's own, of which nothing is known
        return profile("agent").max_output_chars
    return profile(registry.profile_name(model)).output_chars(registry.window_tokens(model))


def _sources(task: Task) -> list[str]:
    """What the task names as its inputs, but for single files: their names say it all."""
    specs = [dict(each) if isinstance(each, Mapping) else {"path": each} for each in task.inputs]
    given = [str(each.get("git") or each.get("path") or each.get("url")) for each in specs]
    own = [each for each in given if not (task.base_dir / each).is_file() and "://" not in each]
    return [shown for each in own if (shown := _source(task.base_dir / each, each))]


def _source(path: Path, given: str) -> str:
    """A folder by its own name; a pattern or revision as it was written."""
    if path.is_dir():
        return f"the folder {code(path.resolve().name + '/')}"
    return code(given) if not Path(given).is_absolute() else ""


def _agent_rules(task: Task, templates: Templates, gates: Gates) -> str:
    """What an agent is told of the loop, behind the prompt in every pass: it has no system prompt of ours."""
    place = "this folder" if task.session == "command" else "the folder you work in"
    return templates.render("system.agent", place=place, requirements=_listed(gates.requirements()))


def _direct_files(task: Task, templates: Templates, gates: Gates) -> dict[str, bytes]:
    """What the model is told in a pass that takes the direct path; none where no pass does."""
    if task.session not in ("direct", "auto"):
        return {}
    requirements = _listed(gates.requirements())
    return {"system.direct.md": templates.render("system.direct", requirements=requirements).encode()}


def _session_file(
    task: Task, texts: Inputs, around: Surroundings, files: Mapping[str, bytes]
) -> dict[str, bytes]:
    """How the passes are held, decided once: a run that goes on must not decide otherwise."""
    if task.session not in ("direct", "auto"):
        return {}
    root = task.model or ""
    system = files["system.direct.md"].decode()
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
    return {"session.json": decision.to_json()}


def _count_tokens(request: Request, base_dir: Path, env: Mapping[str, str]) -> int | None:
    """What the provider counts, if it does; asked before there is a run that could pay for anything."""

    async def count() -> int | None:
        client = registry.client_for(request.model, base_dir=base_dir, env=env)
        try:
            return await client.count_tokens(redacted(request)) if isinstance(client, TokenCounter) else None
        except ModelError:
            return None
        finally:
            await client.close()

    return asyncio.run(count())


def _session_kind(workspace: Workspace) -> direct.Decision:
    with parsing(workspace.folder, "session.json"):
        return direct.from_json(workspace.read("session.json"))


def _child_system_prompt(task: Task, templates: Templates) -> str:
    """What every child session is told first: the same for all of them, so that a provider can cache it."""
    sizes = profile(_profile_name(task, task.sub_model or task.model or ""))
    return templates.render(
        "system_child",
        helpers=offered(_OF_CHILDREN, briefly=True),
        max_output_chars=_shown_chars(task, task.sub_model or task.model or ""),
        sub_prompt_chars=f"{sizes.sub_prompt_chars:,}",
    )


def _example_files(task: Task, templates: Templates) -> dict[str, bytes]:
    """The worked turn of a profile that has one, frozen like the rest of what the model is told."""
    sizes = profile(registry.profile_name(task.model or ""))
    if not sizes.has_example:
        return {}
    return {path: templates.render(f"{stem}{sizes.suffix}").encode() for path, stem in _EXAMPLE.items()}


def _example(workspace: Workspace) -> tuple[Message, ...]:
    question, reply = (workspace.read(path) for path in _EXAMPLE)
    if question is None or reply is None:
        return ()
    return Message("user", question.decode()), Message("assistant", reply.decode())


def _listed(requirements: Iterable[str]) -> str:
    return "\n".join(f"- {requirement}" for requirement in requirements)


def refuse_other_words(frozen: Task, task: Task) -> None:
    """Refuse a change of what the model was told in the system prompt, which never changes."""
    for key in ("history", "session", "code_as"):
        if getattr(frozen, key) != getattr(task, key):
            raise ConfigError(
                f"`{key}` cannot be changed for a run that has begun",
                why="the system prompt of the run tells the model the other thing",
                hint="start a new run with it",
            )


def _of_inputs(some: Sequence[str], texts: Inputs, one: str, several: str) -> str:
    verb = one if len(some) == 1 else several
    return f"{len(some)} of {plural(len(texts.texts), 'input')} {verb}"


def _refuse_changed_inputs(texts: Inputs) -> None:
    changed = inputs.changed(texts)
    if not changed:
        return
    shown = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    paths = {text.name: text.path for text in texts.texts}
    if gone := [name for name in changed if not paths[name].exists()]:
        raise ConfigError(
            f"{_of_inputs(gone, texts, 'is', 'are')} not there: {paths[gone[0]]}"
            + (f" and {len(gone) - 1} more" if len(gone) > 1 else ""),
            why="a run folder names its inputs and their hashes; it does not hold them",
            hint="put them there, or say where they lie on this machine with --inputs DIR",
        )
    raise ConfigError(
        f"{_of_inputs(changed, texts, 'has', 'have')} changed since the run began: {shown}",
        why="notes, variables and citations of earlier passes are about the old texts",
        hint="put the old files back, or start a new run",
    )
