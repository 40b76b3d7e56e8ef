"""What one recording shows: the properties that every run must have, and its tokens."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from tests.workbench.playing import Exchange, Recording

_CHARS_PER_TOKEN = 4  # no provider counts here; a guess is enough to compare two versions


@dataclass(frozen=True, slots=True)
class Figures:
    """Tokens of one task, at four characters each."""

    system: int
    first: int
    reentry: int  # the longest first message of a later pass; 0 without one
    sent: int  # the sum over all requests of the root model: system prompt and all messages
    turns: int  # replies of the root model
    passes: int
    sub_calls: int
    sub_tokens: int


def figures(recording: Recording) -> Figures:
    """Count the tokens of a recording."""
    roots = [item.request for item in recording.roots]
    subs = [item.request for item in recording.exchanges if item.kind == "sub" and item.reply is not None]
    later = [group[0].request.first_user_text for group in recording.passes[1:]]
    return Figures(
        system=_tokens(roots[0].system),
        first=_tokens(roots[0].first_user_text),
        reentry=max(map(_tokens, later), default=0),
        sent=sum(_tokens(item.system) + sum(_tokens(text) for _, text in item.messages) for item in roots),
        turns=len(roots),
        passes=len(recording.passes),
        sub_calls=len(subs),
        sub_tokens=sum(_tokens(text) for item in subs for _, text in item.messages),
    )


def _tokens(text: str) -> int:
    return -(-len(text) // _CHARS_PER_TOKEN)


# ── properties ──────────────────────────────────────────────────────────────────────────────────────


def faults(recording: Recording) -> list[str]:
    """What is wrong with the requests of a recording, a line each; empty when nothing is."""
    return [*_unstable_within_passes(recording), *_unstable_across_passes(recording), *_paid_twice(recording)]


def _unstable_within_passes(recording: Recording) -> Iterator[str]:
    """Each request of a pass must begin with the bytes of the one before it, and add two messages."""
    for number, group in enumerate(recording.passes, 1):
        for turn, (before, after) in enumerate(pairwise(group), 2):
            if not _messages(after).startswith(_messages(before)[:-1]):
                yield f"pass {number}, turn {turn}: the request does not begin with the one before it"
            added = len(after.request.messages) - len(before.request.messages)
            if added != 2 or after.request.messages[-2] != ("assistant", before.reply):
                yield f"pass {number}, turn {turn}: it does not continue the reply before it"


def _unstable_across_passes(recording: Recording) -> Iterator[str]:
    """System prompt and task must be the same in every request, so that a provider's cache keeps them."""
    roots = [root.request for root in recording.roots]
    if len({root.system for root in roots}) != 1:
        yield "the system prompt changed"
    if len({_first_block(root.body) for root in roots}) != 1:
        yield "the first block of the first message changed"
    first = roots[0].first_user_text
    for number, group in enumerate(recording.passes, 1):
        if not group[0].request.first_user_text.startswith(first.rstrip()):
            yield f"pass {number} does not begin with the first message of the run"


def _paid_twice(recording: Recording) -> Iterator[str]:
    """No request may be answered twice, whatever was killed in between."""
    answered = Counter(exchange.request.raw for exchange in recording.exchanges if exchange.reply is not None)
    twice = sum(count - 1 for count in answered.values())
    if twice:
        yield f"{twice} replies were paid for twice"


def _first_block(body: Mapping[str, Any]) -> str:
    """The block that a provider's cache keeps across passes; chat completions have no blocks."""
    content = body["messages"][0]["content"]
    return "" if isinstance(content, str) else json.dumps(content[0])


def _messages(exchange: Exchange) -> bytes:
    """The list of messages as it was sent."""
    raw = exchange.request.raw
    sent = json.dumps(exchange.request.body["messages"], ensure_ascii=False, separators=(",", ":")).encode()
    assert sent in raw, "the request is not written as compact JSON"
    return sent


# ── the table ───────────────────────────────────────────────────────────────────────────────────────

_COLUMNS = {
    "system": "system prompt",
    "first": "first message",
    "reentry": "re-entry",
    "sent": "sent in all",
    "turns": "turns",
    "passes": "passes",
    "sub_calls": "sub-calls",
    "sub_tokens": "tokens of sub-calls",
}


def table(now: Mapping[str, Figures], before: Mapping[str, Mapping[str, Any]]) -> str:
    """A Markdown table with a line for each task; cells are ``before → now`` where both are known."""
    lines = [["task", *_COLUMNS.values()], ["---"] * (len(_COLUMNS) + 1)]
    for name, result in now.items():
        lines.append([name, *_cells(asdict(result), before.get(name, {}))])
    sums = {key: sum(asdict(result)[key] for result in now.values()) for key in _COLUMNS}
    earlier = {key: sum(result[key] for result in before.values()) for key in _COLUMNS if before}
    lines.append(["all", *_cells(sums, earlier)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(now: Mapping[str, int], before: Mapping[str, int]) -> Sequence[str]:
    return [f"{before[key]:,} → {now[key]:,}" if key in before else f"{now[key]:,}" for key in _COLUMNS]
