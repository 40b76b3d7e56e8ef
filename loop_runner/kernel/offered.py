"""The helpers in the system prompt: their signatures and docstrings, word for word. On the host.

The helpers run inside the kernel process; here they are only inspected, never called. So an undocumented
helper is not offered, and a changed helper changes its description.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence

from loop_runner.kernel.inside.helpers import ALSO_CALLED, OFFERED, Helpers


def offered(names: Sequence[str] = OFFERED, *, briefly: bool = False) -> tuple[str, ...]:
    """A line for each helper: its call and the first two paragraphs of its docstring; ``briefly``: the first.

    The rest is what ``help()`` adds.
    """
    return _lines(names, 1 if briefly else 2)


def documented() -> tuple[str, ...]:
    """A line for each helper with its whole docstring, for the page about them."""
    return _lines(OFFERED, None)


def _lines(names: Sequence[str], paragraphs: int | None) -> tuple[str, ...]:
    return tuple(f"`{_call(name)}`{_other_names(name)}: {_paragraphs_of(name, paragraphs)}" for name in names)


def _call(name: str) -> str:
    """The helper's name and parameters, without types, which tell a model little and cost tokens."""
    _, *parameters = inspect.signature(getattr(Helpers, name)).parameters.values()
    # These are described where the task has tools or images.
    parameters = [item for item in parameters if item.name not in ("tools", "images")]
    shown: list[str] = []
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        shown.append(f"{parameter.name}{default}")
    return f"{name}({', '.join(shown)})"


def _other_names(name: str) -> str:
    others = [other for other, meant in ALSO_CALLED.items() if meant == name]
    return f" (also `{'`, `'.join(others)}`)" if others else ""


def _paragraphs_of(name: str, paragraphs: int | None) -> str:
    parts = _documentation(getattr(Helpers, name)).split("\n\n")
    return " ".join(" ".join(parts[:paragraphs]).split())


def _documentation(function: Callable[..., object]) -> str:
    """The docstring, from the source if Python was started without docstrings (``-OO``)."""
    if function.__doc__:
        return inspect.cleandoc(function.__doc__)
    definition = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(definition, ast.FunctionDef)
    return ast.get_docstring(definition) or ""
