"""An independent session must come to the answer too: what it knows, what it costs, what survives a crash."""

import json
import os
import shutil
import signal
import subprocess
import threading

import pytest

from loop_runner.runs import replay
from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.runs.reverify import exit_code, verify_run
from loop_runner.task import config
from tests.loop.test_crash_children import tree
from tests.support.commands import argv, clean_environment
from tests.support.model_server import Scripted
from tests.support.tasks import cell, write_task

LOOK = cell("hint = llm_query('hint')\nprint(len(context), hint)")


class Plan:
    """The root model first says 41 and later 42; a session of its own looks, and says 42."""

    def __init__(self):
        self.requests = []
        self.kill_at = 0
        self.kill = lambda: None
        self._lock = threading.Lock()

    def __call__(self, received):
        with self._lock:
            self.requests.append((received.system[:20], json.dumps(received.messages)))
            if len(self.requests) == self.kill_at:
                self.kill()
                return Scripted("nobody reads this", delay_s=1.0)
        if "You answer one question" in received.system:
            return cell("FINAL('42\\nSo it says.')") if len(received.messages) > 1 else LOOK
        if received.system:
            answer = "'42\\nso'" if "0 of 1 independent" in str(received.messages) else "'41\\nUNSEEN'"
            return cell(f"FINAL({answer})")
        return "look closer"

    @property
    def session_texts(self):
        return [text for system, text in self.requests if "You answer one" in system]

    @property
    def root_texts(self):
        return [text for system, text in self.requests if system and "You answer one" not in system]


@pytest.fixture
def plan(model_server):
    plan = Plan()
    model_server.answer_with(plan)
    return plan


def task_file(folder, verifier="agreement", **keys):
    return write_task(folder, root=[], model="anthropic:large", verifiers=[verifier], **keys)


def run(file, folder, model_server):
    return runs.start(config.read_task(file), folder, RunContext(model_server.env))


def test_a_session_with_the_inputs_and_without_the_answer_decides(tmp_path, plan, model_server):
    outcome = run(task_file(tmp_path / "task"), tmp_path / "run", model_server)
    assert (outcome.status, outcome.spend.passes) == ("verified", 2)
    first, second = plan.session_texts[:2]
    assert "What is the answer?" in first
    assert "32 look closer" in second, "it has a kernel, the inputs and sub-calls"
    assert not any("UNSEEN" in text for text in plan.session_texts)
    assert not any("So it says" in text for text in plan.root_texts), "the other answer is not told"


def test_what_the_session_costs_is_in_the_ledger_and_its_transcript_in_the_commit(
    tmp_path, plan, model_server
):
    outcome = run(task_file(tmp_path / "task"), tmp_path / "run", model_server)
    folder = tmp_path / "run/passes/0001"
    kinds = [json.loads(line)["kind"] for line in (folder / "calls.jsonl").read_text().splitlines()]
    assert sorted(kinds) == ["judge", "judge", "sub"]
    assert outcome.spend.requests == 2 * (1 + 3) == len(plan.requests)
    about = json.loads((folder / "children/0001/child.json").read_text())
    assert (about["turns"], about["end"], about["model"]) == (2, "ready", "anthropic:large")
    assert (folder / "children/0001/answer.md").read_text() == "42\nSo it says."


def test_the_direct_form_is_one_request(tmp_path, model_server):
    def answer(received):
        return cell("FINAL('42')") if "Python" in received.system else "42\nbecause"

    model_server.answer_with(answer)
    file = task_file(tmp_path / "task", {"agreement": {"session": "direct"}})
    assert run(file, tmp_path / "run", model_server).spend.requests == 2


def test_killed_inside_the_session_nothing_is_asked_twice_and_the_run_ends_the_same(
    tmp_path, plan, model_server
):
    file = task_file(tmp_path / "task")
    run(file, tmp_path / "unbroken", model_server)
    whole, plan.requests = plan.requests, []
    plan.kill_at = 4  # the second turn of the first session
    environment = clean_environment(model_server.env)
    process = subprocess.Popen([*argv("run", file, "--run-dir", tmp_path / "killed"), "-q"], env=environment)
    plan.kill = lambda: os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    plan.kill_at = 0
    before, plan.requests = plan.requests, []
    outcome = runs.resume(tmp_path / "killed", RunContext(model_server.env))
    assert outcome.status == "verified"
    assert sorted(before[:-1] + plan.requests) == sorted(whole)
    assert tree(tmp_path / "killed") == tree(tmp_path / "unbroken")


def test_a_clone_verifies_the_session_by_its_record_and_holds_a_new_one_only_on_request(
    tmp_path, plan, model_server
):
    run(task_file(tmp_path / "task"), tmp_path / "run", model_server)
    subprocess.run(["git", "clone", "-q", tmp_path / "run", tmp_path / "clone"], check=True)
    shutil.rmtree(tmp_path / "run")
    requests = len(plan.requests)
    result = verify_run(tmp_path / "clone", RunContext({}))
    assert (result.status, exit_code(result), len(plan.requests)) == ("same", 0, requests)
    result = verify_run(tmp_path / "clone", RunContext(model_server.env), ask_again=True)
    assert (exit_code(result), result.requests, len(plan.requests)) == (0, 3, requests + 3)


@pytest.mark.parametrize("asks_gates", [True, False])
def test_a_replay_makes_the_session_again_from_its_replies(tmp_path, plan, model_server, asks_gates):
    run(task_file(tmp_path / "task"), tmp_path / "run", model_server)
    requests = len(plan.requests)
    replayed = replay.replay(tmp_path / "run", to=tmp_path / "again", asks_gates=asks_gates)
    assert (replayed.is_same, len(plan.requests)) == (True, requests)


def test_a_budget_that_ends_the_session_leaves_the_pass_open_and_more_goes_on(tmp_path, plan, model_server):
    file = task_file(tmp_path / "task", budget={"tokens": 30})
    outcome = run(file, tmp_path / "run", model_server)
    assert (outcome.status, outcome.spend.passes) == ("unverified", 0)
    assert "the budget of 30 tokens is used up" in outcome.reason
    context = RunContext(model_server.env)
    outcome = runs.resume(tmp_path / "run", context, (("budget.tokens", None),))
    assert outcome.status == "verified"
    assert outcome.spend.requests == len(plan.requests), "what was paid before is served by the journal"


def test_jurors_are_asked_at_the_same_time(tmp_path, model_server):
    together = threading.Barrier(2)

    def answer(received):
        if "You are a juror" not in received.system:
            return cell("FINAL('42')")
        together.wait(30)  # alone, a juror waits in vain
        return '{"verdict": "accept", "score": 1}'

    model_server.answer_with(answer)
    file = task_file(tmp_path / "task", {"judge": {"rubric": "rubric.md", "votes": 3}})
    (tmp_path / "task/rubric.md").write_text("It is 42.")
    outcome = run(file, tmp_path / "run", model_server)
    assert (outcome.status, outcome.spend.requests) == ("verified", 3)
