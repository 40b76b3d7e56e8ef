"""The task's tools as the model's code calls them. Runs inside the kernel process.

Owns how arguments given by position become named ones, and how the host's answer becomes a value or an error.
A tool is one object for the life of the process, and is saved by its name. The host checks all again.
"""

from __future__ import annotations

import json

from .lm_client import LLMError
from .tool_values import shortened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from .lm_client import LmClient

_ARGUMENT_CHARS = 1024 * 1024  # what the host takes
_SHOWN_DOC_CHARS = 120


class ToolError(Exception):
    """A call of a tool that gave no value; str() says why. Falsy, as in the result of a batch."""

    __module__ = "__main__"

    def __bool__(self) -> bool:
        return False


class ToolUnknown(ToolError):  # noqa: N818
    """A call of a tool that may have happened, and whose result nobody knows."""

    __module__ = "__main__"


_tools: dict[str, ToolFunction] = {}


class ToolFunction:
    """One tool. Called as a function, by position or by name."""

    def __init__(self, spec: Mapping[str, Any], client: LmClient, take_in: Callable[..., None]) -> None:
        self._spec = spec
        self._take_in = take_in
        self._client = client
        self.__name__ = self.__qualname__ = str(spec["name"])
        self.__doc__ = f"{spec['signature']}\n\n{spec['doc']}".strip()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the tool. Raises ToolError, or ToolUnknown when the call may have happened."""
        result = self._made([self._arguments(args, kwargs)])[0]
        if isinstance(result, ToolError):
            raise result
        return result

    def batch(self, calls: Iterable[Any]) -> list[Any]:
        """Make many calls at once; results in the same order, a ToolError in the place of a failure."""
        results = self._made([self._listed(call) for call in calls])
        failed = [result for result in results if isinstance(result, ToolError)]
        if failed:
            print(  # noqa: T201 - a batch that failed in part must not pass for a whole one
                f"{self.__name__}: {len(failed)} of {len(results)} calls failed; the first: {failed[0]}"
            )
        return results

    def _listed(self, call: Any) -> str:
        """One call of a batch: a dict of names, a tuple or list of positions, or the only argument."""
        if isinstance(call, dict):
            return self._arguments((), call)
        return self._arguments(tuple(call) if isinstance(call, (tuple, list)) else (call,), {})

    def _arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        names, name = self._spec["parameters"], self.__name__
        required = [item for item in names if item in self._spec["required"]]
        order = [*required, *(item for item in names if item not in required)]
        if len(args) > len(order):
            raise TypeError(
                f"{name}() takes {len(order)} arguments, {len(args)} were given: {self.signature}"
            )
        given = dict(zip(order, args, strict=False))
        if twice := sorted(given.keys() & kwargs.keys()):
            raise TypeError(f"{name}() got `{twice[0]}` twice: {self.signature}")
        given |= {str(key): value for key, value in kwargs.items()}
        if missing := [item for item in required if item not in given]:
            raise TypeError(f"{name}() is missing `{missing[0]}`: {self.signature}")
        unknown = [item for item in given if item not in names]
        if unknown and not self._spec["is_open"]:
            raise TypeError(f"{name}() has no parameter `{unknown[0]:.60}`: {self.signature}")
        try:
            text = json.dumps(given, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(f"{name}() takes JSON: text, numbers, lists and dicts ({error})") from None
        if len(text) > _ARGUMENT_CHARS:
            raise ValueError(
                f"{name}() was not called: its arguments are {len(text):,} characters long, and at most "
                f"{_ARGUMENT_CHARS:,} are sent"
            )
        return text

    @property
    def signature(self) -> str:
        """How it is called."""
        return str(self._spec["signature"])

    def _made(self, calls: Sequence[str]) -> list[Any]:
        return [self._value(reply) for reply in self._client.call_tool(self.__name__, calls)]

    def _value(self, reply: str | LLMError) -> Any:
        if isinstance(reply, LLMError):
            return ToolError(str(reply))
        result = json.loads(reply)
        if "unknown" in result:
            return ToolUnknown(result["unknown"])
        if "error" in result:
            return ToolError(result["error"])
        if "texts" in result:
            return self._texts(result["texts"])
        return shortened(result["value"], self._spec["max_output_chars"])

    def _texts(self, listed: Sequence[Mapping[str, Any]]) -> Any:
        """The text of a page, which is in `context` from now on; a dict of texts, where it gave several."""
        result = {}
        for page in listed:
            result[page["name"]] = shortened(page["text"], self._spec["max_output_chars"])
            self._take_in(page["name"], result[page["name"]], page["places"], page["headings"])
            lines = page["text"].count("\n") + 1
            print(f"{self.__name__}: context[{page['name']!r}], {lines:,} lines")  # noqa: T201 - to cite it
        return next(iter(result.values())) if len(result) == 1 else result

    def __repr__(self) -> str:
        return f"<tool {self.signature}>"

    def __reduce__(self) -> tuple[object, ...]:
        return tool_named, (self.__name__,)


class ToolGroup:
    """The tools of one server, by name."""

    def __init__(self, name: str, tools: Mapping[str, ToolFunction]) -> None:
        self.__name__ = name
        self.__dict__.update(tools)

    def __repr__(self) -> str:
        tools = [value for value in self.__dict__.values() if isinstance(value, ToolFunction)]
        return f"<tools of {self.__name__}: {', '.join(tool.signature for tool in tools)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return group_named, (self.__name__,)


_groups: dict[str, ToolGroup] = {}


def taken_in(reply: str | LLMError, take_in: Callable[..., None]) -> str | LLMError:
    """The answer of a sub-model that had tools; the pages that it fetched are texts of ``context``."""
    if isinstance(reply, LLMError):
        return reply
    answer = json.loads(reply)
    for page in answer["texts"]:
        take_in(page["name"], page["text"], page["places"], page["headings"])
    return str(answer["text"])


def tool_named(name: str) -> ToolFunction:
    """The tool of that name in this process."""
    return _tools[name]


def group_named(name: str) -> ToolGroup:
    """The tools of the server of that name in this process."""
    return _groups[name]


def tool_batch(tool: Any, calls: Iterable[Any]) -> list[Any]:
    """Call `tool` many times at once: `tool_batch(lookup, [{"q": "a"}, {"q": "b"}])`.

    The results are in the same order; a failed call gives a ToolError, which is falsy.
    """
    if not isinstance(tool, ToolFunction):
        raise TypeError("tool_batch takes a tool and a list of calls: tool_batch(lookup, [{'q': 'a'}])")
    return tool.batch(calls)


def TOOLS() -> None:  # noqa: N802
    """Print all tools of the task."""
    for tool in _tools.values():
        summary = str(tool._spec["doc"]).strip().split("\n", 1)[0][:_SHOWN_DOC_CHARS]  # noqa: SLF001
        print(f"{tool.signature}: {summary}".rstrip(": "))  # noqa: T201 - printing is what it is for


def made(
    specs: Sequence[Mapping[str, Any]], client: LmClient, take_in: Callable[..., None]
) -> dict[str, Any]:
    """The names that the tools get in the namespace, with the helpers for all of them.

    ``take_in`` makes a text that a tool fetched one of ``context``.
    """
    _tools.clear()
    _groups.clear()
    _tools.update((spec["name"], ToolFunction(spec, client, take_in)) for spec in specs)
    result: dict[str, Any] = {
        "tool_batch": tool_batch,
        "TOOLS": TOOLS,
        "ToolError": ToolError,
        "ToolUnknown": ToolUnknown,
    }
    grouped: dict[str, dict[str, ToolFunction]] = {}
    for name, tool in _tools.items():
        group, dot, own = name.partition(".")
        if dot:
            grouped.setdefault(group, {})[own] = tool
        else:
            result[name] = tool
    _groups.update((name, ToolGroup(name, tools)) for name, tools in grouped.items())
    return result | _groups
