"""``cost``: what a run cost, by pass, model and kind of request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

import loop_runner as lr
from loop_runner import text
from loop_runner.cli import output

if TYPE_CHECKING:
    from loop_runner import types

_COLUMNS = ("requests", "tokens in", "cache read", "cache written", "tokens out", "US dollars")


@click.command()
@click.argument("run_name", metavar="RUN[@PASS[.TURN]]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
def cost(run_name: str, as_json: bool) -> None:
    """Show what a run cost, by pass, model and kind of request (root, sub, judge).

    Reads from and writes to the provider's cache are listed separately from other input. An unknown price is
    shown as unknown. RUN@3 counts up to the end of pass 3.

    \b
    Example:  loop-runner cost contract-review
    """
    run = lr.open(run_name)
    summary = run.costs()
    if as_json:
        output.write_json({"run": str(run.folder), **_as_json(summary)})
        return
    for line in _lines(summary):
        output.write(line)


def _lines(summary: types.Cost) -> Iterator[str]:
    names = [line.model for line in summary.lines] or ["model"]
    width = max(len("by model"), *(len(text.one_line(name)) for name in names))
    yield _row("pass", "model", "kind", _COLUMNS, width)
    for line in summary.lines:
        yield _row(str(line.pass_number), line.model, line.kind, _cells(line), width)
    models, kinds = summary.by_model, summary.by_kind
    if len(models) > 1:
        yield ""
        yield from (_row("", model, "", _cells(line), width) for model, line in models.items())
    if len(kinds) > 1:
        yield ""
        yield from (_row("", "", kind, _cells(line), width) for kind, line in kinds.items())
    yield ""
    sums = summary.total
    yield _row("all", "", "", _cells(sums), width)
    if sums.usd is None:
        yield f"unknown: at least one price; the known ones add up to {sums.known_usd:.4f} US dollars"
    dropped = summary.dropped
    if dropped.requests:
        what = f"{output.plural(dropped.requests, 'request')}, {dropped.usage.total_tokens:,} tokens"
        what += f", {_usd(dropped)} US dollars"
        yield f"dropped by rewinds, not included above, but counted against the budget: {what}"
    yield f"prices: {_price_source(summary)}"


def _price_source(summary: types.Cost) -> str:
    """Where the prices of the models that were asked come from."""
    own = [text.one_line(model) for model in summary.own_prices]
    models = {line.model for line in summary.lines}
    sources = [f"the task's own for {', '.join(own)}"] if own else []
    if summary.free:
        sources.append(f"no bill for {', '.join(map(text.one_line, summary.free))}")
    if not models or models - set(summary.own_prices) - set(summary.free):
        when = summary.prices_installed
        sources.append(summary.price_source + (f", installed {when}" if when else ""))
    return "; ".join(sources)


def _row(number: str, model: str, kind: str, cells: tuple[str, ...], width: int) -> str:
    head = f"{number:>4}  {text.one_line(model):<{width}}  {text.one_line(kind):<5}"
    return head + "".join(
        f"  {cell:>{max(len(name), 9)}}" for cell, name in zip(cells, _COLUMNS, strict=True)
    )


def _cells(line: types.CostLine) -> tuple[str, ...]:
    usage = line.usage
    counts = (
        line.requests,
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.output_tokens,
    )
    return (*(f"{count:,}" for count in counts), _usd(line))


def _usd(line: types.CostLine) -> str:
    return "unknown" if line.usd is None else f"{line.usd:.4f}"


def _as_json(summary: types.Cost) -> dict[str, Any]:
    return {
        "lines": [
            {"pass": line.pass_number, "model": line.model, "kind": line.kind, **_line_as_json(line)}
            for line in summary.lines
        ],
        "by_pass": [{"pass": number, **_line_as_json(line)} for number, line in summary.by_pass.items()],
        "by_model": _named("model", summary.by_model),
        "by_kind": _named("kind", summary.by_kind),
        "total": _line_as_json(summary.total),
        "dropped": _line_as_json(summary.dropped),
        "prices": {
            "source": summary.price_source,
            "installed": summary.prices_installed,
            "own": list(summary.own_prices),
        },
    }


def _named(key: str, lines: Mapping[str, types.CostLine]) -> list[dict[str, Any]]:
    return [{key: name, **_line_as_json(line)} for name, line in lines.items()]


def _line_as_json(line: types.CostLine) -> dict[str, Any]:
    usage = line.usage
    return {
        "requests": line.requests,
        "input_tokens": usage.input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "usd": line.usd,
        "known_usd": line.known_usd,
    }
