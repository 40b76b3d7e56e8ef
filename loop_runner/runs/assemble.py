"""Puts the parts of a run together, runs its loop to one of its ends, and closes the parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from loop_runner import inputs, redaction, scratch
from loop_runner.agents import agent_runs
from loop_runner.budget import Ledger
from loop_runner.errors import LoopRunnerError
from loop_runner.events import Event, Trace
from loop_runner.kernel.kernel import Kernel
from loop_runner.kernel.lm_handler import Delegation
from loop_runner.loop.course import Course
from loop_runner.loop.loop import GateTools, Loop, NewPrompt
from loop_runner.loop.passes import Models, OfAgent, Passes
from loop_runner.loop.stopping import Stop
from loop_runner.model import prices, registry
from loop_runner.model.client import ModelClient, Setting
from loop_runner.model.limiter import Retry
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import Checkpoint, ChildRecord, Inputs, Outcome
from loop_runner.runs import now, watchers
from loop_runner.runs.amounts import amounts
from loop_runner.runs.context import ReplayParts, RunContext
from loop_runner.runs.frozen import (
    child_system_prompt,
    examples_of,
    session_kind,
    text_of,
)
from loop_runner.runs.models import (
    profile_name,
    root_and_sub,
    shown_chars,
)
from loop_runner.session import direct
from loop_runner.session.child_session import Children, ChildSettings
from loop_runner.session.conversation import printed
from loop_runner.session.operator import Clock, InboxSource, Operator, Situation
from loop_runner.session.session import RunParts
from loop_runner.session.subcalls import ChildTask, Shared, SubCalls, SubModels
from loop_runner.task import limits, prompts
from loop_runner.task.config import Task
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.task.profiles import profile
from loop_runner.task.prompts import Templates
from loop_runner.verify import Gates, Inquiry, Means, Verifier
from loop_runner.verify import fence as gate_sandbox
from loop_runner.verify.checks import Checks
from loop_runner.verify.json_schema import SchemaChecker
from loop_runner.verify.panel import HoldSession, LivePanel
from loop_runner.verify.stop_hook import StopHook
from loop_runner.workspace import control_files, durable
from loop_runner.workspace.called_tools import TOOLS_FILE
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.workspace import Workspace

if TYPE_CHECKING:
    from loop_runner.tools import Toolbox

_SHOWN_SKIPPED = 20


_SHOWN_FAULTS = 10


def run_in(
    workspace: Workspace,
    task: Task,
    texts: Inputs,
    context: RunContext,
    folder: Path,
    replay_parts: ReplayParts | None = None,
    *,
    gates: Gates,
    kernel: Kernel | None = None,
) -> Outcome | NewPrompt:
    """Open the parts of a run, run its loop to one of its ends or to another prompt, and close them.

    ``kernel``: one that was made ahead, with a process that starts; the caller closes it.
    """
    redaction.learn(context.env)
    scratch.sweep()  # of runs that were killed
    root, _ = root_and_sub(task)
    sizes = profile(profile_name(task, root))
    if replay_parts is None:
        price = prices.with_rates(task.prices)
        # What the journal holds is paid for, and in no commit yet.
        clock = Clock()
        ledger = Ledger(
            task.budget,
            workspace.history.spend(price),
            price=price,
            unmet=workspace.journal.calls(),
            dropped=workspace.history.dropped(),
            clock=clock,
            shared=watchers.daily_limit(context.env),
        )
        replay_parts = ReplayParts(None, ledger, StopHook, lambda _number, files: files, clock=clock)
    ledger = replay_parts.ledger
    workspace.started = datetime.now(UTC).isoformat(timespec="milliseconds")
    with ExitStack() as stack:
        trace = Trace(workspace.private_folder / "events.jsonl", context.listeners, partial(amounts, ledger))
        stack.callback(trace.close)
        stack.enter_context(_failure_written(trace, workspace))
        trace.append(_started(task, texts, folder, workspace.head(), session_kind(workspace)))
        templates = prompts.frozen(task.type, workspace.history.files("prompts/"), workspace.history.read)
        operator = _operator(workspace, context, replay_parts, trace, templates, task)
        stack.callback(operator.close)
        toolbox, pages, inputs_now = None, None, lambda: texts
        if workspace.history.read(TOOLS_FILE) is not None:
            from loop_runner.runs import tooling

            toolbox, pages = tooling.opened(stack, workspace, task, texts, context, replay_parts, operator)
            inputs_now = pages.inputs
        images = _images(workspace, task, replay_parts)
        tools = () if toolbox is None else tuple(spec.for_kernel() for spec in toolbox.specs)
        parts = _Parts(stack, task, trace, ledger, templates, operator, toolbox, images)
        check = None if task.is_agent else _checks(task, inputs_now, gates, workspace).say
        switchboard, sub_calls, hold_session = parts.models(
            workspace, inputs_now, context, replay_parts, check, _past(workspace)
        )
        agent = None
        if task.is_agent:
            agent = agent_runs.agent(task, workspace, ledger, context.env, trace, context.should_stop)
            stack.callback(agent.close)
            from loop_runner.agents.agent import NoKernel

            kernel = cast("Kernel", NoKernel())
        elif kernel is not None:
            kernel.connect(sub_calls, switchboard.loop)
            stack.callback(kernel.close)  # before the switchboard, which it talks to
        else:
            settings = kernel_settings(task)
            kernel = replay_parts.kernel(
                settings, texts, workspace.model_folder, sub_calls, switchboard.loop, tools=tools
            )
            stack.callback(kernel.close)
        if pages is not None and toolbox is not None and toolbox.fetches:
            kernel.follow(pages.inputs, pages.folder)
        if lost := workspace.journal.unanswered():
            trace.append(Event("notice", _in_flight(lost), data={"in_flight": lost}))
        if workspace.set_aside:
            trace.append(Event("notice", f"changed files were set aside: {workspace.set_aside}"))
        system = text_of(workspace, "system.md")
        shared = RunParts(workspace, switchboard, ledger, trace, operator, context.should_stop)
        course = Course(task, workspace, root)
        models = Models(
            root,
            system,
            tuple(examples_of(workspace)),
            sizes,
            registry.window_tokens(root) if root else 0,
            text_of(workspace, "system.direct.md"),
            session_kind(workspace),
            templates,
        )
        of_agent = None
        if agent is not None:
            of_agent = OfAgent(agent_runs.passes(agent, workspace, ledger, trace, operator), agent.part)
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
            inputs=inputs_now,
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
                replay_parts.stop_hook,
                operator,
            ),
            pass_files=replay_parts.pass_files,
        ).run()
        if agent is not None:
            agent.close(agent_runs.notice(outcome) if isinstance(outcome, Outcome) else "")
        return outcome


def kernel_settings(task: Task) -> KernelSettings:
    """The kernel's settings with as much output as the root model is shown."""
    return replace(task.kernel, max_output_chars=shown_chars(task, root_and_sub(task)[0]))


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
    operator: Operator,
) -> GateTools:
    fence = gate_sandbox.GateSandbox(task.kernel.require_tier)
    means = gates.means(fence, panel, is_agent=task.is_agent, person=operator)
    return GateTools(stop_hook(gates.verifiers, means), panel, fence, gates.programs, gates.network)


def _operator(
    workspace: Workspace,
    context: RunContext,
    replay_parts: ReplayParts,
    trace: Trace,
    templates: Templates,
    task: Task,
) -> Operator:
    """What the operator asks of this process; it watches for requests that are not to wait for a turn."""
    source = replay_parts.requests or InboxSource(workspace.private_folder)
    holder = workspace.history.running()
    with parsing(workspace.folder, limits.PATH):
        raised = limits.from_json(workspace.history.read(limits.PATH))
    situation = Situation(
        control_files.runner_of(holder),
        now.has_begun_turn(workspace.history),
        raised,
        heeds=replay_parts.requests is None,
    )
    operator = Operator(
        source,
        situation,
        ledger=replay_parts.ledger,
        trace=trace,
        should_stop=context.should_stop,
        clock=replay_parts.clock,
        templates=templates,
        may_wait=not task.is_agent,
    )
    if situation.heeds:
        operator.watch()
    return operator


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


def _images(workspace: Workspace, task: Task, replay_parts: ReplayParts) -> inputs.ImageReader:
    """What the run shows to models; the next commits hold it."""
    more, others = replay_parts.stored, workspace.more_files

    def read(path: str) -> bytes | None:
        data = workspace.history.read(path)
        return more(path) if data is None and more is not None else data

    images = inputs.ImageReader(task.kernel.require_tier, read)
    workspace.more_files = lambda: {**others(), **images.files()}
    return images


def _checks(task: Task, texts: Callable[[], Inputs], gates: Gates, workspace: Workspace) -> Checks:
    """What ``check()`` asks."""
    return Checks(gates, texts, task.prompt, workspace.lay_out_now)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Opens what reaches the models; all of it is closed by ``stack``."""

    stack: ExitStack
    task: Task
    trace: Trace
    ledger: Ledger
    templates: Templates
    operator: Operator
    tools: Toolbox | None = None
    images: inputs.ImageReader | None = None

    def models(
        self,
        workspace: Workspace,
        texts: Callable[[], Inputs],
        context: RunContext,
        replay_parts: ReplayParts,
        check: Callable[[str], str] | None,
        past: Callable[[int, int], str],
    ) -> tuple[Switchboard, SubCalls, HoldSession]:
        """The switchboard, the sub-calls of the run's own session, and what holds verifiers' sessions."""
        task, stack = self.task, self.stack
        setting = Setting(
            task.base_dir,
            context.env,
            private_dir=workspace.private_folder,
            write=durable.replace,
            position=lambda: workspace.head().commit,
            should_stop=context.should_stop,
            seconds_left=lambda: cast("float | None", self.ledger.left()["seconds"]),
            tell=lambda notice: self.trace.append(Event("notice", notice)),
            keep=workspace.keep_awaited,
            forget=workspace.forget_awaited,
        )
        closing = stack.enter_context(ExitStack())  # the children's threads outlive the switchboard's loop
        switchboard = Switchboard(
            replay_parts.open_client or (lambda model: self._client(model, setting)),
            log=workspace.journal,
            meter=self.ledger,
            on_retry=lambda retry: self.trace.append(_retried(retry)),
            on_trouble=lambda trouble: self.trace.append(Event("notice", trouble)),
            should_stop=context.should_stop,
            is_held=self.operator.is_held,
            width=task.width,
            policy=context.policy,
            recorded=replay_parts.recorded,
        )
        if isinstance(context.should_stop, Stop):
            # An agent's client is in flight until it ends, or stops at its hook.
            context.should_stop.watch((lambda: 1) if task.is_agent else switchboard.in_flight)
        stack.callback(self._close, switchboard)
        shared, children = open_children(
            closing,
            task,
            switchboard,
            self.ledger,
            self.trace,
            self.templates,
            text_of(workspace, "child_system.md"),
            self.tools,
            self.images,
        )
        return (
            switchboard,
            SubCalls(shared, children.run, texts, check=check, past=past),
            holding(children, task),
        )

    def _client(self, model: str, setting: Setting) -> ModelClient:
        """What answers requests to ``model``, which may be a tool."""
        if self.tools is not None and model.startswith("tool:"):
            return self.tools.client(model)
        return registry.client_for(model, base_dir=self.task.base_dir, setting=setting)

    def _close(self, switchboard: Switchboard) -> None:
        if self.tools is not None and not switchboard.loop.is_closed():
            switchboard.wait(self.tools.close())
        switchboard.close()


def open_children(
    closing: ExitStack,
    task: Task,
    switchboard: Switchboard,
    ledger: Ledger,
    trace: Trace,
    templates: Templates,
    system: str,
    tools: Toolbox | None = None,
    images: inputs.ImageReader | None = None,
) -> tuple[Shared, Children]:
    """What child sessions run on; ``closing`` is to be closed after the switchboard.

    ``system``: what they are told first, as the run froze it; "" for a run of an earlier version.
    """
    root, sub = root_and_sub(task)
    checker = SchemaChecker()
    closing.callback(checker.close)
    checking = closing.enter_context(ThreadPoolExecutor(1, thread_name_prefix="schemas"))
    sizes = profile(profile_name(task, sub))
    sub_models = SubModels(sub, root, task.sub_models, sizes.max_reply_tokens)
    shared = Shared(switchboard, ledger, sub_models, trace, checker, checking, templates, tools, images)
    children = Children(
        shared,
        ChildSettings(
            kernel=replace(task.kernel, max_output_chars=shown_chars(task, sub) if sub else None),
            system=system or child_system_prompt(task, templates),
            turns=min(task.budget.child_turns, task.budget.turns),
            max_reply_tokens=sizes.max_reply_tokens,
            window_tokens=registry.window_tokens,
            width=task.child_width,
            tools=() if tools is None else tuple(spec.for_kernel() for spec in tools.specs),
            is_large=not sizes.has_example,
        ),
    )
    closing.callback(children.close)
    return shared, children


def holding(children: Children, task: Task) -> HoldSession:
    """Holds sessions for verifiers: as child sessions are held, with as many turns as a pass has."""

    async def hold(inquiry: Inquiry) -> ChildRecord:
        delegation = Delegation(inquiry.question, (), is_single=False, has_inputs=True, model=inquiry.model)
        turns = inquiry.turns or task.budget.turns
        return await children.run(
            ChildTask(delegation, inquiry.inputs, inquiry.model, inquiry.scope, 1, "judge", turns)
        )

    return hold


def _started(task: Task, texts: Inputs, folder: Path, head: Checkpoint, session: direct.Decision) -> Event:
    """The first event of every start: what is worked on, by whom, where, and what was left out."""
    root, sub = root_and_sub(task)
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
        **({"images": len(texts.images)} if texts.images else {}),
        "skipped": inputs.skipped_by_kind(texts),
        "first_skipped": [list(pair) for pair in texts.skipped[:_SHOWN_SKIPPED]],
        "faults": [list(pair) for pair in texts.skipped if inputs.is_fault(pair[1])][:_SHOWN_FAULTS],
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
    sentence = (
        f"{retry.provider}: {retry.reason}; trying again in {retry.pause_s:.1f} s, {retry.width} at a time"
    )
    data = {
        "provider": retry.provider,
        "reason": retry.reason,
        "failed_tries": retry.number,
        "pause_s": round(retry.pause_s, 3),
        "width": retry.width,
    }
    return Event("retried", sentence, data=data)
