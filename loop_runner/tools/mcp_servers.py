"""Calls the tools of MCP servers through the official SDK (extra ``[mcp]``).

Each server is started when it is first needed, once per run, and again when it has died. All of them live on
a loop and a thread of their own, so that one that floods holds up nothing else. A server is not trusted: what
it sends is bounded, its schemas are checked as far as they are known, and its descriptions are data.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from loop_runner import failpoints, plugins
from loop_runner.errors import ConfigError
from loop_runner.tools import value_schema
from loop_runner.tools.entries import Entry
from loop_runner.tools.mcp_transport import EndedError, capped_http, capped_stdio
from loop_runner.tools.python_process import ToolDiedError, ToolRaisedError
from loop_runner.tools.spec import ToolSpec

_START_S = 60.0
_END_S = 10.0
_MAX_TOOLS = 500
_MAX_PAGES = 50
_NAME = re.compile(r"[^A-Za-z0-9_]")
_T = TypeVar("_T")


def missing() -> str:
    """Why servers cannot be reached from here; "" when they can."""
    try:
        import mcp  # noqa: F401
    except ImportError:
        return f"the extra [mcp] is not installed: {plugins.command_for('mcp')}"
    return ""


async def listed(entry: Entry, folder: Path, env: Mapping[str, str]) -> list[ToolSpec]:
    """The tools of a server, as many as the entry names. Raises ``ConfigError`` when there is no answer."""
    if why := missing():
        raise _error(entry, why, "install it, or remove the entry")
    servers = McpCaller(folder, {entry.target["name"]: (entry.target, env)})
    try:
        tools = await servers.tools(entry.target["name"], entry.settings.timeout_s)
    except (ToolDiedError, ToolRaisedError, TimeoutError) as error:
        reply_text = str(error) or f"it did not answer within {entry.settings.timeout_s:g} s"
        raise _error(
            entry, reply_text, "see that it starts, and which environment variables it needs"
        ) from error
    finally:
        await servers.close()
    only = entry.target.get("only")
    known = {tool.name for tool in tools}
    if only and (unknown := [name for name in only if name not in known]):
        raise _error(
            entry,
            f"it has no tool {unknown[0]!r}",
            f"its tools are {', '.join(sorted(known)[:20]) or 'none'}",
        )
    return [_spec(entry, tool) for tool in tools if not only or tool.name in only]


def _error(entry: Entry, what: str, hint: str) -> ConfigError:
    return ConfigError(
        f"the MCP server `{entry.target['name']}`: {what}",
        why="the model's code could not call it",
        hint=hint,
    )


def _spec(entry: Entry, tool: Any) -> ToolSpec:
    name = _NAME.sub("_", tool.name)
    name = f"_{name}" if not name[:1].isalpha() and name[:1] != "_" else name
    schema = tool.input_schema if isinstance(tool.input_schema, dict) else {}
    return ToolSpec(
        f"{entry.target['name']}.{name}",
        "mcp",
        {"server": entry.target["name"], "tool": tool.name, "output": tool.output_schema},
        tool.description or "",
        {"type": "object", **schema},
        None,
        entry.settings,
    )


class McpCaller:
    """The servers of one run, by the names of their entries."""

    def __init__(
        self, folder: Path, servers: Mapping[str, tuple[Mapping[str, Any], Mapping[str, str]]]
    ) -> None:
        """``servers``: what each entry names, and what its process sees of the environment."""
        self._folder = folder
        self._servers = servers
        self._lives: dict[str, _Life] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """See ``toolbox.Caller``."""
        server, tool = spec.target["server"], spec.target["tool"]
        result = await self._on_loop(self._called(server, tool, dict(arguments), spec.settings.timeout_s))
        return _value(result, spec.target.get("output"))

    async def tools(self, server: str, timeout_s: float) -> list[Any]:
        """The tools that a server lists."""
        return await self._on_loop(self._listed(server, timeout_s))

    async def _called(self, server: str, tool: str, arguments: dict[str, Any], timeout_s: float) -> Any:
        life = await self._life(server)
        return await life.do(life.client.call_tool(tool, arguments), timeout_s)

    async def _listed(self, server: str, timeout_s: float) -> list[Any]:
        life = await self._life(server)
        return await life.do(_all_tools(life.client), timeout_s)

    async def _life(self, server: str) -> _Life:
        life = self._lives.get(server)
        if life is None or life.is_over:
            target, env = self._servers[server]
            life = self._lives[server] = _Life(target, self._folder, env)
        await life.started()
        return life

    async def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name="mcp", daemon=True)
            self._thread.start()
        future: Future[_T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return await asyncio.wrap_future(future)

    @staticmethod
    def _run(loop: asyncio.AbstractEventLoop) -> None:
        logging.getLogger("mcp").setLevel(logging.CRITICAL)  # what servers do is told by results
        asyncio.set_event_loop(loop)
        loop.run_forever()

    async def close(self) -> None:
        """End the servers."""
        if self._loop is None or self._thread is None:
            return
        await self._on_loop(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, _END_S)
        if not self._thread.is_alive():
            self._loop.close()
        self._loop = None

    async def _end(self) -> None:
        await asyncio.gather(*(life.end() for life in self._lives.values()), return_exceptions=True)


class _Life:
    """One connection to a server, held by one task: the SDK's scopes must end where they began."""

    def __init__(self, target: Mapping[str, Any], folder: Path, env: Mapping[str, str]) -> None:
        self._target = target
        self._folder = folder
        self._env = env
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._over = asyncio.Event()
        self._calls = 0
        self._reason = ""
        self.is_over = False
        self.client: Any = None
        self._task = asyncio.get_running_loop().create_task(self._hold())

    async def started(self) -> None:
        """Wait for the handshake. Raises ``ToolDiedError``."""
        try:
            async with asyncio.timeout(_START_S):
                await asyncio.shield(self._ready)
        except TimeoutError:
            await self.end()
            raise ToolDiedError(f"it did not start within {_START_S:g} s") from None

    async def do(self, work: Coroutine[Any, Any, _T], timeout_s: float) -> _T:
        """The result of ``work``. A server that does not answer is given up: the next call starts another."""
        from mcp import MCPError

        self._calls += 1
        try:
            async with asyncio.timeout(timeout_s):
                return await work
        except TimeoutError:
            self.is_over = True
            raise
        except MCPError as error:
            if self.is_over or self._reason or "closed" in str(error).lower():
                self.is_over = True
                await asyncio.sleep(0.05)  # the transport says why in a moment
                raise ToolDiedError(self._reason or f"the server ended ({error})") from error
            raise ToolRaisedError(str(error)[:2000]) from error
        except (RuntimeError, ValueError) as error:
            raise ToolRaisedError(
                f"its answer is not what the protocol or its schema says ({error!s:.500})"
            ) from error
        finally:
            self._calls -= 1
            if self.is_over and not self._calls:
                self._over.set()

    async def _hold(self) -> None:
        from mcp import Client

        try:
            failpoints.passing("tool.start")
            async with self._transport() as streams, Client(_Given(streams)) as client:
                self.client = client
                failpoints.passing("tool.started")
                self._ready.set_result(None)
                await self._over.wait()
        except BaseException as error:  # noqa: BLE001 - a border: groups of anything, of a server's making
            self._fail(error)
        finally:
            self.is_over = True

    def _fail(self, error: BaseException) -> None:
        reply_text = self._reason or _innermost(error)
        if not self._ready.done():
            self._ready.set_exception(ToolDiedError(reply_text))
        if isinstance(error, asyncio.CancelledError):
            raise error

    def _transport(self) -> contextlib.AbstractAsyncContextManager[Any]:
        if url := self._target.get("url"):
            headers = {
                name: self._env.get(variable, "") for name, variable in self._target.get("header", {}).items()
            }
            return capped_http(str(url), headers, self._ended)
        return capped_stdio(list(self._target["command"]), self._folder, self._env, self._ended)

    def _ended(self, why: str) -> None:
        self._reason, self.is_over = self._reason or why, True

    async def end(self) -> None:
        """Close the connection; a server that does not let go is cancelled."""
        self._over.set()
        _, waiting = await asyncio.wait([self._task], timeout=_END_S)
        if waiting:
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_END_S)


class _Given:
    """A transport whose streams are open already."""

    def __init__(self, streams: Any) -> None:
        self._streams = streams

    async def __aenter__(self) -> Any:
        return self._streams

    async def __aexit__(self, *_: object) -> None:
        for stream in self._streams:
            await stream.aclose()


async def _all_tools(client: Any) -> list[Any]:
    result: list[Any] = []
    cursor = None
    for _ in range(_MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        result += page.tools
        cursor = page.next_cursor
        if not cursor or len(result) > _MAX_TOOLS:
            break
    return result[:_MAX_TOOLS]


def _value(result: Any, output: Mapping[str, Any] | None) -> Any:
    """What a result is as plain data: what is structured, else its texts."""
    texts = [part for block in result.content if (part := _part(block)) is not None]
    if result.is_error:
        raise ToolRaisedError("\n".join(map(str, texts))[:4000] or "the server reports an error")
    structured = result.structured_content
    if structured is not None:
        if isinstance(output, Mapping) and (fault := value_schema.fault(output, structured)):
            raise ToolRaisedError(f"it returned what its own schema does not allow: {fault}")
        is_wrapped = isinstance(structured, dict) and structured.keys() == {"result"}
        return structured["result"] if is_wrapped else structured
    if all(isinstance(text, str) for text in texts):
        return "\n".join(texts)
    return texts[0] if len(texts) == 1 else texts


def _part(block: Any) -> Any:
    if block.type == "text":
        return block.text
    if block.type == "resource":
        return getattr(block.resource, "text", None) or {"uri": str(block.resource.uri)}
    if block.type == "resource_link":
        return {"uri": str(block.uri), "name": block.name}
    return {"type": block.type, "mime_type": getattr(block, "mime_type", ""), "base64_chars": len(block.data)}


def _innermost(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)[:500] if isinstance(error, EndedError) else f"{type(error).__name__}: {error!s:.500}"
