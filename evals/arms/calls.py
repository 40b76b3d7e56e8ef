"""The two arms that are one model call: the texts cut to the window, or passages that BM25 ranks high."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

from evals.arms import bm25
from evals.arms.arm import Attempt, Setup
from evals.endpoint import MAX_OUTPUT_TOKENS, EndpointError, TooLongError
from evals.questions import INSTRUCTION, Question

_CHARS_PER_TOKEN = 3.2
_PROMPT_TOKENS = 300  # for the question and what is around the texts
_RETRIEVED_CHARS = 6000


@dataclass(frozen=True, slots=True)
class Direct:
    """One call with as much of the texts as the window holds, from their beginning."""

    setup: Setup

    def missing(self) -> str:
        return "" if self.setup.endpoint else "no endpoint for the model"

    def version(self) -> str:
        return f"one call, Python {platform.python_version()}"

    def answer(self, question: Question, folder: Path) -> Attempt:
        assert self.setup.endpoint
        joined = "\n".join(f"=== {name} ===\n{text}" for name, text in question.texts.items())
        room = int((self.setup.endpoint.window - MAX_OUTPUT_TOKENS - _PROMPT_TOKENS) * _CHARS_PER_TOKEN)
        while room > 1000:
            attempt = call(self.setup, joined[:room], question.text)
            if attempt:
                return attempt
            room = room * 4 // 5
        return Attempt("", error="no cut of the texts fits into the window")


@dataclass(frozen=True, slots=True)
class Retrieval:
    """One call with the passages that BM25 ranks highest for the question."""

    setup: Setup

    def missing(self) -> str:
        return "" if self.setup.endpoint else "no endpoint for the model"

    def version(self) -> str:
        return f"BM25 and one call, Python {platform.python_version()}"

    def answer(self, question: Question, folder: Path) -> Attempt:
        pieces = bm25.best(question.text, list(bm25.passages(question.texts)), _RETRIEVED_CHARS)
        shown = "\n".join(f"=== {piece.name}, line {piece.line} ===\n{piece.text}" for piece in pieces)
        return call(self.setup, shown, question.text) or Attempt(
            "", error="the passages do not fit into the window"
        )


def call(setup: Setup, texts: str, question: str) -> Attempt | None:
    """One call about ``texts``; None when they are too long for the window."""
    assert setup.endpoint
    prompt = f"Texts:\n{texts}\n\nQuestion: {question}\n\n{INSTRUCTION}"
    try:
        reply = setup.endpoint.complete(prompt, setup.limit_s)
    except TooLongError:
        return None
    except EndpointError as error:
        return Attempt("", error=str(error))
    return Attempt(reply.text, None, reply.tokens_in, reply.tokens_out)
