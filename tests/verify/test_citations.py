"""Citations are found where the answer says or rejected, and a quote must bear the answer out."""

import hashlib
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from loop_runner import inputs as inputs_room
from loop_runner.records import Accepted, Broken, Inputs, InputText, Rejected
from loop_runner.verify import Submission, build, citations, locate
from loop_runner.verify.visible import alike, unmarked

FUNCTOOLS = (
    "import abc\n"
    "\n"
    "def lru_cache(maxsize=128, typed=False):\n"
    '\t"""Least-recently-used cache decorator."""\n'
    "def cached_property(func):\n"
)


@pytest.fixture
def make_inputs(tmp_path):
    def make(**texts):
        made = []
        for name, content in texts.items():
            path = tmp_path / hashlib.sha256(name.encode()).hexdigest()[:12]
            data = content if isinstance(content, bytes) else content.encode()
            path.write_bytes(data)
            made.append(InputText(name, path, len(data), hashlib.sha256(data).hexdigest()))
        return Inputs(tuple(made))

    return make


@pytest.fixture
def library(make_inputs):
    return make_inputs(
        **{"functools.py": FUNCTOOLS, "json/decoder.py": "class JSONDecoder:\n    depth = 12.5\n"}
    )


def verdict(answer, inputs, **options):
    (verifier,) = build([{"citations": options}], Path("/"))
    return verifier.verify(Submission(answer, Path("/nowhere"), inputs))


def rejected(answer, inputs, **options):
    output = verdict(answer, inputs, **options)
    assert isinstance(output, Rejected), output
    return output


GOOD = "128\n> functools.py:3: def lru_cache(maxsize=128, typed=False):"


# ── what stands ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "line",
    [
        "> functools.py:3: def lru_cache(maxsize=128, typed=False):",
        ">functools.py:3:def lru_cache(maxsize=128, typed=False):",
        ">   functools.py:3:   def lru_cache(maxsize=128, typed=False):   ",
        "  > functools.py:3: maxsize=128",
        "> `functools.py:3`: def lru_cache(",
        "> **functools.py:3**: def lru_cache(",
        "> ./functools.py:3: def lru_cache(",
        "> functools.py:3: def lru_cache(maxsize=128, typed=False):\r",
        "> functools.py:line 3: def lru_cache(",
        '> functools.py:4: \t"""Least-recently-used cache decorator."""',
        '> functools.py:4: """Least-recently-used cache decorator."""',
        "> decoder.py:1: class JSONDecoder:",
    ],
)
def test_a_quote_that_stands_there_is_accepted(library, line):
    assert isinstance(verdict(f"something\n{line}", library), Accepted)


def test_a_quote_over_lines_is_one_citation_for_each(library):
    answer = "x\n> functools.py:3: def lru_cache(maxsize=128\n> functools.py:5: def cached_property(func):"
    assert isinstance(verdict(answer, library, min=2), Accepted)


def test_with_one_input_the_name_may_be_left_out(make_inputs):
    item = make_inputs(**{"notes.txt": "first line here\nsecond line here\n"})
    assert isinstance(verdict("x\n> 2: second line here", item), Accepted)
    assert isinstance(verdict("x\n> line 2: second line here", item), Accepted)


@pytest.mark.parametrize("name", ["a:1:b.py", "a b.txt", "x/y:2.log", "12:34", "ünï.txt", "a.py: 7: b"])
def test_names_may_hold_colons_blanks_and_digits(make_inputs, name):
    inputs = make_inputs(**{name: "zero\nthe line that is quoted\n"})
    located = locate(f"> {name}:2: the line that is quoted", inputs)
    assert [(item.name, item.line, item.ok) for item in located] == [(name, 2, True)]


def test_lines_end_at_line_feeds_and_nowhere_else(make_inputs):
    inputs = make_inputs(**{"a.txt": "one\x0b\x0c\x85\u2028two two two\r\nthree three\n"})
    assert isinstance(verdict("x\n> a.txt:1: two two two", inputs), Accepted)
    assert isinstance(verdict("x\n> a.txt:2: three three", inputs), Accepted)


def test_bytes_that_are_not_utf8_are_quoted_as_the_model_sees_them(make_inputs):
    inputs = make_inputs(**{"a.txt": b"caf\xe9 au lait\n"})
    assert isinstance(verdict("x\n> a.txt:1: caf\ufffd au lait", inputs), Accepted)


def test_locate_says_where_each_citation_stands(library):
    good, bad = locate(f"{GOOD}\n> functools.py:5: def lru_cache(maxsize=128", library)
    assert (good.name, good.line, good.ok, good.path) == ("functools.py", 3, True, library.texts[0].path)
    assert not bad.ok
    assert "line 5 of functools.py is: def cached_property(func):" in bad.reason


LINES = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]), max_size=60)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, min_size=1, max_size=20), data=st.data())
def test_any_line_cited_verbatim_stands(make_inputs, lines, data):
    inputs = make_inputs(**{"dir/a.txt": "\n".join(lines)})
    at = data.draw(st.integers(0, len(lines) - 1))
    (located,) = locate(f"> dir/a.txt:{at + 1}: {lines[at]}", inputs)
    assert located.ok, located.reason


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, min_size=1, max_size=20), data=st.data())
def test_one_changed_character_is_one_too_many(make_inputs, lines, data):
    inputs = make_inputs(**{"dir/a.txt": "\n".join(lines)})
    at = data.draw(st.integers(0, len(lines) - 1))
    quote = lines[at].strip(" \r")
    assume(quote)
    place = data.draw(st.integers(0, len(quote) - 1))
    same = [quote[place], " ", "\r", "\n"]
    other = data.draw(st.characters(exclude_characters=same, exclude_categories=["Cs"]))
    changed = quote[:place] + other + quote[place + 1 :]
    assume(
        alike(changed) not in alike(lines[at]) and alike(unmarked(changed)) not in alike(unmarked(lines[at]))
    )
    assume("." not in changed + quote)  # an ellipsis may be part of it
    (located,) = locate(f"> dir/a.txt:{at + 1}: {changed}", inputs)
    assert not located.ok


# ── what does not ───────────────────────────────────────────────────────────────────────────────────


def test_a_wrong_quote_is_told_what_stands_there_and_where_it_does_stand(library):
    output = rejected("x\n> functools.py:1: def lru_cache(maxsize=128", library)
    assert "citation 1 of 1 is not found as cited" in output.reason
    assert "line 1 of functools.py is: import abc" in output.evidence
    assert "the quote is on functools.py:3" in output.evidence


def test_a_quote_of_another_file_is_told_which(library):
    output = rejected("x\n> functools.py:1: class JSONDecoder:", library)
    assert "the quote is on json/decoder.py:1" in output.evidence


def test_a_made_up_quote_stands_nowhere(library):
    output = rejected("x\n> functools.py:3: def lru_cache(maxsize=256)", library)
    assert "the quote is nowhere in the inputs" in output.evidence


def test_one_wrong_citation_among_right_ones_rejects(library):
    output = rejected(f"{GOOD}\n> functools.py:5: def cached_property(fun)", library)
    assert "citation 2 of 2" in output.reason
    assert 0 < output.score < 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("> functool.py:3: def lru_cache(", "did you mean functools.py?"),
        ("> encoder.py:3: def lru_cache(", "no input has the name 'encoder.py'"),
        ("> functools.py:99: def lru_cache(", "functools.py has 5 lines, no line 99"),
        ("> functools.py:0: def lru_cache(", "no line 0"),
        ("> functools.py: def lru_cache(", "it names no place"),
        ("> just a quote of someone", "it names no place"),
        ("> functools.py:3: def lru_cache( maxsize=128", "only the blanks differ"),
        ("> functools.py:3: deflru_cache(maxsize=128", "only the blanks differ"),
    ],
)
def test_the_reason_says_how_to_mend_it(library, line, reason):
    assert reason in rejected(f"x\n{line}", library).evidence


def test_no_citation_is_told_the_syntax_with_a_real_name(library):
    output = rejected("128", library)
    assert output.reason == "the answer cites nothing"
    assert "> functools.py:12: the text of line 12, copied" in output.evidence


@pytest.mark.parametrize("quote", ["", "abc", '"""    """', "import", "):"])
def test_a_trivial_quote_does_not_count(make_inputs, quote):
    inputs = make_inputs(**{"a.txt": 'import abc):\n"""    """ = 1\n'})
    line = 2 if quote.startswith('"') else 1
    output = rejected(f"x\n> a.txt:{line}: {quote}", inputs)
    assert output.reason == "0 of its citations count, 1 must"


def test_the_same_place_twice_counts_once(library):
    assert (
        "1 of its citations count, 2 must"
        in rejected(f"{GOOD}\n{GOOD.split(chr(10))[1]}", library, min=2).reason
    )


@pytest.mark.parametrize(
    ("line", "output", "reason"),
    [
        (
            "See json/decoder.py:1 for it.",
            "the place json/decoder.py:1\n",
            "1 place that the answer names is",
        ),
        ("(json/decoder.py:1)", "the place json/decoder.py:1\n", "1 place that the answer names is"),
        ("At json/decoder.py:99 it ends.", "the place json/decoder.py:99\n", "1 place that"),
        (
            "See json/decoder.py:1 and json/decoder.py:2.",
            "the place json/decoder.py:2\n",
            "2 places that the answer names are not quoted in it",
        ),
        (
            "See json/decoder.py:1.\n> json/decoder.py:1: what it does not say",
            "the place json/decoder.py:1\n",
            "citation 2 of 3 is not found as cited; 1 place that the answer names is not quoted in it",
        ),
    ],
)
def test_a_place_without_a_quotation_is_reported_as_a_place(library, line, output, reason):
    verdict_of = rejected(f"{line}\n{GOOD}", library)
    assert output in verdict_of.evidence
    assert "> json/decoder.py:1: \n" not in verdict_of.evidence
    assert reason in verdict_of.reason


@pytest.mark.parametrize("place", ["json/decoder.py:1-2", "json/decoder.py, lines 1 to 2"])
def test_a_line_with_a_place_and_no_text_is_not_said_to_differ_in_blanks(library, place):
    evidence = rejected(f"{GOOD}\n> {place}", library).evidence
    assert "only the blanks differ" not in evidence
    assert "the answer quotes no text with this place: copy its line" in evidence


def test_only_named_inputs_count_when_names_are_given(library):
    output = rejected(GOOD, library, names=["json/*"])
    assert "only citations of json/* count" in output.evidence
    assert isinstance(
        verdict("x\n> json/decoder.py:1: class JSONDecoder:", library, names=["json/*"]), Accepted
    )


def test_with_min_0_an_answer_may_cite_nothing_but_not_wrongly(library):
    assert isinstance(verdict("128", library, min=0), Accepted)
    rejected("128\n> functools.py:1: def lru_cache(", library, min=0)


# ── what the quotes must say ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "first_line",
    ["128", "Answer: 128", "**Answer:** 128", "# 128", "**Answer: 128**", "`128`", '"128".', "(128)", "128.",
     "maxsize=128", "lru_cache", "lru_cache()", "`lru_cache`", "Answer:\n\n128", "Final answer: `128`."],
)  # fmt: skip
def test_the_short_answer_stands_in_a_quote(library, first_line):
    answer = f"{first_line}\nBecause it says so.\n> functools.py:3: def lru_cache(maxsize=128, typed=False):"
    assert isinstance(verdict(answer, library, answer_in_quote=True), Accepted)


@pytest.mark.parametrize(
    "first_line",
    ["12", "28", "1", "256", "LRU_CACHE", "cache", "lru", "The default is 128", "maxsize", "-128", "1.128"],
)
def test_a_quote_that_does_not_say_the_answer_rejects(library, first_line):
    if first_line == "maxsize":  # stands in the quote; the other file's quote does not hold it
        answer = f"{first_line}\n> json/decoder.py:1: class JSONDecoder:"
    else:
        answer = f"{first_line}\n> functools.py:3: def lru_cache(maxsize=128, typed=False):"
    output = rejected(answer, library, answer_in_quote=True)
    assert "is in none of its quotes as whole words" in output.reason


def test_a_citation_alone_is_no_answer(library):
    output = rejected("> functools.py:3: def lru_cache(maxsize=128", library, answer_in_quote=True)
    assert output.reason == "there is no short answer"


def test_letter_case_can_be_let_go(library):
    answer = "LRU_CACHE\n> functools.py:3: def lru_cache(maxsize=128"
    assert isinstance(verdict(answer, library, answer_in_quote=True, ignore_case=True), Accepted)


def test_a_wrong_quote_cannot_support_the_answer(library):
    output = rejected("256\n> functools.py:3: def lru_cache(maxsize=256", library, answer_in_quote=True)
    assert "is not found as cited" in output.reason


def test_the_quotes_can_be_asked_to_mention_a_word(library):
    assert isinstance(verdict(GOOD, library, quote_mentions=["lru_cache"]), Accepted)
    output = rejected(GOOD, library, quote_mentions=["lru_cache", "JSONDecoder"])
    assert "no quote mentions 'JSONDecoder'" in output.reason


def test_the_word_may_stand_on_a_line_nearby_if_the_task_says_so(library):
    answer = "12.5\n> json/decoder.py:2: depth = 12.5"
    assert "within" not in rejected(answer, library, quote_mentions=["JSONDecoder"]).reason
    assert isinstance(verdict(answer, library, quote_mentions=["JSONDecoder"], within_lines=1), Accepted)


# ── faults and hostile answers ──────────────────────────────────────────────────────────────────────


def test_an_input_that_changed_breaks_the_gate_and_rejects_nothing(library):
    library.texts[0].path.write_text(FUNCTOOLS.replace("128", "256"))
    output = verdict(GOOD, library)
    assert isinstance(output, Broken)
    assert "'functools.py' has changed" in output.reason


def test_an_input_that_is_gone_breaks_the_gate(library):
    library.texts[0].path.unlink()
    assert isinstance(verdict(GOOD, library), Broken)


def test_no_inputs_break_the_gate():
    assert isinstance(verdict(GOOD, Inputs(())), Broken)


@pytest.mark.parametrize(
    "answer",
    [
        "\0" * 1000,
        "> \0:1: \0\0\0\0\0\0\0\0\0\0",
        "> functools.py:99999999999999999999: x",
        "> functools.py:٣: def lru_cache(",
        "\ud800\n> functools.py:3: \ud800\ud800\ud800\ud800\ud800\ud800\ud800\ud800",
        ">" * 100_000,
        "> a:1:" * 1_700_000,
        "> functools.py:3: def lru_cache(\n" * 300_000,
        "x" * 10_000_000,
        "> x\n" * 300_000,
        "> functools.py:3: " + "y" * 10_000_000,
        "'" * 5_000_000,
        "(" * 100_000 + ")" * 100_000,
        "* " * 100_000,
        " " * 5_000_000,
    ],
    ids=range(15),
)
def test_a_hostile_answer_is_rejected_in_bounded_time(library, answer):
    started = time.process_time()
    output = rejected(answer, library, answer_in_quote=True)
    assert len(output.reason) + len(output.evidence) < 20_000
    assert time.process_time() - started < 10


def test_a_thousand_wrong_citations_of_a_big_input_are_checked_quickly(make_inputs):
    inputs = make_inputs(**{"big.txt": "a line of a big file, nothing else\n" * 300_000})
    answer = "\n".join(
        f"> big.txt:{line}: a line of a big file, something" for line in range(1, 300_000, 350)
    )
    started = time.process_time()
    rejected(answer, inputs)
    assert time.process_time() - started < 10


def test_line_numbers_agree_with_a_plain_split(make_inputs):
    lines = [f"line number {number} of the text" for number in range(1, 20_000)]
    inputs = make_inputs(**{"long.txt": "\n".join(lines) + "\n"})
    for number in (1, 2, 777, 6553, 10_000, 19_999):
        (located,) = locate(f"> long.txt:{number}: {lines[number - 1]}", inputs)
        assert located.ok, located.reason
    (wrong,) = locate(f"> long.txt:1: {lines[12_344]}", inputs)
    assert "the quote is on long.txt:12345" in wrong.reason


def test_inputs_from_a_real_folder_can_be_cited(tmp_path):
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "a.py").write_text("import os\nprint(os.sep)\n")
    inputs = inputs_room.load(["."], tmp_path)
    assert isinstance(verdict("x\n> pkg/a.py:2: print(os.sep)", inputs), Accepted)


@pytest.mark.parametrize(
    "part",
    ['"packages may be removed by anyone" (functools.py:3) ', '"packages may be removed by anyone" ',
     "functools.py:3 ", '"', "\u201c", "'a ", "<blockquote>", "&gt;",
     "*a ", "`a", "| functools.py:3 | x ", "> > ",
     "- a\n", "\u00bb ",
     ">> functools.py:3: invented\n", "line 2 of ", "\u200b", "a:", ">>> a+b\n"],
)  # fmt: skip
def test_a_megabyte_of_anything_that_looks_like_a_quotation_is_read_in_bounded_time(library, part):
    started = time.process_time()
    verdict(f"{GOOD}\n\n{part * (1_000_000 // len(part))}", library, answer_in_quote=True)
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [([1], "1"), ([1, 2], "1, 2"), ([1, 2, 3], "1-3"), ([2, 4, 5, 6, 9], "2, 4-6, 9"), ([], "")],
)
def test_numbers_in_a_row_are_shown_as_a_range(numbers, shown):
    assert citations._numbers(numbers) == shown


def test_every_wrong_citation_is_listed(tmp_path, make_inputs):
    answer = "\n".join(f"> notes.txt:{line}: nothing that is on line {line}" for line in range(1, 31))
    (gate,) = build([{"citations": {"min": 1}}], tmp_path)
    inputs = make_inputs(**{"notes.txt": "".join(f"the words of line {line}\n" for line in range(1, 41))})
    output = gate.verify(Submission(answer, tmp_path, inputs))
    assert isinstance(output, Rejected)
    assert "citations 1-30 of 30 are not found as cited" in output.reason
    assert [line for line in output.evidence.split("\n") if line.startswith("citation 30: > notes.txt:30: ")]
    assert output.evidence.count("citation ") >= 30
