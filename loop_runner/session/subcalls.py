"""What a cell's code reaches of models: ``llm_query``, ``llm_batch``, ``rlm_query``, ``budget``.

Owns the request that a sub-call becomes, the checking of replies against a schema, and the count of what was
asked in a turn. Relies on the switchboard for replies (it alone knows the journal, the ledger and the width)
and on ``children`` to run child sessions. Runs on the switchboard's loop; ``end_turn`` may be called from any
thread while no cell runs. Trusts nothing that a cell hands over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from loop_runner import text
from loop_runner.budget import BudgetSpentError, Ledger
from loop_runner.errors import ModelError
from loop_runner.events import Event, Trace
from loop_runner.kernel.lm_handler import Delegation, SubCallError
from loop_runner.model.switchboard import Switchboard
from loop_runner.records import ChildRecord, Image, Inputs, Message, Request, RequestKind, Usage
from loop_runner.task.prompts import BUILT_IN, Templates
from loop_runner.verify import json_schema
from loop_runner.verify.json_schema import BadSchemaError, SchemaChecker

if TYPE_CHECKING:
    from loop_runner.tools import Toolbox


_PROGRESS_S = 2.0  # how often a person is told how far a batch is
_FIRST_PROGRESS_S = 0.1  # after the first sub-call of a turn: those of a batch are sent together
_MAX_LISTED = 200  # sub-calls of a turn that are told of one by one; the rest as progress
_MAX_CHECKS = 10  # of a turn: a check is for drafts, and no way to guess an answer
_MAX_SCHEMA_CHARS_SHOWN = 2000  # of a reply that did not fit, when the model is asked again


@dataclass(frozen=True, slots=True)
class SubModels:
    """Which models a cell may ask, and how long they may answer."""

    usual: str  # llm_query without model=
    root: str
    further: tuple[str, ...]  # that the task allows by name
    max_reply_tokens: int
    schema_tries: int = 3  # requests for one structured sub-call

    def named(self, name: str) -> str:
        """The model id that a cell means by ``name``. Raises ``SubCallError`` for one that is not allowed."""
        known = {"": self.usual, "sub": self.usual, "root": self.root}
        allowed = (self.usual, self.root, *self.further)
        model = known.get(name, name)
        if model not in allowed:
            listed = ", ".join(map(text.label, dict.fromkeys(allowed)))
            raise SubCallError(f"there is no model {name!r:.100} here; model= takes root, sub, {listed}")
        return model


@dataclass(frozen=True, slots=True)
class ChildTask:
    """A child session that may start."""

    delegation: Delegation
    inputs: Inputs  # of the session that asks
    model: str
    scope: str
    depth: int  # from 1
    kind: RequestKind = "child"
    turns: int | None = None  # None: as many as child sessions have


class Images(Protocol):
    """Makes images of what a cell names; see ``inputs.ImageReader``."""

    def opened(self, inputs: Inputs, wanted: Sequence[str | bytes]) -> tuple[Image, ...]:
        """The images, in order; any exception says why there is none."""
        ...


RunChild = Callable[[ChildTask], Awaitable[ChildRecord]]
"""Runs a child session to its end."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the sub-calls of a run share, whichever session makes them."""

    models: Switchboard
    ledger: Ledger
    sub_models: SubModels
    trace: Trace
    checker: SchemaChecker
    checking: Executor  # one thread: a check waits for a process
    templates: Templates = BUILT_IN
    tools: Toolbox | None = None  # None: the task has none
    images: Images | None = None


class SubCalls:
    """The sub-calls of one session (see ``lm_handler.Delegate``); ``depth`` 0 is the run's, 1 a child's."""

    def __init__(
        self,
        shared: Shared,
        run_child: RunChild,
        inputs: Callable[[], Inputs],
        *,
        scope: str = "",
        depth: int = 0,
        check: Callable[[str], str] | None = None,
        past: Callable[[int, int], str] | None = None,
        on_reply: Callable[[str, Usage], None] = lambda _model, _usage: None,
    ) -> None:
        """``check`` says what an answer would be told; None where nothing checks it, as in a child.

        ``past`` reads a committed turn as JSON, "" if there is no such turn; None in a child, which has none.
        ``on_reply`` is given the model and the usage of each reply to a request of this session's code.
        """
        self._shared = shared
        self._on_reply = on_reply
        self._check = check
        self._past = past
        self._checks = 0  # of this turn
        self._run_child = run_child
        self._inputs = inputs
        self._scope = scope
        self._depth = depth
        self._children: list[ChildRecord] = []
        self._occurrences: dict[str, int] = {}  # child sessions of this turn by what they were asked
        self._tally = _Tally()

    def end_turn(self) -> tuple[ChildRecord, ...]:
        """The child sessions since the last call; the next turn counts from the beginning."""
        children, self._children = tuple(self._children), []
        self._occurrences.clear()
        self._checks = 0
        self._tally = _Tally()
        return children

    def left(self) -> Mapping[str, int | float | None]:
        """What is left of the budget."""
        return self._shared.ledger.left(self._depth)

    async def past(self, pass_number: int, turn: int) -> str:
        """A committed turn of the run, as JSON; no request, and charged to nobody."""
        if self._past is None:
            raise SubCallError("past() is for the run's own session: a child session has no earlier passes")
        loop = asyncio.get_running_loop()
        past_turn = await loop.run_in_executor(self._shared.checking, self._past, pass_number, turn)
        if not past_turn:
            raise SubCallError(f"there is no committed turn {turn} of pass {pass_number}")
        return past_turn

    async def check(self, content: str) -> str:
        """What the checks that cost nothing say of ``content``; no request, and charged to nobody."""
        if self._check is None:
            raise SubCallError("check() is for the run's own answer: no program checks the answer here")
        if self._checks >= _MAX_CHECKS:
            raise SubCallError(f"check() answers {_MAX_CHECKS} times in a turn: look at what it printed")
        self._checks += 1
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._shared.checking, self._check, content)

    async def tool(self, name: str, arguments: str) -> str:
        """The result of one call of a tool, as JSON. Raises ``SubCallError`` for one that is not made."""
        if self._shared.tools is None:
            raise SubCallError("this task has no tools")
        from loop_runner.tools.toolbox import ToolRefusedError

        try:
            request = self._shared.tools.request(name, arguments, self._scope)
        except ToolRefusedError as error:
            raise SubCallError(str(error)) from None
        started = time.monotonic()
        try:
            result = (await self._shared.models.complete(request)).text
        except BudgetSpentError as error:
            raise SubCallError(f"`{name}` was not called: the budget of {error.limit} is used up") from error
        except ModelError as error:
            raise SubCallError(
                f"`{name}` was not called: {error.message}", ends_run=error.ends_run
            ) from error
        self._shared.trace.append(Event("tool_finished", data=_about_call(name, arguments, result, started)))
        return self._shared.tools.delivered(result)

    # ── one request ─────────────────────────────────────────────────────────────────────────────────

    async def query(self, prompt: str) -> str:
        """One sub-call. Raises ``SubCallError`` when the budget or the provider refuses it."""
        return await self._counted(
            self._ask(self._shared.sub_models.usual, (Message("user", prompt),)), prompt
        )

    async def query_as(self, prompt: str, schema: Mapping[str, Any] | None, model: str) -> str:
        """One sub-call to ``model``; with ``schema`` the reply is JSON that fits it."""
        name = self._shared.sub_models.named(model)
        if schema is None:
            return await self._counted(self._ask(name, (Message("user", prompt),)), prompt)
        return await self._counted(self._structured(name, prompt, schema), prompt)

    async def query_with_tools(
        self, prompt: str, schema: Mapping[str, Any] | None, model: str, tools: Sequence[str]
    ) -> str:
        """One question to a model that may call ``tools``: JSON with its answer, and the pages it fetched."""
        if self._shared.tools is None:
            raise SubCallError("this task has no tools")
        from loop_runner.session import tool_rounds

        name = self._shared.sub_models.named(model)
        answer, pages = await tool_rounds.answered(
            prompt,
            tools,
            self._shared.tools,
            self._shared.templates,
            lambda messages: self._counted(self._ask(name, messages), messages[-1].text),
            self.tool,
        )
        if schema is not None:
            answer = await self._counted(self._structured(name, f"{prompt}\n\n{answer}", schema), prompt)
        return json.dumps({"text": answer, "texts": pages}, ensure_ascii=False)

    async def query_with_images(
        self, prompt: str, schema: Mapping[str, Any] | None, model: str, images: Sequence[str | bytes]
    ) -> str:
        """One sub-call that shows images; with ``schema`` the reply is JSON that fits it."""
        name, reader = self._shared.sub_models.named(model), self._shared.images
        if reader is None:
            raise SubCallError("no images can be shown here")
        try:
            shown = await asyncio.to_thread(reader.opened, self._inputs(), images)
        except Exception as error:
            raise SubCallError(f"images=: {error}") from error
        if schema is None:
            return await self._counted(self._ask(name, (Message("user", prompt, images=shown),)), prompt)
        return await self._counted(self._structured(name, prompt, schema, shown), prompt)

    async def _counted(self, asking: Awaitable[str], prompt: str) -> str:
        tally = self._tally
        tally.out += 1
        if tally.out + tally.answered + tally.failed == 1:
            asyncio.get_running_loop().call_later(_FIRST_PROGRESS_S, self._tell_sent, tally)
        reply = ""
        try:
            reply = await asking
        except SubCallError:
            tally.failed += 1
            raise
        else:
            tally.answered += 1
            return reply
        finally:
            tally.out -= 1
            if reply and tally.answered <= _MAX_LISTED:
                data = {"prompt_chars": len(prompt), "reply": text.one_line(reply)}
                self._shared.trace.append(Event("subcall_finished", data=data))
            if not tally.out:
                self._shared.trace.flush()  # the code that waited for them may now run for long
            if tally.is_due():
                self._shared.trace.append(Event("subcalls_progress", data=tally.as_dict()))

    def _tell_sent(self, tally: _Tally) -> None:
        """Report how many sub-calls the turn began with, before the first of them is answered."""
        if tally.out:
            self._shared.trace.append(Event("subcalls_progress", data=tally.as_dict()))

    async def _ask(
        self, model: str, messages: tuple[Message, ...], schema: Mapping[str, Any] | None = None
    ) -> str:
        request = Request(
            model=model,
            messages=messages,
            max_output_tokens=self._shared.sub_models.max_reply_tokens,
            kind="sub",
            schema=schema,
            scope=self._scope,
        )
        try:
            reply = await self._shared.models.complete(request)
        except ModelError as error:
            raise refused(error) from error
        self._on_reply(model, reply.usage)
        if not reply.text:
            raise SubCallError(f"the sub-model gave no text (it stopped with {reply.stop_reason})")
        return reply.text

    async def _structured(
        self, model: str, prompt: str, schema: Mapping[str, Any], images: tuple[Image, ...] = ()
    ) -> str:
        """Ask until the reply fits, each time with what was wrong; the fit is checked here, always."""
        try:
            encoded = json_schema.encode(schema)
        except BadSchemaError as error:
            raise _bad_schema(error) from None
        request = self._shared.templates.render("schema_ask", prompt=prompt, schema=encoded)
        messages: tuple[Message, ...] = (Message("user", request, images=images),)
        problem = ""
        for _ in range(self._shared.sub_models.schema_tries):
            reply = await self._ask(model, messages, schema)
            value, problem = await self._fitting(encoded, reply)
            if not problem:
                return value
            again = self._shared.templates.render("schema_again", problem=problem)
            shown = text.cut_middle(reply, _MAX_SCHEMA_CHARS_SHOWN)
            messages = (messages[0], Message("assistant", shown), Message("user", again))
        tries = self._shared.sub_models.schema_tries
        raise SubCallError(f"no reply of {tries} fits the schema; the last: {text.one_line(problem, 300)}")

    async def _fitting(self, schema: str, reply: str) -> tuple[str, str]:
        """The JSON in ``reply``, and why it does not fit ("" when it does)."""
        try:
            value = json.dumps(json_schema.read_json(reply), ensure_ascii=True)
        except ValueError as error:
            return "", str(error)
        loop = asyncio.get_running_loop()
        try:
            problem = await loop.run_in_executor(
                self._shared.checking, self._shared.checker.check, schema, value
            )
        except BadSchemaError as error:
            raise _bad_schema(error) from None
        return value, problem

    # ── child sessions ──────────────────────────────────────────────────────────────────────────────

    async def session(self, task: Delegation) -> tuple[str, str]:
        """Run a child session, or, where it would be too deep, ask once; the answer and a note on that."""
        if self._depth >= self._shared.ledger.budget.depth:
            return await self._asked_at_the_limit(task)
        model = self._shared.sub_models.named(task.model)
        key = delegation_key(task, model, self._scope)
        occurrence = self._occurrences.get(key, 0)
        self._occurrences[key] = occurrence + 1
        child = ChildTask(task, self._inputs(), model, f"{key[:32]}.{occurrence}", self._depth + 1)
        record = await self._run_child(child)
        self._children.append(record)
        if record.end != "ready":
            raise SubCallError(f"the child session gave no answer: {record.reason}")
        return record.answer.content, ""

    async def _asked_at_the_limit(self, task: Delegation) -> tuple[str, str]:
        if task.has_inputs:
            raise SubCallError(
                "no child session may start here (budget.depth), and `context` is too much for one call"
            )
        texts = [
            (f"## {text.label(name)}\n\n" if name else "") + data.decode("utf-8", "replace")
            for name, data in task.texts
        ]
        reply = await self.query_as("\n\n".join([*texts, task.question]), None, task.model)
        return reply, "no child session may start here (budget.depth), so this is the reply to one sub-call"


def delegation_key(task: Delegation, model: str, scope: str) -> str:
    """SHA-256 (hex) over what a child session is asked: the same in every run of the cell."""
    import hashlib

    digest = hashlib.sha256()
    shape = [scope, model, task.question, task.has_inputs, task.is_single]
    digest.update(json.dumps([*shape, [[name, len(data)] for name, data in task.texts]]).encode())
    for _, data in task.texts:
        digest.update(data)
    if task.sources:
        digest.update(json.dumps(task.sources).encode())
    return digest.hexdigest()


def refused(error: ModelError) -> SubCallError:
    """What the model's code is told of a request that got no reply."""
    if isinstance(error, BudgetSpentError):
        return SubCallError(f"no sub-call was made: the budget of {error.limit} is used up")
    return SubCallError(f"the sub-model did not answer: {error.message}", ends_run=error.ends_run)


def _about_call(name: str, arguments: str, result: str, started: float) -> dict[str, object]:
    """What the trace says of a call."""
    return {
        "tool": name,
        "arguments": text.one_line(arguments),
        "result": text.one_line(result[:500]),
        "failed": not result.startswith('{"value":'),
        "seconds": round(time.monotonic() - started, 3),
    }


def _bad_schema(error: BadSchemaError) -> SubCallError:
    return SubCallError(f"schema= cannot be used: {error}")


@dataclass(slots=True)
class _Tally:
    """How far the sub-calls of a turn are."""

    out: int = 0
    answered: int = 0
    failed: int = 0
    told_at: float = 0.0

    def is_due(self) -> bool:
        """Whether a person is to be told: from time to time, and when the last of many is answered."""
        if not self.out:
            return self.answered > _MAX_LISTED
        now = time.monotonic()
        if not self.told_at:
            self.told_at = now
        if now - self.told_at < _PROGRESS_S:
            return False
        self.told_at = now
        return True

    def as_dict(self) -> dict[str, int]:
        return {"answered": self.answered, "failed": self.failed, "out": self.out}
