"""Loops inside a client's own session (``session: hook``): begin one, decide about its stops, cancel it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loop_runner.agents import agent_runs, sessions
from loop_runner.agents import stop as process
from loop_runner.errors import ConfigError
from loop_runner.records import Outcome
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.runs.new_folders import make_way, new_run_folder
from loop_runner.runs.prepare import check
from loop_runner.task import config
from loop_runner.text import shell

_SESSION_VARIABLES = ("CLAUDE_CODE_SESSION_ID", "CODEX_SESSION_ID", "CODEX_THREAD_ID")


@dataclass(frozen=True, slots=True)
class Begun:
    """A loop that has begun. ``prompt`` is for the agent: the task, and what the loop asks of it."""

    name: str
    run: Path
    session: str
    prompt: str


def begin(
    task_file: Path,
    env: Mapping[str, str],
    *,
    session_id: str | None = None,
    folder: Path | None = None,
    run_folder: Path | None = None,
) -> Begun:
    """Create the run of ``task_file`` and make it that of a client's session, which ends when it is accepted.

    ``session_id`` is the client's; None: that of the shell whose environment ``env`` is. ``folder`` is where
    the agent works; None: the current one. Raises ``ConfigError`` for a session that has a run already.
    """
    session_id = session_id or _session_of_shell(env)
    overrides = [("session", "hook"), ("agent.folder", str((folder or Path.cwd()).absolute()))]
    if run_folder is not None:
        overrides.append(("run_dir", str(run_folder)))
    task = config.read_task(task_file, overrides)
    held = sessions.owner({**env, sessions.RUN_VARIABLE: ""}, session_id)
    if held is not None and Path(held.run).is_dir():
        raise _has_a_run(session_id, held.run)
    run = new_run_folder(task, env)
    if (run / ".git").exists():
        check(task, env)  # before anything is removed
        make_way(run)
    runs.create(task, run, env)
    prompt = agent_runs.first_words(run)
    agent_runs.give_to_session(run, session_id, env, sys.executable)
    if owner := sessions.owner(env, session_id):
        process.wake(owner, env)  # so that the first stop need not wait for it
    return Begun(task.name, run, session_id, prompt)


def serve(run: Path, env: Mapping[str, str], should_stop: Callable[[], bool]) -> Outcome:
    """Wait for the stops of the session that ``run`` belongs to and decide about them, until the run ends."""
    outcome = runs.resume(run, RunContext(env, (), should_stop))
    if outcome.status in (
        "verified",
        "unverified",
        "blocked",
    ):  # a broken gate is asked again at the next stop
        sessions.forget(env, agent_runs.session_of(run), str(run))
    return outcome


def cancel(run: Path, env: Mapping[str, str]) -> Path:
    """End a loop: its client may stop, and what was committed stays. The file that says so."""
    file = run / sessions.STOP_FILE
    file.touch()
    sessions.forget(env, agent_runs.session_of(run), str(run))
    return file


def _session_of_shell(env: Mapping[str, str]) -> str:
    """The id that Claude Code and Codex give to the programs that their agents run."""
    for name in _SESSION_VARIABLES:
        if env.get(name):
            return env[name]
    raise ConfigError(
        "no session was named, and this is not the shell of one",
        why="a loop belongs to one session, by its id",
        hint="give --session ID; in Claude Code and Codex the agent itself can run the command without it",
    )


def _has_a_run(session_id: str, run: str) -> ConfigError:
    return ConfigError(
        f"the session {session_id} has a run already: {run}",
        why="two runs in one session could not both decide when it ends",
        hint=f"cancel that one first: loop-runner hook cancel {shell(run)}",
    )
