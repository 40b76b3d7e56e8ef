"""An entry of ``tools:`` as JSON Schema, for the completion of editors."""

from __future__ import annotations

from typing import Any

from loop_runner import keys

_WORDS = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
_NAME = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
_NAMES = {"type": "array", "items": _NAME}
_SETTINGS: dict[str, Any] = {
    "timeout_s": keys.duration.schema,
    "max_output_chars": {"type": "integer", "minimum": 1},
    "idempotent": {"type": "boolean"},
    "approve": {"enum": ["never", "first", "always"]},
    "calls": {"type": "integer", "minimum": 1},
    "width": {"type": "integer", "minimum": 1, "maximum": 256},
}
_BODIES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "command": (
        {
            "name": _NAME,
            "run": _WORDS,
            "description": {"type": "string"},
            "parameters": {"type": "object", "additionalProperties": {"type": "object"}},
            "env": _NAMES,
            "json": {"type": "boolean"},
            "stdin": _NAME,
        },
        ["name", "run"],
    ),
    "mcp": (
        {
            "name": _NAME,
            "command": _WORDS,
            "url": {"type": "string", "pattern": "^https?://"},
            "header": {"type": "object", "additionalProperties": _NAME},
            "env": _NAMES,
            "only": _WORDS,
        },
        ["name"],
    ),
    "fetch": (
        {
            "allow": _WORDS,
            "max_mb": {"type": "number", "exclusiveMinimum": 0, "maximum": 64},
            "private_addresses": {"type": "boolean"},
        },
        ["allow"],
    ),
    "search": (
        {
            "provider": {"enum": ["searxng", "brave", "tavily", "command"]},
            "url": {"type": "string"},
            "key": _NAME,
            "run": _WORDS,
            "env": _NAMES,
            "max_results": {"type": "integer", "minimum": 1},
        },
        ["provider"],
    ),
}


def schema() -> dict[str, Any]:
    """An entry of ``tools:``."""
    return {"oneOf": [_python(), *(_with_body(kind) for kind in _BODIES)]}


def _python() -> dict[str, Any]:
    properties = {
        "python": {"type": "string", "pattern": "^.+:[A-Za-z_][A-Za-z0-9_.]*$"},
        "env": _NAMES,
        **_SETTINGS,
    }
    return {
        "type": "object",
        "properties": properties,
        "required": ["python"],
        "additionalProperties": False,
    }


def _with_body(kind: str) -> dict[str, Any]:
    own, required = _BODIES[kind]
    body = {
        "type": "object",
        "properties": {**own, **_SETTINGS},
        "required": required,
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {kind: body, **_SETTINGS},
        "required": [kind],
        "additionalProperties": False,
    }
