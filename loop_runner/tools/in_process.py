"""Calls functions of the program that began the run, in that program's own process (``lr.ask(tools=[...])``).

Such a function has no process of its own: what it does to the program, it does. A call that is over time is
not waited for any more, and its thread continues.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loop_runner.tools import function_server
from loop_runner.tools.python_process import ToolRaisedError
from loop_runner.tools.spec import ToolSpec

_THREADS = 256


class FunctionCaller:
    """Calls the functions that the program gave, each in a thread."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]) -> None:
        self._functions = functions
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tool")

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """See ``toolbox.Caller``."""
        function = self._functions[spec.target["function"]]
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(spec.settings.timeout_s):
            return await loop.run_in_executor(self._threads, _called, function, dict(arguments))

    async def close(self) -> None:
        """Nobody waits for a call that is still running."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _called(function: Callable[..., Any], arguments: dict[str, Any]) -> Any:
    try:
        value = function(**function_server.converted(function, arguments))
        return function_server.as_json(asyncio.run(_awaited(value)) if inspect.isawaitable(value) else value)
    except Exception as error:
        raise ToolRaisedError(function_server.in_words(error, "")) from error


async def _awaited(value: Any) -> Any:
    return await value
