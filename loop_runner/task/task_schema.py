"""The format of the task file as JSON Schema, as far as that can express it: editors complete by it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from loop_runner.keys import Key, Schema, Value, keys_of
from loop_runner.task.task import task_keys
from loop_runner.task.task_types import TYPES

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")


def schema(parts: Mapping[str, Schema]) -> dict[str, Any]:
    """The format of a task file; ``parts`` are the schemas of "input", "verifier", "tool" and "stop_hook"."""
    return {
        "type": "object",
        "properties": _properties(task_keys()),
        "required": ["name"],
        "additionalProperties": False,
        "oneOf": [_filled("prompt"), _filled("prompt_file")],
        "allOf": [_NEEDS_VERIFIERS, _NEEDS_COMMAND, _NEEDS_SESSION],
        "$defs": dict(parts),
    }


def _properties(keys: Mapping[str, Key]) -> dict[str, Any]:
    return {name: _property(key) for name, key in keys.items() if key.meaning}


def _property(key: Key) -> dict[str, Any]:
    return {"description": without_links(key.meaning), **_form(key)}


def without_links(meaning: str) -> str:
    """What the documentation says about a key, without the places of the page that it refers to."""
    return _LINK.sub(r"\1", meaning).replace(", see below", "").replace(", below", "")


def _form(key: Key) -> dict[str, Any]:
    """What the key takes. A key with nothing behind it is the same as no key."""
    if not isinstance(key.takes, Value):
        properties = _properties(keys_of(key.takes))
        return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}
    given = key.takes.schema
    if key.name == "name":
        return dict(given)
    forms = given["anyOf"] if set(given) == {"anyOf"} else [given]
    return {"anyOf": [*forms, {"type": "null"}]}


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
