"""Sub-models that call tools: ``llm_query(..., tools=[...])``, on the same call path, in five rounds."""

import pytest
import yaml

from loop_runner.runs import replay
from loop_runner.workspace.history import History
from tests.support.tasks import cell, run_task, write_task
from tests.tools.test_python_tools import output

TOOLS = '''
def lookup(q: str) -> str:
    """Find the entry about `q`."""
    with open("calls.log", "a") as file:
        file.write(q + "\\n")
    if q == "bad":
        raise ValueError("no such entry")
    return f"{q} is 42"

def other(q: str) -> str:
    """Something else."""
    return q
'''


def task_with(folder, code, *rules):
    folder.mkdir()
    (folder / "tools.py").write_text(TOOLS)
    tools = [{"python": "tools.py:lookup"}, {"python": "tools.py:other"}]
    task = write_task(folder, root=[cell(code + "\nFINAL('42')")], tools=tools)
    script = {**yaml.safe_load((folder / "script.yaml").read_text()), "sub": list(rules)}
    (folder / "script.yaml").write_text(yaml.safe_dump(script))
    return task


CALL = '{"tool": "lookup", "arguments": {"q": "%s"}}'


@pytest.mark.slow
def test_a_sub_model_calls_a_tool_sees_the_result_and_answers_and_a_replay_is_the_same(tmp_path):
    code = """
print(llm_query('What is a?', tools=[lookup]))
print(llm_query('How much?', tools=['lookup'], schema={'type': 'integer'}) + 1)
try:
    llm_query('x', tools=['nothing'])
except LLMError as error:
    print(error)
"""
    task = task_with(
        tmp_path / "task",
        code,
        {"contains": "has to fit", "reply": "42"},
        {"contains": "is 42", "reply": "The answer: a is 42."},
        {"contains": "What is a?", "reply": CALL % "a"},
        {"contains": "How much?", "reply": f"```json\n{CALL % 'b'}\n```"},
    )
    outcome = run_task(task, tmp_path / "run")
    shown = output(tmp_path / "run")
    assert (
        "The answer: a is 42.\n43\nthere is no tool 'nothing' in this task; tools= takes lookup, other"
        in shown
    )
    assert (tmp_path / "task/calls.log").read_text() == "a\nb\n"
    assert (outcome.spend.tool_calls, outcome.spend.subcalls) == (2, 5)
    with History(tmp_path / "run") as history:
        requests = [call.prompt for call in history.calls() if call.kind == "sub"]
    assert any("`lookup(q: str) -> str`: Find the entry" in prompt for prompt in requests)
    assert not any("other(q" in prompt for prompt in requests)
    assert replay.replay(tmp_path / "run").is_same


@pytest.mark.slow
def test_a_sub_model_that_calls_for_ever_wrongly_or_another_tool_is_stopped_after_five_rounds(tmp_path):
    code = "print(llm_query('Loop', tools=[lookup]))\nprint(llm_query('Wrong', tools=[lookup]))"
    task = task_with(
        tmp_path / "task",
        code,
        {"contains": "No more calls are possible", "reply": "I give up."},
        {"contains": "error: there is no tool 'other'", "reply": CALL % "bad"},
        {"contains": "error: `lookup` failed: ValueError: no such entry", "reply": "It failed."},
        {"contains": "The result of lookup", "reply": CALL % "again"},
        {"contains": "Wrong", "reply": '{"tool": "other", "arguments": {"q": "x"}}'},
        {"contains": "Loop", "reply": CALL % "again"},
    )
    run_task(task, tmp_path / "run")
    assert "I give up.\nIt failed." in output(tmp_path / "run")
    assert (tmp_path / "task/calls.log").read_text().split() == ["again"] * 5 + ["bad"]
