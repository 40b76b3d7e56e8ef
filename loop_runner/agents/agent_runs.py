"""Runs whose passes are done by a user's agent: their first files, the agent's folder, its session.

Owns ``base.json`` (the commit of the user's repository that a run began with) and ``session.json`` in the
private folder (the session that a ``session: hook`` run belongs to). Starts nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner.agents import sessions
from loop_runner.budget import Ledger
from loop_runner.errors import ConfigError
from loop_runner.events import Event, Trace
from loop_runner.records import Call, Outcome, Reply, Usage
from loop_runner.session.committing import Commits
from loop_runner.session.operator import Operator
from loop_runner.task.config import Task
from loop_runner.text import plural
from loop_runner.workspace.git.fast_import import Blob
from loop_runner.workspace.history import History
from loop_runner.workspace.scope import EVERYTHING, Scope
from loop_runner.workspace.workspace import Workspace

if TYPE_CHECKING:
    from loop_runner.agents.agent import Agent, AgentPass
    from loop_runner.agents.endings import Reported
    from loop_runner.workspace.foreign import Foreign

BASE_FILE = "base.json"


def beginning(task: Task) -> tuple[dict[bytes, Blob], dict[str, bytes]]:
    """The files that the agent begins with, and what is written down about them."""
    if not task.is_agent:
        return {}, {}
    if task.session == "hook":
        return scope(task, None).files(), {}
    repository = _repository(task)
    if repository is None:
        return {}, {}
    commit = repository.head()
    files, submodules = repository.files(commit), repository.submodules(commit)
    from loop_runner.workspace import foreign

    about = {"repository": str(repository.top), "commit": commit, "notes": foreign.notes(files, submodules)}
    return files, {BASE_FILE: (json.dumps(about, indent=1) + "\n").encode()}


def notes(about: Mapping[str, bytes]) -> bytes:
    """What the rules of an agent end with: which of its files are not what their names say."""
    text = str(json.loads(about.get(BASE_FILE, b"{}")).get("notes", ""))
    return f"\n\n{text}".encode() if text else b""


def scope(task: Task, run_folder: Path | None) -> Scope:
    """What is committed of the agent's work."""
    if not task.is_agent:
        return EVERYTHING
    skip = [os.fsencode(name) for name in dict.fromkeys((".git", *task.agent.skip))]
    if task.session == "command":
        return Scope(None, tuple(skip))
    folder = _folder(task)
    if run_folder is not None and (inside := _below(run_folder.absolute(), folder)):
        skip.append(os.fsencode(inside))
    return Scope(folder, tuple(skip))


def agent(
    task: Task,
    workspace: Workspace,
    ledger: Ledger,
    env: Mapping[str, str],
    trace: Trace,
    should_stop: Callable[[], bool],
) -> Agent:
    """The agent of a run that is open. What its clients say that they spent is journalled and charged."""

    def charge(client: str, spent: Sequence[Reported]) -> None:
        calls = spent_calls(client, spent, len(workspace.journal.calls()))
        workspace.journal.append_many(calls)
        ledger.owe(calls)
        if not spent and task.budget.usd is not None:
            text = f"{client or 'the client'} did not report its spend, so budget.usd does not count it"
            trace.append(Event("notice", text))

    from loop_runner.agents.agent import Agent

    return Agent(
        task.agent,
        workspace=workspace,
        env=env,
        trace=trace,
        should_stop=should_stop,
        session_id=session_of(workspace.folder) if task.session == "hook" else None,
        on_spent=charge,
    )


def spent_calls(client: str, spent: Sequence[Reported], before: int) -> list[Call]:
    """What a client spent, as calls for the journal; one of unknown cost when it does not say.

    ``before``: how many calls the journal holds, so that two clients of one turn are not taken for one.
    """
    from loop_runner.agents.endings import Reported

    return [
        Call(
            "agent",
            f"agent:{report.model or client or 'unknown'}",
            hashlib.sha256(b"agent").hexdigest(),
            before + number,
            "",
            Reply("", usage=report.usage),
            report.usd,
        )
        for number, report in enumerate(spent or (Reported(Usage()),))
    ]


def passes(
    the_agent: Agent, workspace: Workspace, ledger: Ledger, trace: Trace, operator: Operator
) -> Callable[[int, bool, bytes], AgentPass]:
    """What opens a pass for the loop."""
    from loop_runner.agents.agent import AgentPass

    def open_pass(number: int, is_committed: bool, prompt: bytes) -> AgentPass:
        commits = Commits(
            number,
            workspace=workspace,
            trace=trace,
            charge=ledger.charge_turn,
            first_files={f"passes/{number:04d}/injected.md": prompt},
            operator=operator,
        )
        return AgentPass(the_agent, prompt=prompt.decode(), is_committed=is_committed, commits=commits)

    return open_pass


def first_words(run_folder: Path) -> str:
    """What the agent of a new run is told: the prompt, and what the loop asks of it."""
    with History(run_folder) as history:
        prompt, rules = (history.read(name) or b"" for name in ("prompt.md", "system.md"))
    return f"{prompt.decode()}\n\n{rules.decode()}"


def notice(outcome: Outcome) -> str:
    """What the person at the client reads when it is let end."""
    passes = plural(outcome.spend.passes, "pass", "passes")
    return f"loop-runner: {outcome.status} after {passes}: {outcome.reason}"


def give_to_session(run_folder: Path, session_id: str, env: Mapping[str, str], python: str) -> None:
    """Make ``run_folder`` the run of a client's session. ``ConfigError`` when that has one already."""
    run = run_folder.absolute()
    try:
        sessions.register(
            env, session_id, str(run), python=python, python_path=str(Path(__file__).parents[2])
        )
    except ValueError as error:
        raise ConfigError(
            str(error),
            why="a run belongs to one session, by its id",
            hint="give --session the client's own id",
        ) from error
    except FileExistsError as error:
        raise ConfigError(
            f"the session {session_id} has a run already: {error}",
            why="two runs in one session could not both decide when it ends",
            hint=f"cancel that one first: loop-runner hook cancel {error}",
        ) from error
    (run / ".git" / "loop-runner" / "session.json").write_text(
        json.dumps({"session": session_id}) + "\n", encoding="utf-8"
    )


def session_of(run_folder: Path) -> str:
    """The session that a run belongs to; one that no client has when it belongs to none."""
    try:
        data = json.loads((run_folder / ".git" / "loop-runner" / "session.json").read_text(encoding="utf-8"))
        return str(data["session"]) or "\0"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError):
        return "\0"  # ownerless state is never taken over


def _repository(task: Task) -> Foreign | None:
    from loop_runner.workspace.foreign import Foreign

    named = task.agent.repository
    if named == "none":
        return None
    repository = Foreign.around((task.base_dir / (named or ".")).resolve())
    if named and repository is None:
        raise ConfigError(
            f"agent.repository: {named} is in no git repository",
            why="the agent begins with the files of that repository's last commit",
            hint="name a repository, or `none` for an empty folder",
        )
    return repository


def _folder(task: Task) -> Path:
    folder = (task.base_dir / (task.agent.folder or ".")).resolve()
    if not folder.is_dir():
        raise ConfigError(
            f"agent.folder: there is no folder {folder}",
            why="its files are what is verified",
            hint="name the folder that the agent works in",
        )
    return folder


def _below(path: Path, folder: Path) -> str:
    """The name in ``folder`` under which ``path`` lies; "" when it lies elsewhere."""
    resolved = path.resolve()
    return resolved.relative_to(folder).parts[0] if folder in resolved.parents else ""
