"""Shows the library where the source of cells is: for tracebacks and ``inspect``. Inside the kernel process.

``linecache`` has the text of each cell under its label. ``inspect`` looks for a class in the file of its
module, but cells' classes come from many files: they are found in the cell that defines them.
"""

from __future__ import annotations

import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from types import CodeType
    from typing import Any

_LOOKS_UP = frozenset({"inspect", "linecache", "pdb", "pydoc", "traceback", "help"})
_registered: dict[str, str] = {}
_class_dict: Any = type.__dict__["__dict__"].__get__


def offer(sources: Mapping[str, str], words: Collection[str]) -> None:
    """Register ``sources`` if code with ``words`` in it may look them up."""
    if "linecache" in sys.modules or not _LOOKS_UP.isdisjoint(words):
        register(sources)
    if "inspect" in sys.modules or not _LOOKS_UP.isdisjoint(words):
        _find_classes_in(sources)


def register(sources: Mapping[str, str]) -> None:
    """Put the text of each cell where tracebacks and ``inspect`` look for it."""
    import linecache

    for label, source in sources.items():
        if _registered.get(label) is not source or label not in linecache.cache:
            _registered[label] = source
            linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)


def qualname_of(cls: type) -> str:
    """The qualified name of ``cls`` as an exact ``str``: the model may have set another kind of text."""
    return str.__str__(type.__dict__["__qualname__"].__get__(cls))


def cell_of_class(cls: type, sources: Mapping[str, str]) -> str | None:
    """The label of the cell that defines ``cls``: from its methods, else the last cell with that class."""
    qualname = qualname_of(cls)
    for code in _codes_of(cls):
        if code.co_filename in sources and code.co_qualname.startswith(f"{qualname}."):
            return code.co_filename
    return defining_cell(qualname, sources)


def defining_cell(qualname: str, sources: Mapping[str, str]) -> str | None:
    """The label of the last cell with a statement ``class NAME``."""
    name = qualname.rpartition(".")[2]
    statement = re.compile(rf"^[ \t]*class[ \t]+{re.escape(name)}\b", re.MULTILINE)
    named = (label for label in reversed(list(sources)) if name in sources[label])
    return next((label for label in named if statement.search(sources[label])), None)


def _codes_of(cls: type) -> Iterator[CodeType]:
    for value in _class_dict(cls).values():
        function = getattr(value, "fget", None) or getattr(value, "__func__", value)
        code = getattr(function, "__code__", None)
        if type(code) is type(_codes_of.__code__):
            yield code


def _find_classes_in(sources: Mapping[str, str]) -> None:
    """Make ``inspect.getfile`` find the classes of cells."""
    import inspect

    original: Any = inspect.getfile
    if getattr(original, "sources", None) is sources:
        return

    def getfile(object: Any) -> str:  # noqa: A002 - the name that the library gives it
        if isinstance(object, type) and getattr(object, "__module__", None) == "__main__":
            label = cell_of_class(object, sources)
            if label is not None:
                return label
        return original(object)  # type: ignore[no-any-return]

    getfile.sources = sources  # type: ignore[attr-defined]
    inspect.getfile = getfile
