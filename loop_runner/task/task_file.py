"""Reads and writes task files: checks every key and value, and gives a frozen ``Task``.

Owns the words of its mistakes; the keys are the fields of ``task``. Relies on PyYAML. Never looks at the
inputs themselves, starts nothing, and reads no environment variable.
"""

from __future__ import annotations

import difflib
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from loop_runner import keys
from loop_runner.errors import ConfigError, together
from loop_runner.keys import BadValueError, Key, Value, keys_of
from loop_runner.task import named_file, prompt_size
from loop_runner.task.task import AgentSettings, InputSettings, Task, is_one_input, task_keys
from loop_runner.task.task_types import gates_of
from loop_runner.task.yaml_lines import Where, as_written, load, surprise

_WHY_A_TASK_FILE = "it says what to do, on which files, and what must hold before it is done"
_REFERENCE = "docs/task-file.md describes every key"


def read_task(path: Path, overrides: Sequence[tuple[str, Any]] = ()) -> Task:
    """Read and check ``path``; ``overrides`` are (dotted key, value) pairs that win over the file.

    Raises ``ConfigError`` that names the file, the line and, for an unknown key, the nearest known one.
    """
    try:
        data = named_file.read_bytes(path)
        prompt_size.refuse_oversize(len(data), f"the task file {path}")
        source = named_file.decoded(data)
    except FileNotFoundError:
        raise ConfigError(
            f"there is no task file {path}",
            why=_WHY_A_TASK_FILE,
            hint="check the path, or ask without a file: loop-runner ask 'QUESTION' PATH...",
        ) from None
    except IsADirectoryError:
        raise _is_folder(path) from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error}", why=_WHY_A_TASK_FILE, hint="a task file is YAML in UTF-8"
        ) from error
    task = parse_task(source, label=str(path), base_dir=path.parent.resolve(), overrides=overrides)
    digest = hashlib.sha256(data).hexdigest()
    return replace(task, file=path.resolve(), file_sha256=digest, overrides=tuple(overrides))


def _is_folder(path: Path) -> ConfigError:
    inside = path / "task.yaml"
    if (path / ".git" / "loop-runner").is_dir():
        hint = f"it is a run folder: loop-runner resume {shlex.quote(str(path))}"
    elif inside.is_file():
        hint = f"did you mean {shlex.quote(str(inside))}?"
    else:
        hint = f"to ask about its files: loop-runner ask 'QUESTION' {shlex.quote(str(path))}"
    return ConfigError(f"{path} is a folder, not a task file", why=_WHY_A_TASK_FILE, hint=hint)


def parse_task(source: str, *, label: str, base_dir: Path, overrides: Sequence[tuple[str, Any]] = ()) -> Task:
    """Check the text of a task file; ``label`` is what messages call it."""
    data, lines = load(source, label)
    if not isinstance(data, dict):
        raise ConfigError(
            f"{label}: a task file is a mapping of keys",
            why=_WHY_A_TASK_FILE,
            hint=f"start with `name: my-task`; {_REFERENCE}",
        )
    for key, value in overrides:
        _override(data, key, value)
        lines = _without(lines, tuple(key.split(".")))
    where = Where(label, lines)
    faults: list[ConfigError] = []
    checked = _check(data, task_keys(), where, (), faults)
    if faults:
        raise together("the task", faults, _REFERENCE)
    if "inputs" in checked:
        checked["inputs"], checked["input_settings"] = checked["inputs"]
    checked.setdefault("base_dir", base_dir)
    checked["prompt"] = _prompt(checked, checked["base_dir"], where)
    if not checked.get("name"):
        raise ConfigError(
            f"{label}: the key `name` is missing", why="it names the run folder", hint="add `name: my-task`"
        )
    usual = gates_of(checked.get("type", "custom"), checked.get("tools", ()))
    checked["verifiers"] = checked.get("verifiers") or usual
    if not checked["verifiers"]:
        raise ConfigError(
            f"{label}: the task has no verifiers",
            why="a run ends when a verifier accepts its answer; without one nothing could ever be verified",
            hint="add `verifiers:` with at least one of citations, command, contains, regex, python, judge",
        )
    _check_agent(checked, label)
    return Task(**checked)


def _check_agent(checked: Mapping[str, Any], label: str) -> None:
    session, agent = checked.get("session", "rlm"), checked.get("agent", AgentSettings())
    if session == "command" and not agent.command:
        raise ConfigError(
            f"{label}: `session: command` needs `agent.command`",
            why="it says which agent does the work",
            hint='for example agent: {command: [claude, -p, --settings, "{settings}"]}',
        )
    if session not in ("command", "hook") and "agent" in checked:
        raise ConfigError(
            f"{label}: `agent` is there and `session` is not `command`",
            why="the agent would never be started",
            hint="add `session: command`, or remove `agent`",
        )


def parse_override(text: str) -> tuple[str, Any]:
    """``budget.passes=3`` → ``("budget.passes", 3)``; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(
            f"the setting {text!r} is not KEY=VALUE",
            why="it sets one key of the task",
            hint="for example budget.passes=3",
        )
    import yaml

    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"the setting {text!r}: the value is not YAML: {error}",
            why="a value is read as it would be in the task file",
            hint="put it in quotes, on a command line twice: --set 'prompt=\"What: why?\"'",
        ) from error


def dump_task(task: Task) -> str:
    """The task as YAML that ``parse_task`` reads back to the same ``Task`` (paths made absolute)."""
    import yaml

    data = _dump(task, task_keys())
    data["inputs"] = _dump_inputs(task)
    if not task.is_agent:
        del data["agent"]
    kept = {name: value for name, value in data.items() if value not in ([], {})}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)


def _dump(part: Any, known: Mapping[str, Key]) -> dict[str, Any]:
    """Every key that has a value."""
    dumped = {}
    for name, key in known.items():
        if key.field:
            value = getattr(part, key.field)
            takes = key.takes
            dumped[name] = takes.dump(value) if isinstance(takes, Value) else _dump(value, keys_of(takes))
    return {name: value for name, value in dumped.items() if value is not None}


def _dump_inputs(task: Task) -> list[Any] | dict[str, Any]:
    paths = keys.plain(task.inputs)
    settings = {item.name: getattr(task.input_settings, item.name) for item in fields(InputSettings)}
    given = {name: value for name, value in settings.items() if value}
    return {"paths": paths, **given} if given else list(paths)


# ── checking ────────────────────────────────────────────────────────────────────────────────────────


def _override(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    inputs = data.get("inputs", {})
    if parents == ["inputs"] and (is_one_input(inputs) or not isinstance(inputs, dict)):
        data["inputs"] = {"paths": inputs}
    if key == "inputs" and isinstance(value, list) and isinstance(inputs, dict) and not is_one_input(inputs):
        last, data = "paths", data.setdefault("inputs", {})  # other inputs, the same settings
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(
                f"the setting {key}: `{parent}` is not a mapping",
                why="a dot leads from a key to one inside it",
                hint=_REFERENCE,
            )
    data[last] = value


def _without(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """``lines`` without those of a key that a flag has replaced: its mistakes are not the file's."""
    return {key: line for key, line in lines.items() if key[: len(path)] != path}


def _check(
    data: Mapping[Any, Any],
    known: Mapping[str, Key],
    where: Where,
    path: tuple[str, ...],
    faults: list[ConfigError],
) -> dict[str, Any]:
    """The values that fit, by field; every other one is a fault."""
    checked: dict[str, Any] = {}
    for name, value in data.items():
        here = (*path, str(name))
        if name not in known:
            faults.append(_unknown_key(str(name), known, where(here)))
        elif value is not None:  # `model:` with nothing behind it is the same as no key
            key = known[name]
            try:
                checked[key.field or name] = _read(value, key, where, here, faults)
            except BadValueError as bad:
                faults.append(_bad_value(where(here), here, str(bad), value))
    return checked


def _read(value: Any, key: Key, where: Where, path: tuple[str, ...], faults: list[ConfigError]) -> Any:
    if isinstance(key.takes, Value):
        return key.takes(value)
    known = keys_of(key.takes)
    if not isinstance(value, Mapping):
        raise BadValueError(f"a mapping of {', '.join(known)}")
    return key.takes(**_check(value, known, where, path, faults))


def _bad_value(where: str, path: tuple[str, ...], expected: str, value: Any) -> ConfigError:
    shown = as_written(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ConfigError(
        f"{where}: `{'.'.join(path)}` takes {expected}, not {shown}{surprise(value)}",
        why="the key would not mean what you wrote",
        hint=_REFERENCE,
    )


def _unknown_key(key: str, known: Mapping[str, Key], where: str) -> ConfigError:
    names = [name for name, entry in known.items() if entry.meaning]
    near = difflib.get_close_matches(key, names, n=1, cutoff=0.65)
    sections = [
        name
        for name, entry in known.items()
        if not isinstance(entry.takes, Value) and key in keys_of(entry.takes)
    ]
    near = [f"{sections[0]}.{key}"] if sections and key not in near else near
    hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(names)}"
    return ConfigError(
        f"{where}: unknown key `{key}`",
        why="a setting that is ignored is worse than one that is refused",
        hint=hint,
    )


def _prompt(checked: dict[str, Any], base_dir: Path, where: Where) -> str:
    """Take ``prompt`` or ``prompt_file`` out of ``checked``; exactly one of them must be there."""
    prompt, file = checked.pop("prompt", None), checked.pop("prompt_file", None)
    if (prompt is None) == (file is None):
        problem = (
            "has neither `prompt` nor `prompt_file`"
            if prompt is None
            else "has both `prompt` and `prompt_file`"
        )
        raise ConfigError(
            f"{where.label}: the task {problem}",
            why="every pass starts with the prompt, word for word",
            hint="give exactly one of the two",
        )
    if prompt is not None:
        is_question = checked.get("type") == "ask"
        size = len(str(prompt).encode("utf-8", "replace"))
        prompt_size.refuse_oversize(size, f"{where(('prompt',))}: the prompt", is_question=is_question)
        return str(prompt)
    try:
        prompt = named_file.read_text(base_dir / file)
        prompt_size.refuse_oversize(len(prompt.encode()), f"{where(('prompt_file',))}: {file}")
        return keys.text(prompt)
    except OSError as error:
        raise _no_prompt(f"{where(('prompt_file',))}: {file} cannot be read: {error}") from error
    except BadValueError:
        raise _no_prompt(f"{where(('prompt_file',))}: {file} is empty") from None


def _no_prompt(message: str) -> ConfigError:
    return ConfigError(
        message,
        why="every pass starts with the prompt, word for word",
        hint="a prompt file is UTF-8 text; its path is relative to the task file",
    )
