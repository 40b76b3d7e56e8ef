"""A tool with ``approve``: the call waits for a person, who sees its arguments; the reason is shown."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest

from loop_runner.records import Message, Request
from loop_runner.runs import replay
from loop_runner.tools.approval import AskPerson, Refusing
from loop_runner.tools.spec import Settings, ToolSpec
from loop_runner.tools.toolbox import Toolbox
from loop_runner.verify import PersonsDecision
from tests.support.steering import Steered
from tests.support.tasks import cell, write_task

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}}


class Caller:
    """Returns what it is given."""

    def __init__(self):
        self.calls = []

    async def call(self, _spec, arguments):
        self.calls.append(arguments["q"])
        return arguments["q"]

    async def close(self):
        pass


def results_of_calls(how, answers, *queries):
    """The results of calls with ``approve: how``, and what a person was asked."""
    questions = []

    def ask(question):
        questions.append(question.text)
        return answers[len(questions) - 1]

    spec = ToolSpec("send", "python", {}, "", SCHEMA, None, Settings(approve=how))
    caller = Caller()
    toolbox = Toolbox([spec], {"python": caller}, approver=AskPerson(ask))
    client: Any = toolbox.client("tool:send")

    async def run():
        result = []
        for query in queries:
            request = Request("tool:send", (Message("user", json.dumps({"q": query})),), kind="tool")
            refused = await client.refusal(request)
            result.append(json.loads((refused or await client.complete(request)).text))
        return result

    return asyncio.run(run()), questions, caller.calls


YES, NO = PersonsDecision(is_approved=True), PersonsDecision(is_approved=False, text="not to them")


def test_each_call_is_asked_about_with_its_arguments():
    results, questions, calls = results_of_calls("always", [YES, NO, YES], "a", "b", "c")
    assert results == [
        {"value": "a"},
        {"error": "the call of `send` was refused: not to them"},
        {"value": "c"},
    ]
    assert questions[0] == 'May the model call send({"q": "a"})?'
    assert calls == ["a", "c"]


def test_the_first_approval_holds_for_the_calls_after_it_and_a_rejection_does_not():
    results, questions, calls = results_of_calls("first", [NO, YES], "a", "b", "c")
    assert [list(result) for result in results] == [["error"], ["value"], ["value"]]
    assert len(questions) == 2
    assert calls == ["b", "c"]


def test_a_tool_that_needs_no_approval_asks_nobody():
    assert results_of_calls("never", [], "a") == ([{"value": "a"}], [], ["a"])


@pytest.mark.parametrize("decision", [None, PersonsDecision(is_approved=False)])
def test_without_a_decision_or_a_reason_the_model_is_still_shown_why(decision):
    (result,), _, calls = results_of_calls("always", [decision], "a")
    assert result["error"].startswith("the call of `send` was refused: ")
    assert calls == []


def test_where_nobody_can_be_asked_nothing_is_approved():
    assert "nobody can be asked" in asyncio.run(Refusing().ask("send", "{}"))


@pytest.mark.slow
def test_a_run_waits_for_the_approval_of_a_call_and_a_replay_does_not(tmp_path):
    folder, code = (
        tmp_path / "task",
        (
            "for q in 'ab':\n"
            "    try:\n        print(send(q))\n"
            "    except ToolError as error:\n        print(error)\n"
            "FINAL('42')"
        ),
    )
    folder.mkdir()
    (folder / "tools.py").write_text("def send(q: str) -> str:\n    return 'sent ' + q\n")
    task = write_task(folder, root=[cell(code)], tools=[{"python": "tools.py:send", "approve": "always"}])
    steered = Steered(tmp_path / "run")
    requests: list[str] = []

    def decide() -> None:
        while not (tmp_path / "run/.git/loop-runner/lock").exists():
            time.sleep(0.05)
        for decision in (lambda: steered.run.approve(by="a person"), lambda: steered.run.reject("too late")):
            while (question := steered.run.question) in (None, *requests):
                time.sleep(0.05)
            requests.append(str(question))
            decision()

    decider = threading.Thread(target=decide, daemon=True)
    decider.start()
    steered.start(task)
    decider.join(10)
    assert requests == ['May the model call send({"q": "a"})?', 'May the model call send({"q": "b"})?']
    shown = steered.text("passes/0001/turns/0001/output.txt")
    assert "sent a\nthe call of `send` was refused: too late" in shown
    assert replay.replay(tmp_path / "run").is_same
