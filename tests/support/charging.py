"""Charges a ledger with one answered request."""

from __future__ import annotations

from itertools import count

from loop_runner.budget import Ledger
from loop_runner.records import Call, Reply, Usage

_numbers = count()


def charge(ledger: Ledger, usage: Usage, usd: float | None, *, is_subcall: bool) -> None:
    """Add a request with this usage; ``usd`` None: no known price."""
    call = Call(
        "sub" if is_subcall else "root", "m", f"{next(_numbers):064x}", 0, "", Reply("", usage=usage), usd
    )
    ledger.owe([call])
    ledger.replayed(call)
