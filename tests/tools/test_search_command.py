"""``search: {provider: command}``: the user's program is given the words and prints what it found."""

import asyncio
import json
import sys

import pytest

from loop_runner.errors import ConfigError
from loop_runner.tools.entries import read_entries
from loop_runner.tools.preparing import for_programs, specs
from loop_runner.tools.python_process import ToolDiedError, ToolRaisedError
from loop_runner.tools.searching import SearchCaller

ENV = {"PATH": "/usr/bin:/bin", "SEARCH_KEY": "secret-key", "OTHER": "x"}


def searched(folder, code, query="how high & wide; $(id)", **settings):
    """What `web_search` returns when the program is ``code``."""
    (folder / "search.py").write_text(code)
    search = {"provider": "command", "run": [sys.executable, "search.py", "{query}"], **settings}
    (entry,) = read_entries([{"search": search, "timeout_s": settings.pop("timeout_s", 20)}])
    (spec,) = specs([entry], folder, ENV, {})
    return asyncio.run(SearchCaller(folder, for_programs([entry], ENV)).call(spec, {"query": query}))


ROWS = [{"title": "Tower", "url": "http://a.example/", "snippet": "330 m"}]
ECHO = """import json, os, sys
print(json.dumps([{'title': sys.argv[1:], 'url': 'u', 'snippet': dict(os.environ)}]))
"""


def test_the_program_gets_the_words_as_one_argument_and_the_variables_that_are_named(tmp_path):
    (row,) = searched(tmp_path, ECHO, env=["SEARCH_KEY"])
    assert row["title"] == "['how high & wide; $(id)']"
    assert "secret-key" in row["snippet"]
    assert "OTHER" not in row["snippet"]


@pytest.mark.parametrize(
    "printed",
    [
        ROWS,
        {"results": ROWS},
        {"web": {"results": ROWS}},
        [{"title": "Tower", "url": "http://a.example/", "content": "330 m", "score": 1}],
        [*ROWS, {"title": "no address"}, "no mapping", None, {"url": 7}],
    ],
)
def test_what_the_program_prints_is_read_in_every_form_and_odd_rows_are_left_out(printed, tmp_path):
    assert searched(tmp_path, f"print({json.dumps(json.dumps(printed))})") == ROWS


def test_only_so_many_results_and_so_much_of_each_are_taken(tmp_path):
    code = "import json\nrow = {'title': 't' * 5000, 'snippet': ''}\n"
    code += "print(json.dumps([{**row, 'url': str(n)} for n in range(50)]))"
    rows = searched(tmp_path, code, max_results=3)
    assert [row["url"] for row in rows] == ["0", "1", "2"]
    assert {len(row["title"]) for row in rows} == {1000}


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("print('<html>')", ToolRaisedError, "the search engine's answer is no JSON"),
        ("print('{}')", ToolRaisedError, "holds no list of results"),
        ("print('[' * 100_000)", ToolRaisedError, "is no JSON"),
        ("raise SystemExit('quota is used up')", ToolRaisedError, "exit code 1: quota is used up"),
        ("import os; os.kill(os.getpid(), 9)", ToolDiedError, "ended by signal 9"),
        ("import time; time.sleep(60)", TimeoutError, ""),
        ("import sys\nwhile True: sys.stdout.write('x' * 100_000)", ToolRaisedError, "printed more than"),
    ],
)
def test_a_program_that_does_not_answer_is_an_error_that_says_how(code, error, message, tmp_path):
    limit = {"timeout_s": 1} if error is TimeoutError else {}
    with pytest.raises(error) as result:
        searched(tmp_path, code, **limit)
    assert message in str(result.value)


@pytest.mark.parametrize("run", [None, "search.sh {query}", [], ["search.sh", 5]])
def test_a_program_that_is_no_list_of_words_is_refused(run):
    with pytest.raises(ConfigError, match="needs `run`, a list"):
        read_entries([{"search": {"provider": "command", "run": run}}])
