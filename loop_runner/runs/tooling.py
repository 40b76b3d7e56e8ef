"""The tools of a run and the pages that they fetched. Imported only for a run that has tools."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from functools import partial

from loop_runner.records import Inputs
from loop_runner.runs.context import ReplayParts, RunContext
from loop_runner.session.operator import Operator
from loop_runner.task.config import Task
from loop_runner.tools import Toolbox, callers, read_entries, specs_from_json
from loop_runner.tools.approval import AskPerson
from loop_runner.tools.pages import Pages, Stored
from loop_runner.tools.spec import PREFIX
from loop_runner.workspace.called_tools import TOOLS_FILE, is_made
from loop_runner.workspace.workspace import Workspace


def opened(
    stack: ExitStack,
    workspace: Workspace,
    task: Task,
    texts: Inputs,
    context: RunContext,
    replay_parts: ReplayParts,
    operator: Operator,
) -> tuple[Toolbox, Pages]:
    """The tools as the run froze them, and its pages, which ``stack`` closes."""
    pages = stack.enter_context(Pages(texts, _stored(workspace, replay_parts), workspace.private_folder))
    workspace.more_files = pages.files
    ask = partial(operator.ask, is_recorded=False)  # the result of the call says what was decided
    specs = specs_from_json(workspace.history.read(TOOLS_FILE))
    made = Counter(call.model.removeprefix(PREFIX) for call in workspace.history.calls() if is_made(call))
    makers = callers.of(read_entries(task.tools), task, context.env, pages)
    return Toolbox(specs, makers, made=made, pages=pages, approver=AskPerson(ask)), pages


def _stored(workspace: Workspace, replay_parts: ReplayParts) -> Stored:
    """Reads what the run folder holds, and what the record of a replay does."""
    more = replay_parts.stored

    def read(path: str) -> bytes | None:
        data = workspace.history.read(path)
        return more(path) if data is None and more is not None and path.startswith("pages/") else data

    return read
