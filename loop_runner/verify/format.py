"""Describes an entry of ``verifiers:`` as JSON Schema, from the ``KEYS`` of each kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from loop_runner.verify.agreement import Agreement
from loop_runner.verify.build import MAY_BE_BARE, SHORT
from loop_runner.verify.citations import Citations
from loop_runner.verify.command import Command
from loop_runner.verify.evidence import LEVELS
from loop_runner.verify.findings import Findings
from loop_runner.verify.judge import Judge
from loop_runner.verify.options import TEXT, Keys, one_of
from loop_runner.verify.python import Python
from loop_runner.verify.schema import Schema
from loop_runner.verify.stable import Promise, Stable
from loop_runner.verify.text import Contains, Regex

KEYS: dict[str, Keys] = {
    "command": Command.KEYS,
    "python": Python.KEYS,
    "schema": Schema.KEYS,
    "contains": Contains.KEYS,
    "regex": Regex.KEYS,
    "citations": Citations.KEYS,
    "judge": Judge.KEYS,
    "agreement": Agreement.KEYS,
    "stable": Stable.KEYS,
    "promise": Promise.KEYS,
    "findings": Findings.KEYS,
}
_BESIDE: Keys = {
    "name": {"type": "string"},
    "weight": {"type": "number", "exclusiveMinimum": 0},
    "evidence": one_of(LEVELS),
    "says": {"type": "string", "pattern": r"\S"},
}


def verifier(plugins: Iterable[str] = ()) -> dict[str, Any]:
    """An entry of ``verifiers:``; ``plugins`` are kinds of other packages, whose settings are their own."""
    kinds: dict[str, Any] = {kind: _kind(kind) for kind in KEYS}
    kinds |= {group: {"$ref": "#/$defs/group"} for group in ("all", "any")}
    kinds |= dict.fromkeys(plugins, True)
    one = {
        "type": "object",
        "properties": kinds | dict(_BESIDE),
        "additionalProperties": False,
        "oneOf": [{"required": [kind]} for kind in kinds],
    }
    return {"anyOf": [{"enum": [*MAY_BE_BARE, *plugins]}, one]}


def group() -> dict[str, Any]:
    """What ``all`` and ``any`` take."""
    return {"type": "array", "items": {"$ref": "#/$defs/verifier"}, "minItems": 1}


def _kind(kind: str) -> dict[str, Any]:
    """The settings of ``kind``, or the one setting that a plain value stands for."""
    short = SHORT[kind]
    settings = {
        "type": "object",
        "properties": {**KEYS[kind], "evidence": one_of(LEVELS)},
        "additionalProperties": False,
        **({} if kind in MAY_BE_BARE else {"required": [short]}),
    }
    if kind == "findings":
        return settings  # its short form would be a mapping, which is read as settings
    plain = TEXT if kind == "schema" else KEYS[kind][short]
    forms = [settings, plain, *([{"type": "null"}] if kind in MAY_BE_BARE else [])]
    if kind == "schema":  # the schema itself, in place of its settings
        only_settings = {"properties": dict.fromkeys(KEYS[kind], True), "additionalProperties": False}
        forms.append({"type": "object", "not": {"anyOf": [{"required": ["schema"]}, only_settings]}})
    return {"anyOf": forms}
