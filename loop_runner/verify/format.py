"""Describes an entry of ``verifiers:`` as JSON Schema, from the ``KEYS`` of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loop_runner.verify.built_in import BUILT_IN
from loop_runner.verify.evidence import LEVELS
from loop_runner.verify.options import TEXT, TEXT_OR_MAPPING, Keys, one_of

_BESIDE: Keys = {
    "name": {"type": "string"},
    "weight": {"type": "number", "exclusiveMinimum": 0},
    "evidence": one_of(LEVELS),
    "says": {"type": "string", "pattern": r"\S"},
}


def verifier(plugins: Iterable[str] = ()) -> dict[str, Any]:
    """An entry of ``verifiers:``; ``plugins`` are kinds of other packages, whose settings are their own."""
    kinds: dict[str, Any] = {kind: _kind(kind) for kind in BUILT_IN}
    kinds |= {group: {"$ref": "#/$defs/group"} for group in ("all", "any")}
    kinds |= dict.fromkeys(plugins, True)
    named = {
        "type": "object",
        "properties": kinds | dict(_BESIDE),
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    return {
        "anyOf": [{"enum": [*(kind for kind, row in BUILT_IN.items() if row.may_be_bare), *plugins]}, named]
    }


def group() -> dict[str, Any]:
    """What ``all`` and ``any`` take."""
    return {"type": "array", "items": {"$ref": "#/$defs/verifier"}, "minItems": 1}


def _kind(kind: str) -> dict[str, Any]:
    """The settings of ``kind``, or the one setting that a plain value stands for."""
    row = BUILT_IN[kind]
    short, keys = row.short, row.load().KEYS
    settings = {
        "type": "object",
        "properties": {**keys, "evidence": one_of(LEVELS)},
        "additionalProperties": False,
        **({} if row.may_be_bare else {"required": [short]}),
    }
    if keys[short].get("type") == "object":
        return settings  # its short form would be a mapping, which is read as settings
    plain = TEXT if keys[short] is TEXT_OR_MAPPING else keys[short]
    forms = [settings, plain, *([{"type": "null"}] if row.may_be_bare else [])]
    if keys[short] is TEXT_OR_MAPPING:  # the mapping itself, in place of the settings
        only_settings = {"properties": dict.fromkeys(keys, True), "additionalProperties": False}
        forms.append({"type": "object", "not": {"anyOf": [{"required": [short]}, only_settings]}})
    return {"anyOf": forms}
