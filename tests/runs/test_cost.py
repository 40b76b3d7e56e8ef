"""Every reply that was paid for is in the table, once, with the cache apart and unknown prices unknown."""

import json

import pytest

from tests.support.commands import loop_runner
from tests.support.model_server import Scripted
from tests.support.tasks import cell, ready, write_task


def json_of(*args, cwd, code=0, **keys):
    result = loop_runner(*args, "--json", cwd=cwd, **keys)
    assert result.returncode == code, result.stdout + result.stderr
    return json.loads(result.stdout)


@pytest.fixture
def paid(tmp_path, model_server):
    """A run with a model whose price is known; its sub-model's is not."""
    write_task(
        tmp_path / "task",
        root=[],
        model="anthropic:claude-sonnet-4-5",
        sub_model="anthropic:claude-nobody-knows",
        budget={"passes": 2},
    )
    model_server.will_reply(
        Scripted(
            cell("a = llm_query('how many?')"), input_tokens=1000, cache_write_tokens=5000, output_tokens=20
        ),
        "40",
        Scripted(ready("41"), input_tokens=100, cache_read_tokens=5000, output_tokens=30),
        Scripted(ready("42"), input_tokens=200, cache_read_tokens=6000, output_tokens=40),
    )
    result = loop_runner("run", "task/task.yaml", "-q", cwd=tmp_path, env=model_server.env)
    assert result.returncode == 0, result.stderr
    return tmp_path


def test_lines_and_sums_by_pass_model_and_kind(paid):
    data = json_of("cost", "scripted", cwd=paid)
    lines = {(line["pass"], line["kind"]): line for line in data["lines"]}
    assert set(lines) == {(1, "sub"), (1, "root"), (2, "root")}
    assert lines[1, "root"]["requests"] == 2
    assert (lines[1, "root"]["cache_read_tokens"], lines[1, "root"]["cache_write_tokens"]) == (5000, 5000)
    assert lines[1, "root"]["input_tokens"] == 1100
    assert lines[1, "sub"]["usd"] is None
    (known,) = [item for item in data["by_model"] if item["model"].endswith("sonnet-4-5")]
    # 3 dollars a million in, 15 out, 0.30 from the cache, 3.75 into it
    expected = (1300 * 3 + 90 * 15 + 11_000 * 0.3 + 5000 * 3.75) / 1e6
    assert known["usd"] == pytest.approx(expected)
    assert data["total"]["usd"] is None, "a sum with an unknown price is unknown"
    assert data["total"]["known_usd"] == pytest.approx(expected)
    assert {item["kind"]: item["requests"] for item in data["by_kind"]} == {"root": 3, "sub": 1}
    assert {item["pass"]: item["requests"] for item in data["by_pass"]} == {1: 3, 2: 1}
    assert data["prices"]["source"].startswith("genai-prices ")


def test_the_table_says_unknown_and_where_the_prices_come_from(paid):
    result = loop_runner("cost", "scripted", cwd=paid)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["pass", "model", "kind"]
    (sub,) = [line for line in lines if "nobody-knows  sub" in line]
    assert sub.split()[-1] == "unknown"
    assert any(
        line.startswith("unknown: at least one price; the known ones add up to 0.0273") for line in lines
    )
    assert lines[-1].startswith("prices: genai-prices ")


def test_up_to_a_moment_and_what_a_rewind_dropped(place):
    assert json_of("cost", "scripted@1", cwd=place)["total"]["requests"] == 2
    json_of("rewind", "scripted", "2.1", cwd=place)
    data = json_of("cost", "scripted", cwd=place)
    assert (data["total"]["requests"], data["dropped"]["requests"]) == (3, 2)
    assert loop_runner("resume", "scripted", "-q", cwd=place).returncode == 0
    data = json_of("cost", "scripted", cwd=place)
    assert (data["total"]["requests"], data["dropped"]["requests"]) == (5, 2), "the same replies, paid again"
    assert (
        "dropped by rewinds, not included above, but counted against the budget: 2 requests"
        in loop_runner("cost", "scripted", cwd=place).stdout
    )


def test_a_run_that_has_asked_nobody_costs_nothing(tmp_path):
    write_task(tmp_path / "task", root=[])
    assert loop_runner("run", "task/task.yaml", "-q", cwd=tmp_path).returncode == 4
    result = loop_runner("cost", "scripted", cwd=tmp_path)
    assert result.returncode == 0
    assert result.stdout.splitlines()[-2].split()[-1] == "0.0000"
