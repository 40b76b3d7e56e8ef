"""Describes how a JSON value breaks a JSON Schema: the place first, then the rule, then the actual value.

Loaded by its path, inside the processes that check schemas. Imports the standard library only.
"""

import ast
import json
from typing import Any

_MAX_PLACE_CHARS = 300
_MAX_RULE_CHARS = 200
_MAX_GOT_CHARS = 150
_MAX_KEYS = 20
_MAX_DEPTH = 3  # of alternatives within alternatives


def words(error: Any, depth: int = 0) -> str:
    """One line for a ``jsonschema.ValidationError``."""
    return f"{error.json_path[:_MAX_PLACE_CHARS]}: {_rule(error, depth)}"


def _rule(error: Any, depth: int) -> str:
    rule, value = error.validator, error.validator_value
    got = _cut(error.instance, _MAX_GOT_CHARS)
    if rule == "required":
        return f"the required key {_key_of(error.message, value)} is missing{_others(error.instance)}"
    if rule == "dependentRequired":
        return f"{error.message[:_MAX_RULE_CHARS]}, and is missing{_others(error.instance)}"
    if rule in ("additionalProperties", "unevaluatedProperties") and isinstance(error.instance, dict):
        return _extra(error)
    if rule in ("anyOf", "oneOf") and error.context and depth < _MAX_DEPTH:
        nearest = min(error.context, key=_distance)
        how = f"it fits none of the {len(value)} forms of {rule}"
        alike = [words(fault, depth + 1) for fault in error.context if _is_alike(fault, nearest)]
        return f"{how}; the nearest fails at {'; '.join(alike[:_MAX_KEYS])}"
    if rule == "oneOf" and not error.context:
        return f"it fits more than one of the {len(value)} forms of oneOf; got {got}"
    if rule is None:
        return f"no value is allowed here; got {got}"
    return f"expected {_cut({rule: value}, _MAX_RULE_CHARS)}, got {got}"


def _is_alike(error: Any, nearest: Any) -> bool:
    """Whether ``error`` is ``nearest`` itself, or another missing key of the same form and place."""
    if error is nearest:
        return True
    return bool(
        error.validator == nearest.validator == "required"
        and error.absolute_path == nearest.absolute_path
        and error.relative_schema_path[0] == nearest.relative_schema_path[0]
    )


def _distance(error: Any) -> tuple[int, int]:
    """A fault deep in a value is closer to a fit than a wrong type or a wrong key that tells forms apart."""
    return -len(error.absolute_path), error.validator in ("type", "const", "enum")


def _key_of(message: str, required: Any) -> str:
    """The missing key, which jsonschema gives in its message only."""
    try:
        return _cut(ast.literal_eval(message.removesuffix(" is a required property")), _MAX_RULE_CHARS)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return f"(one of {_cut(required, _MAX_RULE_CHARS)})"


def _others(instance: Any) -> str:
    return f" (it has {_keys(instance)})" if isinstance(instance, dict) and instance else ""


def _extra(error: Any) -> str:
    schema = error.schema if isinstance(error.schema, dict) else {}
    known = schema.get("properties") or {}
    extra = [key for key in error.instance if key not in known]
    if error.validator_value is not False or not extra:
        return str(error.message)[-_MAX_RULE_CHARS:]
    what = "the key {} is" if len(extra) == 1 else "the keys {} are"
    return f"{what.format(_keys(extra))} not allowed{f' (allowed: {_keys(known)})' if known else ''}"


def _keys(names: Any) -> str:
    shown = [_cut(name, 80) for name in list(names)[:_MAX_KEYS]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _cut(value: Any, at_most: int) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= at_most else f"{text[:at_most]}…"
