"""Requests that are out when a run dies: only they are sent again, and they are counted and shown."""

import json
import os
import signal
from collections import Counter

import pytest

from loop_runner.workspace.history import History
from loop_runner.workspace.journal import answered
from tests.support.commands import loop_runner, started, wait_for
from tests.support.model_server import HttpError, Scripted
from tests.support.tasks import cell, ready, write_task

WIDTH = 32  # of the switchboard
CALLS = 1000


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task", root=[], model="anthropic:test", kernel={"memory": "1GB"})


def answering(sub, *cells):
    """Roots take ``cells`` in turn, by how long the conversation is; sub-calls are for ``sub``."""

    def answer(request):
        return cells[len(request.messages) // 2] if request.system else sub(request)

    return answer


def safe_prompts(folder):
    """The sub-calls whose replies are in the journal."""
    data = (folder / ".git/loop-runner/journal").read_bytes()
    with History(folder) as history:
        keys = answered(folder / ".git/loop-runner/journal", history.since_checkpoint())
    from loop_runner.workspace.journal import records

    prompts = [call.prompt for _, call, _ in records(data) if call.kind == "sub"]
    assert len(prompts) <= len(keys)
    return set(prompts)


@pytest.mark.timeout(300)
def test_after_a_kill_in_the_middle_of_a_thousand_calls_only_the_unfinished_ones_are_issued(
    tmp_path, task, model_server
):
    folder = tmp_path / "run"
    batch = cell(f"print(sum(map(int, llm_batch([f'item {{i}}' for i in range({CALLS})]))))")
    model_server.answer_with(answering(lambda _: "1", batch, ready("42")))
    with started("run", task, "--run-dir", folder, "-q", cwd=tmp_path, env=model_server.env) as command:
        wait_for(lambda: len(model_server.requests) >= CALLS // 2, timeout_s=120)
        os.kill(command.pid, signal.SIGKILL)
        command.finish()
    wait_for(lambda: not model_server.is_busy)
    counter = Counter(request.last_user_text for request in model_server.requests if not request.system)
    safe = safe_prompts(folder)
    in_flight = set(counter) - safe
    assert max(counter.values()) == 1
    assert len(safe) >= CALLS // 2 - 2 * WIDTH
    # A reply that is being written down holds no place among those that are out: there may be as many again.
    assert 0 < len(in_flight) <= 2 * WIDTH
    shown = json.loads(loop_runner("status", folder, "--json", cwd=tmp_path).stdout)["runs"][0]
    assert len(in_flight) <= shown["in_flight"] <= 2 * WIDTH

    resumed = loop_runner("resume", folder, "--json", cwd=tmp_path, env=model_server.env, timeout_s=120)
    assert resumed.returncode == 0, resumed.stderr
    assert f"note: {shown['in_flight']} requests were in flight when the run was stopped" in resumed.stderr
    again = Counter(request.last_user_text for request in model_server.requests if not request.system)
    assert {prompt for prompt, count in again.items() if count > 1} == in_flight
    assert len(again) == CALLS
    usage = json.loads(resumed.stdout)["usage"]
    assert usage["requests"] == CALLS + 2
    assert usage["unanswered"] == shown["in_flight"]
    assert len(model_server.requests) <= usage["requests"] + usage["unanswered"]
    log = loop_runner("log", folder, cwd=tmp_path).stdout
    assert f"{shown['in_flight']} requests without a reply" in log
    status = loop_runner("status", folder, cwd=tmp_path).stdout
    assert f"{shown['in_flight']} requests sent before without a reply; the provider may bill them" in status


def test_a_run_that_nobody_killed_has_no_request_without_a_reply(tmp_path, task, model_server):
    batch = cell("llm_batch(['a', 'b', 'a'])")
    model_server.answer_with(answering(lambda _: "1", batch, ready("42")))
    done = loop_runner(
        "run", task, "--run-dir", tmp_path / "run", "--json", cwd=tmp_path, env=model_server.env
    )
    assert json.loads(done.stdout)["usage"]["unanswered"] == 0
    status = loop_runner("status", tmp_path / "run", cwd=tmp_path).stdout
    assert "without a reply" not in status
    assert "in flight" not in status


def test_sub_calls_that_are_open_when_their_cell_dies_are_counted(tmp_path, task, model_server):
    """They are given up, and a provider may bill what it has done of them."""
    dies = cell(
        "import os, threading, time\n"
        "threading.Thread(target=llm_batch, args=(['slow 1', 'slow 2', 'slow 3'],)).start()\n"
        "llm_query('fast')\ntime.sleep(0.5)\nos._exit(1)"
    )
    slow = Scripted("1", delay_s=3)
    model_server.answer_with(
        answering(lambda request: slow if "slow" in request.last_user_text else "1", dies, ready("42"))
    )
    done = loop_runner(
        "run", task, "--run-dir", tmp_path / "run", "--json", cwd=tmp_path, env=model_server.env
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["usage"]["unanswered"] == 3
    log = json.loads(loop_runner("log", tmp_path / "run", "--json", cwd=tmp_path).stdout)
    assert [item["unanswered"] for item in log["commits"]] == [0, 3, 0, 0]


def test_a_request_that_is_refused_is_not_counted(tmp_path, task, model_server):
    folder = tmp_path / "run"
    model_server.will_reply(HttpError(401, "authentication_error", "invalid x-api-key"))
    refused = loop_runner("run", task, "--run-dir", folder, cwd=tmp_path, env=model_server.env)
    assert refused.returncode == 4
    shown = json.loads(loop_runner("status", folder, "--json", cwd=tmp_path).stdout)["runs"][0]
    assert (shown["in_flight"], shown["usage"]["unanswered"]) == (0, 0)


def test_a_disk_that_fills_up_under_a_sub_call_stops_the_run_and_is_not_told_to_the_model(
    tmp_path, task, model_server
):
    """The model's code could catch it and go on, and the turn would be committed with the error in it."""
    folder = tmp_path / "run"
    catches = cell("try:\n    print(llm_query('a'))\nexcept Exception as error:\n    print(error)")
    model_server.answer_with(answering(lambda _: "the reply", catches, ready("42")))
    env = {**model_server.env, "LOOP_RUNNER_FAILPOINT": "journal.write:2:ENOSPC"}
    full = loop_runner("run", task, "--run-dir", folder, cwd=tmp_path, env=env)
    assert full.returncode == 4
    assert "the disk is full: writing the journal failed" in full.stderr
    assert f"loop-runner resume {folder}" in full.stderr
    done = loop_runner("resume", folder, "--json", cwd=tmp_path, env=model_server.env)
    assert json.loads(done.stdout)["usage"]["unanswered"] == 1, "its reply came and could not be kept"
    assert b"the reply" in (folder / "passes/0001/turns/0001/output.txt").read_bytes()


def test_what_was_paid_for_is_still_used_when_a_person_commits_before_going_on(tmp_path, task, model_server):
    folder = tmp_path / "run"
    model_server.answer_with(answering(lambda _: "7", cell("x = llm_query('a')"), ready("42")))
    env = {**model_server.env, "LOOP_RUNNER_FAILPOINT": "turn.saved:1:kill"}
    loop_runner("run", task, "--run-dir", folder, cwd=tmp_path, env=env)
    paid = len(model_server.requests)
    assert paid == 2
    (folder / "workspace/notes/mine.md").write_text("mine\n")
    for args in (["add", "workspace/notes/mine.md"], ["commit", "-qm", "mine"]):
        identity = ["-c", "user.name=x", "-c", "user.email=x@x"]
        assert os.spawnlp(os.P_WAIT, "git", "git", "-C", str(folder), *identity, *args) == 0
    done = loop_runner("resume", folder, "--json", cwd=tmp_path, env=model_server.env)
    assert done.returncode == 0, done.stderr
    assert len(model_server.requests) == paid + 1, "only the second turn is asked for"
    assert json.loads(done.stdout)["usage"]["requests"] == paid + 1
