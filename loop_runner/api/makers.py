"""A function for each kind of verifier: it gives an entry of ``verifiers:`` (docs/verifiers.md).

What is not given has the default of the kind. ``beside`` is what may stand beside a kind in a task file:
``name``, ``weight``, ``evidence`` and ``says``. A task checks what it is given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypedDict, Unpack

from loop_runner.api.checked_task import Verifier

Spec = dict[str, Any]


class Beside(TypedDict, total=False):
    """What may stand beside any kind."""

    name: str
    weight: float
    evidence: Literal["full", "message", "none"]
    says: str


def citations(
    min: int | None = None,  # noqa: A002 - as the task file calls it
    *,
    answer_in_quote: bool | None = None,
    derived: bool | None = None,
    none: Literal["rejected", "allowed"] | None = None,
    names: Sequence[str] | None = None,
    quote_mentions: Sequence[str] | None = None,
    within_lines: int | None = None,
    ignore_case: bool | None = None,
    about_question: bool | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """Every quotation is in the inputs, byte for byte."""
    settings = {
        "min": min,
        "answer_in_quote": answer_in_quote,
        "derived": derived,
        "none": none,
        "names": names,
        "quote_mentions": quote_mentions,
        "within_lines": within_lines,
        "ignore_case": ignore_case,
        "about_question": about_question,
    }
    return _spec("citations", settings, beside)


def command(
    run: str | Sequence[str],
    *,
    timeout_s: float | None = None,
    network: bool | None = None,
    writable: bool | None = None,
    pin: Sequence[str] | None = None,
    show: Sequence[str] | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """A program ends with exit code 0. It runs in the sandbox, and its files are pinned."""
    settings = {
        "run": run if isinstance(run, str) else list(run),
        "timeout_s": timeout_s,
        "network": network,
        "writable": writable,
        "pin": pin,
        "show": show,
    }
    return _spec("command", settings, beside)


def python(
    file: str,
    *,
    function: str | None = None,
    timeout_s: float | None = None,
    network: bool | None = None,
    pin: Sequence[str] | None = None,
    show: Sequence[str] | None = None,
    interpreter: str | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """A function in a file accepts the answer. It runs in the sandbox, and the file is pinned."""
    settings = {
        "file": file,
        "function": function,
        "timeout_s": timeout_s,
        "network": network,
        "pin": pin,
        "show": show,
        "interpreter": interpreter,
    }
    return _spec("python", settings, beside)


def schema(
    schema: str | Mapping[str, Any],
    *,
    of: str | None = None,
    timeout_s: float | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """The answer, or the file ``of`` in the workspace, is JSON that fits a schema (a path, or a dict)."""
    return _spec("schema", {"schema": schema, "of": of, "timeout_s": timeout_s}, beside)


def contains(text: str, *, ignore_case: bool | None = None, **beside: Unpack[Beside]) -> Spec:
    """The answer contains a text."""
    return _spec("contains", {"text": text, "ignore_case": ignore_case}, beside)


def regex(
    pattern: str,
    *,
    part: Literal["answer", "first_line", "short_answer"] | None = None,
    ignore_case: bool | None = None,
    timeout_s: float | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """The answer, or a part of it, matches a pattern."""
    settings = {"pattern": pattern, "part": part, "ignore_case": ignore_case, "timeout_s": timeout_s}
    return _spec("regex", settings, beside)


def judge(
    rubric: str,
    *,
    model: str | None = None,
    votes: int | None = None,
    threshold: float | None = None,
    files: Sequence[str] | None = None,
    max_chars: int | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """Models judge the answer by a rubric. Pays for each vote."""
    settings = {
        "rubric": rubric,
        "model": model,
        "votes": votes,
        "threshold": threshold,
        "files": files,
        "max_chars": max_chars,
    }
    return _spec("judge", settings, beside)


def agreement(
    replies: int | None = None,
    *,
    model: str | None = None,
    threshold: float | None = None,
    compare: str | None = None,
    session: str | None = None,
    turns: int | None = None,
    max_chars: int | None = None,
    **beside: Unpack[Beside],
) -> Spec:
    """Sessions that have not seen the answer come to the same one. Pays for each session."""
    settings = {
        "replies": replies,
        "model": model,
        "threshold": threshold,
        "compare": compare,
        "session": session,
        "turns": turns,
        "max_chars": max_chars,
    }
    return _spec("agreement", settings, beside)


def stable(passes: int | None = None, *, compare: str | None = None, **beside: Unpack[Beside]) -> Spec:
    """The answer is the same in several passes. Weak: best beside another kind."""
    return _spec("stable", {"passes": passes, "compare": compare}, beside)


def human(question: str, **beside: Unpack[Beside]) -> Spec:
    """A person approves the answer, from any process: `run.approve()`. The run waits at no cost."""
    return _spec("human", {"question": question}, beside)


def all_of(*verifiers: Verifier, **beside: Unpack[Beside]) -> Spec:
    """All of these accept; they count as one verifier."""
    return {"all": list(verifiers), **beside}


def any_of(*verifiers: Verifier, **beside: Unpack[Beside]) -> Spec:
    """One of these accepts."""
    return {"any": list(verifiers), **beside}


def _spec(kind: str, settings: Mapping[str, Any], beside: Beside) -> Spec:
    given = {key: value for key, value in settings.items() if value is not None}
    return {kind: given or None, **beside}
