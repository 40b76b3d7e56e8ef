"""What a run cost: by pass, model and kind of request, from the committed replies.

Plain data. An unknown price is None and makes the sums None too; what is known is kept apart. What a
rewind dropped was paid, too: it is kept apart from the lines, which are those of the history.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from loop_runner.budget import Price
from loop_runner.model import prices
from loop_runner.records import Call, Usage
from loop_runner.task import config
from loop_runner.workspace import layout
from loop_runner.workspace.history import History
from loop_runner.workspace.openable import parsing

_Name = TypeVar("_Name", int, str)


@dataclass(frozen=True, slots=True)
class CostLine:
    """Requests of one kind to one model in one pass."""

    pass_number: int
    model: str
    kind: str
    requests: int
    usage: Usage
    usd: float | None  # None: at least one of them has no known price
    known_usd: float  # of those that have one


@dataclass(frozen=True, slots=True)
class Cost:
    """All lines by pass, model and kind; and the sum of what rewinds dropped, priced when they did."""

    lines: tuple[CostLine, ...]
    dropped: CostLine
    own_prices: tuple[str, ...] = ()  # the models whose rates the task gives

    @property
    def total(self) -> CostLine:
        """All lines as one; its pass, model and kind mean nothing."""
        return total(self.lines)

    @property
    def by_pass(self) -> dict[int, CostLine]:
        """The sums by pass, in order."""
        return by(lambda line: line.pass_number, self.lines)

    @property
    def by_model(self) -> dict[str, CostLine]:
        """The sums by model, in order."""
        return by(lambda line: line.model, self.lines)

    @property
    def by_kind(self) -> dict[str, CostLine]:
        """The sums by kind of request, in order."""
        return by(lambda line: line.kind, self.lines)

    @property
    def free(self) -> tuple[str, ...]:
        """The models that nobody bills, in order."""
        result = {line.model for line in self.lines} - set(self.own_prices)
        return tuple(sorted(model for model in result if prices.is_free(model)))

    @property
    def price_source(self) -> str:
        """Where prices come from that the task does not give."""
        return prices.source()

    @property
    def prices_installed(self) -> str:
        """The day on which these prices were installed; "" where it is not known."""
        return prices.installed_on() or ""


def of_run(history: History, at: str | None = None) -> Cost:
    """What the run cost up to the commit ``at`` (None: where it stands)."""
    dropped = history.dropped(at)
    rates = rates_in(history)
    lines = tuple(_lines(_calls(history, at), prices.with_rates(rates)))
    return Cost(
        lines,
        CostLine(0, "", "", dropped.requests, dropped.usage, dropped.usd, dropped.usd or 0.0),
        tuple(sorted({line.model for line in lines} & set(rates))),
    )


def price_in(history: History) -> Price:
    """What requests cost in this run: with the rates that its task gives."""
    return prices.with_rates(rates_in(history))


def rates_in(history: History) -> Mapping[str, config.Rates]:
    """The rates that the run's task gives, by model."""
    with parsing(history.folder, "task.yaml"):
        source = (history.read("task.yaml") or b"").decode()
    task = config.parse_task(source, label="task.yaml", base_dir=history.folder)
    return task.prices


def total(lines: Iterable[CostLine]) -> CostLine:
    """All ``lines`` as one; its pass, model and kind mean nothing."""
    items = list(lines)
    known = [line.usd for line in items]
    return CostLine(
        0,
        "",
        "",
        sum(line.requests for line in items),
        sum((line.usage for line in items), Usage()),
        None if None in known else sum(usd for usd in known if usd is not None),
        sum(line.known_usd for line in items),
    )


def by(name: Callable[[CostLine], _Name], lines: Iterable[CostLine]) -> dict[_Name, CostLine]:
    """The sums of ``lines`` by what ``name`` says of each, in order."""
    grouped: dict[_Name, list[CostLine]] = {}
    for line in lines:
        grouped.setdefault(name(line), []).append(line)
    return {key: total(grouped[key]) for key in sorted(grouped)}


def _lines(calls: Iterable[tuple[int, Call]], price: Price) -> Iterator[CostLine]:
    grouped: dict[tuple[int, str, str], list[Call]] = {}
    for number, call in calls:
        grouped.setdefault((number, call.model, call.kind), []).append(call)
    for (number, model, kind), group in sorted(grouped.items()):
        dollars = [  # the price of one may depend on its length
            price(model, call.reply.usage) if call.usd is None else call.usd for call in group
        ]
        known = [usd for usd in dollars if usd is not None]
        usage = sum((call.reply.usage for call in group), Usage())
        is_known = len(known) == len(dollars)
        yield CostLine(number, model, kind, len(group), usage, sum(known) if is_known else None, sum(known))


def _calls(history: History, at: str | None) -> Iterator[tuple[int, Call]]:
    for path in history.files("passes/", at):
        if path.endswith("/calls.jsonl"):
            yield from _calls_in(history, path, at)


def _calls_in(history: History, path: str, at: str | None) -> Iterator[tuple[int, Call]]:
    with parsing(history.folder, path):
        number = int(path.split("/")[1])
        calls = layout.calls_from_jsonl(history.read(path, at) or b"")
    yield from ((number, call) for call in calls if call.kind != "tool")
