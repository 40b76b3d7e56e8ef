"""Keys of the task file: written once, as a field of the dataclass that holds the value.

``key`` is ``dataclasses.field`` with what the key takes and what the documentation says about it. From that
``task_file`` reads and writes task files, ``task_schema`` describes them to editors, and `make docs` writes
the lists of docs/task-file.md. Owns the values that any key may take. Imports the standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Generic, TypeVar

T = TypeVar("T")
Schema = Mapping[str, Any]  # a JSON Schema

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_MEGABYTES = {"": 1, "mb": 1, "gb": 1024, "m": 1, "g": 1024}


class BadValueError(Exception):
    """A value's shape is wrong; the text says what was expected. Caught where its line is known."""


@dataclass(frozen=True, slots=True)
class Value(Generic[T]):
    """What a key takes: how it is read, the same as JSON Schema as far as possible, how it is written."""

    read: Callable[[Any], T]
    schema: Schema
    dump: Callable[[Any], Any]

    def __call__(self, value: Any) -> T:
        """The value as it is kept; raises ``BadValueError``."""
        return self.read(value)


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a file, or of a mapping in it."""

    name: str
    field: str  # of the dataclass; empty: it has none
    takes: Value[Any] | type  # a dataclass: a mapping with the keys of that class
    meaning: str  # for the documentation and editors; empty: the key is the runner's own
    default: str  # as the documentation says it


def plain(value: Any) -> Any:
    """``value`` as YAML has it."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return dict(value) if isinstance(value, Mapping) else value


def takes(dump: Callable[[Any], Any] = plain, **schema: Any) -> Callable[[Callable[[Any], T]], Value[T]]:
    """Describe what a reader takes, and how its values are written."""
    return lambda read: Value(read, schema, dump)


def key(
    value: Value[Any] | type, meaning: str, *, name: str = "", shown: str | None = None, **options: Any
) -> Any:
    """A field that a key of the file sets. ``name``: of the key, where it is not the field's.

    ``shown``: the default as the documentation says it, where it is not simply the field's.
    """
    return field(metadata={"key": (value, meaning, name, shown)}, **options)


def keys_of(owner: type) -> dict[str, Key]:
    """The keys that set the fields of a dataclass, in order."""
    keys = {}
    for item in fields(owner):
        if "key" in item.metadata:
            value, meaning, name, shown = item.metadata["key"]
            name = name or item.name
            default = _shown(item.default) if shown is None else shown
            keys[name] = Key(name, item.name, value, meaning, default)
    return keys


def _shown(default: Any) -> str:
    if default is MISSING:
        return ""
    if isinstance(default, str):
        return f"`{default}`"
    return "none" if default is None or default == () else f"{default:g}"


def several(items: Schema, **more: Any) -> Schema:
    """``items``, or a list of them."""
    return {"anyOf": [items, {"type": "array", "items": items, **more}]}


def reference(name: str) -> Schema:
    """What another part of the package describes; ``task_schema`` is given it."""
    return {"$ref": f"#/$defs/{name}"}


# ── values ──────────────────────────────────────────────────────────────────────────────────────────

FILLED: Schema = {"type": "string", "pattern": r"\S"}


def _is_whole(value: Any, least: int, most: float = float("inf")) -> bool:
    return not isinstance(value, bool) and isinstance(value, int) and least <= value <= most


@takes(**FILLED)
def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise BadValueError("a text that is not empty")
    return value


@takes(type="string", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
def file_name(value: Any) -> str:
    """The name of a folder that is made for it."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise BadValueError("letters, digits, dots, dashes and underscores (it names the run folder)")
    return value


def whole(least: int) -> Value[int]:
    """An integer."""

    @takes(type="integer", minimum=least)
    def check(value: Any) -> int:
        if not _is_whole(value, least):
            raise BadValueError(f"an integer >= {least}")
        return int(value)

    return check


count = whole(1)


def up_to(most: int) -> Value[int]:
    """An integer >= 1."""

    @takes(type="integer", minimum=1, maximum=most)
    def check(value: Any) -> int:
        if not _is_whole(value, 1, most):
            raise BadValueError(f"an integer from 1 to {most:,}")
        return int(value)

    return check


@takes(type="number", exclusiveMinimum=0)
def positive(value: Any) -> float:
    """A number over 0."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise BadValueError("a number over 0")
    return float(value)


@takes(
    anyOf=[
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*[smhd]\s*$"},
        {"type": "number", "exclusiveMinimum": 0},
    ]
)
def duration(value: Any) -> float:
    """A time, in seconds."""
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", value)):
        value = float(match[1]) * _SECONDS[match[2]]
    try:
        return positive(value)
    except BadValueError:
        raise BadValueError("a duration such as 90s, 30m, 2h or a number of seconds") from None


@takes(
    anyOf=[
        {"type": "string", "pattern": r"^\s*0*[1-9]\d*\s*([mMgG][bB]?)?\s*$"},
        {"type": "integer", "minimum": 1},
    ]
)
def memory(value: Any) -> int:
    """A size, in megabytes."""
    size = str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    match = re.fullmatch(r"(\d+)\s*([a-z]*)", size)
    if not match or match[2] not in _MEGABYTES or int(match[1]) == 0:
        raise BadValueError("a size such as 512MB or 4GB")
    return int(match[1]) * _MEGABYTES[match[2]]


def one_of(*choices: str) -> Value[str]:
    """One of some words."""

    @takes(enum=list(choices))
    def check(value: Any) -> str:
        if value not in choices:
            raise BadValueError(" or ".join(choices))
        return str(value)

    return check


def list_of(
    what: str, is_one: Callable[[str], bool] = lambda item: bool(item.strip()), **items: Any
) -> Value[tuple[str, ...]]:
    """Texts, or one alone: ``what`` they are called; what one must be, as a test and as a schema."""

    @takes(**several(items or FILLED))
    def check(value: Any) -> tuple[str, ...]:
        listed = value if isinstance(value, list) else [value]
        if not all(isinstance(item, str) and is_one(item) for item in listed):
            raise BadValueError(what)
        return tuple(listed)

    return check


modules = list_of(
    "a list of module names",
    lambda item: item.replace(".", "_").isidentifier(),
    type="string",
    pattern=r"^[^\d\s/-][^\s/-]*$",
)
names = list_of(
    "a list of names of files or folders",
    lambda item: item != "" and "/" not in item,
    type="string",
    pattern="^[^/]+$",
)


@takes(lambda words: list(words) or None, type="array", items={"type": "string", "minLength": 1}, minItems=1)
def command(value: Any) -> tuple[str, ...]:
    """A program and its arguments."""
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
        raise BadValueError("a list of texts: a program and its arguments")
    return tuple(value)
