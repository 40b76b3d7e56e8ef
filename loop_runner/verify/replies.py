"""Reads the JSON verdict in a model's reply: jurors often think aloud, and quote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

_MAX_BRACES = 1000  # examined in a reply


def json_objects(text: str) -> Iterator[Mapping[str, Any]]:
    """The JSON objects in ``text``, outermost only."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    for _ in range(_MAX_BRACES):
        if at < 0:
            return
        end = at + 1
        with suppress(ValueError, RecursionError):
            value, end = decoder.raw_decode(text, at)
            if isinstance(value, dict):
                yield value
        at = text.find("{", end)
