"""Converts the arguments that a model gives to a helper."""

from __future__ import annotations

from .names import label

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


MAX_TEXTS = 10_000  # of one child session; the host takes no more


MAX_NAME_CHARS = 1000


def as_text(value: object) -> str:
    """``value`` as an exact ``str``: models pass numbers, hits and lists where a text is expected."""
    return value if type(value) is str else str.__str__(str(value))


def named_texts(data: Any) -> list[tuple[str, str]]:
    """(name, text) of anything that stands for one or many texts; a single one has no name."""
    from collections.abc import Mapping

    if isinstance(data, Mapping):
        return [(as_text(name), as_text(text)) for name, text in data.items()]
    if isinstance(data, (list, tuple)):
        return [(str(number), as_text(text)) for number, text in enumerate(data, 1)]
    return [("", as_text(data))]


def values_of(data: Any) -> list[Any]:
    """The texts in ``data`` as they were given, in the order of ``named_texts``."""
    from collections.abc import Mapping

    if isinstance(data, Mapping):
        return list(data.values())
    return list(data) if isinstance(data, (list, tuple)) else [data]


def begins_at(text: str, line: int, part: str) -> bool:
    """Whether ``text`` contains ``part`` starting at ``line``."""
    at = 0
    for _ in range(line - 1):
        at = text.find("\n", at) + 1
        if not at:
            return False
    return text.startswith(part, at)


def titled(named: tuple[str, str]) -> str:
    """A text under its name, as a prompt shows it."""
    name, text = named
    return f"## {label(name)}\n\n{text}" if name else text


def utf8_of(text: str) -> bytes:
    """The bytes of ``text``; lone surrogates become question marks."""
    return text.encode("utf-8", "replace")


def parsed(text: str) -> Any:
    """The data that the JSON ``text`` holds."""
    import json

    return json.loads(text)
