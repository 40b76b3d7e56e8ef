"""Makes the calls of a run's tools: one client for each tool, which the switchboard asks as it asks a model.

Owns what a call may hold (``request``) and what is made of its end: a result that fits, an error in words, or
"unknown". Relies on a caller for each kind. A hanging, dying, flooding or lying tool costs its one call.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from loop_runner.errors import LoopRunnerError
from loop_runner.model.client import ModelClient
from loop_runner.records import Message, Reply, Request
from loop_runner.text import plural
from loop_runner.tools import results, value_schema
from loop_runner.tools.approval import Approver, Refusing
from loop_runner.tools.pages import Pages, text_of
from loop_runner.tools.python_process import PythonProcess, ToolDiedError, ToolRaisedError
from loop_runner.tools.spec import PREFIX, ToolSpec


class ToolRefusedError(Exception):
    """A call that is not made; the text is for the model. Depends on the call and the run so far only."""


class Caller(Protocol):
    """Makes calls of one kind of tool."""

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """What the tool returns; raises ``ToolRaisedError``, ``ToolDiedError`` or ``TimeoutError``."""

    async def close(self) -> None:
        """End what was started for it."""


class Toolbox:
    """The tools of one run. ``env`` is the runner's; each tool is given what its entry names."""

    def __init__(
        self,
        specs: Sequence[ToolSpec],
        callers: Mapping[str, Caller],
        *,
        made: Mapping[str, int] | None = None,
        pages: Pages | None = None,
        approver: Approver | None = None,
    ) -> None:
        """``callers``: by kind. ``made``: how often each tool was called in what is committed."""
        self._specs = {spec.name: spec for spec in specs}
        self._callers = callers
        self._made = Counter(made or {})
        self._pages = pages
        self._approver = approver or Refusing()
        self._approved: set[str] = set()

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """All tools, in the order of the task."""
        return tuple(self._specs.values())

    @property
    def fetches(self) -> bool:
        """Whether one of them makes pages inputs."""
        return any(spec.kind == "fetch" for spec in self._specs.values())

    def request(self, name: str, arguments: str, scope: str) -> Request:
        """The request that a call is, counted. ``arguments``: JSON. Raises ``ToolRefusedError``."""
        spec = self._specs.get(name)
        if spec is None:
            raise ToolRefusedError(f"there is no tool {name!r:.100} in this task")
        given = _read_arguments(spec, arguments)
        if self._made[name] >= spec.settings.calls:
            most = plural(spec.settings.calls, "call")
            raise ToolRefusedError(f"`{name}` was not called: the task allows {most} of it in a run")
        self._made[name] += 1
        text = json.dumps(given, sort_keys=True, ensure_ascii=False)
        return Request(PREFIX + name, (Message("user", text),), max_output_tokens=0, kind="tool", scope=scope)

    def delivered(self, result: str) -> str:
        """A result as the model's process is given it: with the texts of pages, which are inputs from now."""
        if self._pages is None or '"pages": [' not in result:
            return result
        body = json.loads(result)
        if "pages" not in body:
            return result  # the words are in the value of another tool
        pages = self._pages.served(body.pop("pages"))
        texts = [
            {
                "name": page.name,
                "text": text_of(data),
                "places": page.places,
                "headings": page.headings,
            }
            for page, data in pages
        ]
        return json.dumps({**body, "texts": texts}, ensure_ascii=False)

    def client(self, model: str) -> ModelClient:
        """What makes the calls of the tool that ``model`` names."""
        spec = self._specs[model.removeprefix(PREFIX)]
        return ToolClient(spec, self._callers[spec.kind], self._approved_by)

    async def _approved_by(self, spec: ToolSpec, arguments: str) -> str:
        """Why a person refused the call; "" when it may be made."""
        how = spec.settings.approve
        if how == "never" or (how == "first" and spec.name in self._approved):
            return ""
        reason = await self._approver.ask(spec.name, arguments)
        if not reason:
            self._approved.add(spec.name)
        return reason

    async def close(self) -> None:
        """End everything that was started for tools."""
        await asyncio.gather(*(caller.close() for caller in self._callers.values()), return_exceptions=True)


class ToolClient:
    """One tool, as the switchboard asks it: see ``model.client.ModelClient`` and ``ToolCaller``."""

    def __init__(self, spec: ToolSpec, caller: Caller, approved: Callable[[ToolSpec, str], Any]) -> None:
        self._spec = spec
        self._caller = caller
        self._approved = approved
        self.width = spec.settings.width
        self.is_idempotent = spec.settings.idempotent
        self.provider = PREFIX + spec.name

    async def refusal(self, request: Request) -> Reply | None:
        """See ``ToolCaller``."""
        reason = await self._approved(self._spec, request.messages[-1].text)
        return results.error(f"the call of `{self._spec.name}` was refused: {reason}") if reason else None

    def unknown(self, request: Request) -> Reply:
        """See ``ToolCaller``."""
        return results.unknown(
            f"`{self._spec.name}` was called when the run was interrupted; the call may have happened"
        )

    async def complete(self, request: Request) -> Reply:
        """Make the call. Every end of it is a result; nothing is raised but the end of the run."""
        spec, name = self._spec, self._spec.name
        try:
            value = await self._caller.call(spec, json.loads(request.messages[-1].text))
        except ToolRaisedError as error:
            return results.error(f"`{name}` failed: {error}")
        except TimeoutError:
            return self._failed(f"`{name}` did not answer within {spec.settings.timeout_s:g} seconds")
        except ToolDiedError as error:
            return self._failed(f"`{name}` gave no result: {error}")
        except LoopRunnerError:
            raise  # the run folder cannot be written: that is no end of a call, and it stops the run
        except Exception as error:  # noqa: BLE001 - a border: a tool that misbehaves costs its one call
            return self._failed(f"`{name}` gave no result ({type(error).__name__}: {error})")
        return value if isinstance(value, Reply) else self._checked(value)

    def _failed(self, message: str) -> Reply:
        return results.failed(message, is_idempotent=self.is_idempotent)

    def _checked(self, value: Any) -> Reply:
        name, returns = self._spec.name, self._spec.returns
        if returns is not None and (fault := value_schema.fault(returns, value)):
            return results.error(f"`{name}` returned what its schema does not allow: {fault}")
        try:
            return results.value(value)
        except (TypeError, ValueError, RecursionError) as error:
            return results.error(f"`{name}` returned no usable result: {error}")

    async def close(self) -> None:
        """The toolbox ends what all tools of a kind share."""


class PythonCaller:
    """Calls the functions that ``python`` entries name."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self.process = PythonProcess(folder, env)

    async def call(self, spec: ToolSpec, arguments: Mapping[str, Any]) -> Any:
        """See ``Caller``."""
        place, attribute = spec.target["place"], spec.target["attribute"]
        request = {"place": place, "attribute": attribute, "arguments": arguments}
        return await self.process.call(request, spec.settings.timeout_s)

    async def close(self) -> None:
        """See ``Caller``."""
        await self.process.close()


def _read_arguments(spec: ToolSpec, text: str) -> Mapping[str, Any]:
    if len(text) > results.MAX_ARGUMENT_BYTES:
        raise ToolRefusedError(
            f"`{spec.name}` was not called: its arguments are {len(text):,} characters long, and at most "
            f"{results.MAX_ARGUMENT_BYTES:,} are sent"
        )
    try:
        given = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ToolRefusedError(f"`{spec.name}` was not called: its arguments are no JSON ({error})") from None
    if not isinstance(given, dict):
        raise ToolRefusedError(f"`{spec.name}` was not called: its arguments are no mapping of names")
    if fault := value_schema.fault(spec.parameters, given):
        raise ToolRefusedError(f"`{spec.name}` was not called: {fault}; it is {spec.signature}")
    return given


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")
