"""Runs with tools of each kind, broken at each step of a call: a sample of `make test-crash-tools`."""

import os

import pytest

from loop_runner import failpoints
from tests.crash.forker import Forker
from tests.crash.tool_scene import recorded, unknown
from tests.crash.tool_walk import OF_CALLS, tool_walk
from tests.crash.walk import table
from tests.support.tasks import cell, write_task

SAMPLE = int(os.environ.get("CRASH_TOOL_SAMPLE", str(len(OF_CALLS))))


@pytest.mark.timeout(900)
def test_broken_at_any_step_of_a_call_no_result_is_lost_and_no_call_is_made_twice(tmp_path):
    results = tool_walk(tmp_path, SAMPLE, OF_CALLS)
    output = "\n".join(table(results))
    assert not any(result.problems for result in results), output
    assert {result.case.name for result in results} == OF_CALLS, "a step of a call is never come by"
    assert sum(result.was_reached for result in results) > 0.7 * len(results), output


_CODE = """
for name in ('one', 'two', 'three'):
    try:
        print(act(name))
    except ToolUnknown:
        pass
FINAL('42')
"""


@pytest.mark.timeout(300)
def test_a_function_of_a_program_that_is_killed_in_a_call_is_not_called_twice(tmp_path):
    places = ("tool.send", "tool.sent", "tool.returned", "journal.written")
    with Forker(tmp_path / "scratch", "tests.crash.program") as forker:
        for place in places:
            folder = write_task(tmp_path / place, root=[cell(_CODE)]).parent
            env = {failpoints.VARIABLE: f"{place}:2:kill"}
            assert forker.run(folder, env=env, module="tests.crash.program").was_killed
            done = forker.run(folder, env={failpoints.VARIABLE: ""}, module="tests.crash.program")
            assert done.exit_code == 0, done.stderr
            acted, lost = (folder / "acted.log").read_text().split(), unknown(folder / "run")
            assert len(set(acted)) == len(acted), (place, acted)
            assert {*acted, *lost} == {"one", "two", "three"}, place
            assert {*recorded(folder / "run"), *lost} == {"one", "two", "three"}, place
            assert bool(lost) == (place != "tool.send")
