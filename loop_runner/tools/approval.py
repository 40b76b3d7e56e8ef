"""Whether a person allows a call: what a tool with ``approve: first`` or ``always`` waits for.

The seam to whatever reaches a person. Nothing is approved where nobody can be asked.
"""

from __future__ import annotations

from typing import Protocol


class Approver(Protocol):
    """Asks a person."""

    async def ask(self, tool: str, arguments: str) -> str:
        """Wait for the answer: "" when the call may be made, else the reason why not, for the model."""


class Refusing:
    """Stands where nobody can be asked."""

    async def ask(self, tool: str, arguments: str) -> str:
        """Refuse."""
        return "a person must approve it, and nobody can be asked in this run"
