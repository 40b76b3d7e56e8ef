"""Functions of the calling program as tools: ``lr.ask(tools=[fn])``."""

import json
from typing import Any

import pytest

import loop_runner as lr
from loop_runner.runs import replay
from tests.support.tasks import cell, write_task
from tests.tools.test_python_tools import output

CALLS: list[str] = []


def lookup(q: str, limit: int = 1) -> list[str]:
    """Find entries about `q`."""
    CALLS.append(q)
    return [f"{q} {n}" for n in range(limit)]


async def later(q: str) -> str:
    """Later."""
    return f"{q}!"


def test_a_function_of_the_program_is_called_in_its_process_and_a_resume_requires_it(tmp_path, monkeypatch):
    CALLS.clear()
    root = [
        cell("print(lookup('a', limit=2), later(q='b'))\nFINAL('41')"),
        cell("print(lookup('c'))\nFINAL('42')"),
    ]
    write_task(tmp_path / "task", root=root)
    result = lr.ask(
        "What is the answer?",
        [tmp_path / "task/notes.txt"],
        model=f"script:{tmp_path}/task/script.yaml",
        verify=[lr.contains("42")],
        budget={"passes": 1},
        tools=[lookup, later],
        run_dir=tmp_path / "run",
    )
    assert result.status == "unverified"
    assert "['a 0', 'a 1'] b!" in output(tmp_path / "run")
    (first, _) = json.loads((tmp_path / "run/tools.json").read_text())["tools"]
    assert (first["kind"], first["name"], len(first["target"]["sha256"])) == ("callable", "lookup", 64)
    attempts: list[tuple[list[Any], str]] = [
        ([], "the function is not here"),
        ([lookup], "the function is not here"),
        ([lookup, later, output], "output is no tool of this run"),
    ]
    for tools, message in attempts:
        with pytest.raises(lr.LoopRunnerError, match=message):
            lr.resume(tmp_path / "run", budget={"passes": 2}, tools=tools)
    with monkeypatch.context() as patch:
        patch.setattr(later, "__wrapped__", lookup, raising=False)  # another source
        with pytest.raises(lr.LoopRunnerError, match="is not the one that the run began with"):
            lr.resume(tmp_path / "run", budget={"passes": 2}, tools=[lookup, later])
    assert lr.resume(tmp_path / "run", budget={"passes": 2}, tools=[lookup, later]).status == "verified"
    assert CALLS == ["a", "c"]
    assert replay.replay(tmp_path / "run").is_same
    assert CALLS == ["a", "c"]


@pytest.mark.parametrize("tools", [[lambda q: q], [lookup, lookup], ["lookup"]])
def test_what_cannot_be_called_by_a_name_is_refused(tools, tmp_path):
    with pytest.raises(lr.LoopRunnerError):
        lr.Task("What?", inputs=[], verifiers=[lr.contains("42")], model="script:s.yaml", tools=tools)
