"""Reads one verifier's settings from the task file, so that every kind refuses the same mistakes alike.

Owns the wording of those refusals. Relies on plain data. It never guesses what a user meant; it reports the
mistake.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from loop_runner.errors import VerifierError

Schema = Mapping[str, Any]  # a JSON Schema
Keys = Mapping[str, Schema]  # the settings of a kind of verifier

# What the readers of ``Options`` take, as JSON Schema: the ``KEYS`` of each kind are made of these.
TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
TEXT_OR_MAPPING: Schema = {"anyOf": [TEXT, {"type": "object", "minProperties": 1}]}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SHARE: Schema = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0}


def one_of(allowed: tuple[str, ...]) -> Schema:
    """What ``Options.choice`` takes."""
    return {"enum": list(allowed)}


class Options:
    """The settings of one verifier. Keys that ``known`` does not hold raise ``VerifierError`` at once."""

    def __init__(self, kind: str, values: Mapping[str, Any], known: Iterable[str]) -> None:
        self._kind = kind
        self._values = values
        known = tuple(known)
        for key in values:
            if key not in known:
                raise unknown(f"verifier `{kind}` has the unknown key", str(key), known)

    def raw(self, key: str) -> Any:
        """The value as the task has it; None when it is absent."""
        return self._values.get(key)

    def text(self, key: str) -> str:
        """A required, non-empty text."""
        value = self._values.get(key)
        if not isinstance(value, str) or not value:
            raise self._wrong(key, "a text; put numbers and yes/no in quotes")
        return value

    def word(self, key: str, default: str) -> str:
        """A text; ``default`` when it is absent."""
        return self.text(key) if key in self._values else default

    def text_or_mapping(self, key: str) -> str | Mapping[str, Any]:
        """A required non-empty text or mapping."""
        value = self._values.get(key)
        return value if isinstance(value, Mapping) and value else self.text(key)

    def share(self, key: str, default: float) -> float:
        """A number over 0 and up to 1."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise self._wrong(key, "a number over 0 and up to 1, such as 0.66")
        return float(value)

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts, empty when absent; a single text becomes a list."""
        value = self._values.get(key, ())
        items = (value,) if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str) and item for item in items):
            raise self._wrong(key, "a list of texts; put numbers and yes/no in quotes")
        return tuple(items)

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of ``allowed``; the first when it is absent."""
        value = self._values.get(key, allowed[0])
        if value not in allowed:
            raise self._wrong(key, f"one of {', '.join(allowed)}")
        return str(value)

    def flag(self, key: str) -> bool:
        """True or false; false when it is absent."""
        value = self._values.get(key, False)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def count(self, key: str, default: int) -> int:
        """An integer >= 0."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, "an integer >= 0")
        return value

    def seconds(self, key: str, default: float) -> float:
        """A number of seconds over 0."""
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, "a number of seconds")
        if not (0 < value < math.inf):
            raise self._wrong(key, "a number of seconds over 0")
        return float(value)

    def _wrong(self, key: str, wanted: str) -> VerifierError:
        return VerifierError(
            f"verifier `{self._kind}`: `{key}` is {self._values.get(key)!r}",
            why="the check would not do what you meant",
            hint=f"it must be {wanted}",
        )


def unknown(what: str, given: str, known: Iterable[str]) -> VerifierError:
    """An error that names the nearest of the ``known`` words, or all of them."""
    known = tuple(known)
    near = difflib.get_close_matches(given, known, 1)
    return VerifierError(
        f"{what} {given!r}",
        why="a check that is not understood cannot run",
        hint=f"did you mean {near[0]!r}?" if near else f"it can be: {', '.join(known)}",
    )
