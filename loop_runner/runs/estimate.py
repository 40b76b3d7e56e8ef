"""What a run would read and cost at least, before anything is sent.

Counts the requests that the shortest successful run makes: one turn of one pass, and what its verifiers ask.
Tokens are estimated from the texts, four characters to a token; dollars come from the price table. Asks no
provider, creates nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from loop_runner.budget import Price
from loop_runner.model import prices, registry
from loop_runner.records import Inputs, Usage
from loop_runner.runs.frozen import task_files, templates_of
from loop_runner.runs.models import profile_name, root_and_sub
from loop_runner.runs.prepare import check
from loop_runner.task.config import Task
from loop_runner.task.profiles import profile
from loop_runner.text import plural

CHARS_PER_TOKEN = 4
_SHORT_REPLY_TOKENS = 150  # a reply that holds little more than the answer
_MAJORITY = 0.51  # of votes, where the task does not say
_JUDGE_TOKENS = 800  # of instructions and answer, beside the prompt


@dataclass(frozen=True, slots=True)
class Row:
    """Requests of one kind to one model. ``usd`` is None where the price is not known."""

    kind: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    usd: float | None


@dataclass(frozen=True, slots=True)
class Estimate:
    """``rows`` are the least that a run needs; ``limits`` says in words what it may use at most."""

    texts: int
    bytes: int
    skipped: int
    session: str
    rows: tuple[Row, ...]
    limits: str

    @property
    def requests(self) -> int:
        """All requests."""
        return sum(row.requests for row in self.rows)

    @property
    def usd(self) -> float | None:
        """All dollars; None where one price is not known."""
        known = [row.usd for row in self.rows]
        return None if None in known else sum(usd for usd in known if usd is not None)


def of_task(task: Task, env: Mapping[str, str]) -> Estimate:
    """The estimate of a run of ``task``. Raises what the run would raise before its first request."""
    settled, texts, gates = check(task, env)
    root, _ = root_and_sub(settled)
    price = prices.with_rates(settled.prices)
    files = task_files(settled, texts, templates_of(settled), gates)
    is_direct = _is_direct(settled, texts, root)
    shown = "system.direct.md" if is_direct and "system.direct.md" in files else "system.md"
    chars = len(files[shown].decode("utf-8", "replace")) + len(settled.prompt)
    tokens = _tokens(chars + (texts.total_bytes if is_direct else 0))
    rows = [row("the model", root, 1, tokens, _SHORT_REPLY_TOKENS, price)] if root else []
    rows += list(_of_verifiers(settled.verifiers, settled, root, price))
    session = "direct" if is_direct else settled.session
    return Estimate(
        len(texts.texts), texts.total_bytes, len(texts.skipped), session, tuple(rows), _limits(settled)
    )


def row(kind: str, model: str, requests: int, tokens_in: int, tokens_out: int, price: Price) -> Row:
    """``requests`` of so many tokens each, priced one by one: a price can depend on the length."""
    item = price(model, Usage(input_tokens=tokens_in, output_tokens=tokens_out))
    usd = None if item is None else item * requests
    return Row(kind, model, requests, tokens_in * requests, tokens_out * requests, usd)


def _is_direct(task: Task, texts: Inputs, root: str) -> bool:
    """Whether the model is given the texts whole, as far as that can be known without asking its provider."""
    if task.session != "auto" or not root:
        return task.session == "direct"
    room = registry.window_tokens(root) - profile(profile_name(task, root)).max_reply_tokens
    return _tokens(texts.total_bytes + len(task.prompt)) < room


def _of_verifiers(specs: Sequence[Any], task: Task, root: str, price: Price) -> list[Row]:
    """What the verifiers ask about one accepted answer."""
    rows = []
    for spec in specs:
        if not isinstance(spec, Mapping):
            continue
        options = spec.get("judge")
        if "judge" in spec:
            rows.append(_judges(options if isinstance(options, Mapping) else {}, task, root, price))
        if "agreement" in spec:
            options = spec["agreement"] if isinstance(spec["agreement"], Mapping) else {}
            model = str(options.get("model") or root)
            tokens = _tokens(len(task.prompt)) + _JUDGE_TOKENS
            rows.append(
                row("agreement", model, _whole(options.get("replies"), 2), tokens, _SHORT_REPLY_TOKENS, price)
            )
        for group in ("all", "any"):
            members = spec.get(group)
            rows += _of_verifiers(members if isinstance(members, list) else [], task, root, price)
    return rows


def _judges(options: Mapping[str, Any], task: Task, root: str, price: Price) -> Row:
    votes = _whole(options.get("votes"), 1)
    threshold = options.get("threshold")
    share = float(threshold) if isinstance(threshold, int | float) else _MAJORITY
    needed = max(math.ceil(share * votes - 1e-9), 1)
    tokens = _tokens(len(task.prompt)) + _JUDGE_TOKENS
    return row("judges", str(options.get("model") or root), needed, tokens, _SHORT_REPLY_TOKENS, price)


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else default


def _tokens(chars: int) -> int:
    return math.ceil(chars / CHARS_PER_TOKEN)


def _limits(task: Task) -> str:
    """What the budget allows at most, in words."""
    budget = task.budget
    parts = [f"{plural(budget.passes, 'pass', 'passes')} of {plural(budget.turns, 'turn')}"]
    parts += [f"{budget.usd:g} US dollars"] if budget.usd is not None else []
    parts += [plural(budget.tokens, "token")] if budget.tokens is not None else []
    parts += [plural(budget.subcalls, "sub-call")] if budget.subcalls is not None else []
    return ", ".join(parts)
