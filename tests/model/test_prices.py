"""A price is known, or said to be unknown; never made up."""

import pytest

from loop_runner.model import prices
from loop_runner.records import Usage


def test_each_kind_of_token_has_its_own_price() -> None:
    million = 1_000_000
    model = "anthropic:claude-sonnet-5-5"
    plain = prices.price(model, Usage(input_tokens=million))
    read = prices.price(model, Usage(cache_read_tokens=million))
    write = prices.price(model, Usage(cache_write_tokens=million))
    output = prices.price(model, Usage(output_tokens=million))
    assert plain is not None
    assert read is not None
    assert write is not None
    assert output is not None
    assert read < plain < write < output
    assert prices.price(model, Usage(million, million, million, million)) == pytest.approx(
        plain + read + write + output
    )


def test_an_unknown_model_has_no_price() -> None:
    assert prices.price("anthropic:no-such-model", Usage(1, 1)) is None
    assert prices.price("nobody:no-such-model", Usage(1, 1)) is None


@pytest.mark.parametrize("model", ["local:coder", "script:x.yaml", "manual:inbox"])
def test_what_nobody_bills_costs_nothing(model: str) -> None:
    assert prices.price(model, Usage(1_000_000, 1_000_000)) == 0.0


def test_the_source_of_the_prices_has_a_version() -> None:
    name, version = prices.source().split()
    assert name == "genai-prices"
    assert version[0].isdigit()


@pytest.mark.parametrize(
    ("client", "api"),
    [("claude-cli:claude-haiku-5-5", "anthropic:claude-haiku-5-5"), ("codex-cli:gpt-5.4", "openai:gpt-5.4")],
)
def test_a_users_client_costs_what_the_api_costs(client: str, api: str) -> None:
    usage = Usage(1000, 1000, 1000)
    assert prices.price(client, usage) == prices.price(api, usage)
    assert prices.price(f"{client.partition(':')[0]}:default", usage) is None
