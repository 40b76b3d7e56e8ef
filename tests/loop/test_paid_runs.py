"""The whole loop through the real SDK, against a Messages API server on loopback.

What is sent, word for word, and what is not sent twice.
"""

import json
import subprocess

import pytest

from loop_runner.runs import start as runs
from loop_runner.runs.context import RunContext
from loop_runner.task import config
from tests.support.commands import clean_environment, loop_runner
from tests.support.model_server import HttpError, Scripted
from tests.support.tasks import cell, ready, write_task

PROMPT = "Häufige Frage:\twhat is the answer?  {{ 7 * 7 }}\n\n"


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "task", root=[], model="anthropic:claude-test", prompt=PROMPT)


def subjects(folder, *options):
    command = ["git", "-C", folder, "log", "--reverse", "--format=%s", *options]
    done = subprocess.run(command, env=clean_environment(), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_same_prompt_goes_in_twice_the_second_time_with_the_verifiers_reason(
    tmp_path, task, model_server
):
    model_server.will_reply(
        cell("print(len(context))"),
        Scripted(ready("41"), input_tokens=100, cache_write_tokens=900),
        Scripted(ready("42"), input_tokens=100, cache_read_tokens=900),
    )
    context = RunContext(model_server.env)
    outcome = runs.start(config.read_task(task), tmp_path / "run", context)
    assert (outcome.status, outcome.answer.content) == ("verified", "42")
    assert subjects(tmp_path / "run", "--first-parent") == [
        "run: scripted",
        "pass 1: rejected",
        "pass 2: accepted",
    ]
    first, second, third = model_server.requests
    assert first.first_user_text == PROMPT
    assert second.messages[:1] == first.messages, "the conversation grows at its end only"
    assert third.first_user_text.startswith(PROMPT)
    shown = third.first_user_text.removeprefix(PROMPT)
    assert "the answer does not contain '42'" in shown
    assert [len(request.messages) for request in model_server.requests] == [1, 3, 1]
    raw_prompt = json.dumps(PROMPT, ensure_ascii=False)[1:-1].encode()
    assert all(raw_prompt in request.raw for request in model_server.requests)
    systems = {json.dumps(request.body["system"], sort_keys=True) for request in model_server.requests}
    assert len(systems) == 1
    assert {request.body["model"] for request in model_server.requests} == {"claude-test"}
    assert outcome.spend.usage.cache_read_tokens == 900
    assert outcome.spend.usage.cache_write_tokens == 900


def test_a_refused_key_is_exit_code_4_and_a_right_one_goes_on(tmp_path, task, model_server):
    model_server.will_reply(HttpError(401, "authentication_error", "invalid x-api-key"))
    result = loop_runner("run", task, "--json", cwd=tmp_path, env=model_server.env)
    assert result.returncode == 4
    assert "anthropic:claude-test: the key was refused (HTTP 401): invalid x-api-key" in result.stderr
    assert "why it matters: " in result.stderr
    assert "what to do: check ANTHROPIC_API_KEY" in result.stderr
    assert "test-key" not in result.stdout + result.stderr
    assert json.loads(result.stdout)["exit_code"] == 4
    assert len(model_server.requests) == 1, "asking again cannot help"
    model_server.will_reply(ready("42"))
    resumed = loop_runner("resume", "scripted", "--json", cwd=tmp_path, env=model_server.env)
    assert json.loads(resumed.stdout)["status"] == "verified"


def test_an_empty_account_stops_the_run_and_no_answered_call_is_sent_again(tmp_path, task, model_server):
    """It runs dry in the second turn: the model had paused in the middle of its reply, and may not go on."""
    spend_limit = HttpError(
        429, "rate_limit_error", "spend limit reached", error_code="enforced_spend_limit_reached"
    )
    is_dry = True

    def answer(request):
        match len(request.messages):
            case _ if "how many?" in request.first_user_text:
                return "40"
            case 1:
                return cell("a = int(llm_query('how many?'))")
            case 3:
                return Scripted("I add.\n```repl\nFINAL(a", "pause_turn")
            case _:
                return spend_limit if is_dry else " + 2)\n```"

    model_server.answer_with(answer)
    result = loop_runner("run", task, cwd=tmp_path, env=model_server.env)
    assert result.returncode == 4, result.stderr
    assert "the account cannot pay (HTTP 429): spend limit reached" in result.stderr
    assert "why it matters: the run cannot continue without a reply" in result.stderr
    assert "then: loop-runner resume" in result.stderr
    assert subjects(tmp_path / "runs/scripted") == ["run: scripted", "pass 1 turn 1: ran"]
    assert len(model_server.requests) == 4, "root, sub-call, root, and the refusal once"
    is_dry = False
    resumed = loop_runner("resume", "scripted", "--json", cwd=tmp_path, env=model_server.env)
    assert resumed.returncode == 0, resumed.stderr
    data = json.loads(resumed.stdout)
    assert (data["status"], data["answer"], data["turns"]) == ("verified", "42", 2)
    assert len(model_server.requests) == 5
    assert model_server.requests[4].body == model_server.requests[3].body, "only what had no answer is asked"
    assert (data["usage"]["requests"], data["usage"]["subcalls"]) == (4, 1)
