"""``RLM``: questions about a context, in the words of ``rlms`` and of ``dspy.RLM``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from loop_runner.api import checked_task, running
from loop_runner.api.checked_task import Verifier
from loop_runner.api.result import Result
from loop_runner.errors import ConfigError

_WHOLE = "Do what the text in `context` asks for."


@dataclass(frozen=True, slots=True, kw_only=True)
class RLM:
    """Settings that several questions share. Each question is a run with a folder of its own.

    ``max_iterations`` are turns of a pass, ``max_budget`` US dollars, ``max_timeout`` seconds, for each
    question. Without ``verify``, an answer must quote the lines of the context that prove it.
    """

    model: str | None = None
    sub_model: str | None = None
    verify: Sequence[Verifier] | None = None
    max_iterations: int = 20
    max_depth: int = 1
    max_passes: int = 5
    max_budget: float | None = None
    max_timeout: float | None = None
    max_tokens: int | None = None
    output_type: Any = None
    on_event: Callable[[Any], object] | None = None
    keys: dict[str, Any] = field(default_factory=dict)

    def completion(
        self,
        prompt: Any = None,
        root_prompt: str | None = None,
        *,
        query: str | None = None,
        context: Any = None,
    ) -> Result:
        """Answer ``root_prompt`` (or ``query``) about ``prompt`` (or ``context``), which is the data.

        ``result.response`` is the answer. Without a question, the data is read as one.
        """
        return running.ask(**self._question_of(prompt, root_prompt, query, context))

    async def acompletion(
        self,
        prompt: Any = None,
        root_prompt: str | None = None,
        *,
        query: str | None = None,
        context: Any = None,
    ) -> Result:
        """As ``completion``, for an event loop."""
        return await running.aask(**self._question_of(prompt, root_prompt, query, context))

    def __call__(self, *, context: Any, query: str) -> Result:
        """As ``completion``, in the words of ``dspy.RLM("context, query -> answer")``."""
        return self.completion(query=query, context=context)

    def _question_of(
        self, prompt: Any, root_prompt: str | None, query: str | None, context: Any
    ) -> dict[str, Any]:
        for first, second in (
            (("prompt", prompt), ("context", context)),
            (("root_prompt", root_prompt), ("query", query)),
        ):
            if first[1] is not None and second[1] is not None:
                raise ConfigError(
                    f"both `{first[0]}` and `{second[0]}` are given",
                    why="they are two words for one thing, and one of them would be ignored",
                    hint=f"leave out `{second[0]}`",
                )
        about = prompt if context is None else context
        if about is None:
            raise ConfigError(
                "there is nothing to answer about",
                why="`prompt` (or `context`) is the data, and `root_prompt` (or `query`) the question",
                hint="rlm.completion(text, root_prompt='What is the total?')",
            )
        limits = {
            "passes": self.max_passes,
            "turns": self.max_iterations,
            "depth": self.max_depth,
            "usd": self.max_budget,
            "wall": self.max_timeout,
            "tokens": self.max_tokens,
        }
        return {
            "question": query or root_prompt or _WHOLE,
            "inputs": [
                about if isinstance(about, checked_task.Data) else checked_task.data(about, _name(about))
            ],
            "model": self.model,
            "sub_model": self.sub_model,
            "verify": self.verify,
            "budget": {key: value for key, value in limits.items() if value is not None},
            "output_type": self.output_type,
            "on_event": self.on_event,
            **self.keys,
        }


def _name(about: Any) -> str:
    return "context.txt" if isinstance(about, str | bytes) else ""
