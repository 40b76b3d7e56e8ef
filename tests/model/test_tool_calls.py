"""A tool call becomes a fence in a reply's text, and the fence the same call again."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loop_runner.model.providers.tool_calls import ToolCall, as_text, spoken
from loop_runner.session import reply_reader

CODE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), min_size=1).filter(
    str.strip
)


@given(CODE, st.sampled_from(["", "I look.", "```repl\nx = 1\n```"]))
def test_what_was_called_is_read_back_word_for_word(code: str, prose: str) -> None:
    call = spoken(as_text(prose, [ToolCall("toolu_1", "repl", {"code": code})]))
    assert call is not None
    assert (call.prose, call.ids, call.code) == (prose, ("toolu_1",), code)


def test_several_calls_run_as_one_cell_and_each_is_answered() -> None:
    text = as_text("", [ToolCall("a", "repl", {"code": "x = 1"}), ToolCall("b", "python", "print(x)")])
    assert reply_reader.read(text).code == "x = 1\nprint(x)"
    call = spoken(text)
    assert call is not None
    assert [item for item, _ in call.codes()] == ["a", "b"]


def test_a_call_without_code_is_shown_and_not_answered() -> None:
    text = as_text("Hm.", [ToolCall("a", "get_weather", {"city": "Rome"})])
    assert "get_weather" in text
    assert spoken(text) is None


@pytest.mark.parametrize("bad", ["", "a b", "x" * 65, "id`"])
def test_an_id_that_no_api_takes_leaves_plain_code(bad: str) -> None:
    text = as_text("", [ToolCall(bad, "repl", {"code": "x = 1"})])
    assert spoken(text) is None
    assert reply_reader.read(text).code == "x = 1"


@pytest.mark.parametrize(
    "text",
    [
        "```repl\nx\n```",
        "```repl tool=a\nx\n```\nand more",
        "```repl tool=a\nx",
        "```repl tool=\nx\n```",
        "```repl tool=a\nx\n```\ny\n```",
        "",
        "```",
    ],
)
def test_what_is_no_whole_call_at_the_end_is_text(text: str) -> None:
    assert spoken(text) is None


def test_a_reply_full_of_openings_is_read_in_no_time() -> None:
    started = time.process_time()
    assert spoken("```repl tool=a\n" * 20_000 + "````") is None
    spoken("```repl tool=a\n" * 20_000 + "```")
    assert time.process_time() - started < 1
