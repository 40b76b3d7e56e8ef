"""What a call costs in US dollars, if the price is known.

Prices come from the ``genai-prices`` package: its data lies in the wheel, so nothing is fetched, and the
package's version says how old they are. Usage is what is stored; a price is worked out when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from loop_runner.records import Usage
from loop_runner.task.config import Rates

_BEFORE_ANY_PACKAGE = 2020
_FREE = frozenset({"local", "manual", "script", "program"})  # nobody sends a bill
# Providers that bill a part of what another one does. With a subscription, a client's requests are not billed
# one by one: then these dollars are what the same tokens cost with a key.
_SHARES = {
    "anthropic-batch": ("anthropic", 0.5),
    "claude-cli": ("anthropic", 1.0),
    "codex-cli": ("openai", 1.0),
}


def price(model_id: str, usage: Usage) -> float | None:
    """Dollars for one request to ``model_id`` ("provider:name"); None when there is no known price.

    The price of a request can depend on its length, so ask per request and add up: never the other way round.
    """
    provider, _, name = model_id.partition(":")
    if provider in _FREE:
        return 0.0
    share = 1.0
    if provider in _SHARES:
        provider, share = _SHARES[provider]
    import genai_prices

    counted = genai_prices.Usage(
        # The package counts cached tokens as a part of the input; ``Usage`` keeps them apart.
        input_tokens=usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    try:
        return share * float(genai_prices.calc_price(counted, name, provider_id=provider).total_price)
    except Exception:  # noqa: BLE001 - another package's code, behind a reply that is paid for: no price is no end
        return None


def with_rates(rates: Mapping[str, Rates]) -> Callable[[str, Usage], float | None]:
    """``price``, with the rates that a task gives for some models in the place of the package's."""

    def price_of(model_id: str, usage: Usage) -> float | None:
        given = rates.get(model_id)
        return price(model_id, usage) if given is None else _at(given, usage)

    return price_of


def _at(rates: Rates, usage: Usage) -> float:
    read = rates.input if rates.cache_read is None else rates.cache_read
    write = rates.input if rates.cache_write is None else rates.cache_write
    millionths = usage.input_tokens * rates.input + usage.output_tokens * rates.output
    return (millionths + usage.cache_read_tokens * read + usage.cache_write_tokens * write) / 1e6


def is_free(model_id: str) -> bool:
    """Whether nobody sends a bill for the model: it runs here, or answers from a file."""
    return model_id.partition(":")[0] in _FREE


def source() -> str:
    """Where the prices come from, with the version, for the record: ``genai-prices 0.2.3``."""
    return f"genai-prices {_version()}"


def _version() -> str:
    """As its folder of metadata is named: to import the reader of metadata takes as long as a turn."""
    from importlib.util import find_spec

    spec = find_spec("genai_prices")
    if spec is not None and spec.origin is not None:
        folders = list(Path(spec.origin).parents[1].glob("genai_prices-*.dist-info"))
        if len(folders) == 1:
            return folders[0].name.removesuffix(".dist-info").partition("-")[2]
    from importlib.metadata import version

    return version("genai-prices")


def installed_on() -> str | None:
    """The day on which the prices came to this machine, ``2026-11-21``: the package carries no date itself.

    None when the installer kept no times.
    """
    import datetime as dt
    from importlib.metadata import distribution

    record = Path(str(distribution("genai-prices").locate_file("genai_prices/data.py")))
    try:
        day = dt.datetime.fromtimestamp(record.stat().st_mtime, dt.UTC).date()
    except OSError:
        return None
    return day.isoformat() if day.year > _BEFORE_ANY_PACKAGE else None
