"""What an OpenAI-compatible server means when it refuses: by its codes, and by its words where it has none.

Servers agree on the form of a completion and on little else. Each pattern below is a sentence that a server
is documented or known to answer with; ``tests/model/misbehaviours.py`` has them all. Pure functions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from loop_runner.model.client import asked_pause_s
from loop_runner.text import one_line

_SHOWN_CHARS = 300
# A reply shorter than this helps nobody: the prompt is then too long.
_LEAST_REPLY_TOKENS = 256
# Waiting does not fill an account, although both come as a 429.
_NEVER_RETRIED = ("insufficient_quota", "billing_hard_limit_reached")

# The official name, llama.cpp's, and what other servers say instead of a code.
_TOO_LONG_CODES = ("context_length_exceeded", "exceed_context_size_error")
_TOO_LONG = re.compile(
    r"maximum context length|context[ _-]?(length|window|size)\w*[ _](is )?exceed"
    r"|exceeds? the (available |model's )?(maximum )?context|contextwindowexceeded"
    r"|exceeds? (the )?(model's )?maximum (context|input|number of tokens)|greater than the context length"
    r"|longer than the model's context|reduce the length of the (messages|prompt|input)"
    r"|prompt (is )?too long|input is too long|too large for model with|(prompt|input) tokens? limit"
    r"|input token count.{0,40}exceeds|tokens \+ .?max_new_tokens.? must be|request too large for model",
    re.IGNORECASE | re.DOTALL,
)
_WINDOW = re.compile(r"maximum context length (?:is|of) (\d+)", re.IGNORECASE)
_PROMPT = re.compile(r"(\d+) (?:in|from) the (?:messages|prompt|input)|has (\d+) input tokens", re.IGNORECASE)

_FILTERED = ("content_filter", "responsibleaipolicyviolation", "content_policy_violation")

_MOST_TOKENS = re.compile(
    r"(?:max_(?:completion_)?tokens\W.{0,80}?"
    r"(?:supports at most|less than or equal to|at most|range of valid .{0,40}\[1,|must be <=)\W*(\d+))",
    re.IGNORECASE | re.DOTALL,
)
_PAUSE = re.compile(r"(?:try again|retry) in (?:(\d+)m(?!s))? ?(?:(\d+(?:\.\d+)?)(ms|s))?", re.IGNORECASE)
_NO_SYSTEM = re.compile(
    r"system (role|message|prompt|instruction)s?\W.{0,60}(not |un)(supported|allowed|enabled|available)"
    r"|(not |n't )(support|allow)\w* .{0,30}system (role|message|prompt|instruction)"
    r"|(unknown|invalid|unexpected|unsupported).{0,20} role\W{0,5}system",
    re.IGNORECASE | re.DOTALL,
)
_ALTERNATE = re.compile(r"roles? must alternate|alternating? (between )?(user|roles)", re.IGNORECASE)
_NO_TOOLS = re.compile(
    r"not support(ed)? .{0,30}(tool|function)|tools?\W.{0,30}(not |un)supported|tool choice requires"
    r"|(tool|function)[ -]?(use|calling|calls?) (is |are )?not (supported|enabled)",
    re.IGNORECASE | re.DOTALL,
)
# Fields that not every server knows, and the words that mean them; one that refuses a field is asked without.
_OPTIONAL = {
    "stream_options": re.compile(r"stream_options"),
    "stream": re.compile(r"\bstream(ing)?\b(?!_)", re.IGNORECASE),
    "response_format": re.compile(
        r"response_format|json_schema|json schema|grammar|structured output", re.IGNORECASE
    ),
    "temperature": re.compile(r"\btemperature\b", re.IGNORECASE),
}
_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error of the server, wherever it stood. ``status`` is that of HTTP, or the code within a 200."""

    status: int
    code: str
    message: str  # one line, as it is shown
    words: str  # all that the server wrote
    pause_s: float | None = None

    @property
    def is_throttle(self) -> bool:
        """Everybody is asked to slow down."""
        return self.status in (429, 503, 529)

    @property
    def is_worth_a_retry(self) -> bool:
        """The same request may succeed later."""
        if self.status == 429:
            return self.code not in _NEVER_RETRIED
        return self.status in (408, 409, 425) or self.status >= 500

    @property
    def is_too_long(self) -> bool:
        """The prompt does not fit into the model's window (or into what the server takes at once)."""
        if self.status == 413 or self.code in _TOO_LONG_CODES:
            return True
        return self.status in (400, 422, 500) and _TOO_LONG.search(self.words) is not None

    @property
    def is_filtered(self) -> bool:
        """A filter of the provider did not let the prompt through."""
        return self.status in (400, 403, 422) and self.code.lower() in _FILTERED

    @property
    def room_tokens(self) -> int | None:
        """What the window leaves for a reply, where the server says so and it is enough for one."""
        window, prompt = _WINDOW.search(self.words), _PROMPT.search(self.words)
        if window is None or prompt is None:
            return None
        room = int(window[1]) - int(prompt[1] or prompt[2])
        return room if room >= _LEAST_REPLY_TOKENS else None


def of_response(status: int, body: bytes, headers: Mapping[str, str]) -> Refusal:
    """The refusal that a response with another status than 200 is."""
    text = body.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = text
    found = of_error(data, status)
    pause = asked_pause_s(headers)
    return found if pause is None else replace(found, pause_s=pause)


def of_error(data: Any, status: int = 0) -> Refusal:
    """The refusal in ``data``, the error of a body or the body itself.

    Its own code counts as the status where HTTP said 200 (``status`` 0); without one it may pass.
    """
    if isinstance(data, list) and data:  # Gemini's
        data = data[0]
    error = data.get("error", data) if isinstance(data, dict) else data
    if not isinstance(error, dict):
        error = {"message": error if isinstance(error, str) else json.dumps(error)}
    fields = cast("dict[str, Any]", error)
    shown = fields.get("message") or fields.get("detail") or fields.get("msg") or fields.get("error") or error
    words = json.dumps(data, ensure_ascii=False) if not isinstance(data, str) else data
    code = fields.get("code") if isinstance(fields.get("code"), str) else fields.get("type")
    return Refusal(
        status or _status_in(fields),
        str(code or ""),
        one_line(shown if isinstance(shown, str) else json.dumps(shown), _SHOWN_CHARS) or "nothing",
        words,
        _pause_in(words),
    )


def _status_in(error: Mapping[str, Any]) -> int:
    for name in ("code", "status", "status_code"):
        found = str(error.get(name) or "")
        if found.isascii() and found.isdigit() and 400 <= int(found[:4]) <= 599:
            return int(found)
    return 500


def _pause_in(words: str) -> float | None:
    """Seconds, where the server names them in a sentence (Groq) or in the details of the error (Gemini)."""
    if delay := re.search(r'"retryDelay":\s*"(\d+(?:\.\d+)?)s"', words):
        return float(delay[1])
    found = _PAUSE.search(words)
    if found is None or not (found[1] or found[2]):
        return None
    return 60.0 * int(found[1] or 0) + float(found[2] or 0) / (1000 if found[3] == "ms" else 1)


# ── what a server does not know ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Dialect:
    """What was learned about one server: how requests are written for it."""

    limit_name: str = "max_tokens"
    left_out: frozenset[str] = frozenset()  # fields that it does not know
    most_tokens: int | None = None  # that it lets a request ask for
    knows_system: bool = True
    must_alternate: bool = False  # user and assistant, beginning with user
    knows_tools: bool = True


def learned(dialect: Dialect, refusal: Refusal, sent: Mapping[str, Any]) -> Dialect:
    """``dialect`` with what the refusal of the body ``sent`` teaches; the same if that is nothing."""
    if refusal.status not in (400, 404, 422, 500, 501):
        return dialect
    words = refusal.words
    if _ALTERNATE.search(words):
        dialect = replace(dialect, must_alternate=True)
    if _NO_SYSTEM.search(words):
        dialect = replace(dialect, knows_system=False)
    if "tools" in sent and _NO_TOOLS.search(words):
        return replace(dialect, knows_tools=False)
    if refusal.status in (404, 500):
        return dialect  # no complaint about a field
    if most := _MOST_TOKENS.search(words):
        return replace(dialect, most_tokens=int(most[1]))
    limit = next(name for name in _LIMITS if name in sent)
    other = _LIMITS[limit == _LIMITS[0]]
    if re.search(rf"\b{limit}\b", words) and not dialect.most_tokens:
        return replace(dialect, limit_name=other)
    refused = {name for name, meant in _OPTIONAL.items() if name in sent and meant.search(words)}
    if "stream" in refused:
        refused.add("stream_options")
    return replace(dialect, left_out=dialect.left_out | refused)
