"""Python tools of whole runs: called from the REPL, journalled, served again, listed, limited."""

import pytest
import yaml

from loop_runner.errors import ConfigError
from loop_runner.records import Spend
from loop_runner.runs import replay
from loop_runner.tools import preparing, read_entries
from loop_runner.tools.spec import ToolSpec
from loop_runner.workspace.history import History
from tests.support.tasks import cell, run_task, write_task

TOOLS = '''
import json, os, sys, time
from typing import Literal

def lookup(q: str, limit: int = 3) -> list[str]:
    """Find entries about `q`.

    Looks in the company's register.
    """
    with open("calls.log", "a") as file:
        file.write(q + "\\n")
    return [f"{q} {n}" for n in range(limit)]

async def later(seconds: float) -> str:
    import asyncio
    await asyncio.sleep(seconds)
    return "done"

def fails(q: str):
    raise ValueError(f"no entry {q}")

def dies():
    os._exit(7)

def variables() -> dict:
    return dict(os.environ)

def flood(size: int) -> str:
    return "x" * size

def wrong() -> int:
    return "text"

def plain(a, b=2, *, c: Literal["x", "y"] = "x", **more):
    return [a, b, c, more]
'''


def tool_task(folder, code, *tools, source=TOOLS, **keys):
    """A task whose one cell is ``code`` and whose tools are functions of ``tools.py``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.py").write_text(source)
    entries = [{"python": f"tools.py:{tool}"} if isinstance(tool, str) else tool for tool in tools]
    codes = [code] if isinstance(code, str) else code
    return write_task(
        folder, root=[*map(cell, codes[:-1]), cell(codes[-1] + "\nFINAL('42')")], tools=entries, **keys
    )


def output(run, turn=1):
    return (run / f"passes/0001/turns/{turn:04d}/output.txt").read_text()


def test_a_function_of_the_task_is_called_from_the_repl_and_its_result_is_in_the_record(tmp_path):
    task = tool_task(tmp_path / "task", "print(lookup('a'))\nprint(lookup(q='b', limit=1))", "lookup")
    outcome = run_task(task, tmp_path / "run")
    assert "['a 0', 'a 1', 'a 2']\n['b 0']" in output(tmp_path / "run")
    assert (tmp_path / "task/calls.log").read_text() == "a\nb\n"
    with History(tmp_path / "run") as history:
        result = [call for call in history.calls() if call.kind == "tool"]
    assert {(call.model, call.prompt, call.reply.text) for call in result} == {
        ("tool:lookup", '{"q": "a"}', '{"value": ["a 0", "a 1", "a 2"]}'),
        ("tool:lookup", '{"limit": 1, "q": "b"}', '{"value": ["b 0"]}'),
    }
    assert (outcome.spend.tool_calls, outcome.spend.requests, outcome.spend.usd) == (2, 1, 0.0)


def test_a_replay_serves_the_recorded_results_and_makes_no_call(tmp_path):
    task = tool_task(tmp_path / "task", "print(lookup('a'), tool_batch(lookup, ['b', {'q': 'c'}]))", "lookup")
    run_task(task, tmp_path / "run")
    made = (tmp_path / "task/calls.log").read_text()
    assert replay.replay(tmp_path / "run").is_same
    assert (tmp_path / "task/calls.log").read_text() == made


def test_the_system_prompt_lists_tools_with_signature_and_docstring(tmp_path):
    run_task(tool_task(tmp_path / "task", "TOOLS()\nhelp(lookup)", "lookup", "later"), tmp_path / "run")
    system = (tmp_path / "run/system.md").read_text()
    assert "- `lookup(q: str, limit: int = 3) -> list[str]`: Find entries about `q`. Looks in the" in system
    assert "- `later(seconds: float) -> str`" in system
    assert "lookup(q: str, limit: int = 3) -> list[str]: Find entries about `q`.\n" in output(
        tmp_path / "run"
    )
    assert "Looks in the company's register." in output(tmp_path / "run")


def test_every_way_in_which_a_call_fails_is_an_error_in_the_cell_and_the_run_continues(tmp_path):
    code = """
for call in (lambda: fails('x'), lambda: dies(), lambda: wrong(), lambda: lookup('a', limit='3'),
             lambda: lookup(), lambda: lookup('a', 1, 2), lambda: lookup(z=1), lambda: lookup({1, 2}),
             lambda: flood(size=20_000_000), lambda: lookup('x' * 2_000_000), lambda: later(9)):
    try:
        print(call())
    except Exception as error:
        print(type(error).__name__, error)
print(lookup('after'))
"""
    tools = ["fails", "dies", "wrong", "lookup", "flood", {"python": "tools.py:later", "timeout_s": 0.3}]
    run_task(tool_task(tmp_path / "task", code, *tools), tmp_path / "run")
    lines = [line for line in output(tmp_path / "run").splitlines() if line]
    for expected in (
        "ToolError `fails` failed: ValueError: no entry x (at tools.py:",
        "ToolUnknown `dies` gave no result: the process of the tools ended (exit code 7); the call may",
        "ToolError `wrong` returned what its schema does not allow: the value must be int, not str",
        "ToolError `lookup` was not called: `limit` must be int, not str; it is lookup(q: str",
        "TypeError lookup() is missing `q`: lookup(q: str",
        "TypeError lookup() takes 2 arguments, 3 were given",
        "TypeError lookup() is missing `q`",
        "TypeError lookup() takes JSON: text, numbers, lists and dicts",
        "ToolError `flood` failed: ValueError: its result is 20,000,0",
        "ValueError lookup() was not called: its arguments are 2,000,009 characters long",
        "ToolUnknown `later` did not answer within 0.3 seconds; the call may have happened",
        "['after 0', 'after 1', 'after 2']",
    ):
        assert any(line.startswith(expected) for line in lines), (expected, lines)


def test_a_tool_sees_the_environment_variables_that_the_task_names_and_no_other(tmp_path, monkeypatch):
    from loop_runner.runs import start
    from loop_runner.runs.context import RunContext
    from loop_runner.task import config

    tools = [{"python": "tools.py:variables", "env": ["COLOUR"]}]
    task = tool_task(tmp_path / "task", "print(sorted(variables()))", *tools)
    env = {"COLOUR": "blue", "OTHER": "x", "PATH": "/usr/bin:/bin"}
    start.start(config.read_task(task), tmp_path / "run", RunContext(env))
    assert "['COLOUR', 'LANG', 'PATH']" in output(tmp_path / "run")


def test_the_printed_form_of_a_result_is_cut_and_the_value_is_whole(tmp_path):
    code = """
text = flood(size=10000)
print(text)
print(len(text), len(f'{text}'), len(str(text)), type(text + '') is str)
rows = lookup('a', limit=1000)
print(rows)
rows
print(len(rows), len(f'{rows}') > 5000)
"""
    tools = [
        {"python": "tools.py:flood", "max_output_chars": 100},
        {"python": "tools.py:lookup", "max_output_chars": 60},
    ]
    run_task(tool_task(tmp_path / "task", code, *tools), tmp_path / "run")
    shown = output(tmp_path / "run")
    assert "x" * 50 + "\n[… 9,900 characters are not printed; the value is whole …]\n" + "x" * 50 in shown
    assert "10000 10000 10000 True" in shown
    assert "1000 True" in shown
    assert len(shown) < 2000


def test_a_kept_result_and_a_kept_tool_survive_into_the_next_pass(tmp_path):
    first = [cell("kept, long, tool = lookup('a'), flood(size=9000), lookup\nFINAL('41')")]
    folder = tmp_path / "task"
    task = tool_task(folder, "", "lookup", "flood")
    script = {"root": [*first, cell("print(kept, len(long), tool('b', 1))\nprint(long[:3])\nFINAL('42')")]}
    (folder / "script.yaml").write_text(yaml.safe_dump(script))
    run_task(task, tmp_path / "run")
    shown = (tmp_path / "run/passes/0002/turns/0001/output.txt").read_text()
    assert "['a 0', 'a 1', 'a 2'] 9000 ['b 0']\nxxx" in shown


def test_limits_of_a_tool_and_of_the_budget_are_refused_in_words_and_shown_in_the_budget(tmp_path):
    code = """
print(budget()['tool_calls'])
for n in range(4):
    try:
        print(lookup(str(n), 1))
    except ToolError as error:
        print(error)
print(budget()['tool_calls'])
"""
    limited = tool_task(tmp_path / "a", code, "lookup", budget={"tool_calls": 3})
    outcome = run_task(limited, tmp_path / "run-a")
    assert (
        "3\n['0 0']\n['1 0']\n['2 0']\n`lookup` was not called: the budget of 3 tool calls is used up\n0"
        in output(tmp_path / "run-a")
    )
    assert isinstance(outcome.spend, Spend)
    few = tool_task(tmp_path / "b", code, {"python": "tools.py:lookup", "calls": 2})
    run_task(few, tmp_path / "run-b")
    assert "`lookup` was not called: the task allows 2 calls of it in a run" in output(tmp_path / "run-b")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"python": "tools.py:nothing"}, "has no function `nothing`"),
        ({"python": "missing.py:lookup"}, "there is no file"),
        ({"python": "lookup"}, "does not name a function"),
        ({"pyton": "tools.py:lookup"}, "must name one of python"),
        ({"python": "tools.py:lookup", "timout_s": 3}, "did you mean `timeout_s`?"),
        ({"python": "tools.py:lookup", "approve": "sometimes"}, "`approve` must be never or first or always"),
        ({"python": "tools.py:lookup", "env": ["NOT_THERE"]}, "the environment has no NOT_THERE"),
        ({"python": "tools.py:llm_query"}, "it is a name of the REPL"),
        ({"python": "tools.py:print"}, "it is a name of the REPL"),
        ({"python": "broken.py:f"}, "cannot be read"),
        ({"python": "no_such_module:f"}, "No module named 'no_such_module'"),
        ({"python": "tools.py:positional"}, "cannot be given by name"),
    ],
)
def test_an_entry_that_cannot_work_is_refused_before_anything_is_created(tmp_path, entry, message):
    more = "\ndef llm_query(q): pass\ndef print(q): pass\ndef positional(q, /): pass\n"
    task = tool_task(tmp_path / "task", "", entry, source=TOOLS + more)
    (tmp_path / "task/broken.py").write_text("def f(:\n")
    with pytest.raises(ConfigError) as error:
        run_task(task, tmp_path / "run")
    assert message in str(error.value)
    assert not (tmp_path / "run/task.yaml").exists()


OWN_NAMES = [
    "context",
    "input_data",
    "answer",
    "last_output",
    "llm_query",
    "llm_batch",
    "rlm_query",
    "budget",
]
OWN_NAMES += [
    "FINAL",
    "FINAL_VAR",
    "cite",
    "search_text",
    "read",
    "TOOLS",
    "ToolError",
    "ToolUnknown",
    "tool_batch",
]
OWN_NAMES += ["LLMError", "help", "print", "exec", "open", "__import__", "None", "lambda"]


@pytest.mark.parametrize("name", OWN_NAMES)
@pytest.mark.parametrize("kind", ["command", "mcp"])
def test_no_tool_and_no_server_takes_a_name_of_the_repl(name, kind, tmp_path, monkeypatch):
    targets = {"command": {"name": name, "run": ["true"]}, "mcp": {"name": name, "command": ["true"]}}

    async def listed(entry, *_):
        return [ToolSpec(f"{entry.target['name']}.add", "mcp", {}, "", {})]

    monkeypatch.setattr("loop_runner.tools.mcp_servers.listed", listed)
    with pytest.raises(ConfigError, match=r"is a name of the REPL|cannot be the name of a function"):
        preparing.specs(read_entries([{kind: targets[kind]}]), tmp_path, {}, {})


@pytest.mark.parametrize("second", [{"name": "find", "run": ["true"]}, {"name": "find", "run": ["false"]}])
def test_two_tools_of_one_name_are_refused(second, tmp_path):
    entries = read_entries([{"command": {"name": "find", "run": ["true"]}}, {"command": second}])
    with pytest.raises(ConfigError, match="is defined twice"):
        preparing.specs(entries, tmp_path, {}, {})
