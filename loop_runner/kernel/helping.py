"""What `help()` prints. Runs inside the kernel process."""

from __future__ import annotations

import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def describe(helpers: Mapping[str, object], subject: object) -> str:
    """How ``subject`` (a function or its name) is called and what it does; None: the names of the helpers."""
    if subject is None:
        names = sorted(name for name, helper in helpers.items() if callable(helper))
        return f"help(NAME) explains one of: {', '.join(names)}"
    if isinstance(subject, str):
        subject = helpers.get(subject, subject)
    name = getattr(subject, "__name__", type(subject).__name__)
    return f"{name}{_signature(subject)}\n\n{inspect.getdoc(subject) or 'It has no docstring.'}"


def _signature(subject: object) -> str:
    try:
        return str(inspect.signature(subject))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
