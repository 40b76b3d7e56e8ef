"""Reads the task file, checks every key and value, and gives a frozen ``Task``.

Owns the format of ``task.yaml`` (documented key by key in docs/task-file.md). Relies on PyYAML. Never looks
at the inputs themselves, starts nothing, and reads no environment variable.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import date
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from loop_runner.budget import Budget
from loop_runner.errors import ConfigError, together
from loop_runner.records import KernelSettings
from loop_runner.task import named_file, prompt_size
from loop_runner.task.task_types import TYPES

T = TypeVar("T")
Reentry = Literal["fresh", "continue"]
Schema = Mapping[str, Any]  # a JSON Schema
OnRegression = Literal["keep", "rollback"]
SessionKind = Literal["rlm", "direct", "auto", "command", "hook"]

_WHY_A_TASK_FILE = "it says what to do, on which files, and what must hold before it is done"
_REFERENCE = "docs/task-file.md describes every key"

_MAX_DEPTH, _MAX_NODES = 60, 200_000  # of a task file

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MEGABYTES = {"": 1, "mb": 1, "gb": 1024, "m": 1, "g": 1024}


@dataclass(frozen=True, slots=True)
class NoProgress:
    """When passes count as equal, and what is tried before the run stops (``progress.py``)."""

    passes: int = 3  # so many in a row with the same files, answer and failures
    then: tuple[str, ...] = ("prompt", "model", "restart")  # one after another, a pass each
    models: tuple[str, ...] = ()  # other root models for "model"


@dataclass(frozen=True, slots=True)
class History:
    """What a conversation keeps of its older turns: all; ``turns`` whole outputs; a summary."""

    mode: Literal["full", "window", "compact"] = "full"
    turns: int = 0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The agent of a task with ``session: command`` or ``hook``."""

    command: tuple[str, ...] = ()  # its program and arguments; empty: a person starts it
    repository: str | None = None  # whose files it works on: a git repository; None: the task file's own
    folder: str | None = None  # ``hook``: the folder that it works in
    skip: tuple[str, ...] = (".git", "node_modules", "__pycache__", ".venv")  # names that are not kept
    timeout_s: float = 4 * 3600.0  # how long it may neither stop nor end
    patience: float = 1.0  # how long a failing provider is waited for, as a factor


@dataclass(frozen=True, slots=True)
class InputSettings:
    """What holds for all inputs of a task."""

    strict: bool = False  # a broken file in a folder is an error, not a line among what was skipped
    urls: bool = False  # addresses of the web may be fetched
    private_addresses: bool = False  # of this machine and its own network, too


@dataclass(frozen=True, slots=True)
class Task:
    """One task, checked. ``base_dir`` is what its relative paths are relative to."""

    name: str
    prompt: str
    base_dir: Path
    inputs: tuple[str | Mapping[str, Any], ...] = ()
    input_settings: InputSettings = field(default_factory=InputSettings)
    verifiers: tuple[str | Mapping[str, Any], ...] = ()
    type: str = "custom"
    prompts: str = "prompts"  # folder of the project's own templates, beside the task file; "none": no folder
    model: str | None = None
    sub_model: str | None = None
    sub_models: tuple[str, ...] = ()  # further ones that the model's code may name
    width: int = 32  # requests that are out at once
    child_width: int = 16  # child sessions at once
    prices: Mapping[str, Rates] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    reentry: Reentry = "fresh"
    no_progress: NoProgress = field(default_factory=NoProgress)
    on_regression: OnRegression = "keep"
    history: History = field(default_factory=History)
    session: SessionKind = "rlm"
    code_as: Literal["fence", "tool"] = "fence"
    kernel: KernelSettings = field(default_factory=KernelSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    stop_hooks: tuple[str | Sequence[str] | Mapping[str, Any], ...] = ()
    run_dir: Path | None = None
    file: Path | None = field(default=None, compare=False)  # the task file, where it was read from one
    file_sha256: str = field(default="", compare=False)  # of the task file's bytes
    overrides: tuple[tuple[str, Any], ...] = field(default=(), compare=False)  # what won over the task file

    @property
    def is_agent(self) -> bool:
        """A program of the user's does the work, not a session of ours."""
        return self.session in ("command", "hook")


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model costs, in US dollars per million tokens, where the task says so."""

    input: float
    output: float
    cache_read: float | None = None  # None: as input
    cache_write: float | None = None


class _Bad(Exception):  # noqa: N818 - a value that does not fit, caught where its line is known
    """A value's shape is wrong; the text says what was expected."""


# ── what each key takes ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Value(Generic[T]):
    """What a key takes: how it is read, and the same as JSON Schema, as far as that can express it."""

    read: Callable[[Any], T]
    schema: Schema

    def __call__(self, value: Any) -> T:
        return self.read(value)


def _takes(**schema: Any) -> Callable[[Callable[[Any], T]], _Value[T]]:
    """Describe what a reader takes."""
    return lambda read: _Value(read, schema)


def _several(items: Schema, **more: Any) -> Schema:
    """``items``, or a list of them."""
    return {"anyOf": [items, {"type": "array", "items": items, **more}]}


def _reference(name: str) -> Schema:
    """What another part of the package describes; ``schema`` is given it."""
    return {"$ref": f"#/$defs/{name}"}


_FILLED: Schema = {"type": "string", "pattern": r"\S"}


@_takes(**_FILLED)
def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Bad("a text that is not empty")
    return value


@_takes(type="string", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
def _name(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise _Bad("letters, digits, dots, dashes and underscores (it names the run folder)")
    return value


@_takes(type="integer", minimum=1)
def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise _Bad("a whole number from 1 up")
    return value


@_takes(type="integer", minimum=2)
def _two_or_more(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 2:
        raise _Bad("a whole number from 2 up")
    return value


@_takes(type="integer", minimum=0)
def _depth(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _Bad("a whole number from 0 up")
    return value


@_takes(type="number", exclusiveMinimum=0)
def _positive(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise _Bad("a number over 0")
    return float(value)


@_takes(
    anyOf=[
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[smhd]\s*$"},
        {"type": "number", "exclusiveMinimum": 0},
    ]
)
def _duration(value: Any) -> float:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)):
        value = float(match[1]) * _SECONDS[match[2]]
    try:
        return _positive(value)
    except _Bad:
        raise _Bad("a duration such as 90s, 30m, 2h or a number of seconds") from None


@_takes(
    anyOf=[
        {"type": "string", "pattern": r"^\s*0*[1-9]\d*\s*([mMgG][bB]?)?\s*$"},
        {"type": "integer", "minimum": 1},
    ]
)
def _memory(value: Any) -> int:
    text = str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", text)
    if not match or match[2] not in _MEGABYTES or int(match[1]) == 0:
        raise _Bad("a size such as 512MB or 4GB")
    return int(match[1]) * _MEGABYTES[match[2]]


def _up_to(most: int) -> _Value[Any]:
    @_takes(type="integer", minimum=1, maximum=most)
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise _Bad(f"a whole number from 1 to {most:,}")
        return value

    return check


@_takes(**_several(_FILLED))
def _list_of_names(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise _Bad("a list of model ids")
    return tuple(items)


@_takes(
    type="object",
    additionalProperties={
        "type": "object",
        "properties": {item.name: {"type": "number", "minimum": 0} for item in fields(Rates)},
        "required": ["input", "output"],
        "additionalProperties": False,
    },
)
def _prices(value: Any) -> dict[str, Rates]:
    expected = "a mapping of model ids to {input: USD, output: USD} per million tokens"
    if not isinstance(value, dict):
        raise _Bad(expected)
    return {str(model): _rates(rates, expected) for model, rates in value.items()}


def _rates(value: Any, expected: str) -> Rates:
    names = {item.name for item in fields(Rates)}
    is_right = isinstance(value, dict) and {"input", "output"} <= value.keys() <= names
    if not is_right or not all(_is_amount(each) for each in value.values()):
        raise _Bad(f"{expected}, and cache_read and cache_write where they differ from input")
    return Rates(**{name: float(each) for name, each in value.items()})


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _one_of(*choices: str) -> _Value[Any]:
    @_takes(enum=list(choices))
    def check(value: Any) -> str:
        if value not in choices:
            raise _Bad(" or ".join(choices))
        return str(value)

    return check


@_takes(**_several(_FILLED))
def _texts(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item.strip() for item in items):
        raise _Bad("a list of texts")
    return tuple(items)


_STRATEGIES = ("prompt", "model", "restart")


@_takes(**_several({"enum": list(_STRATEGIES)}))
def _strategies(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(item in _STRATEGIES for item in items):
        raise _Bad(f"a list of {', '.join(_STRATEGIES)}, which may be empty")
    return tuple(items)


@_takes(
    anyOf=[
        {"enum": ["full", "compact"]},
        {
            "type": "object",
            "properties": {"window": {"type": "integer", "minimum": 1}},
            "required": ["window"],
            "additionalProperties": False,
        },
    ]
)
def _history(value: Any) -> History:
    if value in ("full", "compact"):
        return History(value)
    turns = value.get("window") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
        raise _Bad("full, compact, or {window: N} with the number of turns that stay whole")
    return History("window", turns)


@_takes(**_several(_reference("verifier")))
def _list_of_specs(value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | dict) for item in items):
        raise _Bad("a list of texts or of mappings")
    return tuple(items)


@_takes(
    anyOf=[
        *_several(_reference("input"))["anyOf"],
        {
            "type": "object",
            "properties": {
                "paths": _several(_reference("input")),
                **{item.name: {"type": "boolean"} for item in fields(InputSettings)},
            },
            "additionalProperties": False,
        },
    ]
)
def _inputs(value: Any) -> tuple[tuple[Any, ...], InputSettings]:
    """A list of specs, or ``{paths: [...]}`` with settings that hold for all of them."""
    names = {item.name for item in fields(InputSettings)}
    if not isinstance(value, dict) or _is_one_input(value):
        return _list_of_specs(value), InputSettings()
    settings = {name: each for name, each in value.items() if name != "paths"}
    if not settings.keys() <= names or not all(isinstance(each, bool) for each in settings.values()):
        raise _Bad(f"a list, or a mapping of `paths` (a list) and {', '.join(sorted(names))} (true or false)")
    return _list_of_specs(value.get("paths", [])), InputSettings(**settings)


def _is_one_input(value: Any) -> bool:
    return isinstance(value, dict) and bool(value.keys() & {"path", "git", "url"})


@_takes(**_several({"type": "string", "pattern": r"^[^\d\s/-][^\s/-]*$"}))
def _list_of_modules(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item.replace(".", "_").isidentifier() for item in items):
        raise _Bad("a list of module names")
    return tuple(items)


@_takes(enum=list(TYPES))
def _type(value: Any) -> str:
    if not isinstance(value, str) or value not in TYPES:
        near = difflib.get_close_matches(str(value), TYPES, n=1)
        raise _Bad(f"one of {', '.join(TYPES)}" + (f" (did you mean {near[0]}?)" if near else ""))
    return str(value)


@_takes(type="array", items=_reference("stop_hook"))
def _list_of_hooks(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str | dict | list) for item in value):
        raise _Bad("a list of hooks; each is a program with its arguments, or a mapping with `command`")
    return tuple(value)


@_takes(type="array", items={"type": "string", "minLength": 1}, minItems=1)
def _words(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise _Bad("a list of texts: a program and its arguments")
    return tuple(value)


@_takes(**_several({"type": "string", "pattern": "^[^/]+$"}))
def _names(value: Any) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item and "/" not in item for item in items):
        raise _Bad("a list of names of files or folders")
    return tuple(items)


@dataclass(frozen=True, slots=True)
class _Section:
    """A mapping inside the task file; ``names`` maps its keys to field names where they differ."""

    keys: Mapping[str, _Value[Any]]
    build: Callable[..., Any]
    names: Mapping[str, str] = field(default_factory=dict)


_TASK_KEYS: dict[str, _Value[Any] | _Section] = {
    "name": _name,
    "prompt": _text,
    "prompt_file": _text,
    "inputs": _inputs,
    "type": _type,
    "prompts": _text,
    "model": _text,
    "sub_model": _text,
    "sub_models": _list_of_names,
    "width": _up_to(1024),
    "child_width": _up_to(256),
    "prices": _prices,
    "verifiers": _list_of_specs,
    "budget": _Section(
        {
            "passes": _count,
            "turns": _count,
            "tokens": _count,
            "tokens_in": _count,
            "tokens_out": _count,
            "usd": _positive,
            "wall": _duration,
            "subcalls": _depth,
            "depth": _depth,
            "child_turns": _count,
        },
        Budget,
        {"wall": "wall_s"},
    ),
    "reentry": _one_of("fresh", "continue"),
    "no_progress": _Section({"passes": _two_or_more, "then": _strategies, "models": _texts}, NoProgress),
    "on_regression": _one_of("keep", "rollback"),
    "history": _history,
    "code_as": _one_of("fence", "tool"),
    "kernel": _Section(
        {
            "timeout_s": _positive,
            "grace_s": _positive,
            "memory": _memory,
            "max_output_chars": _count,
            "python": _text,
            "preload": _list_of_modules,
            "require_tier": _one_of("A", "B", "C"),
        },
        KernelSettings,
        {"memory": "memory_mb"},
    ),
    "session": _one_of("rlm", "direct", "auto", "command", "hook"),
    "agent": _Section(
        {
            "command": _words,
            "repository": _text,
            "folder": _text,
            "skip": _names,
            "timeout": _duration,
            "patience": _positive,
        },
        AgentSettings,
        {"timeout": "timeout_s"},
    ),
    "stop_hooks": _list_of_hooks,
    "run_dir": _text,
    "task_dir": _text,  # written by the runner into a run's own copy, so that relative paths keep their base
}


# ── the same as JSON Schema ─────────────────────────────────────────────────────────────────────────


def schema(parts: Mapping[str, Schema]) -> dict[str, Any]:
    """The format of a task file; ``parts`` are the schemas of "input", "verifier" and "stop_hook"."""
    keys = {key: rule for key, rule in _TASK_KEYS.items() if key != "task_dir"}
    return {
        "type": "object",
        "properties": {key: _optional(rule) for key, rule in keys.items()} | {"name": _name.schema},
        "required": ["name"],
        "additionalProperties": False,
        "oneOf": [_filled("prompt"), _filled("prompt_file")],
        "allOf": [_NEEDS_VERIFIERS, _NEEDS_COMMAND, _NEEDS_SESSION],
        "$defs": dict(parts),
    }


def _optional(rule: _Value[Any] | _Section) -> dict[str, Any]:
    """A key with nothing behind it is the same as no key."""
    if isinstance(rule, _Value):
        forms = rule.schema["anyOf"] if set(rule.schema) == {"anyOf"} else [rule.schema]
        return {"anyOf": [*forms, {"type": "null"}]}
    return {
        "type": ["object", "null"],
        "properties": {key: _optional(value) for key, value in rule.keys.items()},
        "additionalProperties": False,
    }


def _filled(key: str) -> Schema:
    return {"required": [key], "properties": {key: {"type": "string"}}}


_NEEDS_VERIFIERS: Schema = {
    "if": {
        "required": ["type"],
        "properties": {"type": {"enum": [name for name, entry in TYPES.items() if entry.verifiers]}},
    },
    "else": {"required": ["verifiers"], "properties": {"verifiers": {"not": {"enum": [None, []]}}}},
}
_NEEDS_COMMAND: Schema = {
    "if": {"required": ["session"], "properties": {"session": {"const": "command"}}},
    "then": {
        "required": ["agent"],
        "properties": {
            "agent": {
                "type": "object",
                "required": ["command"],
                "properties": {"command": {"type": "array"}},
            }
        },
    },
}
_NEEDS_SESSION: Schema = {
    "if": {"required": ["agent"], "properties": {"agent": {"type": "object"}}},
    "then": {"required": ["session"], "properties": {"session": {"enum": ["command", "hook"]}}},
}


# ── reading ─────────────────────────────────────────────────────────────────────────────────────────


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
    data, lines = _load(source, label)
    for key, value in overrides:
        _override(data, key, value)
        lines = _without(lines, tuple(key.split(".")))
    where = _Where(label, lines)
    faults: list[ConfigError] = []
    checked = _check(data, _TASK_KEYS, where, (), faults)
    if faults:
        raise together("the task", faults, _REFERENCE)
    if "inputs" in checked:
        checked["inputs"], checked["input_settings"] = checked["inputs"]
    base = Path(checked.pop("task_dir", base_dir))
    prompt = _prompt(checked, base, where)
    if not checked.get("name"):
        raise ConfigError(
            f"{label}: the key `name` is missing", why="it names the run folder", hint="add `name: my-task`"
        )
    checked["verifiers"] = checked.get("verifiers") or TYPES[checked.get("type", "custom")].verifiers
    if not checked["verifiers"]:
        raise ConfigError(
            f"{label}: the task has no verifiers",
            why="a run ends when a verifier accepts its answer; without one nothing could ever be verified",
            hint="add `verifiers:` with at least one of citations, command, contains, regex, python, judge",
        )
    _check_agent(checked, label)
    run_dir = checked.pop("run_dir", None)
    return Task(
        prompt=prompt,
        base_dir=base,
        run_dir=None if run_dir is None else Path(run_dir).expanduser(),
        **checked,
    )


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
            f"--set {text!r} is not KEY=VALUE",
            why="it sets one key of the task",
            hint="for example --set budget.passes=3",
        )
    import yaml

    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--set {text!r}: the value is not YAML: {error}",
            why="a value is read as it would be in the task file",
            hint="put it in quotes twice, once for the shell: --set 'prompt=\"What: why?\"'",
        ) from error


def dump_task(task: Task) -> str:
    """The task as YAML that ``parse_task`` reads back to the same ``Task`` (paths made absolute)."""
    import yaml

    data: dict[str, Any] = {
        "name": task.name,
        "prompt": task.prompt,
        "type": task.type,
        "prompts": None if task.prompts == "prompts" else task.prompts,
        "inputs": _dump_inputs(task),
        "model": task.model,
        "sub_model": task.sub_model,
        "sub_models": list(task.sub_models),
        "width": task.width,
        "child_width": task.child_width,
        "prices": {model: _dump_rates(rates) for model, rates in task.prices.items()},
        "verifiers": [_plain(spec) for spec in task.verifiers],
        "budget": _dump_section(task.budget, "budget"),
        "reentry": task.reentry,
        "no_progress": _dump_section(task.no_progress, "no_progress"),
        "on_regression": task.on_regression,
        "history": {"window": task.history.turns} if task.history.mode == "window" else task.history.mode,
        "session": task.session,
        "code_as": task.code_as,
        "kernel": _dump_section(task.kernel, "kernel"),
        "agent": _dump_agent(task),
        "stop_hooks": [_plain(spec) for spec in task.stop_hooks],
        "task_dir": str(task.base_dir),
    }
    kept = {key: value for key, value in data.items() if value not in (None, [], {})}
    return yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=110)


def _dump_inputs(task: Task) -> list[Any] | dict[str, Any]:
    paths = [_plain(spec) for spec in task.inputs]
    settings = {item.name: getattr(task.input_settings, item.name) for item in fields(InputSettings)}
    given = {name: value for name, value in settings.items() if value}
    return {"paths": paths, **given} if given else paths


def _dump_agent(task: Task) -> dict[str, Any]:
    if not task.is_agent:
        return {}
    return {key: value for key, value in _dump_section(task.agent, "agent").items() if value != []}


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _dump_rates(rates: Rates) -> dict[str, float]:
    pairs = ((item.name, getattr(rates, item.name)) for item in fields(rates))
    return {name: value for name, value in pairs if value is not None}


def _dump_section(value: Any, key: str) -> dict[str, Any]:
    section = _TASK_KEYS[key]
    assert isinstance(section, _Section)
    by_field = {section.names.get(name, name): name for name in section.keys}
    pairs = (
        (by_field[item.name], getattr(value, item.name)) for item in fields(value) if item.name in by_field
    )
    return {
        name: list(entry) if isinstance(entry, tuple) else entry for name, entry in pairs if entry is not None
    }


# ── checking ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Where:
    """Finds the line of a key for a message."""

    label: str
    lines: Mapping[tuple[str, ...], int]

    def __call__(self, path: tuple[str, ...]) -> str:
        line = self.lines.get(path)
        return f"{self.label}, line {line}" if line else f"{self.label}, --set {'.'.join(path)}"


def _load(source: str, label: str) -> tuple[dict[str, Any], dict[tuple[str, ...], int]]:
    """The file's mapping and the line (from 1) of every key in it."""
    import yaml

    try:
        root = yaml.compose(source, Loader=yaml.SafeLoader)
        _refuse_too_large(root)
        lines: dict[tuple[str, ...], int] = {}
        # First: making the values changes the nodes. From the nodes, so that the text is read once.
        _collect_lines(root, (), lines, label)
        data = yaml.constructor.SafeConstructor().construct_document(root) if root else None
    except (ValueError, ArithmeticError, RecursionError, TypeError) as error:
        raise ConfigError(
            f"{label}: not valid YAML: {str(error)[:200] or type(error).__name__}",
            why="what cannot be read for certain is not run",
            hint="write numbers, dates and nesting as a task file needs them",
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{label}{line}: not valid YAML: {problem}",
            why="what cannot be read for certain is not run",
            hint="check the brackets, quotes and indentation there and on the line before",
        ) from error
    if not isinstance(data, dict) or not isinstance(root, yaml.MappingNode):
        raise ConfigError(
            f"{label}: a task file is a mapping of keys",
            why=_WHY_A_TASK_FILE,
            hint=f"start with `name: my-task`; {_REFERENCE}",
        )
    return data, lines


def _refuse_too_large(root: Any) -> None:
    """``ValueError`` for a document that its aliases blow up, that holds itself, or nested too deep."""
    import yaml

    sizes: dict[int, int] = {}

    def size(node: Any, depth: int) -> int:
        if depth > _MAX_DEPTH:
            msg = f"it is nested more than {_MAX_DEPTH} deep, or holds itself"
            raise ValueError(msg)
        if id(node) not in sizes:
            pairs = node.value if isinstance(node, yaml.MappingNode) else ()
            parts = [part for pair in pairs for part in pair] or (
                node.value if isinstance(node, yaml.SequenceNode) else []
            )
            sizes[id(node)] = 1 + sum(size(part, depth + 1) for part in parts)
        if sizes[id(node)] > _MAX_NODES:
            msg = f"it has more than {_MAX_NODES:,} values"
            raise ValueError(msg)
        return sizes[id(node)]

    size(root, 0)


def _collect_lines(node: Any, path: tuple[str, ...], lines: dict[tuple[str, ...], int], label: str) -> None:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here, line = (*path, str(key.value)), key.start_mark.line + 1
            if here in lines:  # YAML would take the last one without a word
                raise ConfigError(
                    f"{label}, line {line}: `{'.'.join(here)}` is there twice, first on line {lines[here]}",
                    why="only one of them could count",
                    hint="keep one of the two",
                )
            lines[here] = line
            _collect_lines(value, here, lines, label)


def _override(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    inputs = data.get("inputs", {})
    if parents == ["inputs"] and (_is_one_input(inputs) or not isinstance(inputs, dict)):
        data["inputs"] = {"paths": inputs}
    if key == "inputs" and isinstance(value, list) and isinstance(inputs, dict) and not _is_one_input(inputs):
        last, data = "paths", data.setdefault("inputs", {})  # other inputs, the same settings
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(
                f"--set {key}: `{parent}` is not a mapping",
                why="a dot leads from a key to one inside it",
                hint=_REFERENCE,
            )
    data[last] = value


def _without(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> dict[tuple[str, ...], int]:
    """``lines`` without those of a key that a flag has replaced: its mistakes are not the file's."""
    return {key: line for key, line in lines.items() if key[: len(path)] != path}


def _check(
    data: Mapping[Any, Any],
    keys: Mapping[str, _Value[Any] | _Section],
    where: _Where,
    path: tuple[str, ...],
    faults: list[ConfigError],
) -> dict[str, Any]:
    """The values that fit; every other one is a fault."""
    checked: dict[str, Any] = {}
    for key, value in data.items():
        here = (*path, str(key))
        if key not in keys:
            faults.append(_unknown_key(str(key), keys, where(here)))
            continue
        rule = keys[key]
        if value is None:
            continue  # `model:` with nothing behind it is the same as no key
        if isinstance(rule, _Section):
            if (section := _check_section(value, rule, where, here, faults)) is not None:
                checked[key] = section
            continue
        try:
            checked[key] = rule(value)
        except _Bad as bad:
            faults.append(_bad_value(where(here), here, str(bad), value))
    return checked


def _check_section(
    value: Any, rule: _Section, where: _Where, path: tuple[str, ...], faults: list[ConfigError]
) -> Any:
    if not isinstance(value, Mapping):
        faults.append(_bad_value(where(path), path, f"a mapping of {', '.join(rule.keys)}", value))
        return None
    checked = _check(value, rule.keys, where, path, faults)
    return rule.build(**{rule.names.get(name, name): entry for name, entry in checked.items()})


def _bad_value(where: str, path: tuple[str, ...], expected: str, value: Any) -> ConfigError:
    shown = _as_written(value)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}..."
    return ConfigError(
        f"{where}: `{'.'.join(path)}` takes {expected}, not {shown}{_read_by_yaml(value)}",
        why="a guess at what was meant could cost a day of running",
        hint=_REFERENCE,
    )


def _as_written(value: Any) -> str:
    """``value`` as a task file would have it."""
    import yaml

    if isinstance(value, str):
        return repr(value)
    try:
        text: str = yaml.safe_dump(value, default_flow_style=True, width=1 << 20, allow_unicode=True)
    except yaml.YAMLError:
        return repr(value)
    return text.removesuffix("\n").removesuffix("\n...")


def _read_by_yaml(value: Any) -> str:
    """What YAML made of an unquoted word, where that may surprise."""
    if isinstance(value, bool):
        words = "yes, on and true" if value else "no, off and false"
        return f" (YAML reads {words} so; put a text in quotes)"
    if isinstance(value, date):
        return " (YAML reads this as a date; put it in quotes)"
    return ""


def _unknown_key(key: str, keys: Mapping[str, Any], where: str) -> ConfigError:
    known = [name for name in keys if name != "task_dir"]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.65)
    sections = [name for name, rule in keys.items() if isinstance(rule, _Section) and key in rule.keys]
    near = [f"{sections[0]}.{key}"] if sections and key not in near else near
    hint = f"did you mean `{near[0]}`?" if near else f"known keys: {', '.join(known)}"
    return ConfigError(
        f"{where}: unknown key `{key}`",
        why="a setting that is ignored is worse than one that is refused",
        hint=hint,
    )


def _prompt(checked: dict[str, Any], base_dir: Path, where: _Where) -> str:
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
            why="the prompt is what every pass is given, word for word",
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
        return _text(prompt)
    except OSError as error:
        raise _no_prompt(f"{where(('prompt_file',))}: {file} cannot be read: {error}") from error
    except _Bad:
        raise _no_prompt(f"{where(('prompt_file',))}: {file} is empty") from None


def _no_prompt(message: str) -> ConfigError:
    return ConfigError(
        message,
        why="the prompt is what every pass is given, word for word",
        hint="a prompt file is UTF-8 text; its path is relative to the task file",
    )
