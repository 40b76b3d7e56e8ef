"""Starts a run from any point of an existing one, with its task changed on request.

Owns which files of the run folder follow from a change of the task, and how a fork is written down. The
history up to the moment is the other run's, commit for commit; on top comes one commit that says where it was
taken from. Reads the other run without its lock and never writes there.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from loop_runner import __version__, inputs
from loop_runner.errors import ConfigError
from loop_runner.loop.loop import NewPrompt
from loop_runner.model import registry
from loop_runner.records import Checkpoint
from loop_runner.runs import origin
from loop_runner.runs.amounts import frozen_limits
from loop_runner.runs.frozen import described_gates, follow_model, pinned_in, refuse_other_words, task_files
from loop_runner.runs.models import prompt_fault
from loop_runner.task import config, limits, named_file, prompt_size, prompts
from loop_runner.task.config import Task
from loop_runner.task.prompts import Templates
from loop_runner.text import shell
from loop_runner.workspace import control_files, layout, points, rewinding
from loop_runner.workspace.control_files import Inbox
from loop_runner.workspace.git.fast_import import Blob, NewCommit
from loop_runner.workspace.history import History
from loop_runner.workspace.layout import Trailers
from loop_runner.workspace.openable import parsing
from loop_runner.workspace.points import Point
from loop_runner.workspace.workspace import Workspace

_FIXED = {
    "inputs": "notes, variables and citations of the passes so far refer to the inputs of the other run",
    "run_dir": "NEW is the folder of the fork",
}


@dataclass(frozen=True, slots=True)
class Forked:
    """A fork that was made: from where, the commit that it begins with, which keys of the task changed."""

    folder: Path
    source: Checkpoint
    commit: str
    changed: tuple[str, ...]


def prompt_in(file: Path) -> str:
    """The prompt that ``file`` holds."""
    try:
        prompt = named_file.read_text(file)
    except OSError as error:
        raise ConfigError(
            f"the prompt {file} cannot be read: {error}",
            why="the prompt is what every pass is given, word for word",
            hint="a prompt file is UTF-8 text",
        ) from error
    prompt_size.refuse_oversize(len(prompt.encode()), f"the prompt {file}")
    return prompt


def last(history: History) -> Forked | None:
    """The fork that the run began with, or its latest change of the task; None for any other run."""
    with parsing(history.folder, layout.FORKS_FILE):
        forks = json.loads(history.read(layout.FORKS_FILE) or b'{"forks": []}')["forks"]
        if not forks:
            return None
        at = Checkpoint(str(forks[-1]["commit"]), int(forks[-1]["pass"]), int(forks[-1]["turn"]))
        changed = tuple(map(str, forks[-1]["changed"]))
    return Forked(history.folder, at, history.head().commit, changed)


def fork(
    source: Path,
    point: Point | None,
    folder: Path,
    overrides: Sequence[tuple[str, Any]] = (),
    *,
    before_placing: Callable[[Path], None] | None = None,
) -> Forked:
    """Make the run folder ``folder`` from ``source`` at ``point`` (None: where it stands).

    ``overrides`` are (dotted key, value) pairs, as for a new run. Another prompt given in the middle of a
    pass ends that pass: a prompt goes in at the beginning of one. ``before_placing`` is called with the
    finished repository, just before it appears as ``.git``. Raises ``ConfigError`` for what cannot be
    changed and for an accepted pass from which nothing is asked.
    """
    for key, _ in overrides:
        if why := _FIXED.get(key.partition(".")[0]):
            raise ConfigError(f"a fork cannot change `{key}`", why=why, hint="start a new run for that")
    with History(source) as history:
        at = history.head() if point is None else points.find(history, point)
        at = history.checkpoint(rewinding.goal(history, at.commit)[0])  # without replies that no turn holds
        old, new = _tasks(history, at, overrides)
        changed = tuple(
            attribute.name
            for attribute in fields(Task)
            if getattr(old, attribute.name) != getattr(new, attribute.name)
        )
        if at.outcome == "accepted" and not changed:
            raise _nothing_to_do(source, at)
        commit = _commit(history, at, _changed_files(history, at, old, new), changed)
        with Workspace.fork(
            folder, source=history, commit=commit, before_placing=before_placing
        ) as workspace:
            return Forked(folder, at, workspace.head().commit, changed)


def retask(folder: Path) -> tuple[str, ...]:
    """Commit the task file of the run in ``folder``, as it is now, as the run's task; return what changed.

    The flags of the run's start win over it. Nothing is committed where nothing changed.
    Raises ``ConfigError`` for a run that was started without a file, and for what a run cannot change.
    """
    with Workspace.open(folder) as workspace, History(folder) as history:
        at = history.head()
        origin_found = origin.of_run(folder, history.read)
        if origin_found is None:
            raise _without_file(folder)
        old = _read_task(history, at.commit, ())
        new = _retasked(old, origin_found.read())
        changed = tuple(
            attribute.name
            for attribute in fields(Task)
            if attribute.compare and getattr(old, attribute.name) != getattr(new, attribute.name)
        )
        refuse_other_words(old, new)
        for key in set(changed) & {"inputs", "input_settings"}:
            raise ConfigError(
                f"{origin_found.file} has other `{key}` than the run began with",
                why="notes, variables and citations of the passes so far refer to the earlier inputs",
                hint="start a new run with it, in another folder: --run-dir (run_dir= in a program)",
            )
        if changed:
            files = _changed_files(history, at, old, new) | dict(_origin_files(origin_found, new))
            workspace.commit_change(_commit(history, at, files, changed, "retask"))
    return changed


def _retasked(old: Task, new: Task) -> Task:
    """``new`` with what a run keeps for its whole life, and the models that were chosen for it."""
    kept = replace(
        new,
        name=old.name,
        run_dir=old.run_dir,
        prompts=old.prompts,
        model=new.model or old.model,
        sub_model=new.sub_model or old.sub_model,
    )
    return follow_model(old, kept) if new.sub_model is None else kept


def _origin_files(source: origin.Origin, new: Task) -> Mapping[str, bytes]:
    """The new hash beside the flags of the run's start: those of ``resume`` hold for that time only."""
    return origin.to_files(replace(new, overrides=source.overrides))


def _without_file(folder: Path) -> ConfigError:
    return ConfigError(
        f"{folder} does not record a task file that it was started from",
        why="`retask` uses the current version of that file",
        hint=f"{shell('loop-runner', 'fork', folder, 'NEW')} --set KEY=VALUE makes a run with another task",
    )


def frozen_task(history: History, at: str, overrides: Sequence[tuple[str, object]] = ()) -> Task:
    """The task as the commit ``at`` has it."""
    task = _read_task(history, at, overrides)
    if task.is_agent:
        raise ConfigError(
            f"the passes of {history.folder} were done by your own agent (`session: {task.session}`)",
            why="the agent's work is not recorded reply by reply: it would run, and be paid for, again",
            hint="`log`, `show`, `diff`, `bisect` and `export` work on its passes",
        )
    return task


def _read_task(history: History, at: str, overrides: Sequence[tuple[str, object]]) -> Task:
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml", at) or b"").decode()
        config.parse_task(source, label="task.yaml", base_dir=history.folder)
    changed = (*frozen_limits(history.folder, lambda path: history.read(path, at)), *overrides)
    task = config.parse_task(source, label="task.yaml", base_dir=history.folder, overrides=changed)
    if any(key == "prompt" for key, _ in overrides):
        return task
    with parsing(history.folder, "prompt.md"):
        return replace(task, prompt=(history.read("prompt.md", at) or b"").decode())


def _tasks(history: History, at: Checkpoint, overrides: Sequence[tuple[str, Any]]) -> tuple[Task, Task]:
    """The task of the other run and that of the fork."""
    old = frozen_task(history, at.commit)
    new = frozen_task(history, at.commit, overrides)
    if new.session != old.session:
        raise ConfigError(
            "`session` cannot be changed in a fork",
            why="it was decided when the run began",
            hint="start a new run with it",
        )
    follows = old.sub_model == registry.default_sub_model(old.model or "")
    if new.model != old.model and new.sub_model == old.sub_model and follows:
        new = replace(new, sub_model=registry.default_sub_model(new.model or ""))
    for model in (new.model, new.sub_model):
        registry.split(model or "")
    if fault := prompt_fault(new, None):
        raise fault
    return old, new


def _changed_files(history: History, at: Checkpoint, old: Task, new: Task) -> dict[str, bytes | None]:
    """What follows from the change: path to new bytes, None for a file that goes."""
    texts = inputs.from_json((history.read("inputs.json", at.commit) or b"").decode())
    paths = history.files("prompts/", at.commit)

    def templates(task: Task) -> Templates:
        return prompts.frozen(task.type, paths, lambda path: history.read(path, at.commit))

    pins = pinned_in(history.folder, lambda path: history.read(path, at.commit))
    before, after = (
        task_files(task, texts, templates(task), described_gates(task, pins)) for task in (old, new)
    )
    # Told by the difference of the two, not from what is there: another version may word it otherwise.
    files = {path: after.get(path) for path in {**before, **after} if before.get(path) != after.get(path)}
    if old.budget != new.budget and history.read(limits.PATH, at.commit) is not None:
        files[limits.PATH] = None  # the limits that the operator changed are in the task file now
    return files


def take_prompt(workspace: Workspace, task: Task, given: NewPrompt) -> Task:
    """Commit the prompt that the operator gave between two passes, as a fork commits one; the new task."""
    text = given.requests[-1].text
    with History(workspace.folder) as history:
        at = given.head
        old = _read_task(history, at.commit, ())
        files = _changed_files(history, at, old, replace(old, prompt=text))
        record = layout.to_json(
            {"requests": control_files.to_json([(request, "") for request in given.requests])}
        )
        files[f"{control_files.next_folder(at.pass_number)}/{control_files.CONTROL_FILE}"] = record
        workspace.commit_change(_commit(history, at, files, ("prompt",), "prompt"))
    Inbox(workspace.private_folder).settle({request.id for request in given.requests})
    return replace(task, prompt=text)


def _commit(
    history: History,
    at: Checkpoint,
    files: Mapping[str, bytes | None],
    changed: tuple[str, ...],
    kind: str = "fork",
) -> NewCommit:
    ends_pass = at.turn > 0 and "prompt" in changed
    own_files = {path: data for path, data in files.items() if data is not None}
    own_files[layout.FORKS_FILE] = _forks(history, at, changed)
    came_from = f"{at.commit} {at}"
    trailers = Trailers(forked_from=came_from)
    parents = [at.commit]
    if ends_pass:
        own_files[f"{layout.pass_folder(at.pass_number)}/verdict.json"] = _STOPPED
        trailers = Trailers(at.pass_number, 0, "stopped", 0.0, __version__, forked_from=came_from)
        head = history.commit(at.commit)
        parents = list(dict.fromkeys([history.base_of(at.pass_number, head), at.commit]))
    what = f", with another {', '.join(changed)}" if changed else ""
    return NewCommit(
        message=layout.message(f"{kind}: from {at}{what}", trailers),
        time=int(time.time()),
        parents=parents,
        tree=history.commit(at.commit).tree,
        set_paths={os.fsencode(path): Blob(data) for path, data in own_files.items()},
        removed_paths=[os.fsencode(path) for path, data in files.items() if data is None],
    )


_STOPPED = layout.to_json(
    {
        "decision": "block",
        "reason": "the pass was not finished: the run was forked here and given another prompt",
        "score": 0.0,
        "reports": [],
    }
)


def _forks(history: History, at: Checkpoint, changed: tuple[str, ...]) -> bytes:
    """``forks.json``: every fork on the way here, the latest last."""
    with parsing(history.folder, layout.FORKS_FILE):
        earlier = json.loads(history.read(layout.FORKS_FILE, at.commit) or b'{"forks": []}')["forks"]
    this = {"commit": at.commit, "pass": at.pass_number, "turn": at.turn, "changed": sorted(changed)}
    return layout.to_json({"forks": [*earlier, this]})


def _nothing_to_do(source: Path, at: Checkpoint) -> ConfigError:
    return ConfigError(
        f"pass {at.pass_number} of {source} was accepted: a fork from there would have nothing to do",
        why="a run ends when its answer is accepted",
        hint=f"ask for something else (another `prompt`, or other `verifiers`), or fork earlier:"
        f" `loop-runner log {shell(source)}` lists the turns",
    )
