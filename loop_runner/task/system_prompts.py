"""Renders what a model or an agent is told first, once for a run: which values each template is given.

The caller gathers the values; nothing here knows about models, helpers or inputs beyond their texts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from loop_runner.task.profiles import Profile
from loop_runner.task.prompts import Templates
from loop_runner.task.task import History

_ATTEMPTS = 3  # ways of working that the examples show, in turn


@dataclass(frozen=True, slots=True)
class Session:
    """How the sessions of a run are held, as far as the system prompt tells it."""

    limits: str  # of the budget, in words
    history: History
    has_tool: bool  # code comes as a tool call, not in a fence
    has_web: bool = False  # the task has tools that search or fetch


def root(
    templates: Templates,
    sizes: Profile,
    session: Session,
    *,
    inputs: str,
    python: str,
    helpers: Sequence[str],
    requirements: Iterable[str],
    max_output_chars: int,
) -> str:
    """What the root model is told. ``inputs``, ``python``: what there is; ``helpers``: a line for each."""
    return templates.render(
        f"system{sizes.suffix}",
        inputs=inputs,
        max_output_chars=max_output_chars,
        sub_prompt_chars=_characters(sizes),
        requirements=_listed(requirements),
        limits=session.limits,
        python=python,
        history=session.history,
        has_tool=session.has_tool,
        has_web=session.has_web,
        helpers=helpers,
    )


def child(templates: Templates, sizes: Profile, *, helpers: Sequence[str], max_output_chars: int) -> str:
    """What every child session is told: the same for all of them, so that a provider can cache it."""
    return templates.render(
        "system_child",
        helpers=helpers,
        max_output_chars=max_output_chars,
        sub_prompt_chars=_characters(sizes),
    )


def direct(templates: Templates, requirements: Iterable[str]) -> str:
    """The system prompt of a pass that takes the direct path."""
    return templates.render("system.direct", requirements=_listed(requirements))


def agent(templates: Templates, place: str, requirements: Iterable[str]) -> str:
    """What an agent is told of the loop, behind the prompt in every pass; ``place``: where it works."""
    return templates.render("system.agent", place=place, requirements=_listed(requirements))


def example(templates: Templates, sizes: Profile) -> tuple[str, tuple[str, ...]] | None:
    """The worked turn of a profile that has one: a question, and the replies to it, one for each attempt.

    A small model does what the example does, so an attempt after a rejection differs only if its example
    does.
    """
    if not sizes.has_example:
        return None
    question, reply = (f"example_{part}{sizes.suffix}" for part in ("question", "reply"))
    replies = [templates.render(reply, attempt=number) for number in range(1, _ATTEMPTS + 1)]
    return templates.render(question), tuple(dict.fromkeys(replies))


def _characters(sizes: Profile) -> str:
    return f"{sizes.sub_prompt_chars:,}"


def _listed(requirements: Iterable[str]) -> str:
    return "\n".join(f"- {requirement}" for requirement in requirements)
