"""What a task is, checked and frozen: ``Task`` and its parts. A key of the task file is a field here.

``Budget`` and ``KernelSettings`` are the parts that others own. Reads no file; ``task_file`` does.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from loop_runner import keys
from loop_runner.budget import Budget
from loop_runner.keys import BadValueError, Key, key, takes
from loop_runner.task.kernel_settings import KernelSettings
from loop_runner.task.task_types import TYPES

Reentry = Literal["fresh", "continue"]
OnRegression = Literal["keep", "rollback"]
SessionKind = Literal["rlm", "direct", "auto", "command", "hook"]

_STRATEGIES = ("prompt", "model", "restart")


@dataclass(frozen=True, slots=True)
class NoProgress:
    """When passes count as equal, and what is tried before the run stops (``progress.py``)."""

    passes: int = key(
        keys.whole(2),
        "how many passes in a row with the same files, answer and failures (or twice as many with the same"
        " answer and failures) count as no progress",
        default=3,
    )
    then: tuple[str, ...] = key(
        keys.list_of(
            f"a list of {', '.join(_STRATEGIES)}, which may be empty",
            lambda item: item in _STRATEGIES,
            enum=list(_STRATEGIES),
        ),
        "strategies to try, one pass each, before the run stops unverified: `prompt` (the prompt says so),"
        " `model` (each of `models`; without any, another temperature where the provider takes one),"
        " `restart` (from the best-scored pass that ended differently, else from the beginning)",
        default=_STRATEGIES,
        shown="all three, in this order",
    )
    models: tuple[str, ...] = key(
        keys.list_of("a list of texts"), "other root models for `model`", default=()
    )


@dataclass(frozen=True, slots=True)
class History:
    """What a conversation keeps of its older turns: all; ``turns`` whole outputs; a summary."""

    mode: Literal["full", "window", "compact"] = "full"
    turns: int = 0


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The agent of a task with ``session: command`` or ``hook``; without ``command`` a person starts it."""

    command: tuple[str, ...] = key(
        keys.command,
        "the program and its arguments, a list. The prompt is its standard input. `{prompt}` as"
        " an argument passes it there instead, `{settings}` is a settings file for `claude"
        " --settings` with this run's hook, and `{hook_url}` is the hook's address",
        default=(),
        shown="required for `session: command`",
    )
    repository: str | None = key(
        keys.text,
        "the git repository whose last commit the agent begins with, relative to the task file; `none`: an"
        " empty folder",
        default=None,
        shown="the one around the task file, if there is one",
    )
    folder: str | None = key(
        keys.text,
        "`session: hook`: the folder that holds the agent's work",
        default=None,
        shown="where `hook start` was called",
    )
    skip: tuple[str, ...] = key(
        keys.names,
        "names of files and folders that are not committed",
        default=(".git", "node_modules", "__pycache__", ".venv"),
        shown="`.git`, `node_modules`, `__pycache__`, `.venv`",
    )
    timeout_s: float = key(
        keys.duration,
        "the longest time until the agent stops or ends",
        name="timeout",
        default=4 * 3600.0,
        shown="4h",
    )
    patience: float = key(
        keys.positive,
        "factor for the wait (5 s, then 10 s) after an error of the agent's provider",
        default=1.0,
    )


@dataclass(frozen=True, slots=True)
class InputSettings:
    """What holds for all inputs of a task."""

    strict: bool = False  # a broken file in a folder is an error, not a line among what was skipped
    urls: bool = False  # addresses of the web may be fetched
    private_addresses: bool = False  # of this machine and its own network, too


@dataclass(frozen=True, slots=True)
class Rates:
    """What a model costs, in US dollars per million tokens, where the task says so."""

    input: float
    output: float
    cache_read: float | None = None  # None: as input
    cache_write: float | None = None


# ── values of a task's own ──────────────────────────────────────────────────────────────────────────


def _dump_prices(prices: Mapping[str, Rates]) -> dict[str, Any]:
    pairs = {
        model: [(item.name, getattr(rates, item.name)) for item in fields(rates)]
        for model, rates in prices.items()
    }
    return {model: {name: usd for name, usd in rates if usd is not None} for model, rates in pairs.items()}


@takes(
    _dump_prices,
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
        raise BadValueError(expected)
    return {str(model): _rates(rates, expected) for model, rates in value.items()}


def _rates(value: Any, expected: str) -> Rates:
    names = {item.name for item in fields(Rates)}
    is_right = isinstance(value, dict) and {"input", "output"} <= value.keys() <= names
    if not is_right or not all(_is_amount(amount) for amount in value.values()):
        raise BadValueError(f"{expected}, and cache_read and cache_write where they differ from input")
    return Rates(**{name: float(amount) for name, amount in value.items()})


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


@takes(
    lambda history: {"window": history.turns} if history.mode == "window" else history.mode,
    anyOf=[
        {"enum": ["full", "compact"]},
        {
            "type": "object",
            "properties": {"window": {"type": "integer", "minimum": 1}},
            "required": ["window"],
            "additionalProperties": False,
        },
    ],
)
def _history(value: Any) -> History:
    if value in ("full", "compact"):
        return History(value)
    turns = value.get("window") if isinstance(value, dict) and len(value) == 1 else None
    if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
        raise BadValueError("full, compact, or {window: N} with the number of turns that stay whole")
    return History("window", turns)


@takes(**keys.several(keys.reference("verifier")))
def _list_of_specs(value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | dict) for item in items):
        raise BadValueError("a list of texts or of mappings")
    return tuple(items)


@takes(
    anyOf=[
        *keys.several(keys.reference("input"))["anyOf"],
        {
            "type": "object",
            "properties": {
                "paths": keys.several(keys.reference("input")),
                **{item.name: {"type": "boolean"} for item in fields(InputSettings)},
            },
            "additionalProperties": False,
        },
    ],
)
def _inputs(value: Any) -> tuple[tuple[Any, ...], InputSettings]:
    """A list of specs, or ``{paths: [...]}`` with settings that hold for all of them."""
    names = {item.name for item in fields(InputSettings)}
    if not isinstance(value, dict) or is_one_input(value):
        return _list_of_specs(value), InputSettings()
    settings = {name: flag for name, flag in value.items() if name != "paths"}
    if not settings.keys() <= names or not all(isinstance(flag, bool) for flag in settings.values()):
        raise BadValueError(
            f"a list, or a mapping of `paths` (a list) and {', '.join(sorted(names))} (true or false)"
        )
    return _list_of_specs(value.get("paths", [])), InputSettings(**settings)


def is_one_input(value: Any) -> bool:
    """Whether ``value`` is one input that is written as a mapping."""
    return isinstance(value, dict) and bool(value.keys() & {"path", "git", "url", "data", "fleet"})


@takes(enum=list(TYPES))
def _type(value: Any) -> str:
    if not isinstance(value, str) or value not in TYPES:
        near = difflib.get_close_matches(str(value), TYPES, n=1)
        raise BadValueError(f"one of {', '.join(TYPES)}" + (f" (did you mean {near[0]}?)" if near else ""))
    return str(value)


@takes(type="array", items=keys.reference("tool"))
def _list_of_tools(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise BadValueError("a list of mappings, such as `- python: tools.py:lookup`")
    return tuple(value)


@takes(type="array", items=keys.reference("stop_hook"))
def _list_of_hooks(value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str | dict | list) for item in value):
        raise BadValueError(
            "a list of hooks; each is a program with its arguments, or a mapping with `command`"
        )
    return tuple(value)


@takes(
    **keys.several(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"apprise": {"type": "string"}}, "required": ["apprise"]},
                {"type": "object", "properties": {"command": {}}, "required": ["command"]},
                {
                    "type": "object",
                    "properties": {"webhook": {"type": "string"}, "secret": {"type": "string"}},
                    "required": ["webhook", "secret"],
                },
            ]
        }
    )
)
def _list_of_targets(value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str | dict) for item in items):
        raise BadValueError("a list of targets: `${VARIABLE}`, or a mapping with `command` or `webhook`")
    return tuple(items)


@takes(str, **keys.FILLED)
def _base(value: Any) -> Path:
    return Path(keys.text(value))


@takes(lambda _: None, **keys.FILLED)  # a run's own copy does not say where the run folder is
def _run_dir(value: Any) -> Path:
    return Path(keys.text(value)).expanduser()


_PROMPTS = "prompts"


@takes(lambda folder: None if folder == _PROMPTS else folder, **keys.FILLED)
def _prompts(value: Any) -> str:
    return keys.text(value)


# ── the task ────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task, checked. ``base_dir`` is what its relative paths are relative to."""

    name: str = key(keys.file_name, "letters, digits, `.`, `-`, `_`; names the run folder", shown="required")
    prompt: str = key(
        keys.text,
        "the task, in your words; every pass starts with it, byte for byte",
        shown="required, unless `prompt_file` is given",
    )
    type: str = key(
        _type,
        "the kind of work ([task-types.md](task-types.md)): `research`, `legal`, `support`, `audit`,"
        " `timeline`, `extract`, `ask` or `custom`. It chooses prompts, and the gates of a task without"
        " `verifiers`",
        default="custom",
    )
    prompts: str = key(
        _prompts,
        "a folder with your own templates, relative to the task file ([task-types.md](task-types.md));"
        " `none`: no folder",
        default=_PROMPTS,
        shown="`prompts`, if it exists",
    )
    inputs: tuple[str | Mapping[str, Any], ...] = key(
        _inputs,
        "files, folders, globs (`docs/**/*.md`), revisions of repositories and web addresses,"
        " relative to the task file; or mappings, or `{paths: [...], strict: true, urls: true}`:"
        " see below and [inputs.md](inputs.md)",
        default=(),
    )
    input_settings: InputSettings = field(default_factory=InputSettings)
    model: str | None = key(
        keys.text,
        "the root model, `provider:name` (see `loop-runner models list`)",
        default=None,
        shown="your key's provider, else `local:coder`",
    )
    sub_model: str | None = key(
        keys.text, "the model behind `llm_query`", default=None, shown="the provider's cheaper one"
    )
    sub_models: tuple[str, ...] = key(
        keys.list_of("a list of model ids"),
        'other models that the model\'s code may name: `llm_query(..., model="openai:small")`',
        default=(),
    )
    width: int = key(keys.up_to(1024), "how many requests may be open at once, 1 to 1,024", default=32)
    child_width: int = key(
        keys.up_to(256),
        "parallel child sessions (`rlm_query`), 1 to 256; each has its own kernel",
        default=16,
    )
    prices: Mapping[str, Rates] = key(
        _prices,
        "dollars per million tokens of a model: `{openai:mine: {input: 0.2, output: 0.8}}`, with"
        " `cache_read` and `cache_write` if they differ from `input`; replaces the known price",
        default_factory=dict,
        shown="",
    )
    verifiers: tuple[str | Mapping[str, Any], ...] = key(
        _list_of_specs,
        "the verifiers; all must accept ([verifiers.md](verifiers.md))",
        default=(),
        shown="those of the type; required for `custom`",
    )
    tools: tuple[Mapping[str, Any], ...] = key(
        _list_of_tools,
        "a list of functions, commands, MCP servers and the web that the model's code may call"
        " ([tools.md](tools.md))",
        default=(),
    )
    budget: Budget = key(Budget, "limits, see below", default_factory=Budget, shown="")
    reentry: Reentry = key(
        keys.one_of("fresh", "continue"),
        "after a rejected pass: `fresh` begins a new conversation that shows the state;"
        " `continue` keeps the same one",
        default="fresh",
    )
    no_progress: NoProgress = key(
        NoProgress,
        "what to do after passes that make no progress, see below",
        default_factory=NoProgress,
        shown="",
    )
    on_regression: OnRegression = key(
        keys.one_of("keep", "rollback"),
        "after a pass that scores below an earlier one: `keep` continues from it; `rollback`"
        " restores the files, variables and answer of the better one (the worse pass stays in the"
        " history)",
        default="keep",
    )
    history: History = key(
        _history,
        "what a conversation keeps of older turns: `full` keeps all; `{window: N}` keeps the"
        " outputs of the last N to 2N-1 turns and cuts older ones; `compact` replaces older turns"
        " by a summary when seven tenths of the window are full",
        default_factory=History,
        shown="`full`",
    )
    session: SessionKind = key(
        keys.one_of("rlm", "direct", "auto", "command", "hook"),
        "who does the work: with `rlm`, the model writes code that reads the inputs; with"
        " `direct`, the inputs are in its prompt, and its reply is the answer; `auto` is `direct`"
        " if they fit into the window; with `command`, the run starts your agent; with `hook`, you"
        " start it (`loop-runner hook start`)",
        default="rlm",
    )
    code_as: Literal["fence", "tool"] = key(
        keys.one_of("fence", "tool"),
        "how the model sends code: in a `fence`, or also as a `tool` call",
        default="fence",
    )
    kernel: KernelSettings = key(
        KernelSettings,
        "limits of the process that runs the model's code, see below",
        default_factory=KernelSettings,
        shown="",
    )
    agent: AgentSettings = key(
        AgentSettings,
        "the agent of `session: command` and `hook`, see below",
        default_factory=AgentSettings,
        shown="",
    )
    stop_hooks: tuple[str | Sequence[str] | Mapping[str, Any], ...] = key(
        _list_of_hooks,
        "programs that run after the verifiers ([hooks/README.md](../hooks/README.md)): lists of"
        " a program and its arguments, or mappings with `command`, `name`, `timeout_s`, `network`,"
        " `pin`, `show`, `evidence`, `says`",
        default=(),
    )
    notify: tuple[str | Mapping[str, Any], ...] = key(
        _list_of_targets,
        "who gets messages about the run: a list of `${VARIABLE}` with an Apprise address, of"
        " `{command: [PROGRAM, ...]}`, and of `{webhook: URL, secret: VARIABLE}` ([notifications.md]"
        "(notifications.md))",
        default=(),
    )
    run_dir: Path | None = key(_run_dir, "the run folder", default=None, shown="`runs/NAME`")
    # Written by the runner into a run's own copy, so that relative paths keep their base.
    base_dir: Path = key(_base, "", name="task_dir")
    file: Path | None = field(default=None, compare=False)  # the task file, where it was read from one
    file_sha256: str = field(default="", compare=False)  # of the task file's bytes
    overrides: tuple[tuple[str, Any], ...] = field(default=(), compare=False)  # what won over the task file
    # What a program gives that no file can hold: the bytes of inputs, and functions that verifiers call.
    data: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, compare=False, repr=False)
    tool_functions: Mapping[str, Callable[..., Any]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_agent(self) -> bool:
        """A user program does the work, not one of our sessions."""
        return self.session in ("command", "hook")


PROMPT_FILE = Key(
    "prompt_file",
    "",
    keys.text,
    "a file with the prompt, beside the task file; a prompt must fit into the model's window: long texts"
    " belong in `inputs`",
    "required, unless `prompt` is given",
)


def task_keys() -> dict[str, Key]:
    """Every key at the top of a task file, in order."""
    result: dict[str, Key] = {}
    for name, entry in keys.keys_of(Task).items():
        result[name] = entry
        if name == "prompt":
            result[PROMPT_FILE.name] = PROMPT_FILE
    return result
