"""Bounds what a project's own template may take: time, and the size of what it makes.

Templates are frozen in the run folder, which may come from another person. Jinja's sandbox keeps them off the
machine, and not from a loop without an end. Nothing here starts a thread or a process.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2.sandbox

_SECONDS = 10.0
_CHARS = 64 * 1024 * 1024
_NUMBER = 100_000  # a width or a count in a template
_UNSAFE = frozenset({"ljust", "rjust", "center", "zfill", "expandtabs", "format", "format_map", "to_bytes"})


class TooMuchError(Exception):
    """A template takes more than it may; the text says of what."""


@contextmanager
def limits(seconds: float = _SECONDS) -> Iterator[None]:
    """Within it, Python code of this thread is ended with ``TooMuchError`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    before = sys.gettrace()

    def watch(frame: FrameType, event: str, _argument: object) -> Any:
        if event == "line":
            if time.monotonic() > deadline:
                raise TooMuchError(f"it is not done after {seconds:g} s")
            for value in (
                frame.f_locals.values() if frame.f_code.co_filename.endswith((".j2", "<template>")) else ()
            ):
                _check(value)
        return watch

    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(before)


def joined(parts: Iterable[str]) -> str:
    """The text of ``parts``; ``TooMuchError`` when it is too long."""
    pieces, size = [], 0
    for part in parts:
        size += len(part)
        if size > _CHARS:
            raise TooMuchError(f"it is longer than {_CHARS:,} characters")
        pieces.append(part)
    return "".join(pieces)


def _check(value: object) -> None:
    if isinstance(value, str | list | tuple) and len(value) > _CHARS:
        raise TooMuchError(f"a value in it is longer than {_CHARS:,}")


@functools.cache
def environment_class() -> type[jinja2.sandbox.ImmutableSandboxedEnvironment]:
    """Jinja's sandbox, without operators and methods that make a large value in one step."""
    import jinja2.sandbox

    class Bounded(jinja2.sandbox.ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            numbers = isinstance(left, int | float) and isinstance(right, int | float)
            if not numbers or operator == "**" or max(abs(left), abs(right)) > _NUMBER**3:
                raise TooMuchError(f"`{operator}` of these values is not calculated in a template")
            return super().call_binop(context, operator, left, right)

        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            return attr not in _UNSAFE and super().is_safe_attribute(obj, attr, value)

    return Bounded


def remove_filters(environment: jinja2.sandbox.ImmutableSandboxedEnvironment) -> None:
    """Take away the filters that make a text of any width."""
    for name in ("center", "format", "xmlattr", "batch", "slice"):
        environment.filters.pop(name, None)
    indent = environment.filters["indent"]

    def narrow(text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> Any:
        if isinstance(width, int) and width > _NUMBER:
            raise TooMuchError("`indent` is too wide")
        return indent(text, width, first, blank)

    environment.filters["indent"] = narrow
