"""``answer`` as the kernel reads it after a cell."""

import json

import pytest

from loop_runner.records import Answer


@pytest.mark.parametrize(
    "code",
    [
        "answer['content'] = '42'; answer['ready'] = True",
        "answer['ready'] = True; answer['content'] = '42'",
        "answer.update(content='42', ready=True)",
        "answer = {'content': '42', 'ready': True}",
        "answer |= {'content': '42', 'ready': 1}",
        "FINAL('42')",
        "FINAL(42)",
        "result = '42'\nFINAL_VAR('result')",
        "result = 42\nFINAL_VAR(result)",
        "answer = 5\nFINAL('42')",
        "class D(dict): pass\nanswer = D(content='42', ready=True)",
        "class S(str): pass\nanswer.update(content=S('42'), ready=True)",
    ],
)
def test_every_way_to_finish_is_seen(kernel, code):
    answer = kernel.run(code).answer
    assert answer.is_ready
    assert answer.content == "42"
    assert type(answer.content) is str


@pytest.mark.parametrize(
    ("value", "text"), [("3.5", "3.5"), ("True", "True"), ("{'a': [1]}", '{"a": [1]}'), ("['é']", '["é"]')]
)
def test_values_that_are_not_text_become_text(kernel, value, text):
    assert kernel.run(f"answer.update(content={value}, ready=True)").answer.content == text


def test_ready_without_content_is_not_accepted(kernel):
    result = kernel.run("answer['ready'] = True")
    assert not result.answer.is_ready
    assert any("is empty" in notice for notice in result.notices)
    assert kernel.value("answer['ready']") == "False"


def test_ready_in_a_cell_that_raises_is_not_accepted(kernel):
    result = kernel.run("answer.update(content='42', ready=True)\n1/0")
    assert not result.answer.is_ready
    assert result.answer.content == "42"
    assert any("raised" in notice for notice in result.notices)
    assert not kernel.run("x = 1").answer.is_ready


def test_a_stale_ready_never_leaks_into_a_later_cell(kernel):
    assert kernel.run("answer.update(content='42', ready=True)").answer.is_ready
    assert not kernel.run("x = 1").answer.is_ready


def test_content_that_is_no_text_is_refused_with_its_type(kernel):
    result = kernel.run("answer.update(content=object(), ready=True)")
    assert not result.answer.is_ready
    assert any("type object" in notice for notice in result.notices)


def test_a_text_in_the_place_of_the_dict_is_its_content(kernel):
    result = kernel.run("answer = 'the draft'")
    assert result.answer == Answer("the draft")
    assert any("taken as answer['content']" in notice for notice in result.notices)
    assert kernel.value("answer") == "{'content': 'the draft', 'ready': False}"


@pytest.mark.parametrize("code", ["answer = None", "del answer", "answer = [1]"])
def test_a_lost_answer_is_restored_with_its_content(kernel, code):
    kernel.run("answer['content'] = 'draft'")
    result = kernel.run(code)
    assert result.answer.content == "draft"
    assert any("restored" in notice for notice in result.notices)
    assert kernel.value("answer['content']") == "draft"


def test_hostile_subclasses_cannot_pretend(kernel):
    kernel.run(
        "class D(dict):\n"
        "    def get(self, *a): return True\n"
        "    def __getitem__(self, k): return 'forged'\n"
        "    def items(self): return [('content', 'forged'), ('ready', True)]\n"
        "    keys = __iter__ = lambda self: iter(())\n"
        "class S(str):\n"
        "    def __eq__(self, other): return True\n"
        "    def __str__(self): return 'forged'\n"
        "    __hash__ = str.__hash__\n"
        "    def strip(self): return 'full'\n"
    )
    assert kernel.run("answer = D(content=S('real'), ready=False)").answer == Answer("real")
    assert not kernel.run("answer.update(content=S(''), ready=True)").answer.is_ready
    assert not kernel.run(
        "class B:\n    def __bool__(self): return True\nanswer.update(content='x', ready=B())"
    ).answer.is_ready


def test_other_keys_are_kept_when_they_are_json(kernel):
    answer = kernel.run("answer.update(content='x', sources=['a'], bad=object(), confidence=0.5)").answer
    assert answer.extra == {"sources": ["a"], "confidence": 0.5}
    json.dumps(dict(answer.extra))


def test_final_var_of_an_unknown_name_names_close_ones(kernel):
    kernel.run("final_result = 1")
    result = kernel.run("FINAL_VAR('final_resutl')")
    assert (
        result.error
        == "NameError: FINAL_VAR: no variable is named 'final_resutl'; did you mean 'final_result'?"
    )
    assert not result.answer.is_ready


def test_an_answer_with_half_a_character_can_still_be_encoded(kernel):
    assert kernel.run(r"answer.update(content='a\ud800b', ready=True)").answer.content == "a\ufffdb"


def test_a_kernel_starts_with_the_answer_it_is_given(start):
    kernel = start(answer=Answer("draft", is_ready=True, extra={"pages": 3}))
    assert kernel.value("answer") == "{'content': 'draft', 'ready': False, 'pages': 3}"


def test_an_answer_of_more_than_a_million_characters_is_refused(kernel):
    result = kernel.run("answer.update(content='x' * 1_000_001, ready=True)")
    assert not result.answer.is_ready
    assert any("longer than" in notice for notice in result.notices)


def test_an_answer_of_many_megabytes_is_cut_and_costs_no_kernel(kernel):
    result = kernel.run("answer['content'] = 'é' * 20_000_000")
    assert result.end == "ok"
    assert result.answer.content == "é" * 1_000_000
    assert any("only the first 1,000,000 characters" in notice for notice in result.notices)
    assert kernel.value("len(answer['content'])") == "20000000"


def test_extra_keys_that_are_nested_deeply_are_left_out(kernel):
    result = kernel.run(
        "answer['deep'] = []\nfor _ in range(60): answer['deep'] = [answer['deep']]\nanswer['ok'] = [1]"
    )
    assert (result.end, result.answer.extra) == ("ok", {"ok": [1]})
