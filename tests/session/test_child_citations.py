"""A child session cites the run's own texts, also when it is given only a piece of one."""

import json

import pytest

from tests.support.tasks import cell, ready, run_task, write_task

TEXTS = {
    "a.txt": "".join(f"alpha line {n}\n" for n in range(1, 401)),
    "b.txt": "The first of b.\nThe second of b.\nThe third of b.\n",
}


@pytest.fixture
def child_answers(tmp_path):
    """The answers of child sessions that run ``child``, asked for with ``code``."""

    def ask(code, child, texts=TEXTS, **keys):
        root = [cell(f"{code}\nprint(replies)"), ready("42")]
        task = write_task(tmp_path / "task", root=root, texts=texts, **keys)
        script = tmp_path / "task/script.yaml"
        replies = [{"replies": [cell(f"FINAL({child})")]}]
        script.write_text(script.read_text() + "\n" + json.dumps({"child": replies})[1:-1])
        run_task(task, tmp_path / "run")
        return (tmp_path / "run/passes/0001/turns/0001/output.txt").read_text()

    return ask


@pytest.mark.parametrize(
    ("data", "child", "cited"),
    [
        ("chunks('a.txt', 1000)[3]", "cite(context.split('\\n')[2])", "> a.txt:209: alpha line 209"),
        ("chunks(context['a.txt'], 1000)[3]", "cite('alpha line 210')", "> a.txt:210: alpha line 210"),
        ("{'piece': chunks('a.txt', 1000)[1]}", "cite('alpha line 100')", "> a.txt:100: alpha line 100"),
        ("{'x': context['b.txt']}", "cite('The second of b.')", "> b.txt:2: The second of b."),
        ("context['b.txt']", "cite_lines(None, 3, 3)", "> b.txt:3: The third of b."),
        ("[context['b.txt'], 'made up']", "cite('The third of b.')", "> b.txt:3: The third of b."),
        ("context", "cite('The third of b.')", "> b.txt:3: The third of b."),
    ],
)
def test_a_child_cites_the_place_in_the_runs_texts(child_answers, data, child, cited):
    assert cited in child_answers(f"replies = rlm_query('q', {data})", child)


@pytest.mark.parametrize(
    "data",
    [
        "'one\\nThe second of b.\\n'",
        "context['b.txt'].upper().replace('SECOND', 'second')",
        "{'x': 'The second of b.'}",
    ],
)
def test_a_text_that_is_no_piece_of_another_is_cited_by_its_own_name(child_answers, data):
    printed = child_answers(f"replies = rlm_query('q', {data})", "cite_lines(None, 1, 1)")
    assert "> b.txt" not in printed
    assert "> data:1: " in printed or "> x:1: " in printed


def test_a_piece_that_was_changed_claims_no_place(child_answers):
    code = "p = chunks('a.txt', 1000)[1]\nfrom loop_runner.kernel.reading import Chunk\n"
    code += "replies = rlm_query('q', Chunk('alpha line X\\n', p.name, p.line))"
    assert "> data:1: alpha line X" in child_answers(code, "cite('alpha line X')")


def test_the_one_text_of_a_task_is_cited_too(child_answers):
    code = "replies = rlm_query('q', chunks(context, 100)[2])"
    item = {"only.txt": TEXTS["a.txt"]}
    assert "> only.txt:" in child_answers(code, "cite(context.split('\\n')[0])", texts=item)


def test_a_grandchild_cites_the_runs_text_as_well(tmp_path):
    inner = "cite(context.split(chr(10))[1])"
    outer = "FINAL(rlm_query('inner', chunks(context, 200)[1]))"
    root = [cell("print(rlm_query('outer', chunks('a.txt', 1000)[2]))"), ready("42")]
    task = write_task(tmp_path / "task", root=root, texts=TEXTS, budget={"depth": 2})
    script = tmp_path / "task/script.yaml"
    children = [
        {"contains": "outer", "replies": [cell(outer)]},
        {"contains": "inner", "replies": [cell(f"FINAL({inner})")]},
    ]
    script.write_text(script.read_text() + "\n" + json.dumps({"child": children})[1:-1])
    run_task(task, tmp_path / "run")
    printed = (tmp_path / "run/passes/0001/turns/0001/output.txt").read_text()
    (line,) = [line for line in printed.split("\n") if line.startswith("> a.txt:")]
    number = int(line.split(":")[1])
    assert line == f"> a.txt:{number}: alpha line {number}"
    assert number > 100
