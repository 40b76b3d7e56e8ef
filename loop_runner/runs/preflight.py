"""Finds what would make a run fail, before its first request and before a run folder is created.

Owns how several faults are reported as one error. ``runs`` decides what is checked. Never starts anything of
the user's and never asks a model.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from loop_runner import linux
from loop_runner.errors import ConfigError, EnvironmentFault, HookError, LoopRunnerError, VerifierError
from loop_runner.task.config import Task
from loop_runner.verify import Gates, Programs, external_hook
from loop_runner.verify.fence import GateSandbox

if TYPE_CHECKING:
    from loop_runner.tools import Entry

_REPORTED = (ConfigError, VerifierError, HookError, EnvironmentFault)


class Faults:
    """Collects errors, so that a user sees all of them at once."""

    def __init__(self) -> None:
        self.errors: list[LoopRunnerError] = []

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep an error of the user or the machine, and continue after the block."""
        try:
            yield
        except _REPORTED as error:
            self.errors.append(error)

    def refuse(self) -> None:
        """Raise what was found: the error itself, or one error that lists them all."""
        distinct = list({error.message: error for error in self.errors}.values())
        if len(distinct) == 1:
            raise distinct[0]
        if distinct:
            raise together(distinct)


def together(errors: list[LoopRunnerError]) -> LoopRunnerError:
    """One error for several: the exit code is theirs where they agree."""
    lines = "\n".join(f"  - {error.message}" + _in_brackets(error.hint) for error in errors)
    kind = EnvironmentFault if all(isinstance(error, EnvironmentFault) for error in errors) else ConfigError
    return kind(
        f"{len(errors)} faults, and nothing was started:\n{lines}",
        why="each of them would end the run, some only after a pass is paid for",
        hint="fix them; `loop-runner check TASK.yaml` looks for faults and starts nothing",
    )


def _in_brackets(hint: str) -> str:
    return f"\n    ({hint})" if hint else ""


def gates(task: Task, known: Programs | None = None, *, starts_nothing: bool = False) -> Gates:
    """The verifiers and stop hooks of ``task``; ``known``: the files as a run folder pinned them.

    The code of a package is started in the gates' sandbox to say what it requires, unless ``starts_nothing``.
    """
    fence = None if starts_nothing else GateSandbox(task.kernel.require_tier)
    hooks = external_hook.makers(task.stop_hooks, task.base_dir)
    made_of: list[Path] = []
    if task.tools:
        from loop_runner.tools import preparing, read_entries

        with contextlib.suppress(ConfigError):  # ``tools`` reports it
            made_of = preparing.sources(read_entries(task.tools), task.base_dir.resolve())
    return Gates.of(
        task.verifiers,
        task.base_dir,
        known=known,
        fence=fence,
        more=hooks,
        functions=task.functions,
        sources=made_of,
    )


def tools(task: Task, env: Mapping[str, str]) -> tuple[Entry, ...]:
    """The entries of the task's tools, checked as far as that is possible without starting anything."""
    if not task.tools and not task.tool_functions:
        return ()
    from loop_runner.tools import preparing, read_entries

    entries = read_entries(task.tools)
    if entries and task.session not in ("rlm", "auto"):
        raise ConfigError(
            f"`tools` are of no use with `session: {task.session}`",
            why="the model's code calls them, and this session has no code of the model's",
            hint="remove `tools`, or `session`",
        )
    faults = Faults()
    faults.errors += preparing.faults(entries, task.base_dir.resolve(), env, task.tool_functions)
    faults.errors += _other_functions(entries, task)
    faults.refuse()
    return entries


def _other_functions(entries: Iterable[Entry], task: Task) -> Iterator[ConfigError]:
    """Functions of the calling program that are not those that the run began with."""
    from loop_runner.verify import bound_values
    from loop_runner.verify.function import sha256_of

    known = {str(entry.target["function"]): entry for entry in entries if entry.kind == "callable"}
    for name, function in task.tool_functions.items():
        if name not in known:
            what, hint = "is no tool of this run", f"it began with {', '.join(sorted(known)) or 'none'}"
        elif sha256_of(function) != known[name].target["sha256"]:
            what, hint = "is not the one that the run began with", "give the function as it was then"
        elif changed := bound_values.difference(known[name].target.get("values"), bound_values.of(function)):
            what, hint = f"is not the one that the run began with: {changed}", "bind it to the same values"
        else:
            continue
        yield ConfigError(
            f"the function {name} {what}",
            why="the run holds results of the old one, and would mix them with those of the new one",
            hint=hint,
        )


def sandbox(task: Task, gates: Gates) -> Iterator[LoopRunnerError]:
    """Why this system may not run the code of this task; on Linux, the start of a sandbox says that."""
    if linux.has_sandbox():
        return
    from loop_runner.sandbox.probe import refuse_without_sandbox

    try:
        if gates.runs_code or task.session in ("rlm", "auto"):
            refuse_without_sandbox(task.kernel.require_tier)
    except EnvironmentFault as fault:
        yield fault


def programs(task: Task, env: Mapping[str, str]) -> Iterator[LoopRunnerError]:
    """The agent's program and the interpreter of the model's code, where there are none."""
    if task.session == "command":
        word = task.agent.command[0]
        if shutil.which(word, path=env.get("PATH", os.defpath)) is None:
            yield EnvironmentFault(
                f"{word} could not be started: there is no such program",
                why="it is the agent that does the work of this run",
                hint="install it, see that it is on PATH, or correct `agent.command` in the task",
            )
    python = task.kernel.python
    if python and shutil.which(str(Path(python).expanduser()), path=env.get("PATH", os.defpath)) is None:
        yield ConfigError(
            f"`kernel.python` names {python}, and there is no such program",
            why="the model's code runs in it",
            hint="name an interpreter of this machine, or remove the key",
        )
