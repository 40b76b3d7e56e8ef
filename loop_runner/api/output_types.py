"""The type that an answer is to have: a JSON Schema for the gate, and the object for the caller.

A pydantic model, a dataclass, any other type that pydantic knows, or a JSON Schema. Imports pydantic when a
type is used.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

from loop_runner.errors import ConfigError


def schema_of(output_type: Any) -> dict[str, Any]:
    """The JSON Schema of ``output_type``. Raises ``ConfigError`` for what has none."""
    if isinstance(output_type, Mapping):
        return dict(output_type)
    if inspect.isroutine(output_type):
        raise _unusable(output_type, TypeError("it is a function"))
    try:
        return dict(_adapter(output_type).json_schema())
    except Exception as error:
        raise _unusable(output_type, error) from error


def parse(answer: str, output_type: Any) -> Any:
    """The object that ``answer`` holds. Raises ``ValueError`` when it holds none of this type."""
    from loop_runner.verify.json_schema import only_json

    text = only_json(answer)
    if isinstance(output_type, Mapping):
        return json.loads(text)
    return _adapter(output_type).validate_json(text)


def _adapter(output_type: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(output_type)


def _unusable(output_type: Any, error: Exception) -> ConfigError:
    return ConfigError(
        f"output_type={output_type!r} has no JSON Schema: {str(error)[:300]}",
        why="the answer is compared with the schema before it counts as verified",
        hint="give a pydantic model, a dataclass or a JSON Schema (a dict)",
    )
