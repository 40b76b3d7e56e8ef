"""``llm_query(..., tools=[...])``: a sub-model that calls tools of the task, in a bounded number of rounds.

The calls are made as those of the model's own code are: checked, counted, journalled, served again. They are
asked for in plain JSON, so that every provider can: a tool is described in the prompt, and its result is the
next message. The rounds depend on replies and results alone, so a turn that is run again takes the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loop_runner.kernel.lm_handler import SubCallError
from loop_runner.records import Message
from loop_runner.task.prompts import Templates
from loop_runner.text import cut_middle, fence
from loop_runner.tools import Toolbox, ToolSpec, offered_tools
from loop_runner.verify import json_schema

ROUNDS = 5
_RESULT_CHARS = 20_000  # of one result in a prompt

Ask = Callable[[tuple[Message, ...]], Awaitable[str]]
Call = Callable[[str, str], Awaitable[str]]


async def answered(
    prompt: str, names: Sequence[str], tools: Toolbox, templates: Templates, ask: Ask, call: Call
) -> tuple[str, list[Any]]:
    """The answer, and the pages that were fetched for it.

    ``call`` makes one call and gives its result as JSON. Raises ``SubCallError``.
    """
    offered = {spec.name: spec for spec in _offered(names, tools)}
    described = offered_tools.lines(list(offered.values()))
    first = templates.render("subtools_ask", prompt=prompt, tools=described, rounds=ROUNDS)
    messages: tuple[Message, ...] = (Message("user", first),)
    pages: list[Any] = []
    for left in range(ROUNDS - 1, -1, -1):
        reply = await ask(messages)
        wanted = _call_in(reply)
        if wanted is None:
            return reply, pages
        name, arguments = wanted
        result = await _result(name, arguments, offered, call)
        texts = result.pop("texts", ())
        pages += texts
        whole = "\n\n".join(f"{page['name']}\n\n{page['text']}" for page in texts) or _shown(result)
        shown = fence(cut_middle(whole, _RESULT_CHARS))
        notices = templates.render("subtools_result", name=name, result=shown, left=left)
        messages = (*messages, Message("assistant", reply), Message("user", notices))
    return await ask(messages), pages


def _offered(names: Sequence[str], tools: Toolbox) -> list[ToolSpec]:
    known = {spec.name: spec for spec in tools.specs}
    if unknown := [name for name in names if name not in known]:
        listed = ", ".join(known) or "none"
        raise SubCallError(f"there is no tool {unknown[0]!r:.100} in this task; tools= takes {listed}")
    return [known[name] for name in dict.fromkeys(names)]


def _call_in(reply: str) -> tuple[str, str] | None:
    """The tool that a reply calls and its arguments as JSON; None for a reply that is an answer."""
    try:
        result = json_schema.read_json(reply)
    except ValueError:
        return None
    if not isinstance(result, dict) or not isinstance(result.get("tool"), str):
        return None
    return result["tool"], json.dumps(result.get("arguments", {}), ensure_ascii=False)


async def _result(name: str, arguments: str, offered: dict[str, ToolSpec], call: Call) -> dict[str, Any]:
    if name not in offered:
        return {"error": f"there is no tool {name!r:.100}; there are {', '.join(offered)}"}
    try:
        return dict(json.loads(await call(name, arguments)))
    except SubCallError as error:
        if error.ends_run:
            raise
        return {"error": error.message}


def _shown(result: dict[str, Any]) -> str:
    """A result as the sub-model reads it: texts as they are, anything else as JSON."""
    for key in ("error", "unknown"):
        if key in result:
            return f"{key}: {result[key]}"
    value = result.get("value")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
