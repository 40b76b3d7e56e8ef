"""Whether a person allows a call: what a tool with ``approve: first`` or ``always`` waits for.

The question is asked as that of the `human` gate is: it shows the tool and its arguments, ``loop-runner
approve`` and ``reject`` answer it from any process, and a rejection's reason is shown to the model.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Protocol

from loop_runner.text import one_line
from loop_runner.workspace.control_files import Question

_SHOWN_CHARS = 600


class Approver(Protocol):
    """Asks a person."""

    async def ask(self, tool: str, arguments: str) -> str:
        """Wait for the answer: "" when the call may be made, else the reason why not, for the model."""


class Decision(Protocol):
    """What a person decided; see ``verify.PersonsDecision``."""

    @property
    def is_approved(self) -> bool:
        """Whether the call may be made."""

    @property
    def text(self) -> str:
        """The reason."""


class Refusing:
    """Stands where nobody can be asked."""

    async def ask(self, tool: str, arguments: str) -> str:
        """Refuse."""
        return "a person must approve it, and nobody can be asked here"


class AskPerson:
    """Asks the run's operator, one question after another."""

    def __init__(self, ask: Callable[[Question], Decision | None]) -> None:
        """``ask`` waits in a thread; ``StoppedError`` when the run is to stop meanwhile."""
        self._ask = ask
        self._turn = asyncio.Lock()

    async def ask(self, tool: str, arguments: str) -> str:
        """See ``Approver``."""
        digest = hashlib.sha256(f"{tool}\0{arguments}".encode("utf-8", "surrogatepass")).hexdigest()
        text = f"May the model call {tool}({one_line(arguments, _SHOWN_CHARS)})?"
        async with self._turn:
            decision = await asyncio.to_thread(self._ask, Question(digest[:16], f"tool {tool}", text, digest))
        if decision is None:
            return "it waits for a person's decision"
        return "" if decision.is_approved else decision.text or "no reason was given"
