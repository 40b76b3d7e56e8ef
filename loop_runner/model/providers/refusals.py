"""What an OpenAI-compatible server means when it refuses: read from codes, or else from words.

Owns the words of vLLM, llama.cpp, Ollama, LM Studio, SGLang, Groq, OpenRouter, Azure, LiteLLM and the
compatible forms of Gemini and Mistral, and the change of a request that each of them asks for. Sends nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

# The official name, and llama.cpp's.
_TOO_LONG = ("context_length_exceeded", "exceed_context_size_error", "string_above_max_length")
_TOO_LONG_WORDS = re.compile(
    r"maximum context length|context[ _](length|window|size)|prompt is too long|input is too long"
    r"|too many (input )?tokens|reduce the length"
    r"|exceeds? the (available|maximum|model'?s?) .{0,30}(context|tokens)"
    r"|input (token count|length) .{0,60}exceeds|longer than the (model'?s )?(maximum|context)"
    r"|number of tokens to keep|tokens \+ .?max_new_tokens|token limit"
    r"|prompt_too_long|larger than the maximum .{0,20}context",
    re.IGNORECASE,
)
# Fields that not every server knows; one that refuses them is asked without.
_OPTIONAL = ("stream", "stream_options", "response_format", "temperature", "tools")
_OTHER_WORDS: Mapping[str, re.Pattern[str]] = {
    "tools": re.compile(r"\btools?\b|tool[_ ]choice|function call|--jinja|auto-tool-choice", re.IGNORECASE),
    "response_format": re.compile(
        r"response_?format|json_schema|json schema|guided|structured output|grammar", re.IGNORECASE
    ),
    "stream": re.compile(r"\bstream(ing)?\b", re.IGNORECASE),
}
_NO_SYSTEM = re.compile(
    r"system (role|message|prompt|instruction)s? .{0,20}(not|n't|un)|developer instruction is not enabled"
    r"|only user and assistant roles|(role|messages).{0,40}system.{0,40}(not|unsupported|invalid)",
    re.IGNORECASE,
)
_ALTERNATE = re.compile(r"roles? must alternate|alternat.{0,40}(user|assistant|role)", re.IGNORECASE)
_LIMITS = (
    re.compile(
        r"(?:supports|support|produce|generate) at most (\d+) (?:completion|output)? ?tokens", re.IGNORECASE
    ),
    re.compile(
        r"max(?:_completion|_output)?_tokens\W.{0,60}?(?:less than or equal to|<=|at most|up to) ?\W?(\d+)",
        re.IGNORECASE,
    ),
    re.compile(
        r"max(?:_completion|_output)?_tokens\W.{0,80}?(?:range|between) \W?\d+ ?(?:,|to|and) ?(\d+)",
        re.IGNORECASE,
    ),
    re.compile(
        r"maximum (?:allowed )?(?:number of )?(?:output|completion) tokens\D{0,20}(\d+)", re.IGNORECASE
    ),
)
_WINDOW = re.compile(r"maximum context length (?:is|of) (\d+)", re.IGNORECASE)
_INPUT = re.compile(
    r"(\d+) (?:input tokens|in the messages|tokens? from the input|in your prompt|of text input)",
    re.IGNORECASE,
)
_LEAST_REPLY_TOKENS = 256  # a shorter reply helps nobody: the prompt is then too long
_CHANGES_AT = (400, 404, 405, 415, 422, 500, 501)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error: its HTTP status, or the one that its body names, and what the body says."""

    status: int
    message: str
    code: str = ""
    type: str = ""

    @property
    def is_too_long(self) -> bool:
        """Whether the prompt is over the model's window."""
        if self.status == 413 or self.code in _TOO_LONG or self.type in _TOO_LONG:
            return True
        is_refused = self.status in (200, 400, 404, 413, 422) or self.status >= 500
        return is_refused and _TOO_LONG_WORDS.search(self.message) is not None


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server turned out to take."""

    unknown: frozenset[str] = frozenset()  # fields that it does not
    limit_name: str = "max_tokens"
    most_output: int | None = None
    has_system: bool = True
    alternates: bool = False  # user and assistant, beginning with a user


def read(status: int, body: str) -> Refusal:
    """The refusal in a reply of ``status``."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if isinstance(data, list) and data:
        data = data[0]
    if not isinstance(data, dict):
        return Refusal(status, body or "nothing")
    return of_json(status, data, body)


def of_json(status: int, data: Mapping[str, Any], body: str = "") -> Refusal:
    """The refusal that ``data``, the JSON of a reply or of a piece of it, describes."""
    error = data.get("error") or data
    fields = cast("dict[str, Any]", error) if isinstance(error, dict) else {"message": str(error)}
    message = fields.get("message") or fields.get("detail") or fields.get("error") or body or fields
    inner = fields.get("metadata")  # OpenRouter keeps what the provider said there
    raw = inner.get("raw") if isinstance(inner, dict) else None
    code = fields.get("code") if fields.get("code") is not None else fields.get("status")
    named = int(str(code)) if re.fullmatch(r"[45]\d\d", str(code)) else status
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False)
    text = f"{text} {raw}" if raw else text
    param = fields.get("param")
    text = f"{text} ({param})" if param and str(param) not in text else text
    return Refusal(named if status == 200 else status, text, str(code or ""), str(fields.get("type") or ""))


def is_error(data: Mapping[str, Any]) -> bool:
    """Whether a reply with status 200, or a piece of it, is an error all the same."""
    return bool(data.get("error")) or data.get("object") == "error" or data.get("type") == "error"


def changed(dialect: Dialect, refusal: Refusal, body: Mapping[str, Any]) -> Dialect | None:
    """How to ask instead after ``refusal`` of the request ``body``; None when nothing else can be tried."""
    if refusal.status not in _CHANGES_AT:
        return None
    text = refusal.message
    dialect_now = _other_limit(dialect, refusal, body) or _other_messages(dialect, text)
    if dialect_now is not None or refusal.is_too_long:
        return dialect_now
    without = frozenset(name for name in _OPTIONAL if name in body and _names(name, text))
    if "stream" in without and "stream_options" in text:
        without -= {"stream"}
    if "stream" in without:
        without |= {"stream_options"}
    return replace(dialect, unknown=dialect.unknown | without) if without else None


def _other_limit(dialect: Dialect, refusal: Refusal, body: Mapping[str, Any]) -> Dialect | None:
    text, name = refusal.message, dialect.limit_name
    other = "max_completion_tokens" if name == "max_tokens" else "max_tokens"
    requested = int(body.get(name, 0))
    if (most := _most_output(text)) is not None and 0 < most < requested:
        return replace(dialect, most_output=most)
    refuses = re.search(
        r"unsupported|not supported|not permitted|unrecognized|unknown|extra|use '?" + other,
        text,
        re.IGNORECASE,
    )
    if refuses and re.search(rf"\b{name}\b", text) and "too large" not in text:
        return (
            replace(dialect, limit_name=other)
            if dialect.limit_name == "max_tokens" or other not in text
            else None
        )
    return None


def room_tokens(refusal: Refusal) -> int | None:
    """What the window leaves for the reply to this one prompt, if the server says so and it is enough."""
    window, prompt = _WINDOW.search(refusal.message), _INPUT.search(refusal.message)
    if window is None or prompt is None:
        return None
    room = int(window[1]) - int(prompt[1])
    return room if room >= _LEAST_REPLY_TOKENS else None


def _most_output(text: str) -> int | None:
    """How many tokens a reply may have, as ``text`` says it."""
    match = next(filter(None, (pattern.search(text) for pattern in _LIMITS)), None)
    return int(match[1]) if match else None


def _other_messages(dialect: Dialect, text: str) -> Dialect | None:
    if dialect.has_system and _NO_SYSTEM.search(text):
        return replace(dialect, has_system=False)
    if not dialect.alternates and _ALTERNATE.search(text):
        return replace(dialect, has_system=False, alternates=True)
    return None


def _names(field: str, text: str) -> bool:
    pattern = _OTHER_WORDS.get(field)
    return (
        re.search(rf"\b{field}\b", text) is not None if pattern is None else pattern.search(text) is not None
    )


def asked_pause_s(text: str) -> float | None:
    """Seconds that the words of a refusal ask to wait: ``try again in 7.66s``, ``1m2.5s``, ``200ms``."""
    match = re.search(
        r"(?:try again|retry) in (?:(\d+)m(?!s))? ?(?:(\d+(?:\.\d+)?) ?(ms|s))?", text, re.IGNORECASE
    )
    if match is None or not (match[1] or match[2]):
        return None
    seconds = float(match[2] or 0) / (1000 if (match[3] or "").lower() == "ms" else 1)
    return 60.0 * int(match[1] or 0) + seconds
