"""What all conversations in code share: the code of a reply, what is told after it, a full window.

Owns no state. Relies on ``reply_reader`` and ``prompts``; a run's own session and child sessions use it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from loop_runner import reply_reader
from loop_runner.prompts import OURS, Templates
from loop_runner.records import CellResult, Message, Reply

MAX_WITHOUT_CODE = 3  # replies in a row; more of the same conversation would not help
_FENCED = re.compile(r"^(?P<ticks>`{3,})\n(?P<inside>.*)^(?P=ticks)$", re.DOTALL | re.MULTILINE)
_CHARS_PER_TOKEN = 3  # a low estimate for code, so that the window is never overrun


def code_of(reply: Reply) -> str | None:
    """The code to run; None when there is none, or when the reply was cut in the middle of it."""
    return None if reply.stop_reason == "max_tokens" else reply_reader.read(reply.text).code


def observe(
    reply: Reply, result: CellResult | None, turn: int, turns: int, templates: Templates = OURS
) -> str:
    """What the model is told after a turn. ``result`` None: the reply held no code."""
    notices = [] if result is None else list(result.notices)
    if reply.stop_reason in ("refusal", "model_context_window_exceeded"):
        notices.append(f"the model stopped with {reply.stop_reason}")
    return templates.render(
        "observation",
        was_cut=reply.stop_reason == "max_tokens",
        notices=notices,
        output=None if result is None else result.output,
        turn=turn,
        turns=turns,
    )


def printed(observation: str) -> str:
    """What a cell printed, out of what the model was shown after it; all of that if nothing is in a fence."""
    match = _FENCED.search(observation)
    return match["inside"] if match else observation


def is_over_window(system: str, messages: Sequence[Message], room_tokens: int) -> bool:
    """Whether the conversation may be longer than ``room_tokens``."""
    chars = len(system) + sum(len(message.text) for message in messages)
    return chars // _CHARS_PER_TOKEN > room_tokens
