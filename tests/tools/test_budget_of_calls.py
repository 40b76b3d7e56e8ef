"""``tool_calls`` is raised as other limits are, while the run is at work and after it has ended."""

import pytest

from loop_runner.budget import Budget
from loop_runner.errors import ConfigError
from loop_runner.task import limits
from tests.support.steering import Steered
from tests.tools.test_python_tools import output, tool_task


@pytest.mark.parametrize(("given", "limit"), [("+3", 5), (9, 9), ("2", 2)])
def test_a_limit_of_tool_calls_is_set_or_added_to(given, limit):
    wanted = limits.changes({"tool_calls": given})
    budget = limits.changed(Budget(tool_calls=2), wanted, {"tool_calls": 2})
    assert budget.tool_calls == limit
    assert limits.overrides(b'{"limits": {"tool_calls": 5}}') == (("budget.tool_calls", 5),)


def test_a_limit_of_tool_calls_cannot_become_less_than_was_called():
    with pytest.raises(ConfigError, match="3 are spent already"):
        limits.changed(Budget(tool_calls=9), limits.changes({"tool_calls": 2}), {"tool_calls": 3})


CELLS = [
    """
for n in range(3):
    try: print(lookup(str(n), 1))
    except ToolError as error: print(error)
""",
    "print(lookup('after', 1), budget()['tool_calls'])",
]


@pytest.mark.slow
def test_calls_are_possible_again_in_the_turn_after_the_limit_was_raised(tmp_path):
    task = tool_task(tmp_path / "task", CELLS, "lookup", budget={"tool_calls": 2})
    steered = Steered(tmp_path / "run")
    steered.start(task, {("cell_started", 1, 1): lambda run: run.raise_budget(tool_calls="+4")})
    assert "the budget of 2 tool calls is used up" in output(tmp_path / "run")
    assert "['after 0'] 3" in output(tmp_path / "run", 2)
