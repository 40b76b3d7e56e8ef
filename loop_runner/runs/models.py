"""Which models a run uses, whether they can answer, and how much they are shown."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from loop_runner.errors import ConfigError, LoopRunnerError, ModelError
from loop_runner.model import prices, registry
from loop_runner.model.client import TokenCounter, redacted
from loop_runner.records import (
    Message,
    Request,
    Usage,
)
from loop_runner.runs import preflight
from loop_runner.session.conversation import is_over_window
from loop_runner.task import prompt_size
from loop_runner.task.config import Task
from loop_runner.task.profiles import profile
from loop_runner.verify import Gates

_SYSTEM_TOKENS = 1500  # of the window, for the system prompt


_HIGH_CHARS_PER_TOKEN = 6  # no ordinary text has more, so a prompt over the window by this count is too long


def root_and_sub(task: Task) -> tuple[str, str]:
    """The root model and the sub-model of a task whose models are settled."""
    root = task.model or ""
    return root, task.sub_model or root


def profile_name(task: Task, model: str) -> str:
    """The name of the profile whose prompts and limits the root model gets."""
    return "agent" if task.is_agent else registry.profile_name(model)


def model_faults(task: Task, env: Mapping[str, str], gates: Gates) -> list[LoopRunnerError]:
    """Every model that could not answer, and every one that a limit in dollars cannot count."""
    faults = preflight.Faults()
    if not task.model and (nameless := gates.without_model):
        faults.errors.append(
            ConfigError(
                f"the verifier {nameless[0]!r} names no model, and this run has none of its own",
                why="an agent brings its own model, which verifiers cannot ask",
                hint="add `model:` to the verifier, or to the task",
            )
        )
    named = (*root_and_sub(task), *task.sub_models, *task.no_progress.models, *gates.models)
    models = tuple(dict.fromkeys(filter(None, named)))  # a user's agent has none
    for model in models:
        with faults.collecting():
            registry.check(model, base_dir=task.base_dir, env=env)
    if not faults.errors and (fault := prompt_fault(task, env)):
        faults.errors.append(fault)
    if task.budget.usd is not None and not faults.errors:
        price = prices.with_rates(task.prices)
        if unknown := [model for model in models if price(model, Usage(1, 1)) is None]:
            faults.errors.append(_without_price(unknown))
    return faults.errors


def prompt_fault(task: Task, env: Mapping[str, str] | None) -> ConfigError | None:
    """Why no session could send the prompt to the root model; None if it can, and for a user's agent.

    The rule of a session, which sends nothing over the window. Without ``env``, the provider is not asked to
    count, and only a prompt that is certainly too long is a fault.
    """
    if task.is_agent or not task.model:
        return None
    facts = registry.facts(task.model)
    reply_tokens = profile(facts.profile).max_reply_tokens
    room = facts.window_tokens - reply_tokens - _SYSTEM_TOKENS
    request = Request(task.model, (Message("user", task.prompt),), "", max_output_tokens=reply_tokens)
    if not is_over_window("", request.messages, room):
        return None
    counted = None
    if len(task.prompt) // _HIGH_CHARS_PER_TOKEN <= room:
        if env is None:
            return None
        counted = count_tokens(request, task.base_dir, env)
    if counted is not None and counted <= room:
        return None
    return prompt_size.over_window(
        len(task.prompt), counted, task.model, room, is_question=task.type == "ask"
    )


def _without_price(models: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"budget.usd is set, and there is no known price for {', '.join(models)}",
        why="without a price, the limit in dollars would never be reached",
        hint="give the rate per million tokens: "
        f"prices: {{{models[0]!r}: {{input: 1.0, output: 5.0}}}}, or limit budget.tokens instead",
    )


def with_models(task: Task, env: Mapping[str, str]) -> Task:
    """The task with its models settled: named ones, else what the environment and the cache offer."""
    if task.is_agent and not task.model:
        return task  # the agent brings its own
    root = task.model or registry.default_model(env)
    return replace(task, model=root, sub_model=task.sub_model or registry.default_sub_model(root))


def shown_chars(task: Task, model: str) -> int:
    """How much of a cell's output ``model`` is shown."""
    wanted, most = task.kernel.max_output_chars, _most_shown(model)
    return most if wanted is None else min(wanted, most)


def _most_shown(model: str) -> int:
    if not model:  # an agent's own, of which nothing is known
        return profile("agent").max_output_chars
    return profile(registry.profile_name(model)).output_chars(registry.window_tokens(model))


def count_tokens(request: Request, base_dir: Path, env: Mapping[str, str]) -> int | None:
    """What the provider counts, if it does; asked before there is a run that could pay for anything."""

    async def count() -> int | None:
        client = registry.client_for(request.model, base_dir=base_dir, env=env)
        try:
            return await client.count_tokens(redacted(request)) if isinstance(client, TokenCounter) else None
        except ModelError:
            return None
        finally:
            await client.close()

    # In a thread of its own: the caller may have a loop that is running.
    with ThreadPoolExecutor(1, thread_name_prefix="count") as pool:
        return pool.submit(asyncio.run, count()).result()
