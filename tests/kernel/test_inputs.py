"""``context`` as the model's code sees it, ``chunks`` and ``cite``."""

import time

import pytest


@pytest.fixture
def many(start, inputs_of):
    return start(
        inputs_of(
            {"a.txt": "one\ntwo\n", "sub/b.py": "def f():\n    return 'zwei'\n", "c.bin": b"ok \xff end\r\n"}
        )
    )


def test_one_text_is_a_str_under_both_names(start, inputs_of):
    kernel = start(inputs_of({"a.txt": "päivää\r\nline"}, is_single=True))
    assert (
        kernel.value("(type(context) is str, context is input_data, context)")
        == "(True, True, 'päivää\\r\\nline')"
    )


def test_many_texts_are_a_mapping_in_their_order(many):
    assert many.value("(len(context), list(context), 'a.txt' in context, context is input_data)") == (
        "(3, ['a.txt', 'sub/b.py', 'c.bin'], True, True)"
    )
    assert (
        many.value("context['a.txt'] is context['a.txt'], [len(t) for t in context.values()]")
        == "True [8, 27, 10]"
    )


def test_bytes_that_are_no_text_are_replaced(many):
    assert many.value("ascii(context['c.bin'])") == "'ok \\ufffd end\\r\\n'"


def test_the_mapping_shows_itself_shortly(many):
    assert (
        many.run("context").output == "<context: 3 texts, 45 bytes, by name: 'a.txt', 'sub/b.py', 'c.bin'>\n"
    )


def test_the_mapping_cannot_be_changed(many):
    assert many.run("context['a.txt'] = 'x'").error.startswith("TypeError")
    assert many.run("del context['a.txt']").error.startswith("TypeError")


def test_a_wrong_name_is_answered_with_close_ones(many):
    assert "did you mean 'sub/b.py'" in many.run("context['b.py']").error
    assert "use a name, like context['a.txt']" in many.run("context[0]").error


def test_no_input_at_all_is_an_empty_mapping(kernel):
    assert kernel.value("(len(context), list(context))") == "(0, [])"
    assert "nothing was found" in kernel.run("search_text('x')").output


def test_a_hundred_megabytes_are_ready_at_once_and_never_sent(start, inputs_of):
    inputs = inputs_of({"big.txt": b"a line of some text\n" * 5_000_000}, is_single=True)
    began = time.monotonic()
    kernel = start(inputs)
    assert (
        time.monotonic() - began < 5
    )  # the number itself is in bench/; this only catches a copy over the wire
    assert kernel.value("len(context)") == "100000000"


def test_chunks_cut_between_lines_and_lose_nothing(many):
    many.run("t = ''.join(f'line {i}\\n' for i in range(1000)); c = chunks(t, 100)")
    assert (
        many.value("(''.join(c) == t, max(map(len, c)) <= 100, all(p.endswith('\\n') for p in c))")
        == "(True, True, True)"
    )
    assert (
        many.value("(chunks('a.txt', 4), chunks('abcdef', 4), chunks('', 4))")
        == "(['one\\n', 'two\\n'], ['abcd', 'ef'], [])"
    )
    many.run("o = chunks(t, 100, overlap=30)")
    assert many.value("all(b[:5] in a for a, b in zip(o, o[1:])) and max(map(len, o)) <= 100") == "True"
    assert many.run("chunks('x', 0)").error.startswith("ValueError")
    assert (
        many.value("''.join(chunks('x' * 50 + '\\n' + 'y' * 500, 60)) == 'x' * 50 + '\\n' + 'y' * 500")
        == "True"
    )


@pytest.mark.parametrize(
    ("quote", "citation"),
    [
        ("return 'zwei'", "> sub/b.py:2: return 'zwei'"),
        ("    return 'zwei'\n", "> sub/b.py:2: return 'zwei'"),
        ("> sub/b.py:2: return 'zwei'", "> sub/b.py:2: return 'zwei'"),
        ("sub/b.py:2:     return 'zwei'", "> sub/b.py:2: return 'zwei'"),
        ("`def f():`", "> sub/b.py:1: def f():"),
        ("two", "> a.txt:2: two"),
        ("def   f():\n return 'zwei'", "> sub/b.py:1: def f():\n> sub/b.py:2: return 'zwei'"),
        ("DEF F(): return zwei", None),
        ("Return of nothing", None),
        ("", None),
    ],
)
def test_cite_finds_the_line_or_says_that_there_is_none(many, quote, citation):
    result = many.run(f"print(cite({quote!r}))")
    if citation is None:
        assert result.error.startswith("ValueError")
    else:
        assert result.output == citation + "\n"


def test_cite_takes_the_whole_words_of_a_part_of_a_long_line(start, inputs_of):
    kernel = start(inputs_of({"t.txt": "x" * 1000 + " The Quick Brown Fox " + "y" * 1000 + "\nthe end\n"}))
    assert kernel.value("cite('The Quick Brown')") == "> t.txt:1: The Quick Brown"
    assert kernel.value("cite('e Quick Bro')") == "> t.txt:1: The Quick Brown"


def test_a_large_text_is_read_as_a_small_one_is(start, inputs_of):
    text = "äöü 1\n".encode() * 2_200_000 + b"\xff\xfe end \xe2\x82"
    kernel = start(inputs_of({"big.txt": text}, is_single=True))
    decoded = text.decode("utf-8", "replace")
    assert kernel.value("len(context)") == str(len(decoded))
    assert kernel.value("ascii(context[-9:])") == ascii(decoded[-9:])
