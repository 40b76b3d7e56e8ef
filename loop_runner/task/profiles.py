"""How much text a kind of model is given: one profile for large models, one for small local ones.

Plain data. The names are those of the prompt templates (``system.local.md.j2`` belongs to ``local``).
"""

from __future__ import annotations

from dataclasses import dataclass

LARGE_WINDOW_TOKENS = 100_000


@dataclass(frozen=True, slots=True)
class Profile:
    """Sizes in characters unless the name says otherwise."""

    name: str
    suffix: str  # of the templates that differ from the standard ones
    max_output_chars: int  # of one cell, shown to the root model
    state_chars: int  # of the state that a new pass is given, if the model's window is not known
    sub_prompt_chars: int  # what the system prompt advises for one sub-call
    max_reply_tokens: int
    has_example: bool = False  # a small model follows one worked turn better than any description
    large_output_chars: int = 0  # in place of ``max_output_chars`` for a large window; 0: as always
    state_share: float = 0.0  # of the window, for the state; 0: ``state_chars``, whatever the window

    def output_chars(self, window_tokens: int) -> int:
        """What of one cell is shown to a model with this window."""
        return (window_tokens >= LARGE_WINDOW_TOKENS and self.large_output_chars) or self.max_output_chars

    def state_room(self, window_tokens: int) -> int:
        """Characters for the state of a new pass, for a model with this window (0: not known)."""
        return int(window_tokens * _CHARS_PER_TOKEN * self.state_share) or self.state_chars


_CHARS_PER_TOKEN = 3  # a low estimate
STANDARD = Profile("standard", "", 8000, 24_000, 200_000, 8192, large_output_chars=20_000, state_share=0.1)
LOCAL = Profile("local", ".local", 3000, 2000, 6000, 512, has_example=True)

AGENT = Profile("agent", ".agent", 8000, 24_000, 200_000, 8192)  # a user program, with its own prompts


def profile(name: str) -> Profile:
    """The profile called ``name`` ("standard", "local" or "agent")."""
    return {known.name: known for known in (STANDARD, LOCAL, AGENT)}[name]
