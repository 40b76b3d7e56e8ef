"""Refuses a prompt that no request could hold, before anything is sent.

Owns the limit and the words. ``config`` refuses what no model takes while it reads a task; ``runs`` knows the
window of the model.
"""

from __future__ import annotations

from loop_runner.errors import ConfigError

# More than the largest window of any model holds (a million tokens), so nothing larger is even parsed.
MAX_BYTES = 8 * 1024 * 1024
_WHY = "every pass begins with the whole prompt, so no request could be answered"
_HINT = (
    "put the long text into a file and name it under `inputs:`, which the model reads piece by piece;"
    " `prompt` only says what to do with it"
)
_ASK_HINT = "put the long text into a file and name it after the question: loop-runner ask 'QUESTION' FILE"


def refuse_oversize(size: int, what: str, *, is_question: bool = False) -> None:
    """Raise ``ConfigError`` if ``what`` (a prompt, or the file of one) has more than ``MAX_BYTES``."""
    if size > MAX_BYTES:
        raise _too_long(
            f"{what} has {size:,} bytes, and at most {MAX_BYTES:,} are taken", is_question=is_question
        )


def over_window(
    chars: int, counted: int | None, model: str, room_tokens: int, *, is_question: bool
) -> ConfigError:
    """The error for a prompt over the window; ``counted``: its tokens, where the provider counted them."""
    size = "more tokens than fit" if counted is None else f"{counted:,} tokens"
    return _too_long(
        f"the prompt has {chars:,} characters, {size}: {model} takes about {max(room_tokens, 0):,} tokens",
        is_question=is_question,
    )


def _too_long(message: str, *, is_question: bool) -> ConfigError:
    return ConfigError(message, why=_WHY, hint=_ASK_HINT if is_question else _HINT)
