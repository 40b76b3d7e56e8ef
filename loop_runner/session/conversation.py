"""What all conversations in code share: the code of a reply, what is told after it, a full window.

Owns no state. Relies on ``reply_reader`` and ``prompts``; a run's own session and child sessions use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from loop_runner.records import SUBCALL_KINDS, Call, CellResult, Message, Reply
from loop_runner.session import missing_code, reply_reader
from loop_runner.task.prompts import OURS, Templates

MAX_WITHOUT_CODE = 3  # replies in a row; more of the same conversation would not help
_NEARLY_FULL = 0.8  # of the window
_FENCED = re.compile(r"^(?P<ticks>`{3,})\n(?P<inside>.*)^(?P=ticks)$", re.DOTALL | re.MULTILINE)
_CHARS_PER_TOKEN = 3  # a low estimate for code, so that the window is never overrun


def code_of(reply: Reply) -> str | None:
    """The code to run; None when there is none, or when the reply was cut in the middle of it."""
    return None if reply.stop_reason == "max_tokens" else reply_reader.read(reply.text).code


def observe(
    reply: Reply,
    result: CellResult | None,
    turn: int,
    turns: int,
    templates: Templates = OURS,
    *,
    subcalls: str = "",
    warnings: Sequence[str] = (),
    is_child: bool = False,
) -> str:
    """What the model is told after a turn. ``result`` None: the reply held no code.

    ``subcalls``: a line about those of the turn; ``warnings``: limits that will soon end the pass,
    or the child session.
    """
    notices = [] if result is None else list(result.notices)
    if reply.stop_reason in ("refusal", "model_context_window_exceeded"):
        notices.append(f"the model stopped with {reply.stop_reason}")
    return templates.render(
        "observation",
        was_cut=reply.stop_reason == "max_tokens",
        missing="" if result is not None else missing_code.describe(reply.text),
        subcalls=subcalls,
        warnings=warnings,
        is_child=is_child,
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


def about_subcalls(calls: Iterable[Call]) -> str:
    """One line about the sub-calls among ``calls``; "" when there are none.

    From what the journal keeps alone, so that a turn that is run again from it says the same. It says no
    seconds: a run that was killed and one that was not would differ in them.
    """
    made = [call for call in calls if call.kind in SUBCALL_KINDS and not call.is_lost]
    if not made:
        return ""
    tokens_in = sum(call.reply.usage.total_tokens - call.reply.usage.output_tokens for call in made)
    tokens_out = sum(call.reply.usage.output_tokens for call in made)
    again = sum(call.tries - 1 for call in made)
    parts = [
        f"{len(made):,}" + (f" ({again:,} sent again)" if again else ""),
        f"{tokens_in:,} tokens in, {tokens_out:,} out",
    ]
    return f"Sub-calls of this turn: {', '.join(parts)}."


def window_warning(system: str, messages: Sequence[Message], room_tokens: int) -> list[str]:
    """Says that the conversation will soon fill the window, when it will."""
    if not is_over_window(system, messages, int(room_tokens * _NEARLY_FULL)):
        return []
    return [f"this conversation nearly fills your window of {room_tokens:,} tokens"]
