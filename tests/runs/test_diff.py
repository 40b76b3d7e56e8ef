"""What differs between two moments is said in full, and nothing of a model's reaches the terminal raw."""

import json

import pytest

from tests.support.commands import loop_runner
from tests.support.tasks import cell, ready, write_task

SECOND = """
open('notes/plan.md', 'w').write('one\\nTWO\\nthree\\n')
open('picture.bin', 'wb').write(b'\\x00\\x01')
import os; os.remove('old.txt')
count = 2
del gone
pair = (i for i in 'ab')
print(llm_query('how many?'))
answer['content'] = 'first line\\x1b[2Jcleared\\nsecond'
answer['ready'] = True
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("diff")
    write = "open('notes/plan.md', 'w').write('one\\ntwo\\nthree\\n')"
    first = (
        f"{write}; open('old.txt', 'w').write('x')\n"
        "count, gone, kept = 1, 'gone', 'kept'\nanswer['content'] = 'first line\\n'"
    )
    task = write_task(folder / "task", root=[cell(first), cell(SECOND), ready("42")], sub=[{"reply": "40"}])
    assert loop_runner("run", task, "-q", cwd=folder).returncode == 0
    return folder


def test_answer_files_variables_and_spend_are_told_apart(place):
    result = loop_runner("diff", "scripted", "1.1", "1.2", cwd=place)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "from pass 1 turn 1 to pass 1 turn 2"
    assert "  +second [no newline at the end]" in lines
    assert "  added    picture.bin" in lines
    assert "  deleted  old.txt" in lines
    assert lines.index("    +TWO") == lines.index("    -two") + 1
    assert any(line.startswith("  changed  count: int") and line.endswith("  1") for line in lines)
    assert any(line.startswith("     now   count: int") and line.endswith("  2") for line in lines)
    assert any(line.startswith("  deleted  gone: str") for line in lines)
    assert any(line.startswith("  added    pair: generator") for line in lines)
    assert "  look the same, but are stored together with others that changed: kept" in lines
    assert "Spent in between: 0 passes, 1 turn, 1 sub-call" in lines[-1]


def test_escapes_of_the_model_are_shown_and_not_obeyed(place):
    result = loop_runner("diff", "scripted", "0", "1.2", cwd=place)
    assert "\x1b" not in result.stdout
    assert r"+first line\x1b[2Jcleared" in result.stdout


def test_the_same_as_json_backwards(place):
    data = json.loads(loop_runner("diff", "scripted", "head", "1.1", "--json", cwd=place).stdout)
    assert (data["from"]["pass"], data["from"]["turn"], data["to"]["turn"]) == (2, 0, 1)
    assert {file["path"]: file["kind"] for file in data["files"]} == {
        "workspace/notes/plan.md": "changed",
        "workspace/old.txt": "added",
        "workspace/picture.bin": "deleted",
    }
    by_name = {item["name"]: item for item in data["variables"]}
    assert by_name["count"]["before"]["preview"] == "2"
    assert by_name["count"]["after"]["preview"] == "1"
    assert by_name["gone"]["before"] is None
    assert (data["passes"], data["turns"], data["usage"]["subcalls"]) == (-2, -2, -1)


def test_a_moment_compared_with_itself_is_the_same(place):
    output = loop_runner("diff", "scripted", "1", "1", cwd=place).stdout
    assert all(f"{part}: the same" in output for part in ("Answer", "Files", "Variables"))


@pytest.mark.parametrize("moment", ["9", "x", "1.9", "rewound/1"])
def test_a_moment_that_is_not_there_is_an_error_with_a_hint(place, moment):
    result = loop_runner("diff", "scripted", "1", moment, cwd=place)
    assert result.returncode == 2
    assert "what to do: " in result.stderr
