"""Placeholders of commands: ``{name}`` in a word stands for the value of that parameter.

It is replaced inside the one word where it is: no value ever becomes two words, or a piece of a command line
that is read again. ``{{name}}`` stays ``{name}``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"\{\{([A-Za-z_]\w*)\}\}|\{([A-Za-z_]\w*)\}")


def filled(word: str, arguments: Mapping[str, Any]) -> str:
    """``word`` with the values of its placeholders; a parameter that was not given is an empty text."""

    def value(match: re.Match[str]) -> str:
        return f"{{{match[1]}}}" if match[1] else as_text(arguments.get(match[2], ""))

    return _PLACEHOLDER.sub(value, word)


def placeholders(word: str) -> set[str]:
    """The parameters that ``word`` names."""
    return {match[2] for match in _PLACEHOLDER.finditer(word) if match[2]}


def as_text(value: Any) -> str:
    """A value as an argument: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
