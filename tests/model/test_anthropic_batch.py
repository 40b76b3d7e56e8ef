"""``anthropic-batch:``: one batch for many sub-calls, paid for once whatever happens to the run."""

import asyncio
import json
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from loop_runner.errors import ModelError
from loop_runner.model import prices, registry
from loop_runner.model.client import Setting, TryAgain
from loop_runner.model.providers.anthropic_batch import AnthropicBatchClient, read_record
from loop_runner.records import Message, Reply, Request, Usage
from tests.support.commands import loop_runner, started, wait_for
from tests.support.model_server import HttpError, ModelServer, Received
from tests.support.tasks import write_task

ASK = "```repl\nFINAL(' '.join(llm_batch(['a', 'b', 'b'])))\n```"


def sub(text: str, occurrence: int = 0) -> Request:
    message = Message("user", text)
    return Request("anthropic-batch:m", (message,), kind="sub", occurrence=occurrence)


class Run:
    """One process's client after another, with one private folder."""

    def __init__(self, server: ModelServer, folder: Path) -> None:
        self.messages: list[str] = []
        self.position = "commit-1"
        self._server = server
        self._folder = folder

    def ask(self, *requests: Request) -> list[Any]:
        setting = Setting(
            self._folder,
            self._server.env,
            private_dir=self._folder,
            position=lambda: self.position,
            tell=self.messages.append,
        )

        async def run() -> list[Any]:
            waits = {"quiet_s": 0.05, "first_poll_s": 0.02, "patience_s": 1.0, "appears_s": 0.5}
            client = AnthropicBatchClient("m", setting, **waits)
            try:
                sent = (client.complete(request) for request in requests)
                async with asyncio.timeout(20):
                    return await asyncio.gather(*sent, return_exceptions=True)
            finally:
                await client.close()

        return asyncio.run(run())


@pytest.fixture
def run(tmp_path: Path, model_server: ModelServer) -> Run:
    model_server.answer_with(lambda request: request.last_user_text.upper())
    return Run(model_server, tmp_path)


def test_requests_that_come_together_are_one_batch_and_get_their_own_replies(
    run: Run, model_server: ModelServer
) -> None:
    replies = run.ask(*(sub(f"q{n}") for n in range(40)))
    assert [reply.text for reply in replies] == [f"Q{n}" for n in range(40)]
    assert len(model_server.batches.created) == 1
    assert replies[0].usage == Usage(10, 5)
    assert "batch msgbatch_0 of 40 requests was made" in run.messages[0]
    params = model_server.batches.created[0][0]["params"]
    assert "stream" not in params
    assert "cache_control" not in json.dumps(params)


def test_the_id_is_on_disk_before_anybody_looks_at_the_batch(
    run: Run, model_server: ModelServer, tmp_path: Path
) -> None:
    run.ask(sub("a"))
    paths = [request.path for request in model_server.requests]
    (file,) = (tmp_path / "batches").glob("*.json")
    record = read_record(file)
    assert record is not None
    assert (record.id, record.after) == ("msgbatch_0", "commit-1")
    assert paths[:2] == ["/v1/messages/batches", "/v1/messages/batches/msgbatch_0"]


def test_the_next_process_looks_at_the_same_batch_and_another_turn_makes_its_own(
    run: Run, model_server: ModelServer
) -> None:
    first = run.ask(sub("a"), sub("b"), sub("b", occurrence=1))
    assert run.ask(sub("a"), sub("b"), sub("b", occurrence=1)) == first
    assert len(model_server.batches.created) == 1
    assert "is polled again" in run.messages[-1]
    run.position = "commit-2"
    run.ask(sub("a"))
    assert len(model_server.batches.created) == 2


@pytest.mark.parametrize("missing", [1, 2, 5])
def test_a_404_right_after_a_batch_was_made_does_not_discard_it(
    run: Run, model_server: ModelServer, missing: int
) -> None:
    """anthropic-sdk-python#1432."""
    model_server.batches.missing = missing
    assert [reply.text for reply in run.ask(sub("a"), sub("b"))] == ["A", "B"]
    assert len(model_server.batches.created) == 1


def test_a_batch_that_stays_missing_is_kept_and_found_by_the_next_process(
    run: Run, model_server: ModelServer, tmp_path: Path
) -> None:
    model_server.batches.missing = 10**6
    (error,) = run.ask(sub("a"))
    assert isinstance(error, ModelError)
    assert not isinstance(error, TryAgain), "it would be asked for, and paid for, again"
    assert error.ends_run
    assert error.paid
    assert "loop-runner resume" in error.hint
    assert list((tmp_path / "batches").glob("*.json"))
    model_server.batches.missing = 0
    assert [reply.text for reply in run.ask(sub("a"))] == ["A"]
    assert len(model_server.batches.created) == 1


@pytest.mark.parametrize("cuts", [[0], [1], [150], [400], [0, 1, 350, 600]])
def test_results_that_are_cut_are_fetched_again_until_they_are_whole(
    run: Run, model_server: ModelServer, cuts: list[int]
) -> None:
    model_server.batches.cut_results = cuts
    replies = run.ask(*(sub(f"q{n}") for n in range(4)))
    assert [reply.text for reply in replies] == ["Q0", "Q1", "Q2", "Q3"]
    assert len(model_server.batches.created) == 1


def test_results_that_stay_cut_give_what_they_hold_and_the_rest_is_not_asked_for_again(
    run: Run, model_server: ModelServer, tmp_path: Path
) -> None:
    model_server.batches.cut_results = [1000] * 10_000
    replies = run.ask(*(sub(f"q{n}") for n in range(9)))
    there = [reply.text for reply in replies if isinstance(reply, Reply)]
    lacking = [reply for reply in replies if isinstance(reply, ModelError)]
    assert there
    assert len(there) + len(lacking) == 9
    assert all(error.ends_run for error in lacking), "no request is sent again in this run"
    assert list((tmp_path / "batches").glob("*.json"))
    model_server.batches.cut_results = []
    assert [reply.text for reply in run.ask(*(sub(f"q{n}") for n in range(9)))] == [f"Q{n}" for n in range(9)]
    assert len(model_server.batches.created) == 1


@pytest.mark.parametrize(("status", "hidden"), [(500, 0), (504, 0), (502, 3)])
def test_a_creation_that_ends_badly_although_the_batch_was_made_makes_no_second_one(
    run: Run, model_server: ModelServer, status: int, hidden: int
) -> None:
    model_server.batches.create_status, model_server.batches.hidden = status, hidden
    assert [reply.text for reply in run.ask(sub("a"), sub("b"))] == ["A", "B"]
    assert len(model_server.batches.created) == 1


def test_a_refused_key_while_a_batch_is_awaited_does_not_discard_it(
    run: Run, model_server: ModelServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 401, {"type": "error", "error": {"type": "authentication_error", "message": "no such key"}}
    with monkeypatch.context() as patch:
        patch.setattr(model_server.batches, "get", lambda _path, _url: refused)
        (error,) = run.ask(sub("a"))
    assert error.ends_run
    assert list((tmp_path / "batches").glob("*.json"))
    assert [reply.text for reply in run.ask(sub("a"))] == ["A"]
    assert len(model_server.batches.created) == 1


@pytest.mark.parametrize("outcome", ["expired", "canceled"])
def test_what_the_batch_did_not_get_to_may_be_asked_again(
    run: Run, model_server: ModelServer, outcome: str
) -> None:
    model_server.batches.outcome = outcome
    (error,) = run.ask(sub("a"))
    assert isinstance(error, TryAgain)
    assert outcome in error.reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (HttpError(400, "invalid_request_error", "bad"), ModelError),
        (HttpError(529, "overloaded_error", "busy"), TryAgain),
        (HttpError(400, "invalid_request_error", "prompt is too long: 9 > 8"), Reply),
    ],
)
def test_an_error_of_one_request_is_that_requests_alone(
    run: Run, model_server: ModelServer, answer: HttpError, expected: type
) -> None:
    model_server.answer_with(lambda request: answer if request.last_user_text == "bad" else "fine")
    bad, good = run.ask(sub("bad"), sub("good"))
    assert type(bad) is expected
    assert good.text == "fine"


def test_it_costs_half_and_goes_with_the_facts_of_the_models_it_asks() -> None:
    usage = Usage(1_000_000, 100_000)
    whole = prices.price("anthropic:claude-sonnet-5-5", usage)
    assert whole is not None
    assert prices.price("anthropic-batch:claude-sonnet-5-5", usage) == pytest.approx(whole / 2)
    facts = [registry.facts(f"{provider}:claude-haiku-5-5") for provider in ("anthropic", "anthropic-batch")]
    assert facts[0] == facts[1]


# ── whole runs ──────────────────────────────────────────────────────────────────────────────────────


def batch_task(tmp_path: Path) -> Path:
    keys: dict[str, Any] = {
        "sub_model": "anthropic-batch:claude-haiku-5-5",
        "verifiers": [{"contains": "A B B"}],
    }
    return write_task(tmp_path / "task", root=[ASK], **keys)


def test_a_run_killed_while_its_batch_is_worked_on_pays_for_it_once(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.answer_with(lambda request: request.last_user_text.upper())
    model_server.batches.is_held = True
    with started("run", batch_task(tmp_path), cwd=tmp_path, env=model_server.env) as command:
        command.wait_for_line("batch msgbatch_0 of 3 requests was made", timeout_s=60)
        command.signal(signal.SIGKILL)
        command.finish()
    model_server.batches.is_held = False
    resumed = loop_runner("resume", "scripted", "--json", cwd=tmp_path, env=model_server.env)
    assert resumed.returncode == 0, resumed.stderr
    assert len(model_server.batches.created) == 1
    assert "batch msgbatch_0 of 3 requests is polled again" in resumed.stderr
    data = json.loads(resumed.stdout)
    assert data["usage"]["subcalls"] == 3


@pytest.mark.parametrize("knows_the_id", [True, False])
def test_a_clone_of_a_killed_run_takes_the_batch_up_and_asks_for_nothing_twice(
    tmp_path: Path, model_server: ModelServer, knows_the_id: bool
) -> None:
    roots: list[Received] = []

    def answer(request: Received) -> str:
        if not request.system:
            return request.last_user_text.upper()
        roots.append(request)
        return ASK

    model_server.answer_with(answer)
    model_server.batches.is_held = True
    model_server.batches.create_hangs = not knows_the_id
    keys: dict[str, Any] = {"model": "anthropic:claude-root", "sub_model": "anthropic-batch:claude-sub"}
    task = write_task(tmp_path / "task", root=[], verifiers=[{"contains": "A B B"}], **keys)
    with started("run", task, cwd=tmp_path, env=model_server.env) as command:
        wait_for(lambda: len(model_server.batches.created) == 1, 60)
        if knows_the_id:
            command.wait_for_line("batch msgbatch_0 of 3 requests was made", timeout_s=60)
        command.signal(signal.SIGKILL)
        command.finish()
    subprocess.run(["git", "clone", "-q", tmp_path / "runs/scripted", tmp_path / "clone"], check=True)
    shutil.rmtree(tmp_path / "runs")
    model_server.batches.is_held = False
    model_server.batches.release()
    resumed = loop_runner("resume", "clone", "--trust", cwd=tmp_path, env=model_server.env)
    assert resumed.returncode == 0, resumed.stderr
    assert len(model_server.batches.created) == 1
    assert len(roots) == 1, "the reply of the open turn came with the clone"
    tags = subprocess.run(
        ["git", "-C", tmp_path / "clone", "tag"], capture_output=True, text=True, check=True
    )
    assert tags.stdout == "", "nothing is awaited any more"


def test_a_run_killed_before_it_knew_the_id_finds_its_batch(
    tmp_path: Path, model_server: ModelServer
) -> None:
    model_server.answer_with(lambda request: request.last_user_text.upper())
    model_server.batches.create_hangs = True
    with started("run", batch_task(tmp_path), cwd=tmp_path, env=model_server.env) as command:
        wait_for(lambda: len(model_server.batches.created) == 1, 60)
        command.signal(signal.SIGKILL)
        command.finish()
    model_server.batches.release()
    resumed = loop_runner("resume", "scripted", cwd=tmp_path, env=model_server.env)
    assert resumed.returncode == 0, resumed.stderr
    assert len(model_server.batches.created) == 1
    assert "was found again" in resumed.stderr
