"""Knows which run folders this user created or trusts on this machine, and what a run would start.

The mark of a folder is a file in the user's own state folder, which nobody who sends a folder can write. It
holds for one ``.git`` folder (device and inode), for the run that begins in it, and for the files that decide
what is started: a copy, a clone, another task or another verifier is not covered. See docs/trust.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from loop_runner import inputs
from loop_runner.errors import WorkspaceError
from loop_runner.task import config, limits
from loop_runner.task.config import Task
from loop_runner.text import one_line
from loop_runner.workspace import durable
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_FOLDER = "created"
_MAX_MARK_BYTES = 10_000
# What passes and the operator's limits write: it decides nothing about what is started outside the sandbox.
_OF_PASSES = frozenset(
    {
        *("passes", "variables", "workspace", "answer.md", "answer.json", "proof.json", "workspace.json"),
        *("pages.json", "pages", "images.json", "images", limits.PATH),
    }
)


def mark(folder: Path, env: Mapping[str, str], *, unplaced: Path | None = None) -> str:
    """Write down that ``folder``, as it is now, is this user's; why that could not be done, or "".

    ``unplaced`` is its repository while the folder is being made: a folder that is killed as soon as it has
    appeared is marked already.
    """
    try:
        with History(folder, unplaced=unplaced) as history:
            path, content = _place(history, env), _content(history)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.replace(path, json.dumps(content, sort_keys=True).encode())
    except OSError as error:
        return f"{error.strerror or error}: {error.filename or 'the state folder'}"
    return ""


def is_marked(history: History, env: Mapping[str, str]) -> bool:
    """Whether this user created the folder here, or trusted it as it is now."""
    try:
        with _place(history, env).open("rb") as file:
            data = json.loads(file.read(_MAX_MARK_BYTES))
    except (OSError, ValueError, RecursionError):
        return False
    return bool(data == _content(history))


def require(folder: Path, task: Task, env: Mapping[str, str], *, command: str, is_trusted: bool) -> None:
    """Raise ``WorkspaceError`` unless the folder is marked, or ``is_trusted`` says so now, which marks it.

    ``command`` is what the user typed, without ``--trust``. A program inside the folder is never started.
    """
    if inside := next(_programs_inside(folder, task), None):
        raise WorkspaceError(
            f"{folder} names a program that is located in the run folder: {one_line(inside, 300)}",
            why="a program from the run folder would be started outside the sandbox",
            hint="install the program elsewhere, and give the task its place there",
            exit_code=4,
        )
    with History(folder) as history:
        if is_marked(history, env):
            return
    if is_trusted:
        mark(folder, env)
        return
    lines = "\n".join(f"  {one_line(line, 300)}" for line in started(task))
    raise WorkspaceError(
        f"{folder} was not created here by you; to continue it would start:\n{lines}",
        why="a run folder decides which programs and models are started, and it may come from anyone",
        hint=f"read the list; if you trust it: {command} --trust (once, for this folder as it is now);"
        " in a program, give trust=True",
        exit_code=4,
    )


def require_folder(
    folder: Path,
    env: Mapping[str, str],
    overrides: Sequence[tuple[str, object]] = (),
    *,
    command: str,
    is_trusted: bool,
) -> None:
    """``require`` for the task that ``folder`` holds, with ``overrides``; damage is named before trust."""
    with History(folder) as history:
        with parsing(folder, "task.yaml"):
            source = (history.read("task.yaml") or b"").decode()
            config.parse_task(source, label="task.yaml", base_dir=folder)
        with parsing(folder, "inputs.json"):
            if (listed := history.read("inputs.json")) is not None:
                inputs.from_json(listed.decode(), folder)
    task = config.parse_task(source, label="task.yaml", base_dir=folder, overrides=overrides)
    require(folder, task, env, command=command, is_trusted=is_trusted)


def started(task: Task) -> Iterator[str]:
    """What continuing a run would start, a line for each, the least confined first."""
    if task.session == "command":
        yield f"agent, outside any sandbox: {shlex.join(task.agent.command)}"
    if task.kernel.python:
        yield f"interpreter of the model's code: {task.kernel.python}"
    if task.kernel.require_tier == "C":
        yield "the model's code, and verifiers, without a sandbox (kernel.require_tier: C)"
    for model in models(task):
        yield f"model, asked with your keys: {model}"
    for hook in task.stop_hooks:
        yield f"stop hook: {_shown_spec(hook)}"
    for verifier in task.verifiers:
        yield f"verifier: {_shown_spec(verifier)}"
    for target in task.notify:
        yield f"notification, sent from your account: {_shown_spec(target)}"
    for given in task.inputs:
        if "url" in str(given) or "git" in str(given):
            yield f"input: {_shown_spec(given)}"


def models(task: Task) -> tuple[str, ...]:
    """The models that the task names."""
    named = (task.model, task.sub_model, *task.sub_models, *task.no_progress.models)
    return tuple(dict.fromkeys(str(model) for model in named if model))


def _shown_spec(spec: object) -> str:
    if isinstance(spec, str):
        return spec
    return json.dumps(spec, ensure_ascii=False, default=str)


def _programs_inside(folder: Path, task: Task) -> Iterator[str]:
    words: Sequence[str] = [*([task.kernel.python] if task.kernel.python else [])]
    if task.session == "command":
        words = [*words, *task.agent.command]
    root = Path(os.path.realpath(folder))
    for word in words:
        for base in (task.base_dir, folder, folder / "workspace"):
            if "\0" not in word and _is_program_in(base / os.path.expanduser(word), root):  # noqa: PTH111
                yield word
                break


def _is_program_in(path: Path, root: Path) -> bool:
    """``path`` is a file in ``root``, by its name or by where its links lead."""
    names = (Path(os.path.realpath(path)), Path(os.path.normpath(path.absolute())))
    try:
        return any(name.is_relative_to(root) for name in names) and path.is_file()
    except OSError:
        return False


def _place(history: History, env: Mapping[str, str]) -> Path:
    seen = history.git_dir.lstat()
    return state_folder(env) / _FOLDER / f"{seen.st_dev:x}-{seen.st_ino:x}.json"


def state_folder(env: Mapping[str, str]) -> Path:
    """Where marks are kept: ``LOOP_RUNNER_STATE``, else the user's folder for such things."""
    import platformdirs

    named = env.get("LOOP_RUNNER_STATE")
    if not named and env.get("XDG_STATE_HOME"):
        named = f"{env['XDG_STATE_HOME']}/loop-runner"
    return Path(named or platformdirs.user_state_dir("loop-runner", appauthor=False)).expanduser().absolute()


def _content(history: History) -> dict[str, str]:
    first = history.commits(first_parent=True)[-1].checkpoint.commit
    listed = history.top_level("HEAD")
    rows = [f"{name}\0{oid}\n" for name, oid in sorted(listed.items()) if name not in _OF_PASSES]
    return {
        "first": first,
        "starts": hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest(),
    }
