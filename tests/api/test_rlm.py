"""``RLM`` in the words of ``rlms`` and of ``dspy.RLM``."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import loop_runner as lr
from tests.support.tasks import cell, ready

CONTEXT = "The port is 8080.\nThe host is db.\n"
CITED = 'The port is 8080.\n\nSources:\n- context.txt:1 "The port is 8080."'


def test_the_words_of_rlms(script):
    rlm = lr.RLM(model=script(ready(CITED)), max_iterations=20, max_depth=1, max_timeout=600)
    result = rlm.completion(CONTEXT, root_prompt="Which port?")
    assert result.verified, result.verdicts
    assert "8080" in result.response
    assert result.usage.total_tokens > 0
    assert result.execution_time > 0


def test_the_words_of_dspy(script):
    rlm = lr.RLM(model=script(ready(CITED)))
    assert rlm(context=CONTEXT, query="Which port?").answer == CITED
    assert rlm.completion(query="Which port?", context=CONTEXT).answer == CITED


@pytest.mark.parametrize(
    "context", [CONTEXT, {"port": 8080}, ["port 8080", "host db"], lr.data(CONTEXT, "a.txt")]
)
def test_the_context_may_be_a_text_a_dict_a_list_or_data(script, context):
    rlm = lr.RLM(
        model=script(cell("answer['content'] = str('8080' in str(context))\nanswer['ready'] = True")),
        verify=[lr.regex("True")],
    )
    assert rlm.completion(context, "Is there a port?").answer == "True"


def test_a_prompt_alone_is_read_as_the_question(script):
    rlm = lr.RLM(model=script(ready("4")), verify=[lr.contains("4")])
    result = rlm.completion("What is 2 + 2?")
    assert result.response == "4"
    assert "context" in (result.run.folder / "prompt.md").read_text()


def test_limits_become_the_budget_of_one_question(script):
    rlm = lr.RLM(
        model=script(*[ready("no")] * 3),
        verify=[lr.contains("yes")],
        max_passes=2,
        max_iterations=7,
        max_tokens=10**6,
    )
    result = rlm.completion(CONTEXT, "Which port?")
    assert (result.status, result.spend.passes) == ("unverified", 2)
    task = (result.run.folder / "task.yaml").read_text()
    assert "turns: 7" in task
    assert "tokens: 1000000" in task


def test_a_completion_in_an_event_loop(script):
    rlm = lr.RLM(model=script(ready(CITED)))
    assert asyncio.run(rlm.acompletion(CONTEXT, "Which port?")).verified
    assert asyncio.run(lr.aask("Which port?", {"context.txt": CONTEXT}, model=rlm.model)).verified


def test_a_completion_about_nothing_is_an_error(script):
    with pytest.raises(lr.ConfigError, match="nothing to answer about"):
        lr.RLM(model=script(ready("x"))).completion(root_prompt="Which port?")


SCRIPTS = [
    block.partition("```")[0]
    for block in (Path(__file__).parents[2] / "examples/from-rlms.md").read_text().split("```python\n")[1:]
]


@pytest.mark.parametrize("code", SCRIPTS, ids=["rlms", "dspy"])
def test_scripts_for_the_other_libraries_work_with_another_import_and_constructor(script, capsys, code):
    find = """
line = next(each for each in context.splitlines() if "magic number" in each)
number = context.splitlines().index(line) + 1
answer["content"] = f'{line}\\n\\nSources:\\n- context.txt:{number} "{line}"'
answer["ready"] = True
"""
    names: dict[str, Any] = {"MODEL": script(cell(find))}
    exec(code, names)
    result = names["result"] if "result" in names else names["prediction"]
    assert result.verified
    assert "The magic number is 42." in capsys.readouterr().out
    assert len(SCRIPTS) == 2
