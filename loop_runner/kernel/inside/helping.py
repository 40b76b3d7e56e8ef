"""The output of `help()`. Runs inside the kernel process."""

from __future__ import annotations

import inspect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def describe(helpers: Mapping[str, object], subject: object) -> str:
    """The signature and documentation of ``subject`` (a function or its name); None: the helpers' names.

    Anything else is described as Python's own `help` does.
    """
    if subject is None:
        return f"help(NAME) explains one of: {', '.join(_names(helpers))}"
    if isinstance(subject, str):
        if subject not in helpers:
            return _of_library(subject, f"; the helpers are: {', '.join(_names(helpers))}")
        subject = helpers[subject]
    if hasattr(subject, "signature") and hasattr(subject, "batch"):
        return str(subject.__doc__)  # a tool
    if not inspect.isroutine(subject):
        return _of_library(subject, "")
    name = getattr(subject, "__name__", type(subject).__name__)
    return f"{name}{_signature(subject)}\n\n{inspect.getdoc(subject) or 'It has no docstring.'}"


def _names(helpers: Mapping[str, object]) -> list[str]:
    """The functions among ``helpers``, without the input and the error class."""
    return sorted(
        name for name, helper in helpers.items() if inspect.isroutine(helper) or hasattr(helper, "batch")
    )


def _of_library(subject: object, otherwise: str) -> str:
    """The output of ``pydoc`` for an object, or for the module or name in a text."""
    import pydoc

    try:
        return pydoc.plain(pydoc.render_doc(subject))
    except ImportError as error:
        return f"{str(error).rstrip('.')}{otherwise}"


class _Bare(str):
    """An annotation that is a string: shown as written, without quotes."""

    __slots__ = ()
    __repr__ = str.__str__


def _signature(subject: object) -> str:
    try:
        signature = inspect.signature(subject)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return ""
    parameters = [
        parameter.replace(annotation=_bare(parameter.annotation))
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=_bare(signature.return_annotation)))


def _bare(annotation: object) -> object:
    return _Bare(annotation) if type(annotation) is str else annotation
