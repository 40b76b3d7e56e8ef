"""What requests have used so far, added up: the numbers that limits are compared with."""

from __future__ import annotations

from collections.abc import Sequence

from loop_runner.records import Spend, Usage

_USAGE_NAMES = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
IN_AND_OUT = ("tokens_in", "tokens_out")


class Sums:
    """Running sums, changed in place: there can be ten thousand requests in a second."""

    __slots__ = (
        *("known_usd", "requests", "subcalls", "tokens_in", "tokens_out", "tool_calls", "usage", "usd"),
    )

    def __init__(self, spent: Spend = Spend()) -> None:  # noqa: B008 - frozen
        usage = spent.usage
        self.usage = [getattr(usage, name) for name in _USAGE_NAMES]
        self.tokens_in = sum(self.usage) - usage.output_tokens
        self.tokens_out = usage.output_tokens
        self.usd = spent.usd
        self.known_usd = spent.usd or spent.known_usd or 0.0  # what limits are compared with
        self.requests = spent.requests
        self.subcalls = spent.subcalls
        self.tool_calls = spent.tool_calls

    def add(self, usage: Usage, usd: float | None, subcalls: int, sign: int = 1) -> None:
        """Add a request, or with ``sign`` -1 take it away. A tool call is none: it has a count of its own."""
        sums = self.usage
        sums[0] += sign * usage.input_tokens
        sums[1] += sign * usage.output_tokens
        sums[2] += sign * usage.cache_read_tokens
        sums[3] += sign * usage.cache_write_tokens
        self.tokens_out = sums[1]
        self.tokens_in = sums[0] + sums[2] + sums[3]
        self.usd = None if usd is None or self.usd is None else self.usd + sign * usd
        self.known_usd += sign * (usd or 0.0)
        self.requests += sign
        self.subcalls += sign * subcalls


def amounts(parts: Sequence[Sums], seconds: float = 0.0) -> dict[str, float]:
    """What ``parts`` use of each limit that a turn can reach."""
    tokens_in, tokens_out = (sum(getattr(part, name) for part in parts) for name in IN_AND_OUT)
    return {
        "tokens": tokens_in + tokens_out,
        "tokens_in": tokens_in,
        "tokens_out": tokens_out,
        "usd": sum(part.known_usd for part in parts),
        "wall_s": seconds,
        "subcalls": sum(part.subcalls for part in parts),
        "tool_calls": sum(part.tool_calls for part in parts),
    }
