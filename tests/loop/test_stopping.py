"""A signal stops a run at once where nothing is in flight, and loses no reply that is."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGHUP, SIGINT, SIGKILL, SIGTERM
from typing import Any

import pytest

from loop_runner.loop.stopping import Stop
from tests.support.commands import Started, loop_runner, started, wait_for
from tests.support.model_server import HttpError, ModelServer, Scripted
from tests.support.tasks import cell, ready, write_task

BUSY = HttpError(429, "rate_limit_error", "slow down", headers={"retry-after": "60"})
SLEEP = cell("import time\ntime.sleep(60)")


def environment(server: ModelServer) -> dict[str, str]:
    return {"OPENAI_BASE_URL": server.openai_url, "OPENAI_API_KEY": "sk-live-1234"}


@contextmanager
def running(
    folder: Path, server: ModelServer, *replies: Any, **keys: Any
) -> Iterator[tuple[Started, Mapping[str, str]]]:
    server.will_reply(*replies)
    env = environment(server)
    task = write_task(folder / "task", root=[], model="openai:m", **keys)
    with started("run", task, "--json", cwd=folder, env=env) as run:
        yield run, env


def stop(run: Started, number: int = SIGINT) -> tuple[float, int, str]:
    """Send a signal; seconds to the end, exit code, standard error."""
    run.signal(number)
    began = time.monotonic()
    code, _, stderr = run.finish()
    return time.monotonic() - began, code, stderr


def resumed(folder: Path, env: Mapping[str, str]) -> dict[str, Any]:
    result = loop_runner("resume", "scripted", "--json", cwd=folder, env=env)
    assert result.returncode == 0, result.stderr
    return dict(json.loads(result.stdout))


@pytest.mark.parametrize("number", [SIGINT, SIGTERM, SIGHUP])
def test_a_back_off_ends_at_once(tmp_path: Path, model_server: ModelServer, number: int) -> None:
    with running(tmp_path, model_server, BUSY) as (run, env):
        run.wait_for_line("trying again")
        seconds, code, _ = stop(run, number)
    assert (code, len(model_server.requests)) == (130, 1)
    assert seconds < 5, seconds
    model_server.will_reply(ready("42"))
    assert resumed(tmp_path, env)["answer"] == "42"


GATE = {"command": {"run": ["sh", "-c", "sleep 60"], "timeout_s": 90}}
IDLE = {
    "a cell that computes": ([SLEEP], {}, "turn 1"),
    "a check that takes long": ([ready("42")], {"verifiers": [GATE]}, "verifying"),
}


@pytest.mark.parametrize("name", IDLE)
def test_with_nothing_in_flight_a_run_ends_in_two_seconds(
    tmp_path: Path, model_server: ModelServer, name: str
) -> None:
    replies, keys, line = IDLE[name]
    with running(tmp_path, model_server, *replies, **keys) as (run, _):
        run.wait_for_line(line)
        time.sleep(0.7)
        seconds, code, _ = stop(run)
    assert code == 130
    assert seconds < 5, seconds  # under two on a machine of its own


def test_a_reply_in_flight_is_journalled_and_not_paid_for_again(
    tmp_path: Path, model_server: ModelServer
) -> None:
    with running(tmp_path, model_server, Scripted(ready("42"), delay_s=3)) as (run, env):
        wait_for(lambda: len(model_server.requests) == 1)
        _, code, _ = stop(run)
    assert code in (0, 130)
    assert resumed(tmp_path, env)["answer"] == "42"
    assert len(model_server.requests) == 1


def test_of_many_sub_calls_no_further_one_is_sent_and_none_is_paid_for_twice(
    tmp_path: Path, model_server: ModelServer
) -> None:
    many = "print(llm_batch([f'q{n}' for n in range(12)]))\nanswer['content'] = '42'\nanswer['ready'] = True"
    slow = [Scripted(f"r{n}", delay_s=1.5) for n in range(12)]
    with running(tmp_path, model_server, cell(many), *slow, width=3) as (run, env):
        wait_for(lambda: len(model_server.requests) >= 3)
        _, code, _ = stop(run)
        sent = len(model_server.requests)
    assert code == 130
    assert sent <= 4 + 3
    assert resumed(tmp_path, env)["answer"] == "42"
    assert len(model_server.requests) == 13, "each was sent once, over both runs"


def test_the_second_signal_says_what_is_kept_and_how_to_continue(
    tmp_path: Path, model_server: ModelServer
) -> None:
    with running(tmp_path, model_server, Scripted(ready("42"), delay_s=20)) as (run, env):
        wait_for(lambda: len(model_server.requests) == 1)
        run.signal(SIGINT)
        run.wait_for_line("no new request is sent")
        seconds, code, stderr = stop(run)
    assert code == 130
    assert seconds < 5, seconds
    assert "every reply that has arrived is kept" in stderr
    assert "continue with: loop-runner resume runs/scripted" in stderr
    model_server.will_reply(ready("42"))
    assert resumed(tmp_path, env)["answer"] == "42"


def test_the_sequence_of_ci_loses_nothing_that_has_arrived(tmp_path: Path, model_server: ModelServer) -> None:
    first = cell(
        "x = llm_query('first')\ny = llm_query('second')\nanswer['content'] = '42'\nanswer['ready'] = True"
    )
    replies = [first, "one", Scripted("two", delay_s=30)]
    with running(tmp_path, model_server, *replies) as (run, env):
        wait_for(lambda: len(model_server.requests) == 3)
        run.signal(SIGINT)
        time.sleep(2)
        run.signal(SIGTERM)
        time.sleep(2.5)
        run.signal(SIGKILL) if run.process.poll() is None else None
        code, _, _ = run.finish()
    assert code == 130, "it has ended before it is killed"
    model_server.will_reply("two")
    assert resumed(tmp_path, env)["answer"] == "42"
    assert len(model_server.requests) == 4, "only the one that was given up is sent again"


def test_an_audit_stops_too(tmp_path: Path, model_server: ModelServer) -> None:
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - id: one\n    files: '*.py'\n    regex: 'x'\n    description: Is this wrong?\n"
    )
    for number in range(5):
        (tmp_path / f"{number}.py").write_text("x = 1\n")
    model_server.answer_with(lambda _: BUSY)
    env = environment(model_server)
    with started("audit", ".", "--rules", "rules.yaml", "--model", "openai:m", cwd=tmp_path, env=env) as run:
        wait_for(lambda: bool(model_server.requests) or run.process.poll() is not None)
        assert run.process.poll() is None, "".join(run.stderr)
        time.sleep(0.5)
        seconds, code, _ = stop(run)
    assert code == 130
    assert seconds < 4, seconds


def test_nothing_is_broken_off_while_a_request_is_out_or_the_run_is_ending() -> None:
    now, out = [0.0], [1]
    requested = Stop()
    requested._clock = lambda: now[0]
    requested.watch(lambda: out[0])
    assert not requested.may_break_off(), "it was not asked"
    requested.ask()
    now[0] = 100.0
    assert not requested.may_break_off()
    out[0] = 0
    assert not requested.may_break_off(), "a moment to end by itself"
    now[0] = 102.0
    assert requested.may_break_off()
    assert not requested.may_break_off(), "once"
