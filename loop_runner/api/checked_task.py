"""``Task``: what a run is to do, checked when it is made; and ``data``, an input that is in memory.

Owns how Python values become the keys of a task file. ``task_file`` checks them, exactly as it does a file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

from loop_runner import inputs
from loop_runner.api import given_tools
from loop_runner.api.given_tools import Tool
from loop_runner.api.output_types import schema_of
from loop_runner.budget import Budget
from loop_runner.errors import ConfigError
from loop_runner.keys import Value, keys_of
from loop_runner.records import Verdict
from loop_runner.runs.new_folders import named_after
from loop_runner.task import config
from loop_runner.verify import Submission
from loop_runner.verify.function import Collected

__all__ = ["Check", "Data", "Input", "Submission", "Task", "Verifier", "data"]
_SPEC_KEYS = frozenset({"path", "git", "url"})


@dataclass(frozen=True, slots=True)
class Data:
    """An input that is in memory. ``name`` is what the model and citations call it."""

    name: str
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Checked:
    """A task in which no fault was found: its models, how much it reads, and the names of its verifiers."""

    model: str | None
    sub_model: str | None
    texts: int
    bytes: int
    verifiers: tuple[str, ...]


Check: TypeAlias = Callable[[str, Submission], str | bool | Verdict | None]
Verifier: TypeAlias = str | Mapping[str, Any] | Check
Input: TypeAlias = str | PathLike[str] | Data | Mapping[str, Any]


def data(value: Any, name: str = "") -> Data:
    """An input in memory: a text, bytes, a list or dict (as JSON), or a pandas or polars frame (as CSV).

    Without ``name`` it is called by what it is: ``data.txt``, ``data.json`` or ``data.csv``. Bytes need one:
    its ending says what they are. The labels of a frame's rows become columns, unless they are mere numbers.
    """
    if not isinstance(name, str):
        raise ConfigError(
            f"the name of data is a text, not {name!r:.80}",
            why="the model and citations call it by its name",
            hint='for example lr.data(text, "notes.txt")',
        )
    content, ending = _content(value)
    if not name and not ending:
        raise ConfigError(
            "data of bytes has no name",
            why="the extension of its name says how to read the bytes",
            hint='for example lr.data(content, name="report.pdf")',
        )
    return Data(name or f"data{ending}", content)


def _content(value: Any) -> tuple[bytes, str]:
    if isinstance(value, str):
        return value.encode("utf-8", "replace"), ".txt"
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), ""
    if hasattr(value, "to_csv"):  # pandas
        return str(value.to_csv(index=_has_labels(value.index))).encode(), ".csv"
    if hasattr(value, "to_frame"):  # a series of polars
        value = value.to_frame()
    if hasattr(value, "write_csv"):  # polars
        return str(value.write_csv()).encode(), ".csv"
    if hasattr(value, "collect_schema"):
        raise _no_data(
            value, "it is a plan that has not been computed; give the frame that its collect() returns"
        )
    if value is None:
        raise _no_data(value, "it is None")
    try:
        return json.dumps(value, indent=1, ensure_ascii=False).encode("utf-8", "replace") + b"\n", ".json"
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_data(value, error) from error


def _has_labels(index: Any) -> bool:
    """Whether the rows of a pandas frame have names that are data, not only numbers."""
    return any(name is not None for name in index.names) or index.inferred_type != "integer"


def _no_data(value: Any, why: object) -> ConfigError:
    return ConfigError(
        f"data of the type {type(value).__name__} cannot be an input: {why}",
        why="the model reads texts",
        hint="give a text, bytes with a name, a list or dict of plain values, or a frame",
    )


class Task:
    """What a run is to do. ``ConfigError`` or ``VerifierError`` for what cannot work, as in a task file.

    ``inputs`` are paths, globs, mappings as in a task file, and data in memory: ``lr.data(...)``, or a
    mapping of names to texts, bytes, lists, dicts or frames. ``verifiers`` are made with functions such as
    ``lr.citations``, written as in a task file, or your own functions. ``tools`` are functions that the
    model's code may call, or entries as in a task file. ``keys`` are the other keys of a task file,
    ``settings`` keys by their dotted names, which win. Relative paths start at ``base_dir``; None: the
    current folder.
    """

    __slots__ = ("checked", "output_type")
    checked: config.Task  # as the runner knows it
    output_type: Any

    def __init__(
        self,
        prompt: str,
        *,
        inputs: Iterable[Input] | Input = (),
        verifiers: Sequence[Verifier] = (),
        model: str | None = None,
        sub_model: str | None = None,
        name: str | None = None,
        budget: Budget | Mapping[str, Any] | None = None,
        output_type: Any = None,
        tools: Sequence[Tool] = (),
        base_dir: str | PathLike[str] | None = None,
        settings: Settings = (),
        **keys: Any,
    ) -> None:
        collected, kept = Collected(), _Inputs()
        entries, tool_functions = given_tools.collected(tools)
        gates = collected.specs(verifiers)
        if output_type is not None:
            gates.append({"schema": {"schema": schema_of(output_type)}})
        given: dict[str, Any] = {
            "name": name or named_after(prompt if isinstance(prompt, str) else ""),
            "prompt": prompt,
            "inputs": kept.specs(inputs),
            "verifiers": gates,
            "model": model,
            "sub_model": sub_model,
            "budget": None if budget is None else _as_mapping(budget),
            "tools": entries or None,
            **keys,
        }
        overrides = [(key, _plain(value)) for key, value in given.items() if value is not None]
        folder = Path.cwd() if base_dir is None else Path(base_dir).absolute()
        checked = config.parse_task(
            "{}",
            label="Task",
            base_dir=folder,
            overrides=[("prompts", "none"), *overrides, *as_overrides(settings)],
        )
        checked = replace(checked, data=kept.data, functions=collected.functions)
        self._set(replace(checked, tool_functions=tool_functions), output_type)

    @classmethod
    def from_file(
        cls, path: str | PathLike[str], *, output_type: Any = None, settings: Settings = (), **keys: Any
    ) -> Task:
        """The task in a task file; ``keys`` win over the file's, ``budget__passes`` for a key in a part.

        ``settings`` are the same by their dotted names, and win over ``keys``.
        """
        overrides = [*as_overrides(keys), *as_overrides(settings)]
        return cls.of(config.read_task(Path(path), overrides), output_type)

    @classmethod
    def of(cls, checked: config.Task, output_type: Any = None) -> Task:
        """The task that the runner has read."""
        made = cls.__new__(cls)
        made._set(checked, output_type)  # noqa: SLF001 - our own
        return made

    def _set(self, checked: config.Task, output_type: Any) -> None:
        object.__setattr__(self, "checked", checked)
        object.__setattr__(self, "output_type", output_type)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Task does not change: make another one with another `{name}`")

    def __repr__(self) -> str:
        return f"Task({self.prompt!r}, name={self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Task) and self.checked == other.checked

    def __hash__(self) -> int:
        return hash((self.name, self.prompt))

    @property
    def name(self) -> str:
        """What the run folder is called."""
        return self.checked.name

    @property
    def prompt(self) -> str:
        """What every pass is given, byte for byte."""
        return self.checked.prompt

    @property
    def model(self) -> str | None:
        """The root model; None: the one of the environment's key."""
        return self.checked.model

    @property
    def verifiers(self) -> tuple[Any, ...]:
        """The verifiers, as a task file has them."""
        return tuple(self.checked.verifiers)

    @property
    def budget(self) -> Budget:
        """The limits of the run."""
        return self.checked.budget

    @property
    def run_dir(self) -> Path | None:
        """The run folder that the task names; None: one under ``runs/``."""
        return self.checked.run_dir

    def check(self) -> Checked:
        """Check everything that can be checked before the first request; start nothing and pay nothing.

        Raises one error for all faults.
        """
        from loop_runner.runs.prepare import check

        settled, texts, gates = check(self.checked, os.environ)
        names = tuple(verifier.name for verifier in gates.verifiers)
        return Checked(settled.model, settled.sub_model, len(texts.texts), texts.total_bytes, names)

    def to_yaml(self) -> str:
        """The task as a task file. Data and functions in it are names that only this program can fill."""
        return config.dump_task(self.checked)


class _Inputs:
    """Turns inputs into entries of ``inputs:`` and keeps the bytes of those that are in memory."""

    def __init__(self) -> None:
        self.data: dict[str, bytes] = {}

    def specs(self, given: Iterable[Input] | Input) -> list[Any]:
        listed = [given] if isinstance(given, str | PathLike | Data | Mapping) else given
        if not isinstance(listed, Iterable):
            raise ConfigError(
                f"inputs are paths or data, not {given!r:.80}",
                why="they are what the model reads",
                hint='for example inputs=["src/"], or inputs={"notes.txt": text}',
            )
        return [spec for item in listed for spec in self._specs(item)]

    def _specs(self, given: Any) -> list[Any]:
        if isinstance(given, Data):
            return [self._kept(given)]
        if isinstance(given, Mapping) and given.keys() & _SPEC_KEYS:
            return [_plain(given)]
        if isinstance(given, Mapping):
            return [self._kept(data(value, str(name))) for name, value in given.items()]
        if isinstance(given, str):
            return [given]
        if isinstance(given, PathLike):
            return [str(fspath(given))]
        return [self._kept(data(given))]

    def _kept(self, given: Data) -> dict[str, str]:
        file = inputs.data_file(given.name, given.content)
        self.data[file] = given.content
        return {"data": file, "name": given.name}


Settings: TypeAlias = Mapping[str, Any] | Iterable[str | tuple[str, Any]]


def as_overrides(settings: Settings) -> list[tuple[str, Any]]:
    """Keys of a task by their dotted names, ``budget__passes`` also for ``budget.passes``.

    A text is KEY=VALUE, its value YAML.
    """
    if isinstance(settings, str):
        settings = [settings]
    if not isinstance(settings, Iterable):
        raise ConfigError(
            f"settings are keys of the task with their values, not {settings!r:.80}",
            why="each sets one key of the task",
            hint='for example settings={"budget.passes": 3}',
        )
    given = settings.items() if isinstance(settings, Mapping) else settings
    pairs = (config.parse_override(item) if isinstance(item, str) else item for item in given)
    return [(key.replace("__", "."), _plain(value)) for key, value in pairs]


def budget_overrides(budget: Budget | Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """The limits of ``budget`` as keys of a task."""
    return [(f"budget.{key}", value) for key, value in _as_mapping(budget or {}).items()]


def _as_mapping(budget: Budget | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(budget, Mapping):
        return dict(budget)
    if not isinstance(budget, Budget):
        raise ConfigError(
            f"a budget is lr.Budget(...) or a mapping, not {budget!r:.80}",
            why="a limit that is not understood would not hold",
            hint='for example budget={"passes": 3, "usd": 1.0}',
        )
    known = {key.field: key for key in keys_of(Budget).values()}
    values = {item.name: getattr(budget, item.name) for item in fields(Budget)}
    return {
        known[name].name: known[name].takes.dump(value)  # type: ignore[union-attr]
        for name, value in values.items()
        if value is not None and name in known and isinstance(known[name].takes, Value)
    }


def _plain(value: Any) -> Any:
    """``value`` as a task file would have it."""
    if isinstance(value, Budget):
        return _as_mapping(value)
    if isinstance(value, PathLike):
        return str(fspath(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
